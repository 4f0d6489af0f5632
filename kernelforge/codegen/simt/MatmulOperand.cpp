#include "kernelforge/codegen/simt/MatmulOperand.h"

#include "kernelforge/codegen/simt/Weights.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::simt::tiles;

/// Whether a buffer is seen in vectors of so many lanes.
static bool isSeenIn(Value buffer, int64_t lanes) {
  auto vector = dyn_cast<VectorType>(cast<MemRefType>(buffer.getType()).getElementType());
  return vector && vector.getNumElements() == lanes;
}

Operand::Operand(PhaseBuilder &p, Value bodyArgument, int64_t width, ElementType rounded)
    : p(p), rounded(rounded), width(width) {
  auto tensor = cast<RankedTensorType>(bodyArgument.getType());
  type = *elementTypeOf(tensor);
  cols = tensor.getDimSize(1);
  if (info(type).isQuantized()) {
    quantized = tensor;
    buffer = p.argument(bodyArgument);
    return;
  }
  const bool inWords = isHalf(type) && width == 8 && cols % 8 == 0;
  if (cols % 4 != 0) {
    buffer = p.argument(bodyArgument);
    fromWords = isHalf(type) && !PhaseBuilder::isWide(buffer);
    return;
  }
  buffer = p.argument(bodyArgument, Access::Read, inWords ? View::Words4 : View::Quads);
  // It may be seen in another view already.
  if (isSeenIn(buffer, inWords || !isHalf(type) ? 4 : 2))
    step = inWords ? 8 : 4;
}

Operand::Operand(PhaseBuilder &p, int number, ElementType type, int64_t cols, ElementType rounded)
    : p(p), type(type), rounded(rounded), cols(cols), width(type == ElementType::F16 ? 8 : 4),
      step(width) {
  buffer = p.workspace(number, Access::Read, p.vec(type == ElementType::F16 ? p.i32 : p.f32, 4));
}

void Operand::readOnly(Value rows) {
  Value numbers = p.mul(rows, cols);
  numbers = fromWords ? p.div(p.add(numbers, 1), 2) : p.div(numbers, step);
  last = p.named(p.sub(numbers, 1), "last");
}

Value Operand::place(Value row, Value piece) {
  return p.add(p.mul(row, cols / step), p.mul(piece, width / step));
}

Value Operand::number(Value at) {
  if (!quantized)
    return readElement(p, buffer, type, at);
  WeightReader reader(p, buffer, quantized);
  return reader.element(p.div(at, cols), p.rem(at, cols));
}

Value Operand::zero(Type type) {
  Type element = getElementTypeOrSelf(type);
  Value zero = element.isF32() ? p.cf(0) : p.c(0);
  return p.splat(zero, cast<VectorType>(type).getNumElements());
}

SmallVector<Value> Operand::fetch(Value place) { return fetch(place, {}, {}); }

/// Halves that begin within a word or at one: two of each two words that follow one another.
SmallVector<Value> Operand::fetchWords(Value place, llvm::function_ref<Value(int64_t i)> isThere) {
  Value index = p.named(p.shr(place, 1), "first_word");
  Value shift = p.named(p.shl(p.andBits(place, 1), 4), "shift");
  Value back = p.named(p.sub(p.c(31), shift), "shift_back");
  SmallVector<Value> words, both, quads;
  for (int64_t i = 0; i <= width / 2; ++i)
    words.push_back(p.named(p.load(buffer, within(p.add(index, i))), "word"));
  for (int64_t i = 0; i < width / 2; ++i) {
    Value one = p.orBits(p.shr(words[static_cast<size_t>(i)], shift),
                         p.shl(p.shl(words[static_cast<size_t>(i) + 1], 1), back));
    if (isThere) {
      Value mask = p.orBits(p.select(isThere(2 * i), p.c(0xffff), p.c(0)),
                            p.select(isThere(2 * i + 1), p.c(0xffff0000), p.c(0)));
      one = p.b.create<arith::AndIOp>(p.loc, one, mask);
    }
    both.push_back(one);
  }
  for (size_t i = 0; i < both.size(); i += 2)
    quads.push_back(p.vector({both[i], both[i + 1]}));
  return quads;
}

SmallVector<Value> Operand::fetch(Value place, Value first, Value end) {
  SmallVector<Value> piece;
  auto isThere = [&](int64_t i) { return p.lessThan(p.add(first, i), end); };
  if (fromWords && first)
    return fetchWords(place, isThere);
  if (fromWords)
    return fetchWords(place, nullptr);
  for (int64_t i = 0; i < width; i += std::max<int64_t>(step, 4)) {
    Value loaded;
    if (step > 1) {
      loaded = p.loadVector(buffer, within(p.add(place, i / step)));
      if (first)
        loaded = p.select(isThere(i), loaded, zero(loaded.getType()));
    } else {
      SmallVector<Value> numbers;
      for (int64_t j = i; j < i + 4; ++j) {
        Value one = number(within(p.add(place, j)));
        numbers.push_back(first ? p.select(isThere(j), one, p.cf(0)) : one);
      }
      loaded = p.vector(numbers);
    }
    piece.push_back(loaded);
  }
  return piece;
}

SmallVector<Value> Operand::zeros() {
  const int64_t each = std::max<int64_t>(step, 4);
  Type one = isFloats() ? p.vec(p.f32, 4) : p.vec(p.i32, each / 2);
  return SmallVector<Value>(static_cast<size_t>(width / each), zero(one));
}

Value Operand::floats(ValueRange piece, unsigned quad) {
  Value four = isFloats() ? piece[quad] : widenedQuad(p, type, piece[quad]);
  if (rounded == ElementType::F32 || rounded == type)
    return four;
  return simt::rounded(p, rounded, four);
}

Value Operand::halves(ValueRange piece) {
  if (step == 8 && type == ElementType::F16)
    return piece[0];
  SmallVector<Value> words;
  for (unsigned quad = 0; quad < 2; ++quad) {
    Value raw = step == 8 ? p.slice(piece[0], 2 * quad, 2) : piece[quad];
    Value two = raw;
    if (isFloats() || type != ElementType::F16)
      two = p.named(p.floatsToHalves(isFloats() ? raw : widenedQuad(p, type, raw)), "halves");
    words.push_back(p.extract(two, int64_t(0)));
    words.push_back(p.extract(two, 1));
  }
  return p.vector(words);
}
