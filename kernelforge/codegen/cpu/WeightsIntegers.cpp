// Quantized weights times rows of whole numbers: bytes times bytes, a scale for each sum.
#include "kernelforge/codegen/cpu/IntegerRows.h"
#include "kernelforge/codegen/cpu/Weights.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;

void WeightReader::dotIntegers(ArrayRef<Value> groups, Value index, ArrayRef<IntegerRow> rows,
                               MutableArrayRef<Value> accumulators, int64_t prefetch) {
  askAhead(groups, index, prefetch);
  const bool hasSubs = element.hasSubScales(), isSigned = element.quantBits == 8;
  ByteProducts products(b, (int64_t(1) << element.quantBits) - 1, isSigned);
  const int64_t excess = element.zero + products.offset(), sumElements = element.subElements;
  const size_t numGroups = groups.size();

  // What all products of a sub-block are too large by: the quants' excess over their values.
  auto correction = [&](const IntegerRow &row, int64_t sub) -> Value {
    if (excess == 0)
      return {};
    Value sum;
    for (int64_t first = sub * sumElements; first < (sub + 1) * sumElements;
         first += IntegerRowLayout::half) {
      Value part = b.load(b.i32, b.at(row.sums, first / IntegerRowLayout::half * 4), 4);
      sum = sum ? b.b.create<arith::AddIOp>(b.loc, sum, part).getResult() : part;
    }
    Value factor = b.b.create<arith::ConstantOp>(b.loc, b.b.getI32IntegerAttr(int32_t(-excess)));
    return b.b.create<arith::MulIOp>(b.loc, sum, factor);
  };

  const size_t numSubs = hasSubs ? size_t(subBlocks()) : 1;
  SmallVector<SmallVector<ByteProducts::Sum>> sums(rows.size() * numGroups,
                                                   SmallVector<ByteProducts::Sum>(numSubs));
  SmallVector<Value> totals(rows.size() * numGroups);
  SmallVector<SmallVector<int64_t>> visited(numGroups, SmallVector<int64_t>(numSubs, 0));
  SmallVector<Value> words(rows.size());
  int64_t lastPlace = -1;
  visitBytes(groups, index, [&](int64_t place, size_t g, Value quants) {
    if (place != lastPlace)
      for (auto [word, row] : llvm::zip(words, rows))
        word = b.broadcast(b.load(b.i32, b.at(row.quants, place), 4));
    lastPlace = place;
    const int64_t sub = hasSubs ? place / sumElements : 0;
    SmallVector<Value *> growing;
    for (size_t r = 0; r < rows.size(); ++r) {
      ByteProducts::Sum &sum = sums[r * numGroups + g][size_t(sub)];
      products.add(sum, quants, words[r]);
      growing.append(products.registers(sum));
    }
    // Else LLVM takes a row's products first and keeps what it took weights apart to for the
    // others, for which there are no registers.
    if (rows.size() > 1)
      b.fenceRegisters(growing);
    visited[g][size_t(sub)] += 4;
    if (!hasSubs || visited[g][size_t(sub)] < sumElements)
      return;
    Value factor = subScale(groups[g], index, sub, /*isMin=*/false);
    for (auto [r, row] : llvm::enumerate(rows)) {
      Value &total = totals[r * numGroups + g];
      Value scale = b.broadcast(b.loadF32(b.at(row.scales, sub * sumElements / integerBlock * 4)));
      Value sum = products.finish(sums[r * numGroups + g][size_t(sub)], correction(row, sub));
      Value scaled = b.mulf(factor, scale);
      total = total ? b.fma(scaled, sum, total) : b.mulf(scaled, sum);
    }
  });
  for (auto [g, number] : llvm::enumerate(groups)) {
    Value scale = half(BlockPart::Scale, number, index);
    Value min = element.hasMin() ? half(BlockPart::Min, number, index) : Value();
    if (min && hasSubs)
      min = b.subf(b.splat(0), min);
    SmallVector<Value> minFactors;
    for (size_t sub = 0; min && hasSubs && sub < numSubs; ++sub)
      minFactors.push_back(b.mulf(min, subScale(number, index, int64_t(sub), /*isMin=*/true)));
    if (min && !hasSubs)
      minFactors.push_back(min);
    for (auto [r, row] : llvm::enumerate(rows)) {
      Value &accumulator = accumulators[r * numGroups + g];
      if (hasSubs) {
        accumulator = b.fma(scale, totals[r * numGroups + g], accumulator);
      } else {
        Value sum = products.finish(sums[r * numGroups + g][0], correction(row, 0));
        accumulator = b.fma(b.mulf(scale, b.broadcast(b.loadF32(row.scales))), sum, accumulator);
      }
      for (auto [sub, factor] : llvm::enumerate(minFactors)) {
        Value sum = b.broadcast(
            b.loadF32(b.at(row.scaledSums, int64_t(sub) * sumElements / integerBlock * 4)));
        accumulator = b.fma(factor, sum, accumulator);
      }
    }
  }
}
