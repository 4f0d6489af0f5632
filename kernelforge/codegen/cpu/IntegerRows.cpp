#include "kernelforge/codegen/cpu/IntegerRows.h"

#include <numeric>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;

/// Largest whole number of a row.
static constexpr int64_t largestOfRow = 127;

IntegerRow IntegerRow::at(KernelBuilder &k, const IntegerRowLayout &layout, Value row,
                          Value first) {
  Value block = k.div(first, integerBlock);
  return {k.at(row, first), k.at(row, k.add(k.mul(block, 4), layout.scales())),
          k.at(row, k.add(k.mul(block, 8), layout.sums())),
          k.at(row, k.add(k.mul(block, 4), layout.scaledSums()))};
}

//===----------------------------------------------------------------------===//
// Rounding
//===----------------------------------------------------------------------===//

/// The nearest whole numbers, of two the even ones: numbers below 2^22 have them in their lowest
/// bits once 1.5 * 2^23 is added.
static Value nearestIntegers(KernelBuilder &k, Value x) {
  constexpr double base = 12582912;
  Value bits = k.b.create<arith::BitcastOp>(k.loc, k.vi32, k.addf(x, k.splat(base)));
  return k.b.create<arith::SubIOp>(k.loc, bits, k.splatI(0x4b400000));
}

void cpu::emitIntegerRow(KernelBuilder &k, RowExpressions &expressions, Value input, Value row,
                         Value out, const IntegerRowLayout &layout) {
  expressions.prepareRow(input, row);
  k.loop(k.c(0), k.c(layout.depth), integerBlock, [&](Value first) {
    std::array<Value, 2> halves;
    for (int64_t i = 0; i < 2; ++i)
      halves[i] = expressions.evaluate(input, {row, k.add(first, i * lanes), {}, {}});
    auto size = [&](Value x) { return k.maxf(x, k.subf(k.splat(0), x)); };
    Value largest = k.reduceMax(k.maxf(size(halves[0]), size(halves[1])));
    Value scale = k.divf(largest, k.cf(double(largestOfRow)));
    // Of nothing but zeros the quotients would be no numbers.
    Value isZero = k.cmpf(arith::CmpFPredicate::OEQ, scale, k.cf(0));
    Value divisor = k.broadcast(k.select(isZero, k.cf(1), scale));
    const IntegerRow to = IntegerRow::at(k, layout, out, first);
    Value sumOfBlock;
    for (int64_t i = 0; i < 2; ++i) {
      Value quants = nearestIntegers(k, k.divf(halves[i], divisor));
      Value bytes = k.b.create<arith::TruncIOp>(k.loc, k.vec(k.i8), quants);
      k.store(bytes, k.at(to.quants, i * lanes), 1);
      Value sum = k.b.create<vector::ReductionOp>(k.loc, vector::CombiningKind::ADD, quants);
      k.store(sum, k.at(to.sums, i * 4), 4);
      sumOfBlock = sumOfBlock ? k.b.create<arith::AddIOp>(k.loc, sumOfBlock, sum).getResult() : sum;
    }
    k.store(scale, to.scales, 4);
    Value asFloat = k.b.create<arith::SIToFPOp>(k.loc, k.f32, sumOfBlock);
    k.store(k.mulf(asFloat, scale), to.scaledSums, 4);
  });
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

ByteProducts::ByteProducts(KernelBuilder &k, int64_t largest, bool isSigned)
    : k(k), isSigned(isSigned), mostPending(32767 / (2 * largestOfRow * largest)) {
  form = k.target.has("avx512vnni") ? Form::Vnni512
         : k.target.has("avxvnni")  ? Form::Vnni256
                                    : Form::Pairs;
}

/// The low and the high half of a vector's lanes.
std::array<Value, 2> ByteProducts::halvesOf(Value words) {
  std::array<Value, 2> halves;
  for (int64_t i = 0; i < 2; ++i)
    halves[i] =
        k.b.create<vector::ExtractStridedSliceOp>(k.loc, words, i * lanes / 2, lanes / 2, 1);
  return halves;
}

Value ByteProducts::join(Value low, Value high) {
  SmallVector<int64_t> order(lanes);
  std::iota(order.begin(), order.end(), 0);
  return k.shuffle(low, high, order);
}

void ByteProducts::add(Sum &sum, Value weights, Value row) {
  if (isSigned && form != Form::Pairs) // plus 128, without a sign
    weights = k.b.create<arith::XOrIOp>(k.loc, weights, k.splatI(int64_t(int32_t(0x80808080))));
  if (!sum.total)
    sum.total = k.splatI(0);
  if (form == Form::Vnni512) {
    sum.total = k.intrinsic("llvm.x86.avx512.vpdpbusd.512", k.vi32, {sum.total, weights, row});
    return;
  }
  const auto ofWeights = halvesOf(weights), ofRow = halvesOf(row);
  if (form == Form::Vnni256) {
    const auto totals = halvesOf(sum.total);
    std::array<Value, 2> made;
    for (size_t i = 0; i < 2; ++i)
      made[i] = k.intrinsic("llvm.x86.avx512.vpdpbusd.256", totals[i].getType(),
                            {totals[i], ofWeights[i], ofRow[i]});
    sum.total = join(made[0], made[1]);
    return;
  }
  const VectorType bytes = k.vec(k.i8, 2 * lanes), pairs = k.vec(k.i16, lanes);
  sum.low.resize(2);
  for (size_t i = 0; i < 2; ++i) {
    Value x = k.b.create<vector::BitCastOp>(k.loc, bytes, ofWeights[i]);
    Value y = k.b.create<vector::BitCastOp>(k.loc, bytes, ofRow[i]);
    if (isSigned) { // |x| times y with the sign of x
      y = k.intrinsic("llvm.x86.avx2.psign.b", bytes, {y, x});
      x = k.intrinsic("llvm.x86.avx2.psign.b", bytes, {x, x});
    }
    Value products = k.intrinsic("llvm.x86.avx2.pmadd.ub.sw", pairs, {x, y});
    sum.low[i] =
        sum.low[i] ? k.b.create<arith::AddIOp>(k.loc, sum.low[i], products).getResult() : products;
  }
  if (++sum.pending == mostPending)
    flush(sum);
}

SmallVector<Value *> ByteProducts::registers(Sum &sum) {
  if (form == Form::Vnni512)
    return {&sum.total};
  SmallVector<Value *> values;
  for (Value &value : sum.low)
    if (value)
      values.push_back(&value);
  return values;
}

/// Adds the sums of 16 bits up.
void ByteProducts::flush(Sum &sum) {
  if (sum.pending == 0)
    return;
  const VectorType pairs = k.vec(k.i16, lanes), words = k.vec(k.i32, lanes / 2);
  Value ones = k.b.create<arith::ConstantOp>(
      k.loc, DenseElementsAttr::get(pairs, k.b.getI16IntegerAttr(1).getValue()));
  std::array<Value, 2> made;
  for (size_t i = 0; i < 2; ++i)
    made[i] = k.intrinsic("llvm.x86.avx2.pmadd.wd", words, {sum.low[i], ones});
  sum.total = k.b.create<arith::AddIOp>(k.loc, sum.total, join(made[0], made[1]));
  sum.low.assign(2, Value());
  sum.pending = 0;
}

Value ByteProducts::finish(Sum &sum, Value init) {
  flush(sum);
  Value total = sum.total;
  if (init)
    total = k.b.create<arith::AddIOp>(k.loc, total, k.broadcast(init));
  return k.b.create<arith::SIToFPOp>(k.loc, k.vf32, total);
}
