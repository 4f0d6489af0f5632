#include "kernelforge/codegen/simt/Weights.h"
#include "kernelforge/ir/WeightLayouts.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;

/// Elements of a row of plain numbers that are written out in a step of its loop.
static constexpr int64_t plainStep = 4;

WeightReader::WeightReader(PhaseBuilder &p, Value buffer, RankedTensorType tensor)
    : p(p), buffer(buffer), type(info(*elementTypeOf(tensor))),
      width(tensor.getDimSize(tensor.getRank() - 1)) {
  if (weightLayoutOf(tensor) == WeightLayout::Planes)
    planes.emplace(type.type, tensor.getDimSize(0), width);
}

SmallVector<Value> WeightReader::repeat(StringRef name, int64_t count, StringRef carriedName,
                                        ValueRange init, PhaseBuilder::CarryBody body) {
  if (count == 1)
    return body(p.c(0), init);
  return p.loop(name, p.c(0), p.c(count), 1, carriedName, init, body);
}

//===----------------------------------------------------------------------===//
// Plain numbers
//===----------------------------------------------------------------------===//

SmallVector<Value> WeightReader::foldPlain(Value row, StringRef carriedName, ValueRange init,
                                           Body body) {
  const bool pairs = isHalf(type.type) && width % 2 == 0;
  Value begin = p.named(p.mul(row, width), "row_start");
  // Elements col .. col + count - 1.
  auto step = [&](Value col, int64_t count, ValueRange carried) {
    SmallVector<Value> sums(carried);
    Value word;
    for (int64_t i = 0; i < count; ++i) {
      Value at = p.add(col, i), element;
      if (pairs) {
        if (i % 2 == 0)
          word = p.named(p.load(buffer, p.shr(p.add(begin, at), 1)), "word");
        element = widened(p, type.type, word, i % 2 == 1);
      } else {
        element = readElement(p, buffer, type.type, p.add(begin, at));
      }
      sums = body(element, at, sums);
    }
    return sums;
  };
  const int64_t whole = width / plainStep * plainStep;
  SmallVector<Value> sums(init);
  if (whole > 0)
    sums = p.loop("k", p.c(0), p.c(whole), plainStep, carriedName, sums,
                  [&](Value col, ValueRange carried) { return step(col, plainStep, carried); });
  return step(p.c(whole), width - whole, sums);
}

//===----------------------------------------------------------------------===//
// Quantized blocks
//===----------------------------------------------------------------------===//

Value WeightReader::partAt(Value block, BlockPart part) {
  if (!planes)
    return p.add(block, type.offset(part));
  const Plane &plane = planes->of(part);
  return p.add(p.mul(block, plane.bytes), plane.begin + type.offset(part) - plane.offset);
}

int64_t WeightReader::alignmentOf(BlockPart part) const {
  const int64_t step = planes ? planes->of(part).bytes : type.blockBytes;
  return step % 4 == 0 ? 4 : step % 2 == 0 ? 2 : 1;
}

/// The scale or minimum of a block, an f16 at an even byte.
Value WeightReader::half(Value block, BlockPart part) {
  Value offset = partAt(block, part);
  Value word = p.load(buffer, p.shr(offset, 2));
  if (alignmentOf(part) == 4) {
    const int64_t place =
        planes ? type.offset(part) - planes->of(part).offset : type.offset(part) % 4;
    return p.halfToFloat(p.shr(word, place * 8));
  }
  return p.halfToFloat(p.shr(word, p.shl(p.andBits(offset, 2), 3)));
}

Value WeightReader::scale(Value block) {
  switch (type.scaleFormat) {
  case ScaleFormat::F16:
    return half(block, BlockPart::Scale);
  case ScaleFormat::F32: {
    Value scale = p.bitsToFloat(p.load(buffer, p.shr(partAt(block, BlockPart::Scale), 2)));
    return type.isE4M3 ? p.mulf(scale, p.cf(e4m3Factor)) : scale;
  }
  case ScaleFormat::E8M0:
    return e8m0ToFloat(p, byteAt(partAt(block, BlockPart::Scale)));
  }
  return {};
}

/// The factor of a sub-block's scale or minimum; see subScalePlace().
Value WeightReader::subScale(Value block, Value sub, bool isMin) {
  Value part = partAt(block, BlockPart::SubScales);
  if (type.subScales == SubScales::Signed8)
    return signedByteToFloat(p, byteAt(p.add(part, sub)));
  auto place = [&](int64_t SubScalePlace::*member) {
    auto at = [&](int64_t i) { return subScalePlace(type.subScales, i, isMin).*member; };
    return sumOfBits(p, BitSum::of(type.blockElements / type.subElements, at), sub);
  };
  auto field = [&](int64_t SubScalePlace::*byte, int64_t SubScalePlace::*shift,
                   int64_t SubScalePlace::*mask) -> Value {
    Value bits = p.shr(byteAt(p.add(part, place(byte))), place(shift));
    return p.b.create<arith::AndIOp>(p.loc, bits, place(mask));
  };
  Value q = field(&SubScalePlace::low, &SubScalePlace::lowShift, &SubScalePlace::lowMask);
  if (type.subScales != SubScales::Packed4)
    q = p.orBits(
        q,
        p.shl(field(&SubScalePlace::high, &SubScalePlace::highShift, &SubScalePlace::highMask), 4));
  return p.signedToFloat(p.sub(q, subScaleExcess(type.subScales)));
}

WeightReader::Scale WeightReader::scaleOf(Value block, Value sub, Value d, Value m) {
  Scale scale{d, m};
  if (type.hasSubScales())
    scale.factor = p.named(p.mulf(d, subScale(block, sub, false)), "scale");
  if (type.hasSubScales() && m)
    scale.offset = p.named(p.negf(p.mulf(m, subScale(block, sub, true))), "offset");
  if (type.zero == 0)
    return scale;
  Value ofZero = p.mulf(scale.factor, p.cf(-type.zero));
  scale.offset = p.named(scale.offset ? p.addf(scale.offset, ofZero) : ofZero, "offset");
  return scale;
}

Value WeightReader::byteToFloat(Value word) {
  return type.isE4M3 ? e4m3ToFloat(p, word) : signedByteToFloat(p, word);
}

Value WeightReader::quantToFloat(Value q) {
  return type.values ? signedByteToFloat(p, p.lookUpBytes(q, *type.values)) : p.toFloat(q);
}

Value WeightReader::apply(Value quant, const Scale &scale) {
  Value x = p.mulf(quant, scale.factor);
  return scale.offset ? p.addf(x, scale.offset) : x;
}

Words simt::wordsFrom(PhaseBuilder &p, Value offset, int64_t alignment) {
  offset = p.named(offset, "first_byte");
  Value first = p.named(p.shr(offset, 2), "first_word");
  if (alignment == 4)
    return {first, {}};
  return {first, p.named(p.shl(p.andBits(offset, 4 - alignment), 3), "shift")};
}

Value simt::wordOf(PhaseBuilder &p, Value buffer, const Words &words, Value index) {
  Value at = p.add(words.first, index);
  if (!words.shift)
    return p.named(p.load(buffer, at), "word");
  // A part of it stands in the next word, which may not be there where nothing of it is needed.
  at = p.named(at, "at");
  Value low = p.shr(p.load(buffer, at), words.shift);
  Value next = p.load(buffer, p.add(at, p.shr(p.add(words.shift, 31), 5)));
  Value high = p.shl(p.shl(next, 1), p.b.create<arith::SubIOp>(p.loc, p.c(31), words.shift));
  return p.named(p.orBits(low, high), "word");
}

SmallVector<Value> WeightReader::foldQuantized(Value row, StringRef carriedName, ValueRange init,
                                               Body body) {
  const int64_t blocks = width / type.blockElements;
  const bool bytes = type.lowBits() == 8;
  const int64_t chunk = type.chunkElements, fields = type.fields(), side = type.fieldElements();
  const int64_t group = type.hasSubScales() ? std::min(side, type.subElements) : side;
  // Bits above a quant's low ones: of the elements of a chunk either one word, bit after bit, or
  // bytes as far apart as the quants' bytes, of a chunk or of all chunks of the block.
  const bool highsInOneWord = type.highStep == 1, shareHighs = type.highElements() > chunk;
  assert((!highsInOneWord || chunk * type.highBits() == 32) && "high bits lie in one of two ways");

  Value begin = p.named(p.mul(row, blocks * blockStep()), "row_start");
  return repeat("block_index", blocks, carriedName, init, [&](Value blockIndex, ValueRange sums) {
    Value block = p.named(p.add(begin, p.mul(blockIndex, blockStep())), "block_start");
    Value d = p.named(scale(block), "d"), m;
    if (type.hasMin())
      m = p.named(half(block, BlockPart::Min), "m");
    Scale ofBlock;
    if (!type.hasSubScales())
      ofBlock = scaleOf(block, {}, d, m);

    return repeat(
        "chunk", type.blockElements / chunk, carriedName, sums,
        [&](Value chunkIndex, ValueRange sums) {
          auto wordsOf = [&](BlockPart part, int64_t bytesOfChunk) {
            Value offset = p.add(partAt(block, part), p.mul(chunkIndex, bytesOfChunk));
            return wordsFrom(p, offset, alignmentOf(part));
          };
          Words quants = wordsOf(BlockPart::Quants, chunk * type.lowBits() / 8), highs;
          Value ofChunk; // bits that shared ones are to be shifted by
          if (type.hasHighs())
            highs = wordsOf(BlockPart::Highs, shareHighs ? 0 : chunk * type.highBits() / 8);
          if (shareHighs)
            ofChunk = p.mul(chunkIndex, chunk / type.highStep * type.highBits());
          Value first = p.named(
              p.add(p.mul(blockIndex, type.blockElements), p.mul(chunkIndex, chunk)), "first_k");

          return repeat(
              "group", side / group, carriedName, sums, [&](Value groupIndex, ValueRange sums) {
                SmallVector<Scale> scales(fields, ofBlock);
                if (type.hasSubScales())
                  for (int64_t h = 0; h < fields; ++h) {
                    Value sub =
                        p.add(p.add(p.mul(chunkIndex, chunk / type.subElements), groupIndex),
                              h * side / type.subElements);
                    scales[h] = scaleOf(block, sub, d, m);
                  }
                return repeat("i", group / 4, carriedName, sums, [&](Value i, ValueRange sums) {
                  Value wordIndex = p.add(p.mul(groupIndex, group / 4), i);
                  Value word = wordOf(p, buffer, quants, wordIndex), high;
                  if (type.hasHighs() && highsInOneWord)
                    high = p.named(p.shr(wordOf(p, buffer, highs, p.c(0)),
                                         p.mul(wordIndex, 4 * type.highBits())),
                                   "high_bits");
                  else if (type.hasHighs()) {
                    Value by = p.mul(p.div(wordIndex, type.highStep / 4), type.highBits());
                    if (ofChunk)
                      by = p.add(by, ofChunk);
                    high = p.named(
                        p.shr(wordOf(p, buffer, highs, p.rem(wordIndex, type.highStep / 4)), by),
                        "high_bits");
                  }
                  Value col = p.named(p.add(first, p.mul(wordIndex, 4)), "k");
                  SmallVector<Value> next(sums);
                  for (int64_t h = 0; h < fields; ++h)
                    for (int64_t e = 0; e < 4; ++e) {
                      Value quant;
                      if (type.isE4M3) {
                        quant = byteToFloat(p.shr(word, 8 * e));
                      } else if (bytes) {
                        quant = p.signedToFloat(p.shrSigned(p.shl(word, 24 - 8 * e), 24));
                      } else {
                        const int64_t low = type.lowBits();
                        Value q = p.andBits(p.shr(word, low * h + 8 * e), (1 << low) - 1);
                        if (high) {
                          // A further field's bits stand with those of its elements.
                          const int64_t place =
                              highsInOneWord ? (h * side + e) * type.highBits()
                                             : 8 * e + h * side / type.highStep * type.highBits();
                          Value bits = p.andBits(p.shr(high, place), (1 << type.highBits()) - 1);
                          q = p.orBits(q, p.shl(bits, low));
                        }
                        quant = quantToFloat(q);
                      }
                      next = body(apply(quant, scales[h]), p.add(col, h * side + e), next);
                    }
                  return next;
                });
              });
        });
  });
}

Value WeightReader::quantized(Value row, Value col) {
  const int64_t rowStep = width / type.blockElements * blockStep();
  Value block =
      p.named(p.add(p.mul(row, rowStep), p.mul(p.div(col, type.blockElements), blockStep())),
              "block_start");
  Value element = p.named(p.rem(col, type.blockElements), "element");
  Value d = p.named(scale(block), "d"), m;
  if (type.hasMin())
    m = p.named(half(block, BlockPart::Min), "m");
  Value sub = type.hasSubScales() ? p.named(p.div(element, type.subElements), "sub") : Value();
  const Scale own = scaleOf(block, sub, d, m);
  Value quants = partAt(block, BlockPart::Quants);
  if (type.quantBits == 8) {
    Value byte = byteAt(p.add(quants, element));
    return apply(byteToFloat(byte), own);
  }
  const int64_t apart = type.fieldElements(), low = type.lowBits();
  Value within = p.rem(element, type.chunkElements);
  Value byte = byteAt(
      p.add(quants, p.add(p.mul(p.div(element, type.chunkElements), apart), p.rem(within, apart))));
  Value q = p.andBits(p.shr(byte, p.mul(p.div(within, apart), low)), (1 << low) - 1);
  if (type.hasHighs()) {
    const int64_t together = type.highElements();
    Value high = byteAt(
        p.add(partAt(block, BlockPart::Highs), p.add(p.mul(p.div(element, together), type.highStep),
                                                     p.rem(element, type.highStep))));
    Value shift = p.mul(p.div(p.rem(element, together), type.highStep), type.highBits());
    Value bits = p.andBits(p.shr(high, shift), (1 << type.highBits()) - 1);
    q = p.orBits(q, p.shl(bits, low));
  }
  return apply(quantToFloat(q), own);
}

//===----------------------------------------------------------------------===//
// Any
//===----------------------------------------------------------------------===//

Value WeightReader::element(Value row, Value col) {
  return type.isQuantized() ? quantized(row, col)
                            : readElement(p, buffer, type.type, p.add(p.mul(row, width), col));
}

SmallVector<Value> WeightReader::fold(Value row, StringRef carriedName, ValueRange init,
                                      Body body) {
  return type.isQuantized() ? foldQuantized(row, carriedName, init, body)
                            : foldPlain(row, carriedName, init, body);
}

SmallVector<Value> WeightReader::foldColumn(Value col, int64_t rows, StringRef carriedName,
                                            ValueRange init, Body body) {
  return p.loop("k", p.c(0), p.c(rows), 1, carriedName, init, [&](Value row, ValueRange carried) {
    return body(element(row, col), row, carried);
  });
}

Value simt::readParameter(PhaseBuilder &p, Value bodyArgument, Value col, int64_t lanes) {
  auto type = cast<RankedTensorType>(bodyArgument.getType());
  if (!info(*elementTypeOf(type)).isQuantized())
    return readElement(p, bodyArgument, col, lanes);
  WeightReader reader(p, p.argument(bodyArgument), type);
  SmallVector<Value> elements;
  for (int64_t i = 0; i < lanes; ++i)
    elements.push_back(reader.element(p.c(0), p.add(col, i)));
  return lanes == 1 ? elements[0] : p.vector(elements);
}
