#include "kernelforge/codegen/simt/Elements.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

Value simt::widened(PhaseBuilder &p, ElementType type, Value word, bool high) {
  if (type == ElementType::BF16)
    return p.bitsToFloat(high ? p.andBits(word, 0xffff0000) : p.shl(word, 16));
  return p.halfToFloat(high ? p.shr(word, 16) : word);
}

Value simt::widenedQuad(PhaseBuilder &p, ElementType type, Value quad) {
  if (!isHalf(type))
    return quad;
  if (type == ElementType::F16)
    return p.halvesToFloats(quad);
  Value low = p.shl(quad, 16), high = p.andBits(quad, 0xffff0000);
  return p.bitsToFloat(p.vector({p.extract(low, int64_t(0)), p.extract(high, int64_t(0)),
                                 p.extract(low, 1), p.extract(high, 1)}));
}

/// The type of numbers of 16 bits.
static Type halfOf(PhaseBuilder &p, ElementType type) {
  return type == ElementType::BF16 ? Type(p.b.getBF16Type()) : p.b.getF16Type();
}

Value simt::narrowed(PhaseBuilder &p, ElementType type, Value x) {
  return p.floatToHalf(x, halfOf(p, type));
}

Value simt::rounded(PhaseBuilder &p, ElementType type, Value x) {
  if (type == ElementType::F16 && PhaseBuilder::lanes(x) > 1)
    return p.halvesToFloats(p.floatsToHalves(x));
  return isHalf(type) ? widened(p, type, narrowed(p, type, x)) : x;
}

Value simt::signedByteToFloat(PhaseBuilder &p, Value word) {
  return p.signedToFloat(p.shrSigned(p.shl(word, 24), 24));
}

Value simt::e8m0ToFloat(PhaseBuilder &p, Value byte) {
  // An f32's exponent is one less; those of 0 and 1 are numbers below the normal ones.
  Value small = p.select(p.lessThan(byte, p.c(1)), p.c(0x00200000), p.c(0x00400000));
  return p.bitsToFloat(p.select(p.lessThan(byte, p.c(2)), small, p.shl(p.sub(byte, 1), 23)));
}

/// Two bytes e4m3, each with a zero byte above it, as two f16.
static Value e4m3PairToHalves(PhaseBuilder &p, Value pair) {
  Value sign = p.shl(p.andBits(pair, 0x00800080), 8);
  Value bits = p.orBits(sign, p.shl(p.andBits(pair, 0x007f007f), 7));
  // The largest exponent and mantissa are a NaN: one more carries into the bit above them, which
  // makes the exponent that of an f16's NaN.
  return p.orBits(bits, p.andBits(p.add(bits, p.c(0x00800080)), 0x40004000));
}

Value simt::e4m3QuadToFloats(PhaseBuilder &p, Value word) {
  Value even = p.halvesToFloats(e4m3PairToHalves(p, word));
  Value odd = p.halvesToFloats(e4m3PairToHalves(p, p.shr(word, 8)));
  return p.vector({p.extract(even, int64_t(0)), p.extract(odd, int64_t(0)), p.extract(even, 1),
                   p.extract(odd, 1)});
}

Value simt::e4m3ToFloat(PhaseBuilder &p, Value word) {
  return p.halfToFloat(e4m3PairToHalves(p, p.andBits(word, 255)));
}

Value simt::sumOfBits(PhaseBuilder &p, const BitSum &sum, Value number) {
  Value total = p.c(sum.base);
  sum.forTerms([&](int64_t shift, int64_t mask, int64_t factor) {
    total = p.add(total, p.mul(p.andBits(p.shr(number, shift), mask), factor));
  });
  return total;
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

/// Quad `index` of a buffer that is not seen in single elements.
static Value readQuad(PhaseBuilder &p, Value buffer, ElementType type, Value index) {
  auto seen = cast<VectorType>(cast<MemRefType>(buffer.getType()).getElementType());
  const bool isQuad = seen.getNumElements() == (isHalf(type) ? 2 : 4);
  if (isQuad) {
    Value quad = widenedQuad(p, type, p.loadVector(buffer, index));
    return type == ElementType::F32 && seen.getElementType().isInteger(32) ? p.bitsToFloat(quad)
                                                                           : quad;
  }
  Value words = p.loadVector(buffer, p.shr(index, 1)); // 16 bytes are two quads of halves
  Value isSecond = p.cmp(arith::CmpIPredicate::ne, p.andBits(index, 1), p.c(0));
  return widenedQuad(p, type, p.select(isSecond, p.slice(words, 2, 2), p.slice(words, 0, 2)));
}

Value simt::readElement(PhaseBuilder &p, Value buffer, ElementType type, Value index,
                        int64_t lanes) {
  if (lanes > 1 && PhaseBuilder::isWide(buffer))
    return readQuad(p, buffer, type, p.quarter(index));
  if (lanes > 1) {
    SmallVector<Value> elements;
    for (int64_t i = 0; i < lanes; ++i)
      elements.push_back(readElement(p, buffer, type, p.add(index, i)));
    return p.vector(elements);
  }
  if (!isHalf(type)) {
    Value element = p.load(buffer, index);
    return type == ElementType::F32 && element.getType().isInteger(32) ? p.bitsToFloat(element)
                                                                       : element;
  }
  Value word = p.load(buffer, p.shr(index, 1));
  return widened(p, type, p.shr(word, p.shl(p.andBits(index, 1), 4)));
}

Value simt::readElement(PhaseBuilder &p, Value bodyArgument, Value index, int64_t lanes) {
  Value buffer = p.argument(bodyArgument, Access::Read, lanes > 1 ? View::Quads : View::Elements);
  return readElement(p, buffer, *elementTypeOf(bodyArgument.getType()), index, lanes);
}

void simt::writeElement(PhaseBuilder &p, Value value, Value buffer, ElementType type, Value index) {
  const int64_t lanes = PhaseBuilder::lanes(value);
  if (lanes > 1 && PhaseBuilder::isWide(buffer)) {
    if (isHalf(type))
      value = p.floatsToHalves(value, halfOf(p, type));
    p.storeVector(value, buffer, p.quarter(index));
    return;
  }
  for (int64_t i = 0; lanes > 1 && i < lanes; ++i)
    writeElement(p, p.extract(value, i), buffer, type, p.add(index, i));
  if (lanes > 1)
    return;
  if (isHalf(type))
    writeHalf(p, narrowed(p, type, value), buffer, index);
  else
    p.store(value, buffer, index);
}

void simt::writeHalf(PhaseBuilder &p, Value word, Value buffer, Value index) {
  p.store(p.b.create<arith::TruncIOp>(p.loc, p.b.getI16Type(), word), buffer, index);
}

Value simt::readByte(PhaseBuilder &p, Value buffer, Value offset) {
  Value word = p.load(buffer, p.shr(offset, 2));
  return p.andBits(p.shr(word, p.shl(p.andBits(offset, 3), 3)), 255);
}
