// Quantized weights times rows of whole numbers: bytes times bytes, a scale for each sum.
#include "kernelforge/codegen/cpu/IntegerRows.h"
#include "kernelforge/codegen/cpu/Weights.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;

SmallVector<Value> WeightReader::loadIntegerFactors(Value g, Value index) {
  SmallVector<Value> factors;
  const bool hasSubs = element.hasSubScales();
  for (int64_t sub = 0; hasSubs && sub < subBlocks(); ++sub)
    factors.push_back(subScale(g, index, sub, /*isMin=*/false));
  factors.push_back(scale(g, index));
  if (!element.hasMin())
    return factors;
  Value min = minimum(g, index);
  if (!hasSubs) {
    factors.push_back(min);
    return factors;
  }
  min = b.subf(b.splat(0), min);
  for (int64_t sub = 0; sub < subBlocks(); ++sub)
    factors.push_back(b.mulf(min, subScale(g, index, sub, /*isMin=*/true)));
  return factors;
}

void WeightReader::unpackIntegers(Value g, Value index, Value to) {
  placesApart.clear();
  visitBytes({g}, index, [&](int64_t place, size_t, Value quants) {
    b.store(quants, b.at(to, place * lanes), 4);
    placesApart.push_back(place);
  });
  for (auto [i, factor] : llvm::enumerate(loadIntegerFactors(g, index)))
    b.storeVec(factor, b.at(to, lanes * (block + 4 * int64_t(i))));
}

void WeightReader::dotIntegers(ArrayRef<Value> groups, Value index, ArrayRef<IntegerRow> rows,
                               MutableArrayRef<Value> accumulators, int64_t prefetch,
                               ArrayRef<Value> apart) {
  if (apart.empty())
    askAhead(groups, index, prefetch);
  auto factorApart = [&](size_t g, int64_t i) {
    return b.loadVec(b.at(apart[g], lanes * (block + 4 * i)));
  };
  const bool hasSubs = element.hasSubScales(), isSigned = element.hasSignedBytes();
  ByteProducts products(b, element.largestValue(), isSigned);
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

  // The sum of a row's elements that belong to a sub-block, which is a block of the row or half of
  // one.
  auto scaledSum = [&](const IntegerRow &row, int64_t sub) -> Value {
    const int64_t at = sub * sumElements / integerBlock * 4;
    if (sumElements >= integerBlock)
      return b.loadF32(b.at(row.scaledSums, at));
    Value sum = b.load(b.i32, b.at(row.sums, sub * sumElements / IntegerRowLayout::half * 4), 4);
    Value asFloat = b.b.create<arith::SIToFPOp>(b.loc, b.f32, sum);
    return b.mulf(asFloat, b.loadF32(b.at(row.scales, at)));
  };

  const size_t numSubs = hasSubs ? size_t(subBlocks()) : 1;
  SmallVector<SmallVector<ByteProducts::Sum>> sums(rows.size() * numGroups,
                                                   SmallVector<ByteProducts::Sum>(numSubs));
  SmallVector<Value> totals(rows.size() * numGroups);
  SmallVector<SmallVector<int64_t>> visited(numGroups, SmallVector<int64_t>(numSubs, 0));
  SmallVector<Value> words(rows.size());
  int64_t lastPlace = -1;
  auto visit = [&](int64_t place, size_t g, Value quants) {
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
    Value factor =
        apart.empty() ? subScale(groups[g], index, sub, /*isMin=*/false) : factorApart(g, sub);
    for (auto [r, row] : llvm::enumerate(rows)) {
      Value &total = totals[r * numGroups + g];
      Value scale = b.broadcast(b.loadF32(b.at(row.scales, sub * sumElements / integerBlock * 4)));
      Value sum = products.finish(sums[r * numGroups + g][size_t(sub)], correction(row, sub));
      Value scaled = b.mulf(factor, scale);
      total = total ? b.fma(scaled, sum, total) : b.mulf(scaled, sum);
    }
    if (!apart.empty() || !isByFields() || g + 1 < numGroups)
      return;
    // Else words that are read again for the next field stay in registers until then.
    SmallVector<Value *> live;
    for (Value &total : totals)
      live.push_back(&total);
    b.fence(live);
  };
  if (apart.empty())
    visitBytes(groups, index, visit);
  else
    for (int64_t place : placesApart)
      for (size_t g = 0; g < numGroups; ++g)
        visit(place, g, b.load(b.vi32, b.at(apart[g], place * lanes), 4));
  const auto ownFactors = int64_t(hasSubs ? numSubs : 0);
  for (auto [g, number] : llvm::enumerate(groups)) {
    SmallVector<Value> factors;
    if (apart.empty())
      factors = loadIntegerFactors(number, index);
    else
      for (int64_t i = ownFactors; i < integerFactors(); ++i)
        factors.push_back(factorApart(g, i));
    const ArrayRef<Value> later =
        ArrayRef<Value>(factors).drop_front(apart.empty() ? size_t(ownFactors) : 0);
    Value scale = later.front();
    const ArrayRef<Value> minFactors = later.drop_front();
    for (auto [r, row] : llvm::enumerate(rows)) {
      Value &accumulator = accumulators[r * numGroups + g];
      if (hasSubs) {
        accumulator = b.fma(scale, totals[r * numGroups + g], accumulator);
      } else {
        Value sum = products.finish(sums[r * numGroups + g][0], correction(row, 0));
        accumulator = b.fma(b.mulf(scale, b.broadcast(b.loadF32(row.scales))), sum, accumulator);
      }
      for (auto [sub, factor] : llvm::enumerate(minFactors)) {
        Value sum = b.broadcast(scaledSum(row, int64_t(sub)));
        accumulator = b.fma(factor, sum, accumulator);
      }
    }
  }
}
