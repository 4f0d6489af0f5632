#include "kernelforge/codegen/simt/CacheVectors.h"

#include "kernelforge/codegen/simt/Elements.h"
#include "kernelforge/ir/Caches.h"
#include "kernelforge/ir/Numerics.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;

/// How memory must be seen so that pieces of so many elements are read.
static View viewOf(const CacheSlot &slot, int64_t piece) {
  const int64_t bytes = piece * slot.elementBytes();
  if (slot.isQuantized())
    return bytes == 16 ? View::Words4 : View::Elements;
  return bytes == 16 && slot.type != ElementType::F32 ? View::Words4 : View::Quads;
}

int64_t CacheVectors::pieceOf(transformer::CacheType type) {
  const CacheSlot slot = slotOf(type);
  // Quants of a slot begin where the one before it ends.
  if (slot.isQuantized())
    return slot.bytes() % 16 == 0 && slot.dim % 16 == 0 ? 16 : 4;
  for (const int64_t piece : {16 / slot.elementBytes(), int64_t(4)})
    if (slot.dim % piece == 0)
      return piece;
  return 0;
}

ElementType simt::factorType(transformer::AttentionOp op) {
  const Numerics numerics = numericsOf(op);
  return numerics == Numerics::F16    ? ElementType::F16
         : numerics == Numerics::BF16 ? ElementType::BF16
                                      : ElementType::F32;
}

Value simt::roundedTo(PhaseBuilder &p, ElementType type, Value x) {
  if (type == ElementType::F16 && PhaseBuilder::lanes(x) > 1)
    return p.halvesToFloats(p.floatsToHalves(x));
  return rounded(p, type, x);
}

static transformer::CacheType typeOf(transformer::AttentionOp op, bool areValues) {
  return areValues ? op.getValues().getType() : op.getKeys().getType();
}

CacheVectors::CacheVectors(PhaseBuilder &p, transformer::AttentionOp op, bool areValues)
    : p(p), slot(slotOf(typeOf(op, areValues))), piece(pieceOf(typeOf(op, areValues))),
      factor(factorType(op)), buffer(p.argument(areValues ? op.getValues() : op.getKeys(),
                                                Access::Read, viewOf(slot, piece))) {
  if (factor == slot.type)
    factor = ElementType::F32; // they are rounded
}

CacheVectors::Loaded CacheVectors::load(Value number, Value index, StringRef name) {
  if (!slot.isQuantized()) {
    Value at = p.add(p.mul(number, slot.elements() / piece), index);
    return {p.named(p.loadVector(buffer, at), name), {}};
  }
  const int64_t pieceBytes = piece * slot.elementBytes();
  Value at = p.add(p.mul(number, slot.bytes() / pieceBytes), index);
  Value words = p.named(p.loadVector(buffer, at), name);
  // In halves of words, of which a slot has a whole number.
  Value block = p.div(index, info(slot.type).blockElements / piece);
  Value half = p.named(p.add(p.mul(number, slot.bytes() / 2), p.add(block, slot.scalesBegin() / 2)),
                       "scale_at");
  Value word = p.load(buffer, p.shr(half, 1));
  Value scale = p.halfToFloat(p.shr(word, p.shl(p.andBits(half, 1), 4)));
  return {words, p.named(scale, "scale")};
}

SmallVector<Value> CacheVectors::expand(const Loaded &loaded) {
  SmallVector<Value> vectors;
  if (slot.isQuantized()) {
    SmallVector<Value> shifts;
    for (const int64_t shift : {24, 16, 8, 0})
      shifts.push_back(p.c(shift));
    for (int64_t i = 0; i < this->vectors(); ++i) {
      Value word = this->vectors() == 1 ? loaded.words : p.extract(loaded.words, i);
      Value bytes = p.shrSigned(p.shl(p.splat(word, 4), p.vector(shifts)), 24);
      Value expanded = p.mulf(p.signedToFloat(bytes), loaded.scale);
      vectors.push_back(roundedTo(p, factor, expanded));
    }
    return vectors;
  }
  if (this->vectors() == 1)
    return {p.named(roundedTo(p, factor, widenedQuad(p, slot.type, loaded.words)), "quad")};
  for (int64_t i = 0; i < this->vectors(); ++i)
    vectors.push_back(p.named(widenedQuad(p, slot.type, p.slice(loaded.words, 2 * i, 2)), "quad"));
  return vectors;
}
