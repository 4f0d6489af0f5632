// The attention family: a workgroup computes one query head of one row, 64 keys at a time, a thread
// the score of one key and then some of the output's columns, with an online softmax.
#include "kernelforge/codegen/simt/AttentionKeys.h"
#include "kernelforge/codegen/simt/Cache.h"
#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/Weights.h"

#include <tuple>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

namespace {

/// Widest head: its threads keep a 64th of it each in registers.
constexpr int64_t mostPlainHeadDim = 1024;

class PlainAttentionEmitter {
public:
  PlainAttentionEmitter(ModuleOp module, KernelOp kernel, AttentionOp op, StringRef entry)
      : p(module, kernel, entry), seen(p, op), op(op), keyType(op.getKeys().getType()),
        valueType(op.getValues().getType()), heads(static_cast<int64_t>(op.getHeads())) {}

  Phase emit();

private:
  Value score(Value slot);
  SmallVector<Value> attend(Value base, ValueRange carried);

  PhaseBuilder p;
  AttentionKeys seen;
  AttentionOp op;
  CacheType keyType, valueType;
  int64_t heads;
  Value row, head, sequence, cacheHead, first, end;
  Value query, weights, slots; ///< workgroup memory
};

/// Of the key in `slot`.
Value PlainAttentionEmitter::score(Value slot) {
  CacheReader keys(p, p.argument(op.getKeys()), keyType);
  const CacheReader::Head key = keys.head(slot, cacheHead, "key_start");
  Value dot =
      keys.fold(key, "dot", p.cf(0), [&](llvm::function_ref<Value()> element, Value d, Value sum) {
        Value product = p.mulf(p.load(query, d), element());
        return p.addf(sum, product);
      });
  return emitSoftcap(p, op.getSoftcap().convertToDouble(), dot);
}

/// One block of keys: from {highest score, sum of weights, outputs...} to the next.
SmallVector<Value> PlainAttentionEmitter::attend(Value base, ValueRange carried) {
  Value key = p.named(p.add(base, p.thread()), "key");
  Value isSeen = p.named(p.lessThan(key, end), "is_seen");
  Value own = p.ifElse(
      "score", isSeen,
      [&] {
        Value slot = p.named(seen.slot(sequence, key), "slot");
        p.store(slot, slots, p.thread());
        return score(slot);
      },
      [&] { return p.cf(lowestScore); });
  Value ofBlock = p.reduce(own, [&](Value x, Value y) { return p.maxf(x, y); });
  Value highest = p.named(p.maxf(carried[0], ofBlock), "new_highest");
  Value weight = p.select(isSeen, p.exp(p.subf(own, highest)), p.cf(0));
  p.store(weight, weights, p.thread());
  p.barrier();

  // What was summed up before was against the highest score before.
  Value fade = p.named(p.exp(p.subf(carried[0], highest)), "fade");
  SmallVector<Value> sums;
  for (Value sum : carried.drop_front())
    sums.push_back(p.mulf(sum, fade));
  const int64_t dim = valueType.getDim();
  CacheReader values(p, p.argument(op.getValues()), valueType);
  Value count = p.named(p.min(p.sub(end, base), p.c(threads)), "count");
  sums = p.loop("j", p.c(0), count, 1, "total out", sums, [&](Value j, ValueRange parts) {
    Value weight = p.named(p.load(weights, j), "weight");
    Value slot = p.load(slots, j);
    const CacheReader::Head value = values.head(slot, cacheHead, "value_start");
    SmallVector<Value> next{p.addf(parts[0], weight)};
    for (auto [i, part] : llvm::enumerate(parts.drop_front())) {
      Value d = p.add(p.thread(), static_cast<int64_t>(i) * threads);
      // The last columns may not be there: the last one is read again, and not stored.
      if (static_cast<int64_t>(i + 1) * threads > dim)
        d = p.min(d, p.c(dim - 1));
      next.push_back(p.addf(part, p.mulf(weight, values.element(value, d))));
    }
    return next;
  });
  p.barrier();
  SmallVector<Value> next{highest};
  next.append(sums.begin(), sums.end());
  return next;
}

Phase PlainAttentionEmitter::emit() {
  const int64_t dim = keyType.getDim(), valueDim = valueType.getDim();
  row = p.named(p.div(p.block(), heads), "row");
  head = p.named(p.rem(p.block(), heads), "head");
  cacheHead = p.named(p.div(head, heads / keyType.getHeads()), "cache_head");
  sequence = p.named(p.load(p.argument(op.getSequences()), row), "sequence");
  query = p.shared("query_head", p.f32, dim);
  weights = p.shared("weights", p.f32, threads);
  slots = p.shared("key_slots", p.i32, threads);
  std::tie(first, end) = seen.sharedRange(row, sequence);

  Value queryStart = p.named(p.mul(p.block(), dim), "query_start");
  p.loop("d", p.thread(), p.c(dim), threads, [&](Value d) {
    Value x = readElement(p, op.getQuery(), p.add(queryStart, d));
    p.store(p.mulf(x, p.cf(op.getScale().convertToDouble())), query, d);
  });
  p.barrier();

  const int64_t columns = (valueDim + threads - 1) / threads;
  // A sink is what was seen before all keys: its weight is 1, and it adds nothing.
  SmallVector<Value> init{p.cf(lowestScore), p.cf(0)};
  if (op.getSinks())
    init = {p.named(seen.sink(head), "sink_score"), p.cf(1)};
  init.append(static_cast<size_t>(columns), p.cf(0));
  SmallVector<Value> state =
      p.loop("base", first, end, threads, "highest total out", init,
             [&](Value base, ValueRange carried) { return attend(base, carried); });
  Value sees = p.lessThan(first, end);
  Value out = p.result(0), outStart = p.named(p.mul(p.block(), valueDim), "output_start");
  const ElementType element = *elementTypeOf(op.getOutput().getType());
  for (int64_t i = 0; i < columns; ++i) {
    Value d = p.add(p.thread(), i * threads);
    auto store = [&] {
      Value mean = p.divf(state[i + 2], state[1]);
      writeElement(p, p.select(sees, mean, p.cf(0)), out, element, p.add(outStart, d));
    };
    if ((i + 1) * threads > valueDim)
      p.ifThen(p.lessThan(d, p.c(valueDim)), store);
    else
      store();
  }
  return p.finish(p.rowsExtent(op.getQuery().getType()) * Extent(heads));
}

} // namespace

Status attention::supports(const KernelAnalysis &kernel) {
  auto refuse = [&](std::string why, std::string hint) {
    return unusable("kernel cannot be compiled for a GPU",
                    kernel.name() + ", transformer.attention", std::move(why), std::move(hint));
  };
  if (!kernel.isRootAlone())
    return refuse("an attention kernel holds one transformer.attention and yields its result",
                  "fuse nothing into it");
  AttentionOp op = kernel.attention();
  for (CacheType cache : {op.getKeys().getType(), op.getValues().getType()})
    if (cache.getDim() < 1 || cache.getDim() > mostPlainHeadDim)
      return refuse("it has heads of " + std::to_string(cache.getDim()) + " values",
                    "heads may have up to " + std::to_string(mostPlainHeadDim));
  return {};
}

SmallVector<Needs> attention::needsOf(const KernelAnalysis &kernel) {
  AttentionOp op = kernel.attention();
  llvm::DenseSet<Value> buffers(op->operand_begin(), op->operand_end());
  if (op.getCausal())
    buffers.erase(op.getLengths());
  else if (op.getWindow() == 0)
    buffers.erase(op.getPositions());
  // The query head, partial results, weights, slots and the range.
  return {{static_cast<int64_t>(buffers.size()) + 1,
           (op.getKeys().getType().getDim() + 3 * threads + 2) * 4}};
}

Launching attention::emit(ModuleOp module, const KernelAnalysis &kernel, StringRef entry) {
  Launching launching;
  launching.phases.push_back(
      PlainAttentionEmitter(module, kernel.kernel(), kernel.attention(), entry).emit());
  return launching;
}
