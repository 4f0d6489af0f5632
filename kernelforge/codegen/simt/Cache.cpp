#include "kernelforge/codegen/simt/Cache.h"

#include <limits>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

using Predicate = arith::CmpIPredicate;

bool simt::isInBlocks(const Sink &sink) {
  auto append = dyn_cast<CacheAppendOp>(sink.op);
  return append && slotOf(append.getCache().getType()).isQuantized();
}

/// Elements that share a scale, and are written together.
static int64_t blockOf(const CacheSlot &slot) { return info(slot.type).blockElements; }

int64_t simt::blocksOf(CacheType type) {
  const CacheSlot slot = slotOf(type);
  return slot.elements() / blockOf(slot);
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

CacheReader::Head CacheReader::head(Value number, Value head, StringRef name) {
  if (!slot.isQuantized())
    return {p.named(p.mul(p.add(p.mul(number, slot.heads), head), slot.dim), name), {}};
  Value begin = p.named(p.mul(number, slot.bytes()), "slot_start");
  const int64_t scaleBytes = slot.dim / blockOf(slot) * CacheSlot::scaleBytes;
  Value scales = p.add(p.mul(head, scaleBytes), slot.scalesBegin());
  return {p.named(p.add(begin, p.mul(head, slot.headBytes())), name),
          p.named(p.add(begin, scales), "first_scale")};
}

Value CacheReader::scale(const Head &head, Value block) {
  Value offset = p.named(p.add(head.scales, p.mul(block, CacheSlot::scaleBytes)), "scale_at");
  Value word = p.load(buffer, p.shr(offset, 2));
  return p.halfToFloat(p.shr(word, p.shl(p.andBits(offset, 2), 3)));
}

Value CacheReader::element(const Head &head, Value d) {
  if (!slot.isQuantized())
    return readElement(p, buffer, slot.type, p.add(head.start, d));
  Value byte = readByte(p, buffer, p.named(p.add(head.start, d), "quant_at"));
  return p.mulf(signedByteToFloat(p, byte), scale(head, p.div(d, blockOf(slot))));
}

Value CacheReader::fold(const Head &head, StringRef carriedName, Value init, Body body) {
  using Values = SmallVector<Value>;
  if (isHalf(slot.type) && slot.dim % 2 == 0)
    return p.loop("d", p.c(0), p.c(slot.dim), 2, carriedName, init,
                  [&](Value d, ValueRange carried) -> Values {
                    Value at = p.shr(p.add(head.start, d), 1);
                    Value word = p.named(p.load(buffer, at), "word");
                    Value sum = carried[0];
                    for (const bool high : {false, true})
                      sum = body([&] { return widened(p, slot.type, word, high); },
                                 p.add(d, high ? 1 : 0), sum);
                    return {sum};
                  })[0];
  if (!slot.isQuantized())
    return p.loop("d", p.c(0), p.c(slot.dim), 1, carriedName, init,
                  [&](Value d, ValueRange carried) -> Values {
                    return {body([&] { return element(head, d); }, d, carried[0])};
                  })[0];
  const int64_t block = blockOf(slot);
  // Quants begin at whole words, as a slot and a head have whole words of them.
  auto ofWord = [&](Value words, Value first, Value factor, Value i, Value sum) {
    Value word = p.named(p.load(buffer, p.add(words, i)), "word");
    Value d = p.named(p.add(first, p.mul(i, 4)), "d");
    for (int64_t e = 0; e < 4; ++e)
      sum = body([&] { return p.mulf(signedByteToFloat(p, p.shr(word, 8 * e)), factor); },
                 p.add(d, e), sum);
    return sum;
  };
  return p.loop("block_index", p.c(0), p.c(slot.dim / block), 1, carriedName, init,
                [&](Value index, ValueRange sums) -> Values {
                  Value factor = p.named(scale(head, index), "scale");
                  Value first = p.named(p.mul(index, block), "first_d");
                  Value words = p.named(p.shr(p.add(head.start, first), 2), "first_word");
                  return p.loop("i", p.c(0), p.c(block / 4), 1, carriedName, sums,
                                [&](Value i, ValueRange sums) -> Values {
                                  return {ofWord(words, first, factor, i, sums[0])};
                                });
                })[0];
}

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

/// x * inverse to the nearest whole number, halves away from 0, as the byte of a quant.
static Value quantized(PhaseBuilder &p, Value x, Value inverse) {
  Value scaled = p.named(p.mulf(x, inverse), "scaled");
  Value magnitude = p.named(p.minf(p.absf(scaled), p.cf(127)), "magnitude");
  Value whole = p.named(p.toInteger(magnitude), "whole");
  Value rest = p.subf(magnitude, p.toFloat(whole)); // exact
  Value isMore = p.cmpf(arith::CmpFPredicate::OGE, rest, p.cf(0.5));
  Value quant = p.named(p.add(whole, p.select(isMore, p.c(1), p.c(0))), "quant");
  Value isNegative = p.cmpf(arith::CmpFPredicate::OLT, scaled, p.cf(0));
  return p.andBits(p.select(isNegative, p.sub(p.c(0), quant), quant), 255);
}

void simt::writeCacheBlock(PhaseBuilder &p, Value buffer, CacheType type, Value number, Value index,
                           llvm::function_ref<Value(Value col)> element) {
  const CacheSlot slot = slotOf(type);
  const int64_t block = blockOf(slot);
  Value first = p.named(p.mul(index, block), "first_col");
  Value largest = p.loop("i", p.c(0), p.c(block), 1, "largest", p.cf(0),
                         [&](Value i, ValueRange carried) -> SmallVector<Value> {
                           Value x = p.named(p.absf(element(p.add(first, i))), "magnitude");
                           Value isLarger = p.cmpf(arith::CmpFPredicate::OGT, x, carried[0]);
                           return {p.select(isLarger, x, carried[0])};
                         })[0];
  Value scale = p.named(p.divf(largest, p.cf(127)), "scale");
  // The inverse of what is below all normal numbers may be none; as f16 such a scale is 0.
  Value isNormal =
      p.cmpf(arith::CmpFPredicate::OGE, scale, p.cf(std::numeric_limits<float>::min()));
  Value inverse = p.divf(p.cf(1), p.select(isNormal, scale, p.cf(1)));
  inverse = p.named(p.select(isNormal, inverse, p.cf(0)), "inverse");

  // In halves of words: a slot is whole words, a scale is a half, and so are two quants.
  Value begin = p.named(p.mul(number, slot.bytes() / 2), "slot_start");
  writeHalf(p, p.floatToHalf(scale), buffer, p.add(begin, p.add(index, slot.scalesBegin() / 2)));
  Value pairs = p.named(p.add(begin, p.mul(index, block / 2)), "first_pair");
  p.loop("i", p.c(0), p.c(block / 2), 1, [&](Value i) {
    Value col = p.named(p.add(first, p.mul(i, 2)), "col");
    Value low = quantized(p, element(col), inverse);
    Value high = quantized(p, element(p.add(col, 1)), inverse);
    writeHalf(p, p.orBits(low, p.shl(high, 8)), buffer, p.add(pairs, i));
  });
}
