#include "kernelforge/codegen/webgpu/MatmulOperand.h"

#include "kernelforge/codegen/simt/Weights.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::webgpu::matmul;

//===----------------------------------------------------------------------===//
// Pieces
//===----------------------------------------------------------------------===//

/// Elements of a memory seen in vectors: "4 of i32".
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

SmallVector<Value> Operand::fetch(Value place, Value first, Value end) {
  SmallVector<Value> piece;
  auto isThere = [&](int64_t i) { return p.lessThan(p.add(first, i), end); };
  for (int64_t i = 0; i < width; i += std::max<int64_t>(step, 4)) {
    Value loaded;
    if (step > 1) {
      loaded = p.loadVector(buffer, p.add(place, i / step));
      if (first)
        loaded = p.select(isThere(i), loaded, zero(loaded.getType()));
    } else {
      SmallVector<Value> numbers;
      for (int64_t j = i; j < i + 4; ++j) {
        Value one = number(p.add(place, j));
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
  Type one = step == 1 || type == ElementType::F32 ? p.vec(p.f32, 4) : p.vec(p.i32, each / 2);
  return SmallVector<Value>(static_cast<size_t>(width / each), zero(one));
}

Value Operand::floats(ValueRange piece, unsigned quad) {
  Value four = step == 1 ? piece[quad] : widenedQuad(p, type, piece[quad]);
  if (rounded == ElementType::F32 || rounded == type)
    return four;
  return simt::rounded(p, rounded, four);
}

Value Operand::halves(ValueRange piece) {
  if (step == 8 && type == ElementType::F16)
    return piece[0];
  SmallVector<Value> words;
  for (unsigned quad = 0; quad < 2; ++quad) {
    Value four =
        step == 8 ? widenedQuad(p, type, p.slice(piece[0], 2 * quad, 2)) : floats(piece, quad);
    Value two = p.named(p.floatsToHalves(four), "halves");
    words.push_back(p.extract(two, int64_t(0)));
    words.push_back(p.extract(two, 1));
  }
  return p.vector(words);
}

//===----------------------------------------------------------------------===//
// Tiles
//===----------------------------------------------------------------------===//

Tile::Tile(PhaseBuilder &p, Operand operand, Way way, int64_t rows, int64_t depth, int64_t begin,
           int64_t stride)
    : p(p), operand(operand), way(way), depth(depth), stride(stride), begin(begin) {
  const int64_t width = operand.pieceWidth();
  const int64_t down = way == Way::AcrossK ? depth : rows / rowsOfShare();
  across = (way == Way::AcrossK ? rows : depth) / width;
  count = (down * across + p.blockThreads() - 1) / p.blockThreads();
  left = down * across - (count - 1) * p.blockThreads();
}

Value Tile::start(Value firstRow, Value firstK, StringRef name) {
  // Neighbouring threads have neighbouring vectors of few rows, but in such an order that eight of
  // them, which write at once, meet no bank of memory twice.
  Value thread = p.thread();
  if (way == Way::Turned && across > 1) {
    vector = p.add(p.rem(thread, 2), p.mul(p.rem(p.div(thread, 8), across / 2), 2));
    row = p.add(p.rem(p.div(thread, 2), 4), p.mul(p.div(thread, 4 * across), 4));
  } else if (way == Way::AlongK && across == 4 && stride % 2 == 1) {
    vector = p.rem(thread, 4);
    row = p.add(p.mul(p.div(thread, 32), 8), p.div(p.rem(thread, 32), 8));
    row = p.add(row, p.mul(p.rem(p.div(thread, 4), 2), 4));
  } else if (way == Way::AlongK && across == 2 && stride % 2 == 1) {
    vector = p.rem(thread, 2);
    row = p.add(p.mul(p.div(thread, 16), 8), p.mul(p.div(p.rem(thread, 8), 2), 2));
    row = p.add(row, p.rem(p.div(thread, 8), 2));
  } else {
    vector = p.rem(thread, across);
    row = p.div(thread, across);
  }
  row = p.named(row, (name + "_row").str());
  vector = p.named(vector, (name + "_vector").str());
  target = way == Way::Turned ? p.add(p.mul(vector, 4 * stride), row)
                              : p.add(p.mul(row, stride), vector);
  target = p.named(p.add(target, begin), (name + "_put").str());
  const int64_t width = operand.pieceWidth();
  auto pieces = [&](Value numbers) { return width == 8 ? p.div(numbers, 8) : p.quarter(numbers); };
  Value top = way == Way::AcrossK ? firstK : firstRow;
  Value side = way == Way::AcrossK ? firstRow : firstK;
  return p.named(operand.place(p.add(top, p.mul(row, rowsOfShare())), p.add(pieces(side), vector)),
                 (name + "_first").str());
}

SmallVector<Value> Tile::zerosOfShare() {
  SmallVector<Value> all;
  for (int64_t i = 0; i < rowsOfShare(); ++i)
    all.append(operand.zeros());
  return all;
}

SmallVector<Value> Tile::zeros() {
  SmallVector<Value> all;
  for (int64_t i = 0; i < count; ++i)
    all.append(zerosOfShare());
  return all;
}

SmallVector<Value> Tile::fetchShare(int64_t i, Value place, Value first, int64_t end) {
  const auto [rows, vectors] = distance(i);
  SmallVector<Value> loaded;
  for (int64_t r = 0; r < rowsOfShare(); ++r) {
    Value at = p.add(place, operand.rowsApart(rows * rowsOfShare() + r) +
                                vectors * operand.pieceWidth() / operand.unit());
    if (!first) {
      loaded.append(operand.fetch(at));
    } else if (way != Way::AcrossK) {
      loaded.append(operand.fetch(at, p.add(first, vectors * operand.pieceWidth()), p.c(end)));
    } else {
      // A row of K is there as a whole or not at all.
      Value isThere = p.lessThan(p.add(first, rows), p.c(end));
      for (auto [value, zero] : llvm::zip(operand.fetch(at), operand.zeros()))
        loaded.push_back(p.select(isThere, value, zero));
    }
  }
  return loaded;
}

SmallVector<Value> Tile::fetch(Value place, Value firstK, int64_t end) {
  Value first;
  if (firstK)
    first = p.named(p.add(firstK, way == Way::AcrossK ? row : p.mul(vector, operand.pieceWidth())),
                    "first_k");
  SmallVector<Value> all;
  for (int64_t i = 0; i < count; ++i) {
    if (isForAll(i)) {
      all.append(fetchShare(i, place, first, end));
      continue;
    }
    const SmallVector<Value> none = zerosOfShare();
    all.append(p.ifElse(
        "piece", p.lessThan(p.thread(), p.c(left)), ValueRange(none).getTypes(),
        [&] { return fetchShare(i, place, first, end); }, [&] { return none; }));
  }
  return all;
}

void Tile::putShare(int64_t i, ValueRange pieces, Value memory, Value base) {
  const auto [rows, vectors] = distance(i);
  if (way != Way::Turned) {
    Value value = operand.pieceWidth() == 8 ? operand.halves(pieces) : operand.floats(pieces);
    p.storeVector(value, memory, p.add(base, rows * stride + vectors));
    return;
  }
  const size_t each = pieces.size() / 4;
  SmallVector<Value> four;
  for (size_t r = 0; r < 4; ++r)
    four.push_back(p.named(operand.floats(pieces.slice(r * each, each)), "quad"));
  for (int64_t k = 0; k < 4; ++k) {
    SmallVector<Value> turned;
    for (Value quad : four)
      turned.push_back(p.extract(quad, k));
    p.storeVector(p.vector(turned), memory, p.add(base, (4 * vectors + k) * stride + rows));
  }
}

void Tile::put(ValueRange pieces, Value memory, Value at) {
  Value base = at ? p.named(p.add(at, target), "put") : target;
  const size_t each = pieces.size() / static_cast<size_t>(count);
  for (int64_t i = 0; i < count; ++i) {
    ValueRange share = pieces.slice(static_cast<size_t>(i) * each, each);
    if (isForAll(i))
      putShare(i, share, memory, base);
    else
      p.ifThen(p.lessThan(p.thread(), p.c(left)), [&] { putShare(i, share, memory, base); });
  }
}
