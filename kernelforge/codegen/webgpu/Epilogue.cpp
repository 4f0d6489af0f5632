#include "kernelforge/codegen/webgpu/Epilogue.h"

#include "kernelforge/codegen/simt/Weights.h"

#include <numeric>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

int64_t webgpu::wholeColumns(const SegmentGroup &group) {
  int64_t columns = 1;
  for (Operation *op : group.ops)
    if (const int64_t head = headWidthOf(op))
      columns = std::lcm(columns, head);
  return columns;
}

/// Element `at` of a strip, or four of them.
static Value sumOfParts(PhaseBuilder &p, const webgpu::Strip &strip, Value at, int64_t lanes) {
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
static int64_t lanesOf(const SegmentGroup &group, const webgpu::Strip &strip) {
  const int64_t run = strip.apart > 0 ? strip.cols / 2 : strip.cols;
  return run % 4 == 0 && strip.rowStride % 4 == 0 ? RowExpressions::lanesOf(group.sinks) : 1;
}

void webgpu::readAhead(PhaseBuilder &p, RowExpressions &rows, const SegmentGroup &group,
                       const Strip &strip, Value totalRows) {
  const int64_t lanes = lanesOf(group, strip), each = strip.cols / lanes;
  auto isElementwise = [](Operation *op) { return kindOf(op) == OpKind::Elementwise; };
  if (strip.rows * each > p.blockThreads() || group.n % lanes != 0 ||
      !llvm::all_of(group.ops, isElementwise))
    return;
  Value element = p.min(p.thread(), p.c(strip.rows * each - 1));
  Value row = p.min(p.add(strip.firstRow, p.div(element, each)), p.sub(totalRows, 1));
  Value col =
      p.min(p.add(strip.firstCol, p.mul(p.rem(element, each), lanes)), p.c(group.n - lanes));
  row = p.named(row, "row_ahead");
  col = p.named(col, "col_ahead");
  for (Operation *op : group.ops)
    for (Value operand : op->getOperands()) {
      auto type = dyn_cast<RankedTensorType>(operand.getType());
      if (!isa<BlockArgument>(operand) || !type || type.getRank() != 2 ||
          widthOf(operand) != group.n)
        continue;
      Value x = p.named(rows.evaluate(operand, {row, col, lanes}), "ahead");
      rows.bind(operand, [x](const Position &) { return x; });
    }
}

void webgpu::storeStrip(PhaseBuilder &p, RowExpressions &rows, MatmulOp matmul,
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
    Value col = p.mul(p.rem(element, each), lanes);
    if (strip.apart > 0)
      col = p.select(p.lessThan(col, p.c(run)), col, p.add(col, strip.apart - run));
    col = p.named(p.add(strip.firstCol, col), "col");
    Value isThere =
        p.b.create<arith::AndIOp>(p.loc, p.lessThan(row, totalRows), p.lessThan(col, p.c(group.n)));
    p.ifThen(isThere, [&] {
      rows.prepareRow(values, row);
      rows.store(group.sinks, {row, col, lanes});
    });
  });
}
