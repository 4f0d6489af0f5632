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

/// The upper half of an f32's bits, one more where the lower half is more than half a unit, or just
/// that and the upper half odd. A NaN stays one.
static Value toBfloat16(PhaseBuilder &p, Value x) {
  constexpr int64_t infinity = 0x7f800000, quiet = 0x40;
  Value bits = p.named(p.floatToBits(x), "bits");
  Value upper = p.named(p.shr(bits, 16), "upper");
  Value nearest = p.shr(p.add(p.add(bits, 0x7fff), p.andBits(upper, 1)), 16);
  Value isNan = p.cmp(arith::CmpIPredicate::ugt, p.andBits(bits, 0x7fffffff), p.c(infinity));
  return p.select(isNan, p.orBits(upper, p.c(quiet)), nearest);
}

Value simt::narrowed(PhaseBuilder &p, ElementType type, Value x) {
  return type == ElementType::BF16 ? toBfloat16(p, x) : p.floatToHalf(x);
}

Value simt::rounded(PhaseBuilder &p, ElementType type, Value x) {
  return isHalf(type) ? widened(p, type, narrowed(p, type, x)) : x;
}

Value simt::signedByteToFloat(PhaseBuilder &p, Value word) {
  return p.signedToFloat(p.shrSigned(p.shl(word, 24), 24));
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Value simt::readElement(PhaseBuilder &p, Value buffer, ElementType type, Value index) {
  if (!isHalf(type))
    return p.load(buffer, index);
  Value word = p.load(buffer, p.shr(index, 1));
  return widened(p, type, p.shr(word, p.shl(p.andBits(index, 1), 4)));
}

Value simt::readElement(PhaseBuilder &p, Value bodyArgument, Value index) {
  return readElement(p, p.argument(bodyArgument), *elementTypeOf(bodyArgument.getType()), index);
}

void simt::writeElement(PhaseBuilder &p, Value value, Value buffer, ElementType type, Value index) {
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
