#include "kernelforge/codegen/simt/Strip.h"

#include "kernelforge/codegen/simt/Weights.h"

#include <numeric>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

int64_t simt::wholeColumns(const SegmentGroup &group) {
  int64_t columns = 1;
  for (Operation *op : group.ops)
    if (const int64_t head = headWidthOf(op))
      columns = std::lcm(columns, head);
  return columns;
}

/// Element `at` of a strip, or four of them.
static Value sumOfParts(PhaseBuilder &p, const simt::Strip &strip, Value at, int64_t lanes) {
  auto part = [&](Value from) {
    return readElement(p, strip.memory, ElementType::F32, from, lanes);
  };
  constexpr int64_t fewParts = 8; // which are written out
  if (strip.parts > fewParts)
    return p.loop("part", p.c(0), p.c(strip.parts), 1, "sum", p.splat(p.cf(0), lanes),
                  [&](Value number, ValueRange carried) {
                    Value from = p.add(at, p.mul(number, strip.partStride));
                    return SmallVector<Value>{p.addf(carried[0], part(from))};
                  })[0];
  if (strip.parts > 1)
    at = p.named(at, "at");
  Value sum = part(at);
  for (int64_t i = 1; i < strip.parts; ++i)
    sum = p.addf(sum, part(p.add(at, i * strip.partStride)));
  return sum;
}

/// Columns of a strip that a thread computes at once. Quads of columns must be whole on either
/// side: in the strip and in what is stored.
static int64_t lanesOf(const SegmentGroup &group, const simt::Strip &strip) {
  const int64_t run = strip.apart > 0 ? strip.cols / 2 : strip.cols;
  return run % 4 == 0 && strip.rowStride % 4 == 0 ? RowExpressions::lanesOf(group.sinks) : 1;
}

/// Which column of the results one of a strip's is.
static Value columnOf(PhaseBuilder &p, const simt::Strip &strip, Value local) {
  if (strip.apart > 0) {
    const int64_t run = strip.cols / 2;
    local = p.select(p.lessThan(local, p.c(run)), local, p.add(local, strip.apart - run));
  }
  return p.add(strip.firstCol, local);
}

std::optional<Position> simt::readAhead(PhaseBuilder &p, RowExpressions &rows, MatmulOp matmul,
                                        const SegmentGroup &group, const Strip &strip,
                                        Value totalRows) {
  const int64_t lanes = lanesOf(group, strip), each = strip.cols / lanes;
  auto isElementwise = [](Operation *op) { return kindOf(op) == OpKind::Elementwise; };
  auto isKnown = [&](Operation *op) { return isElementwise(op) || isa<RopeOp>(op); };
  if (strip.rows * each > p.blockThreads() || group.n % lanes != 0 || group.ops.empty() ||
      !llvm::all_of(group.ops, isKnown))
    return std::nullopt;
  Value element = p.min(p.thread(), p.c(strip.rows * each - 1));
  Value row = p.min(p.add(strip.firstRow, p.div(element, each)), p.sub(totalRows, 1));
  Value col = columnOf(p, strip, p.mul(p.rem(element, each), lanes));
  const Position position = {p.named(row, "row_ahead"),
                             p.named(p.min(col, p.c(group.n - lanes)), "col_ahead"), lanes};
  for (unsigned segment : group.segments) // known when the strip is stored
    rows.bind(matmul.getOutputs()[segment], [](const Position &) { return Value(); });
  for (const Sink &sink : group.sinks)
    rows.prepareRow(sink.value, position.row);
  // A rotation evaluates its input at two columns: what that needs cannot be known by the value.
  if (!llvm::all_of(group.ops, isElementwise))
    return position;
  for (Operation *op : group.ops)
    for (Value operand : op->getOperands()) {
      auto type = dyn_cast<RankedTensorType>(operand.getType());
      if (!isa<BlockArgument>(operand) || !type || type.getRank() != 2 ||
          widthOf(operand) != group.n)
        continue;
      Value x = p.named(rows.evaluate(operand, position), "ahead");
      rows.bind(operand, [x](const Position &) { return x; });
    }
  return position;
}

void simt::readAngles(RowExpressions &rows, const SegmentGroup &group, const Position &position) {
  for (Operation *op : group.ops)
    if (auto rope = dyn_cast<RopeOp>(op))
      rows.readAngle(rope, position);
}

void simt::storeStrip(PhaseBuilder &p, RowExpressions &rows, MatmulOp matmul,
                      const SegmentGroup &group, const Strip &strip, Value totalRows) {
  const int64_t run = strip.apart > 0 ? strip.cols / 2 : strip.cols;
  const int64_t lanes = lanesOf(group, strip);
  for (auto [s, segment] : llvm::enumerate(group.segments)) {
    auto element = [&, s = s, segment = segment](const Position &position) {
      Value row = p.sub(position.row, strip.firstRow);
      Value col = p.sub(position.col, strip.firstCol);
      if (strip.apart > 0)
        col = p.select(p.lessThan(col, p.c(run)), col, p.sub(col, strip.apart - run));
      Value at = p.add(p.add(strip.begin, int64_t(s) * strip.segmentStride),
                       p.add(p.mul(row, strip.rowStride), col));
      Value sum = sumOfParts(p, strip, at, position.lanes);
      if (matmul.getBiases().empty())
        return sum;
      return p.addf(sum,
                    readParameter(p, matmul.getBiases()[segment], position.col, position.lanes));
    };
    rows.bind(matmul.getOutputs()[segment], element);
  }
  SmallVector<Value> values;
  for (const Sink &sink : group.sinks)
    values.push_back(sink.value);
  const int64_t each = strip.cols / lanes;
  p.loop("element", p.thread(), p.c(strip.rows * each), p.blockThreads(), [&](Value element) {
    Value row = p.named(p.add(strip.firstRow, p.div(element, each)), "row");
    Value col = p.named(columnOf(p, strip, p.mul(p.rem(element, each), lanes)), "col");
    Value isThere =
        p.b.create<arith::AndIOp>(p.loc, p.lessThan(row, totalRows), p.lessThan(col, p.c(group.n)));
    p.ifThen(isThere, [&] {
      rows.prepareRow(values, row);
      rows.store(group.sinks, {row, col, lanes});
    });
  });
}
