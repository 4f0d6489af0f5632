#include "kernelforge/codegen/simt/AttentionKeys.h"

#include "kernelforge/codegen/simt/Weights.h"

#include <algorithm>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

using Predicate = arith::CmpIPredicate;

Value AttentionKeys::firstSlot(Value sequence) {
  if (op.getKeys().getType().getPage() != 0)
    return {};
  return p.load(p.argument(op.getTable()), sequence);
}

Value AttentionKeys::slot(Value sequence, Value key, Value begin) {
  const auto page = static_cast<int64_t>(op.getKeys().getType().getPage());
  if (page == 0)
    return p.add(begin ? begin : firstSlot(sequence), key);
  Value table = p.argument(op.getTable());
  Value width = p.dimension(op.getTable().getType(), 1);
  Value at = p.add(p.mul(sequence, width), p.div(key, page));
  return p.add(p.mul(p.load(table, at), page), p.rem(key, page));
}

std::pair<Value, Value> AttentionKeys::range(Value row, Value sequence) {
  Value own = p.named(p.add(p.load(p.argument(op.getPositions()), row), 1), "own_end");
  Value from = p.c(0), to = own;
  if (!op.getCausal())
    to = p.load(p.argument(op.getLengths()), sequence);
  if (const auto window = static_cast<int64_t>(op.getWindow())) {
    // A window that is wider than any position is none.
    Value start = p.sub(own, std::min<int64_t>(window, std::numeric_limits<int32_t>::max()));
    from = p.maxSigned(start, p.c(0));
    to = p.minSigned(to, own);
  }
  return {from, p.maxSigned(to, p.c(0))};
}

std::pair<Value, Value> AttentionKeys::sharedRange(Value row, Value sequence) {
  Value shared = p.shared("range", p.i32, 2);
  p.ifThen(p.cmp(Predicate::eq, p.thread(), p.c(0)), [&] {
    auto [from, to] = range(row, sequence);
    p.store(from, shared, p.c(0));
    p.store(to, shared, p.c(1));
  });
  p.barrier();
  Value first = p.named(p.loadUniform(shared, 0), "first_key");
  return {first, p.named(p.loadUniform(shared, 1), "end_key")};
}

Value AttentionKeys::sink(Value head) {
  auto type = cast<RankedTensorType>(op.getSinks().getType());
  Value sink = WeightReader(p, p.argument(op.getSinks()), type).element(p.c(0), head);
  Value isBelow = p.cmpf(arith::CmpFPredicate::OLT, p.named(sink, "sink"), p.cf(lowestScore));
  return p.select(isBelow, p.cf(lowestScore), sink);
}
