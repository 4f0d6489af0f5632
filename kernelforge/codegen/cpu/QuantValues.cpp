#include "kernelforge/codegen/cpu/QuantValues.h"

#include "kernelforge/codegen/cpu/Numbers.h"

#include <numeric>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;

template <typename Op> static Value made(KernelBuilder &k, Value x, Value y) {
  return k.b.create<Op>(k.loc, x, y);
}

/// A constant of the type of `like`, a scalar or a vector of i32.
static Value constantLike(KernelBuilder &k, Value like, int64_t value) {
  if (isa<VectorType>(like.getType()))
    return k.splatI(value);
  return k.b.create<arith::ConstantOp>(k.loc, k.b.getI32IntegerAttr(static_cast<int32_t>(value)));
}

Value cpu::valuesOfBytes(KernelBuilder &k, const std::array<int8_t, 16> &values, Value words) {
  // A shuffle looks up bytes within each 16 of them.
  const bool isWhole = k.target.has("avx512bw");
  const int64_t bytes = isWhole ? 4 * lanes : 2 * lanes;
  SmallVector<int8_t> repeated;
  for (int64_t i = 0; i < bytes; ++i)
    repeated.push_back(values[static_cast<size_t>(i) % values.size()]);
  const VectorType type = k.vec(k.i8, bytes);
  Value table = k.b.create<arith::ConstantOp>(
      k.loc, DenseElementsAttr::get(type, ArrayRef<int8_t>(repeated)));
  if (isWhole) {
    Value indices = k.b.create<vector::BitCastOp>(k.loc, type, words);
    return k.b.create<vector::BitCastOp>(
        k.loc, k.vi32, k.intrinsic("llvm.x86.avx512.pshuf.b.512", type, {table, indices}));
  }
  std::array<Value, 2> halves;
  for (int64_t i = 0; i < 2; ++i) {
    Value half =
        k.b.create<vector::ExtractStridedSliceOp>(k.loc, words, i * lanes / 2, lanes / 2, 1);
    Value indices = k.b.create<vector::BitCastOp>(k.loc, type, half);
    halves[static_cast<size_t>(i)] = k.b.create<vector::BitCastOp>(
        k.loc, half.getType(), k.intrinsic("llvm.x86.avx2.pshuf.b", type, {table, indices}));
  }
  SmallVector<int64_t> order(lanes);
  std::iota(order.begin(), order.end(), 0);
  return k.shuffle(halves[0], halves[1], order);
}

Value cpu::signedByteToFloat(KernelBuilder &k, Value words, int64_t byte) {
  Value top = byte == 3 ? words : made<arith::ShLIOp>(k, words, k.splatI(24 - 8 * byte));
  return k.b.create<arith::SIToFPOp>(k.loc, k.vf32, made<arith::ShRSIOp>(k, top, k.splatI(24)));
}

Value cpu::e4m3ToFloat(KernelBuilder &k, Value words, int64_t byte) {
  // Sign, exponent and mantissa where an f16 has them.
  Value top = byte == 3 ? words : made<arith::ShLIOp>(k, words, k.splatI(24 - 8 * byte));
  Value placed = made<arith::ShRUIOp>(k, made<arith::ShRSIOp>(k, top, k.splatI(1)), k.splatI(16));
  placed = made<arith::AndIOp>(k, placed, k.splatI(0xbf80));
  const VectorType halves = k.vec(k.i16);
  Value bits = k.b.create<arith::TruncIOp>(k.loc, halves, placed);
  // The largest exponent and mantissa are a NaN: one more carries into the bit above them, which
  // makes the exponent that of an f16's NaN.
  auto constant = [&](int64_t value) {
    return k.b.create<arith::ConstantOp>(
        k.loc, DenseElementsAttr::get(halves, static_cast<int16_t>(value)));
  };
  Value carried =
      made<arith::AndIOp>(k, made<arith::AddIOp>(k, bits, constant(0x80)), constant(0x4000));
  return widened(k, ElementType::F16, made<arith::OrIOp>(k, bits, carried));
}

IntegerType cpu::scaleBits(KernelBuilder &k, const ElementTypeInfo &type) {
  return k.b.getIntegerType(static_cast<unsigned>(8 * type.bytes(BlockPart::Scale)));
}

Value cpu::scaleOfBits(KernelBuilder &k, const ElementTypeInfo &type, Value bits) {
  auto seen = dyn_cast<VectorType>(bits.getType());
  auto as = [&](Type scalar) { return seen ? Type(seen.clone(scalar)) : scalar; };
  auto times = [&](Value x, double factor) {
    return k.mulf(x, seen ? k.splat(factor) : k.cf(factor));
  };
  switch (type.scaleFormat) {
  case ScaleFormat::F16:
    return k.halfToF32(k.b.create<arith::BitcastOp>(k.loc, as(k.f16), bits));
  case ScaleFormat::F32: {
    Value scale = k.b.create<arith::BitcastOp>(k.loc, as(k.f32), bits);
    return type.isE4M3 ? times(scale, e4m3Factor) : scale;
  }
  case ScaleFormat::E8M0: {
    // An f32's exponent is one less; those of 0 and 1 are numbers below the normal ones.
    Value e = k.b.create<arith::ExtUIOp>(k.loc, as(k.i32), bits);
    Value normal = made<arith::ShLIOp>(k, made<arith::SubIOp>(k, e, constantLike(k, e, 1)),
                                       constantLike(k, e, 23));
    Value small = made<arith::ShLIOp>(k, constantLike(k, e, 0x00200000),
                                      made<arith::AndIOp>(k, e, constantLike(k, e, 1)));
    Value isSmall =
        k.b.create<arith::CmpIOp>(k.loc, arith::CmpIPredicate::ult, e, constantLike(k, e, 2));
    Value exponent = k.b.create<arith::SelectOp>(k.loc, isSmall, small, normal);
    return k.b.create<arith::BitcastOp>(k.loc, as(k.f32), exponent);
  }
  }
  return {};
}

Value cpu::loadScale(KernelBuilder &k, const ElementTypeInfo &type, Value address, bool isVector) {
  const IntegerType bits = scaleBits(k, type);
  return scaleOfBits(k, type,
                     k.load(isVector ? Type(k.vec(bits)) : Type(bits), address,
                            static_cast<unsigned>(type.bytes(BlockPart::Scale))));
}

Value cpu::sumOfBits(KernelBuilder &k, const BitSum &sum, Value numbers) {
  Value total = k.splatI(sum.base);
  sum.forTerms([&](int64_t shift, int64_t mask, int64_t factor) {
    Value bits =
        made<arith::AndIOp>(k, made<arith::ShRUIOp>(k, numbers, k.splatI(shift)), k.splatI(mask));
    total = made<arith::AddIOp>(k, total, made<arith::MulIOp>(k, bits, k.splatI(factor)));
  });
  return total;
}

Value cpu::sumOfScalarBits(KernelBuilder &k, const BitSum &sum, Value number) {
  Value total = k.c(sum.base);
  sum.forTerms([&](int64_t shift, int64_t mask, int64_t factor) {
    Value bits = k.rem(k.div(number, int64_t(1) << shift), mask + 1);
    total = k.add(total, k.mul(bits, factor));
  });
  return total;
}
