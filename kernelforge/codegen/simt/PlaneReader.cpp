#include "kernelforge/codegen/simt/PlaneReader.h"
#include "kernelforge/codegen/simt/Elements.h"
#include "kernelforge/ir/WeightLayouts.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;

static constexpr int64_t pieceBytes = 16;

/// A byte in each of a word's four.
static constexpr int64_t inAllBytes(int64_t byte) { return byte * 0x01010101; }

bool PlaneReader::reads(Type weight) { return weightLayoutOf(weight) == WeightLayout::Planes; }

PlaneReader::PlaneReader(PhaseBuilder &p, Value weight)
    : p(p), type(info(*elementTypeOf(weight.getType()))),
      planes(type.type, cast<RankedTensorType>(weight.getType()).getDimSize(0),
             cast<RankedTensorType>(weight.getType()).getDimSize(1)),
      buffer(p.argument(weight, Access::Read, View::Words4)) {
  const int64_t piecesOfBlock = type.bytes(BlockPart::Quants) / pieceBytes;
  assert(llvm::isPowerOf2_64(piecesOfBlock) && "blocks are 16 to 128 bytes of quants");
  blockShift = static_cast<int64_t>(llvm::Log2_64(piecesOfBlock));
  pieces =
      cast<RankedTensorType>(weight.getType()).getDimSize(1) / type.blockElements * piecesOfBlock;
}

Value PlaneReader::column(Value pieceOfRow, int64_t run, int64_t grain) {
  if (runs() == 1)
    return p.mul(pieceOfRow, runElements / grain);
  const int64_t piecesOfChunk = type.fieldElements() / runElements;
  Value chunk = p.mul(p.div(pieceOfRow, piecesOfChunk), type.chunkElements / grain);
  Value within = p.mul(p.rem(pieceOfRow, piecesOfChunk), runElements / grain);
  return p.add(p.add(chunk, within), run * type.fieldElements() / grain);
}

int64_t PlaneReader::highWords(const ElementTypeInfo &type) {
  return !type.hasHighs() ? 0 : type.bytes(BlockPart::Highs) == 4 ? 1 : 4;
}

int64_t PlaneReader::subScaleWords(const ElementTypeInfo &type) {
  switch (type.subScales) {
  case SubScales::None:
    return 0;
  case SubScales::Split6:
    return 1; // and half of the word with the scale
  case SubScales::Signed8:
  case SubScales::Packed4:
    return 2;
  case SubScales::Packed6:
  case SubScales::Shared6:
    return 3;
  }
  return 0;
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Value PlaneReader::vectorOf(BlockPart part, Value index, StringRef name) {
  Value at = p.add(index, planes.of(part).begin / pieceBytes);
  return p.named(p.loadVector(buffer, at), name);
}

Value PlaneReader::wordOf(BlockPart part, Value index, int64_t shift, StringRef name) {
  Value at = p.add(p.shr(index, shift + 2), planes.of(part).begin / pieceBytes);
  return p.named(p.extract(p.loadVector(buffer, at), p.andBits(p.shr(index, shift), 3)), name);
}

/// `pieces` in a row, a power of two, share what they have in two parts.
static Value partOfPieces(PhaseBuilder &p, Value piece, int64_t pieces, Value part) {
  return p.add(p.shl(p.shr(piece, llvm::Log2_64(static_cast<uint64_t>(pieces))), 1), part);
}

Value PlaneReader::highVector(Value number) {
  const int64_t pieces = type.highElements() / (runElements * runs());
  return partOfPieces(p, number, pieces, p.andBits(number, 1));
}

PlaneReader::QuadPlace PlaneReader::placeOfQuad(Value quad) {
  if (runs() == 1)
    return {quad, {}};
  const int64_t words = type.fieldElements() / 4; // of a chunk, and quads of each of its fields
  Value chunk = p.div(quad, runs() * words);
  return {p.add(p.mul(chunk, words), p.rem(quad, words)), p.rem(p.div(quad, words), runs())};
}

PlaneReader::Piece PlaneReader::loadQuad(Value quad) {
  return loadWord(p.named(placeOfQuad(quad).word, "word"));
}

PlaneReader::Piece PlaneReader::loadWord(Value word) {
  Piece piece = load(p.shr(word, 2)); // of which only what is used is loaded
  piece.quants = wordOf(BlockPart::Quants, word, 0, "quants");
  if (highWords(type) == 4) {
    Value vector = highVector(piece.number);
    piece.highs =
        wordOf(BlockPart::Highs, p.add(p.shl(vector, 2), p.andBits(word, 3)), 0, "high_bits");
  }
  return piece;
}

PlaneReader::Piece PlaneReader::load(Value number) {
  Piece piece;
  piece.number = number;
  piece.quants = vectorOf(BlockPart::Quants, number, "quants");
  if (highWords(type) == 1)
    piece.highs = wordOf(BlockPart::Highs, number, 0, "high_bits");
  else if (type.hasHighs())
    piece.highs = vectorOf(BlockPart::Highs, highVector(number), "high_bits");
  // Of narrower ones a word is of several blocks.
  const int64_t scaleBytes = planes.of(BlockPart::Scale).bytes;
  if (scaleBytes <= 4) {
    const auto several = static_cast<int64_t>(llvm::Log2_64(static_cast<uint64_t>(4 / scaleBytes)));
    piece.scale = wordOf(BlockPart::Scale, number, blockShift + several, "scale_word");
  } else { // with the sub-scales behind it
    Value first = p.shl(p.shr(number, blockShift), 1);
    piece.scale = wordOf(BlockPart::Scale, first, 0, "scale_word");
    piece.subScales.push_back(wordOf(BlockPart::Scale, p.add(first, 1), 0, "sub_scales"));
  }
  auto loadSubScale = [&](Value word) {
    piece.subScales.push_back(wordOf(BlockPart::SubScales, word, 0, "sub_scales"));
  };
  if (type.subScales == SubScales::Packed6 || type.subScales == SubScales::Shared6) {
    Value first = p.mul(p.shr(number, blockShift), 3);
    for (int64_t i = 0; i < 3; ++i)
      loadSubScale(p.add(first, i));
  } else if (type.subScales == SubScales::Signed8 || type.subScales == SubScales::Packed4) {
    const int64_t piecesOfChunk = type.fieldElements() / runElements;
    for (int64_t part = 0; part < 2; ++part)
      loadSubScale(partOfPieces(p, number, piecesOfChunk, p.c(part)));
  }
  return piece;
}

PlaneReader::Piece PlaneReader::loadAfter(const Piece &piece, int64_t steps) {
  Piece next = piece;
  next.number = p.add(piece.number, steps);
  next.quants = vectorOf(BlockPart::Quants, next.number, "quants");
  if (type.hasHighs())
    next.highs = vectorOf(BlockPart::Highs, highVector(next.number), "high_bits");
  return next;
}

//===----------------------------------------------------------------------===//
// Scales
//===----------------------------------------------------------------------===//

Value PlaneReader::sixBitsOf(const Piece &piece, bool isMin) {
  const SubScalePlace first = subScalePlace(type.subScales, 0, isMin),
                      later = subScalePlace(type.subScales, 4, isMin);
  auto bits = [&](int64_t byte, int64_t shift, int64_t mask) {
    return p.andBits(p.shr(piece.subScales[byte / 4], shift), inAllBytes(mask));
  };
  Value ofFirst = bits(first.low, first.lowShift, first.lowMask);
  Value ofLater = p.orBits(bits(later.low, later.lowShift, later.lowMask),
                           bits(later.high, later.highShift - 4, later.highMask << 4));
  Value isFirst = p.cmp(arith::CmpIPredicate::eq, p.andBits(piece.number, 4), p.c(0));
  // A word has those of four sub-blocks, a piece needs two.
  return p.shr(p.select(isFirst, ofFirst, ofLater), p.shl(p.andBits(piece.number, 2), 3));
}

Value PlaneReader::scaleOfBlock(const Piece &piece) {
  switch (type.scaleFormat) {
  case ScaleFormat::F16: {
    if (type.subScales == SubScales::Split6) // has the word with them
      return p.halfToFloat(piece.scale);
    Value shift = p.shl(p.andBits(p.shr(piece.number, blockShift), 1), 4);
    return p.halfToFloat(p.shr(piece.scale, shift));
  }
  case ScaleFormat::F32: {
    Value scale = p.bitsToFloat(piece.scale);
    return type.isE4M3 ? p.mulf(scale, p.cf(e4m3Factor)) : scale;
  }
  case ScaleFormat::E8M0: {
    Value shift = p.shl(p.andBits(p.shr(piece.number, blockShift), 3), 3);
    return e8m0ToFloat(p, p.andBits(p.shr(piece.scale, shift), 255));
  }
  }
  return {};
}

Value PlaneReader::subScaleOf(const Piece &piece, int64_t run, bool isMin) {
  // Sub-blocks are runs here: those of a chunk's fields take turns with its two pieces.
  Value ofPiece = p.shl(p.andBits(piece.number, 1), 3);
  const auto word = static_cast<size_t>(run / 2);
  const int64_t ofRun = run % 2 * 16;
  if (type.subScales == SubScales::Packed4)
    return p.andBits(p.shr(piece.subScales[word], p.add(ofPiece, ofRun + (isMin ? 4 : 0))), 15);
  if (type.subScales == SubScales::Split6) {
    Value number = p.andBits(piece.number, 7);
    Value low = p.andBits(p.shr(piece.subScales[0], p.shl(number, 2)), 15);
    Value high = p.andBits(p.shr(piece.scale, p.add(p.shl(number, 1), 16)), 3);
    return p.sub(p.orBits(low, p.shl(high, 4)), subScaleExcess(type.subScales));
  }
  assert(type.subScales == SubScales::Shared6);
  Value base = p.add(ofPiece, p.shl(p.andBits(piece.number, 2), 1)); // chunks have nibbles
  Value low = p.andBits(p.shr(piece.subScales[word], p.add(base, ofRun)), 15);
  Value high = p.andBits(p.shr(piece.subScales[2], p.add(base, ofRun + 2 * (run / 2))), 3);
  return p.sub(p.orBits(low, p.shl(high, 4)), subScaleExcess(type.subScales));
}

SmallVector<PlaneReader::Scale, 2> PlaneReader::scales(const Piece &piece) {
  Scale ofBlock;
  if (type.hasMin()) {
    Value both = p.named(p.halvesToFloats(piece.scale), "scale_and_min");
    ofBlock = {p.extract(both, int64_t(0)), p.extract(both, 1)};
  } else {
    ofBlock = {p.named(scaleOfBlock(piece), "scale"), {}};
  }
  SmallVector<Scale, 2> scales(static_cast<size_t>(runs()), ofBlock);
  switch (type.subScales) {
  case SubScales::None:
    break;
  case SubScales::Packed6: {
    Value factors = p.named(sixBitsOf(piece, false), "factors");
    Value minima = p.named(sixBitsOf(piece, true), "minima");
    for (auto [run, scale] : llvm::enumerate(scales)) {
      auto ofRun = [&](Value bytes) {
        return p.toFloat(p.andBits(p.shr(bytes, 8 * static_cast<int64_t>(run)), 255));
      };
      scale.factor = p.named(p.mulf(ofBlock.factor, ofRun(factors)), "scale");
      scale.minimum = p.named(p.negf(p.mulf(ofBlock.minimum, ofRun(minima))), "minimum");
    }
    break;
  }
  case SubScales::Signed8: {
    Value shift = p.sub(p.c(24), p.shl(p.andBits(piece.number, 3), 3));
    for (auto [run, scale] : llvm::enumerate(scales)) {
      Value factor = p.signedToFloat(p.shrSigned(p.shl(piece.subScales[run], shift), 24));
      scale.factor = p.named(p.mulf(ofBlock.factor, factor), "scale");
    }
    break;
  }
  case SubScales::Packed4:
  case SubScales::Shared6:
  case SubScales::Split6:
    for (auto [run, scale] : llvm::enumerate(scales)) {
      if (run > 0 && hasOneScale()) {
        scale = scales[0];
        continue;
      }
      Value factor = p.signedToFloat(subScaleOf(piece, static_cast<int64_t>(run), false));
      scale.factor = p.named(p.mulf(ofBlock.factor, factor), "scale");
      if (!type.hasMin())
        continue;
      Value minimum = p.signedToFloat(subScaleOf(piece, static_cast<int64_t>(run), true));
      scale.minimum = p.named(p.negf(p.mulf(ofBlock.minimum, minimum)), "minimum");
    }
    break;
  }
  return scales;
}

//===----------------------------------------------------------------------===//
// Quants
//===----------------------------------------------------------------------===//

/// The bits above a quant's low ones, in their place, of four bytes in each word.
Value PlaneReader::highBits(const Piece &piece, int64_t run) {
  if (highWords(type) == 1) {
    // One bit an element, one after another: four of them go to four bytes by a product, in which
    // no two bits meet.
    SmallVector<Value> shifts;
    for (int64_t i = 0; i < PhaseBuilder::lanes(piece.quants); ++i)
      shifts.push_back(p.c(run * runElements + 4 * i));
    const bool isWord = shifts.size() == 1;
    Value placed =
        isWord ? p.shr(piece.highs, shifts[0]) : p.shr(p.splat(piece.highs, 4), p.vector(shifts));
    Value four = p.andBits(placed, 15);
    return p.shl(p.andBits(p.mul(four, 0x00204081), inAllBytes(1)), type.lowBits());
  }
  // A byte has those of elements 32 apart: pieces of the first half of 32, and of the second one,
  // come to further bits in turns.
  assert(type.highStep == 2 * runElements);
  const int64_t pieces = type.highElements() / (runElements * runs());
  const int64_t twoApart = type.fieldElements() > type.highStep
                               ? type.highBits()
                               : type.chunkElements / type.highStep * type.highBits();
  Value ofPiece = p.mul(p.andBits(piece.number, pieces - 2), twoApart / 2);
  Value shift = p.add(ofPiece, run * highShiftOfRun());
  const int64_t mask = inAllBytes((1 << type.highBits()) - 1);
  return p.shl(p.andBits(p.shr(piece.highs, shift), mask), type.lowBits());
}

Value PlaneReader::bytes(const Piece &piece, int64_t run) {
  const int64_t bits = type.lowBits();
  if (bits == 8)
    return piece.quants;
  Value low = p.andBits(p.shr(piece.quants, bits * run), inAllBytes((1 << bits) - 1));
  if (type.values)
    return p.lookUpBytes(low, *type.values);
  return piece.highs ? p.orBits(low, highBits(piece, run)) : low;
}

Value PlaneReader::signedBytes(const Piece &piece, int64_t run) {
  Value stored = bytes(piece, run);
  if (type.zero == 0)
    return stored;
  // With a bit above them no byte borrows from the next one.
  Value above = p.sub(p.orBits(stored, p.c(inAllBytes(128))), p.c(inAllBytes(type.zero)));
  return p.xorBits(above, p.c(inAllBytes(128)));
}

SmallVector<Value> PlaneReader::offsetQuads(const Piece &piece, int64_t run) {
  // An f16 from 64 to 128 has the whole numbers above 64 in its bits from the fourth on, one from
  // 256 to 512 those above 256 from the second. So two quants of a word, every other byte's, become
  // two numbers at once.
  const bool isByte = hasBytes(), isLow = !isByte && !piece.highs;
  const int64_t place = isByte ? 2 : 4, first = isLow ? type.lowBits() * run : 0; // bits
  const int64_t lowMask = ((1 << type.lowBits()) - 1) * 0x00100010;
  const int64_t mask = isByte ? 0x03fc03fc : isLow ? lowMask : 0x03f003f0;
  Value words = isByte  ? p.xorBits(bytes(piece, run), p.c(inAllBytes(128)))
                : isLow ? piece.quants
                        : bytes(piece, run);
  words = p.named(words, "bytes");
  auto halves = [&](int64_t from) {
    Value placed = from < place ? p.shl(words, place - from) : p.shr(words, from - place);
    return p.named(p.orBits(p.andBits(placed, mask), p.c(isByte ? 0x5c005c00 : 0x54005400)),
                   "halves");
  };
  Value even = halves(first), odd = halves(first + 8);
  const int64_t count = PhaseBuilder::lanes(words);
  SmallVector<Value> quads;
  for (int64_t i = 0; i < count; ++i) {
    auto two = [&](Value word, StringRef name) {
      return p.named(p.halvesToFloats(count == 1 ? word : p.extract(word, i)), name);
    };
    Value x = two(even, "even"), y = two(odd, "odd");
    quads.push_back(p.vector(
        {p.extract(x, int64_t(0)), p.extract(y, int64_t(0)), p.extract(x, 1), p.extract(y, 1)}));
  }
  return quads;
}

SmallVector<Value> PlaneReader::byteQuads(const Piece &piece, int64_t run) {
  Value words = type.values ? p.named(bytes(piece, run), "bytes") : piece.quants;
  const int64_t count = PhaseBuilder::lanes(words);
  Value places = p.vector({p.c(24), p.c(16), p.c(8), p.c(0)});
  SmallVector<Value> quads;
  for (int64_t i = 0; i < count; ++i) {
    Value word = count == 1 ? words : p.extract(words, i);
    quads.push_back(type.isE4M3
                        ? e4m3QuadToFloats(p, word)
                        : p.signedToFloat(p.shrSigned(p.shl(p.splat(word, 4), places), 24)));
  }
  return quads;
}

SmallVector<Value> PlaneReader::elements(const Piece &piece, int64_t run, const Scale &scale) {
  if (type.isE4M3) {
    SmallVector<Value> numbers = byteQuads(piece, run);
    for (Value &quad : numbers)
      quad = p.mulf(quad, scale.factor);
    return numbers;
  }
  SmallVector<Value> elements = offsetQuads(piece, run);
  // What was added to the quants has so few digits that its product is exact.
  Value away = p.cf(-static_cast<double>(offset()));
  Value behind =
      scale.minimum ? p.fma(scale.factor, away, scale.minimum) : p.mulf(scale.factor, away);
  behind = p.named(behind, "behind");
  for (Value &quad : elements)
    quad = p.fma(quad, scale.factor, behind);
  return elements;
}

Value PlaneReader::elementsOfQuad(const Piece &loaded, Value quad) {
  const QuadPlace place = placeOfQuad(quad);
  // Shifted so that it is of the first run, and of a word's high bits the first ones.
  Piece piece = loaded;
  piece.number = p.shr(place.word, 2);
  Value run = place.run ? p.named(place.run, "run") : p.c(0);
  if (place.run)
    piece.quants = p.shr(piece.quants, p.mul(run, type.lowBits()));
  if (highWords(type) == 1)
    piece.highs = p.shr(piece.highs, p.add(p.shl(run, 4), p.shl(p.andBits(place.word, 3), 2)));
  else if (piece.highs)
    piece.highs = p.shr(piece.highs, p.mul(run, highShiftOfRun()));
  const SmallVector<Scale, 2> all = scales(piece);
  Scale scale = all.back();
  if (!hasOneScale())
    for (size_t i = all.size() - 1; i-- > 0;) {
      Value isOwn = p.cmp(arith::CmpIPredicate::eq, run, p.c(static_cast<int64_t>(i)));
      scale.factor = p.select(isOwn, all[i].factor, scale.factor);
      if (scale.minimum)
        scale.minimum = p.select(isOwn, all[i].minimum, scale.minimum);
    }
  return elements(piece, 0, scale).front();
}
