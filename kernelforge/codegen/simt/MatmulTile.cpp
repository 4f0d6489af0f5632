#include "kernelforge/codegen/simt/MatmulTile.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::simt::tiles;

//===----------------------------------------------------------------------===//
// How it is shared out
//===----------------------------------------------------------------------===//

Tile::Tile(PhaseBuilder &p, Way way, int64_t rows, int64_t depth, int64_t width, TilePlace in)
    : p(p), way(way), depth(depth), width(width), in(in) {
  const int64_t down = way == Way::AcrossK ? depth : rows / rowsOfShare();
  across = (way == Way::AcrossK ? rows : depth) / width;
  sharers = std::min(down * across, p.blockThreads());
  count = down * across / sharers; // both are powers of two
}

Value Tile::rowAt(Value row) {
  if (in.quads == 0)
    return row;
  return p.add(p.mul(p.rem(row, in.quads), 4), p.div(row, in.quads));
}

Value Tile::start(Value firstRow, Value firstK, int64_t firstThread, StringRef name) {
  Value thread = p.thread();
  if (firstThread > 0)
    thread = p.named(p.rem(p.add(thread, p.blockThreads() - firstThread), p.blockThreads()),
                     (name + "_thread").str());
  if (sharers < p.blockThreads()) {
    hasShare = p.named(p.lessThan(thread, p.c(sharers)), (name + "_has_share").str());
    thread = p.named(p.rem(thread, sharers), (name + "_sharer").str());
  }
  // Neighbouring threads have neighbouring pieces of few rows, but in such an order that eight of
  // them, which write at once, meet no bank of memory twice. What is turned round is dealt out in
  // blocks of four rows, which fewer threads than those of a block could not go on with.
  if (way == Way::Turned && across > 1 && sharers >= 4 * across) {
    piece = p.add(p.rem(thread, 2), p.mul(p.rem(p.div(thread, 8), across / 2), 2));
    row = p.add(p.rem(p.div(thread, 2), 4), p.mul(p.div(thread, 4 * across), 4));
  } else if (way == Way::AlongK && across == 4 && in.stride % 2 == 1) {
    piece = p.rem(thread, 4);
    row = p.add(p.mul(p.div(thread, 32), 8), p.div(p.rem(thread, 32), 8));
    row = p.add(row, p.mul(p.rem(p.div(thread, 4), 2), 4));
  } else if (way == Way::AlongK && across == 2 && in.stride % 2 == 1) {
    piece = p.rem(thread, 2);
    row = p.add(p.mul(p.div(thread, 16), 8), p.mul(p.div(p.rem(thread, 8), 2), 2));
    row = p.add(row, p.rem(p.div(thread, 8), 2));
  } else {
    piece = p.rem(thread, across);
    row = p.div(thread, across);
  }
  row = p.named(row, (name + "_row").str());
  piece = p.named(piece, (name + "_piece").str());
  target = p.named(p.add(targetOf(row, piece), in.begin), (name + "_put").str());
  auto pieces = [&](Value numbers) {
    return width == 4 ? p.quarter(numbers) : p.div(numbers, width);
  };
  Value top = way == Way::AcrossK ? firstK : firstRow;
  Value side = way == Way::AcrossK ? firstRow : firstK;
  return p.named(placeOf(p.add(top, p.mul(rowAt(row), rowsOfShare())), p.add(pieces(side), piece)),
                 (name + "_first").str());
}

SmallVector<Value> Tile::zeroShare() {
  SmallVector<Value> all;
  for (int64_t i = 0; i < rowsOfShare(); ++i)
    all.append(zeroPiece());
  return all;
}

SmallVector<Value> Tile::zeros() {
  SmallVector<Value> all;
  for (int64_t i = 0; i < count; ++i)
    all.append(zeroShare());
  return all;
}

SmallVector<Value> Tile::fetchShare(int64_t i, Value place, Value first, int64_t end) {
  const auto [rows, pieces] = distance(i);
  SmallVector<Value> loaded;
  for (int64_t r = 0; r < rowsOfShare(); ++r) {
    Value at = p.add(place, rowsApart(rowAt(rows) * rowsOfShare() + r) + pieces * placesOfPiece());
    if (!first) {
      loaded.append(fetchPiece(at, {}, end));
    } else if (way != Way::AcrossK) {
      loaded.append(fetchPiece(at, p.add(first, pieces * width), end));
    } else {
      // A row of K is there as a whole or not at all.
      Value isThere = p.lessThan(p.add(first, rows), p.c(end));
      for (auto [value, zero] : llvm::zip(fetchPiece(at, {}, end), zeroPiece()))
        loaded.push_back(p.select(isThere, value, zero));
    }
  }
  return loaded;
}

SmallVector<Value> Tile::fetch(Value place, Value firstK, int64_t end) {
  Value first;
  if (firstK)
    first = p.named(p.add(firstK, way == Way::AcrossK ? row : p.mul(piece, width)), "first_k");
  SmallVector<Value> all;
  for (int64_t i = 0; i < count; ++i)
    all.append(fetchShare(i, place, first, end));
  return all;
}

void Tile::put(ValueRange fetched, Value place, Value memory, Value at) {
  Value base = at ? p.named(p.add(at, target), "put") : target;
  const size_t each = fetched.size() / static_cast<size_t>(count);
  auto write = [&] {
    for (int64_t i = 0; i < count; ++i) {
      const auto [rows, pieces] = distance(i);
      Value own = p.add(place, rowsApart(rowAt(rows) * rowsOfShare()) + pieces * placesOfPiece());
      putShare(fetched.slice(static_cast<size_t>(i) * each, each), own, memory, base, rows, pieces);
    }
  };
  if (hasShare)
    p.ifThen(hasShare, write);
  else
    write();
}

//===----------------------------------------------------------------------===//
// Numbers
//===----------------------------------------------------------------------===//

namespace {

class NumberTile final : public Tile {
public:
  NumberTile(PhaseBuilder &p, Operand operand, Way way, int64_t rows, int64_t depth, TilePlace in)
      : Tile(p, way, rows, depth, operand.pieceWidth(), in), operand(operand) {}

private:
  Value placeOf(Value row, Value piece) override { return operand.place(row, piece); }
  int64_t rowsApart(int64_t rows) const override { return operand.rowsApart(rows); }
  int64_t placesOfPiece() const override { return width / operand.unit(); }
  SmallVector<Value> zeroPiece() override { return operand.zeros(); }
  SmallVector<Value> fetchPiece(Value place, Value first, int64_t end) override {
    return first ? operand.fetch(place, first, p.c(end)) : operand.fetch(place);
  }

  Value targetOf(Value row, Value piece) override {
    return way == Way::Turned ? p.add(p.mul(piece, 4 * in.stride), row)
                              : p.add(p.mul(row, in.stride), piece);
  }

  void putShare(ValueRange fetched, Value, Value memory, Value target, int64_t rows,
                int64_t pieces) override {
    if (way != Way::Turned) {
      Value value = width == 8 ? operand.halves(fetched) : operand.floats(fetched);
      p.storeVector(value, memory, p.add(target, rows * in.stride + pieces));
      return;
    }
    const size_t each = fetched.size() / 4;
    SmallVector<Value> four;
    for (size_t r = 0; r < 4; ++r)
      four.push_back(p.named(operand.floats(fetched.slice(r * each, each)), "quad"));
    for (int64_t k = 0; k < 4; ++k) {
      SmallVector<Value> turned;
      for (Value quad : four)
        turned.push_back(p.extract(quad, k));
      p.storeVector(p.vector(turned), memory, p.add(target, (4 * pieces + k) * in.stride + rows));
    }
  }

  Operand operand;
};

} // namespace

std::unique_ptr<Tile> tiles::tileOf(PhaseBuilder &p, Operand operand, Way way, int64_t rows,
                                    int64_t depth, TilePlace in) {
  return std::make_unique<NumberTile>(p, operand, way, rows, depth, in);
}
