#include "kernelforge/codegen/cpu/Numbers.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;

//===----------------------------------------------------------------------===//
// Widening and rounding
//===----------------------------------------------------------------------===//

Value cpu::widened(KernelBuilder &k, ElementType type, Value bits) {
  if (type == ElementType::BF16)
    return k.bfloat16ToF32(bits);
  const int64_t count = cast<VectorType>(bits.getType()).getNumElements();
  return k.halfToF32(k.b.create<arith::BitcastOp>(k.loc, k.vec(k.f16, count), bits));
}

/// The bits of f32 as i32, and a constant beside them; vectors of any length.
static VectorType wordsOf(KernelBuilder &k, Value x) {
  return k.vec(k.i32, cast<VectorType>(x.getType()).getNumElements());
}
static Value words(KernelBuilder &k, Value x, int32_t value) {
  return k.b.create<arith::ConstantOp>(k.loc, DenseElementsAttr::get(wordsOf(k, x), value));
}

/// Bits of f32 whose upper half is the bf16 nearest to `x`, ties to even. In integers:
/// VCVTNEPS2BF16 takes what is below the normal numbers for 0.
static Value roundedToBfloat16(KernelBuilder &k, Value x) {
  OpBuilder &b = k.b;
  Value bits = b.create<arith::BitcastOp>(k.loc, wordsOf(k, x), x);
  Value upper = b.create<arith::ShRUIOp>(k.loc, bits, words(k, x, 16));
  Value odd = b.create<arith::AndIOp>(k.loc, upper, words(k, x, 1));
  Value half = b.create<arith::AddIOp>(k.loc, odd, words(k, x, 0x7fff));
  Value rounded = b.create<arith::AddIOp>(k.loc, bits, half);
  // A NaN is made quiet, or its payload could round away.
  Value quiet = b.create<arith::OrIOp>(k.loc, bits, words(k, x, 0x400000));
  return k.select(k.cmpf(arith::CmpFPredicate::UNO, x, x), quiet, rounded);
}

static Value toHalf(KernelBuilder &k, Value x) {
  const int64_t count = cast<VectorType>(x.getType()).getNumElements();
  return k.b.create<arith::TruncFOp>(k.loc, k.vec(k.f16, count), x);
}

Value cpu::roundTo(KernelBuilder &k, ElementType type, Value x) {
  if (type == ElementType::F16)
    return k.halfToF32(toHalf(k, x));
  if (type != ElementType::BF16)
    return x;
  Value upper =
      k.b.create<arith::AndIOp>(k.loc, roundedToBfloat16(k, x), words(k, x, int32_t(0xffff0000)));
  return k.b.create<arith::BitcastOp>(k.loc, x.getType(), upper);
}

Value cpu::bfloat16Bits(KernelBuilder &k, Value x) {
  Value narrow = k.intrinsic("llvm.x86.avx512bf16.cvtneps2bf16.512", k.vec(k.b.getBF16Type()), {x});
  return k.b.create<arith::BitcastOp>(k.loc, k.vec(k.i16), narrow);
}

//===----------------------------------------------------------------------===//
// Places
//===----------------------------------------------------------------------===//

Numbers Numbers::ofArgument(KernelBuilder &k, Value argument) {
  return {k, *elementTypeOf(argument.getType()), k.argument(argument)};
}

Numbers Numbers::ofResult(KernelBuilder &k, unsigned i, Type resultType) {
  return {k, *elementTypeOf(resultType), k.result(i)};
}

Numbers Numbers::from(Value index) const {
  return {*k, type, k->at(begin, k->mul(index, info(type).blockBytes))};
}

Numbers Numbers::row(Value row, int64_t width) const {
  return {*k, type, k->at(begin, k->mul(k->mul(row, width), info(type).blockBytes))};
}

//===----------------------------------------------------------------------===//
// Loads and stores
//===----------------------------------------------------------------------===//

Value Numbers::load(Value mask) const {
  return type == ElementType::F32 ? k->loadVec(begin, mask)
                                  : widened(*k, type, k->loadVec(k->i16, begin, mask));
}

Value Numbers::loadFirst(int64_t count) const {
  return type == ElementType::F32 ? k->load(k->vec(k->f32, count), begin, 4)
                                  : widened(*k, type, k->load(k->vec(k->i16, count), begin, 2));
}

Value Numbers::gather(Value offsets, Value mask) const {
  if (type == ElementType::F32)
    return k->gather(begin, offsets, mask);
  Value bytes = k->b.create<arith::MulIOp>(k->loc, offsets, k->splatI(info(type).blockBytes));
  return widened(*k, type, k->gatherBytes(k->i16, begin, bytes, mask));
}

void Numbers::store(Value x, Value mask) const {
  if (type == ElementType::F32)
    return k->storeVec(x, begin, mask);
  OpBuilder &b = k->b;
  const Type halves = k->vec(k->i16);
  Value bits;
  if (type == ElementType::F16) {
    bits = b.create<arith::BitcastOp>(k->loc, halves, toHalf(*k, x));
  } else {
    Value upper = b.create<arith::ShRUIOp>(k->loc, roundedToBfloat16(*k, x), k->splatI(16));
    bits = b.create<arith::TruncIOp>(k->loc, halves, upper);
  }
  k->storeVec(bits, begin, mask);
}
