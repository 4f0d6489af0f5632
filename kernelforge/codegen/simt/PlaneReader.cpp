#include "kernelforge/codegen/simt/PlaneReader.h"
#include "kernelforge/ir/WeightLayouts.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;

static constexpr int64_t pieceBytes = 16, runElements = 16;

/// A byte in each of a word's four.
static constexpr int64_t inAllBytes(int64_t byte) { return byte * 0x01010101; }

bool PlaneReader::reads(Type weight) { return weightLayoutOf(weight) == WeightLayout::Planes; }

PlaneReader::PlaneReader(PhaseBuilder &p, Value weight)
    : p(p), type(info(*elementTypeOf(weight.getType()))),
      planes(type.type, cast<RankedTensorType>(weight.getType()).getDimSize(0),
             cast<RankedTensorType>(weight.getType()).getDimSize(1)),
      buffer(p.argument(weight, Access::Read, View::Words4)) {
  const int64_t piecesOfBlock = type.bytes(BlockPart::Quants) / pieceBytes;
  assert(llvm::isPowerOf2_64(piecesOfBlock) && "blocks are 16, 32 or 128 bytes of quants");
  blockShift = static_cast<int64_t>(llvm::Log2_64(piecesOfBlock));
  pieces =
      cast<RankedTensorType>(weight.getType()).getDimSize(1) / type.blockElements * piecesOfBlock;
}

Value PlaneReader::column(Value pieceOfRow, int64_t run, int64_t grain) {
  if (runs() == 1)
    return p.mul(pieceOfRow, runElements / grain);
  const int64_t piecesOfChunk = type.chunkElements / (2 * runElements);
  Value chunk = p.mul(p.div(pieceOfRow, piecesOfChunk), type.chunkElements / grain);
  Value within = p.mul(p.rem(pieceOfRow, piecesOfChunk), runElements / grain);
  return p.add(p.add(chunk, within), run * type.chunkElements / 2 / grain);
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

/// Pieces of a chunk of four share what they have by the chunk, in two parts.
static Value partOfChunk(PhaseBuilder &p, Value piece, Value part) {
  return p.add(p.shl(p.shr(piece, 2), 1), part);
}

PlaneReader::QuadPlace PlaneReader::placeOfQuad(Value quad) {
  if (runs() == 1)
    return {quad, {}};
  const int64_t half = type.chunkElements / 8; // quads of the low nibbles of a chunk, and words
  Value chunk = p.div(quad, 2 * half);
  return {p.add(p.mul(chunk, half), p.rem(quad, half)), p.rem(p.div(quad, half), 2)};
}

PlaneReader::Piece PlaneReader::loadQuad(Value quad) {
  return loadWord(p.named(placeOfQuad(quad).word, "word"));
}

PlaneReader::Piece PlaneReader::loadWord(Value word) {
  Piece piece = load(p.shr(word, 2)); // of which only what is used is loaded
  piece.quants = wordOf(BlockPart::Quants, word, 0, "quants");
  if (type.hasHighs() && type.bytes(BlockPart::Highs) != 4) {
    Value vector = partOfChunk(p, piece.number, p.andBits(piece.number, 1));
    piece.highs =
        wordOf(BlockPart::Highs, p.add(p.shl(vector, 2), p.andBits(word, 3)), 0, "high_bits");
  }
  return piece;
}

PlaneReader::Piece PlaneReader::load(Value number) {
  Piece piece;
  piece.number = number;
  piece.quants = vectorOf(BlockPart::Quants, number, "quants");
  if (type.hasHighs() && type.bytes(BlockPart::Highs) == 4)
    piece.highs = wordOf(BlockPart::Highs, number, 0, "high_bits");
  else if (type.hasHighs())
    piece.highs =
        vectorOf(BlockPart::Highs, partOfChunk(p, number, p.andBits(number, 1)), "high_bits");
  // Of halves a word is of two blocks.
  piece.scale =
      wordOf(BlockPart::Scale, number, blockShift + (type.hasMin() ? 0 : 1), "scale_word");
  if (type.subScales == SubScales::Packed6) {
    Value first = p.mul(p.shr(number, blockShift), 3);
    for (int64_t i = 0; i < 3; ++i)
      piece.subScales.push_back(wordOf(BlockPart::SubScales, p.add(first, i), 0, "sub_scales"));
  } else if (type.subScales == SubScales::Signed8) {
    for (int64_t run = 0; run < 2; ++run)
      piece.subScales.push_back(
          wordOf(BlockPart::SubScales, partOfChunk(p, number, p.c(run)), 0, "sub_scales"));
  }
  return piece;
}

PlaneReader::Piece PlaneReader::loadAfter(const Piece &piece, int64_t steps) {
  Piece next = piece;
  next.number = p.add(piece.number, steps);
  next.quants = vectorOf(BlockPart::Quants, next.number, "quants");
  return next;
}

//===----------------------------------------------------------------------===//
// Scales
//===----------------------------------------------------------------------===//

Value PlaneReader::sixBitsOf(const Piece &piece, bool isMin) {
  const SixBits first = sixBits(0, isMin), later = sixBits(4, isMin);
  auto bits = [&](int64_t byte, int64_t shift, int64_t mask) {
    return p.andBits(p.shr(piece.subScales[byte / 4], shift), inAllBytes(mask));
  };
  Value ofFirst = bits(first.low, first.lowShift, first.lowMask);
  Value ofLater =
      p.orBits(bits(later.low, later.lowShift, later.lowMask), bits(later.high, 2, later.highMask));
  Value isFirst = p.cmp(arith::CmpIPredicate::eq, p.andBits(piece.number, 4), p.c(0));
  // A word has those of four sub-blocks, a piece needs two.
  return p.shr(p.select(isFirst, ofFirst, ofLater), p.shl(p.andBits(piece.number, 2), 3));
}

SmallVector<PlaneReader::Scale, 2> PlaneReader::scales(const Piece &piece) {
  Scale ofBlock;
  if (type.hasMin()) {
    Value both = p.named(p.halvesToFloats(piece.scale), "scale_and_min");
    ofBlock = {p.extract(both, int64_t(0)), p.extract(both, 1)};
  } else {
    Value shift = p.shl(p.andBits(p.shr(piece.number, blockShift), 1), 4);
    ofBlock = {p.named(p.halfToFloat(p.shr(piece.scale, shift)), "scale"), {}};
  }
  SmallVector<Scale, 2> scales(runs(), ofBlock);
  if (type.subScales == SubScales::Packed6) {
    Value factors = p.named(sixBitsOf(piece, false), "factors");
    Value minima = p.named(sixBitsOf(piece, true), "minima");
    for (auto [run, scale] : llvm::enumerate(scales)) {
      auto ofRun = [&](Value bytes) {
        return p.toFloat(p.andBits(p.shr(bytes, 8 * static_cast<int64_t>(run)), 255));
      };
      scale.factor = p.named(p.mulf(ofBlock.factor, ofRun(factors)), "scale");
      scale.minimum = p.named(p.negf(p.mulf(ofBlock.minimum, ofRun(minima))), "minimum");
    }
  } else if (type.subScales == SubScales::Signed8) {
    Value shift = p.sub(p.c(24), p.shl(p.andBits(piece.number, 3), 3));
    for (auto [run, scale] : llvm::enumerate(scales)) {
      Value factor = p.signedToFloat(p.shrSigned(p.shl(piece.subScales[run], shift), 24));
      scale.factor = p.named(p.mulf(ofBlock.factor, factor), "scale");
    }
  }
  return scales;
}

//===----------------------------------------------------------------------===//
// Quants
//===----------------------------------------------------------------------===//

/// The bits above nibbles, in their place, of four bytes in each word.
Value PlaneReader::highBits(const Piece &piece, int64_t run) {
  if (type.bytes(BlockPart::Highs) == 4) {
    // One bit an element, one after another: four of them go to four bytes by a product, in which
    // no two bits meet.
    SmallVector<Value> shifts;
    for (int64_t i = 0; i < PhaseBuilder::lanes(piece.quants); ++i)
      shifts.push_back(p.c(run * runElements + 4 * i));
    const bool isWord = shifts.size() == 1;
    Value placed =
        isWord ? p.shr(piece.highs, shifts[0]) : p.shr(p.splat(piece.highs, 4), p.vector(shifts));
    Value four = p.andBits(placed, 15);
    return p.shl(p.andBits(p.mul(four, 0x00204081), inAllBytes(1)), 4);
  }
  // Two bits an element: a byte has those of four sub-chunks of 32.
  Value shift = p.add(p.andBits(piece.number, 2), 4 * run);
  return p.shl(p.andBits(p.shr(piece.highs, shift), inAllBytes(3)), 4);
}

Value PlaneReader::bytes(const Piece &piece, int64_t run) {
  if (type.lowBits() == 8)
    return piece.quants;
  Value low = p.andBits(p.shr(piece.quants, 4 * run), inAllBytes(15));
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
  const bool isByte = type.lowBits() == 8, isNibble = !isByte && !piece.highs;
  const int64_t place = isByte ? 2 : 4, first = isNibble ? 4 * run : 0; // bits
  const int64_t mask = isByte ? 0x03fc03fc : isNibble ? 0x00f000f0 : 0x03f003f0;
  Value words = isByte     ? p.xorBits(piece.quants, p.c(inAllBytes(128)))
                : isNibble ? piece.quants
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

SmallVector<Value> PlaneReader::byteQuads(const Piece &piece) {
  Value places = p.vector({p.c(24), p.c(16), p.c(8), p.c(0)});
  SmallVector<Value> quads;
  for (int64_t i = 0; i < 4; ++i) {
    Value word = p.splat(p.extract(piece.quants, i), 4);
    quads.push_back(p.signedToFloat(p.shrSigned(p.shl(word, places), 24)));
  }
  return quads;
}

SmallVector<Value> PlaneReader::elements(const Piece &piece, int64_t run, const Scale &scale) {
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
    piece.quants = p.shr(piece.quants, p.shl(run, 2));
  if (piece.highs && type.bytes(BlockPart::Highs) == 4)
    piece.highs = p.shr(piece.highs, p.add(p.shl(run, 4), p.shl(p.andBits(place.word, 3), 2)));
  else if (piece.highs)
    piece.highs = p.shr(piece.highs, p.shl(run, 2));
  const SmallVector<Scale, 2> both = scales(piece);
  Scale scale = both[0];
  if (both.size() > 1 && !hasOneScale()) {
    Value isFirst = p.cmp(arith::CmpIPredicate::eq, run, p.c(0));
    scale.factor = p.select(isFirst, both[0].factor, both[1].factor);
    if (scale.minimum)
      scale.minimum = p.select(isFirst, both[0].minimum, both[1].minimum);
  }
  return elements(piece, 0, scale).front();
}
