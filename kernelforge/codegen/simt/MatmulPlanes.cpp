// Tiles of quantized weights in planes, expanded on the way into workgroup memory: a piece is 16
// bytes of quants with what belongs to them, or where they are turned round four elements, so that
// a stage may have any depth and as many threads expand it as can.
#include "kernelforge/codegen/simt/MatmulTile.h"
#include "kernelforge/codegen/simt/PlaneReader.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::simt::tiles;

namespace {

class PlaneTile final : public Tile {
public:
  /// Pieces are of four numbers, or as many as 16 bytes of quants have.
  PlaneTile(PhaseBuilder &p, Value weight, const PlaneReader &reader, Way way, bool hasQuads,
            int64_t rows, int64_t depth, TilePlace in, ElementType rounded, bool strict)
      : Tile(p, way, rows, depth, hasQuads ? 4 : runElements * reader.runs(), in), reader(reader),
        type(info(*elementTypeOf(weight.getType()))), rounded(rounded), strict(strict),
        weightRows(cast<RankedTensorType>(weight.getType()).getDimSize(0)) {}

private:
  bool hasQuads() const { return width == 4; }
  int64_t piecesOfRow() const {
    return reader.piecesOfRow() * (hasQuads() ? 4 * reader.runs() : 1);
  }

  Value placeOf(Value row, Value piece) override { return p.add(p.mul(row, piecesOfRow()), piece); }
  int64_t rowsApart(int64_t rows) const override { return rows * piecesOfRow(); }
  int64_t placesOfPiece() const override { return 1; }

  SmallVector<Value> fetchPiece(Value place, Value first, int64_t end) override {
    if (strict)
      place = p.min(place, p.c(weightRows * piecesOfRow() - 1));
    const PlaneReader::Piece piece = hasQuads() ? reader.loadQuad(place) : reader.load(place);
    SmallVector<Value> values = {piece.quants, piece.scale};
    if (piece.highs)
      values.push_back(piece.highs);
    values.append(piece.subScales.begin(), piece.subScales.end());
    if (!first)
      return values;
    // Blocks are there as a whole or not at all, and a scale of 0 makes zeros.
    Value isThere = p.lessThan(first, p.c(end));
    for (Value &value : values)
      value = p.select(isThere, value, p.splat(p.c(0), PhaseBuilder::lanes(value)));
    return values;
  }

  SmallVector<Value> zeroPiece() override {
    Value quants = hasQuads() ? p.c(0) : p.splat(p.c(0), 4);
    SmallVector<Value> zeros = {quants, p.c(0)};
    if (type.hasHighs())
      zeros.push_back(PlaneReader::highWords(type) == 1 ? p.c(0) : quants);
    zeros.append(static_cast<size_t>(PlaneReader::subScaleWords(type)), p.c(0));
    return zeros;
  }

  /// What fetchPiece() gave, at a place.
  PlaneReader::Piece pieceOf(ValueRange values, Value place) const {
    PlaneReader::Piece piece;
    piece.number = place;
    piece.quants = values[0];
    piece.scale = values[1];
    values = values.drop_front(2);
    if (type.hasHighs()) {
      piece.highs = values[0];
      values = values.drop_front();
    }
    piece.subScales.append(values.begin(), values.end());
    return piece;
  }

  Value quadOf(ValueRange values, Value place) {
    Value quad = reader.elementsOfQuad(pieceOf(values, place), place);
    return p.named(simt::rounded(p, rounded, quad), "quad");
  }

  /// Elements from the first of a piece to that of its run.
  int64_t runApart(int64_t run) const { return run * type.fieldElements(); }

  Value targetOf(Value row, Value piece) override {
    if (way == Way::Turned)
      return p.add(p.mul(piece, 4 * in.stride), row);
    return p.add(p.mul(row, in.stride), hasQuads() ? piece : reader.column(piece, 0, 8));
  }

  void putShare(ValueRange fetched, Value place, Value memory, Value target, int64_t rows,
                int64_t) override {
    if (way == Way::Turned) {
      turn(fetched, place, memory, p.add(target, rows));
      return;
    }
    if (hasQuads()) {
      p.storeVector(quadOf(fetched, place), memory, p.add(target, rows * in.stride));
      return;
    }
    const PlaneReader::Piece piece = pieceOf(fetched, place);
    for (auto [run, scale] : llvm::enumerate(reader.scales(piece))) {
      SmallVector<Value> words;
      for (Value quad : reader.elements(piece, static_cast<int64_t>(run), scale)) {
        Value halves = p.named(p.floatsToHalves(quad), "halves");
        words.append({p.extract(halves, int64_t(0)), p.extract(halves, 1)});
      }
      Value at = p.add(target, rows * in.stride + runApart(static_cast<int64_t>(run)) / 8);
      p.storeVector(p.vector(ValueRange(words).take_front(4)), memory, at);
      p.storeVector(p.vector(ValueRange(words).drop_front(4)), memory, p.add(at, 1));
    }
  }

  /// Four rows of a quad.
  void turn(ValueRange fetched, Value place, Value memory, Value target) {
    const size_t each = fetched.size() / 4;
    SmallVector<Value> quads;
    for (size_t r = 0; r < 4; ++r) {
      Value own = p.add(place, rowsApart(static_cast<int64_t>(r)));
      quads.push_back(quadOf(fetched.slice(r * each, each), own));
    }
    for (int64_t k = 0; k < 4; ++k) {
      SmallVector<Value> turned;
      for (Value quad : quads)
        turned.push_back(p.extract(quad, k));
      p.storeVector(p.vector(turned), memory, p.add(target, k * in.stride));
    }
  }

  PlaneReader reader;
  const ElementTypeInfo &type;
  ElementType rounded;
  bool strict;
  int64_t weightRows;
};

} // namespace

int64_t tiles::wholeDepth(Type weight) {
  if (!PlaneReader::reads(weight))
    return 1;
  const ElementTypeInfo &type = info(*elementTypeOf(weight));
  return type.lowBits() == 8 ? runElements : type.chunkElements;
}

std::unique_ptr<Tile> tiles::weightTile(PhaseBuilder &p, Value weight, Way way, int64_t width,
                                        int64_t rows, int64_t depth, TilePlace in,
                                        ElementType rounded, bool strict) {
  if (PlaneReader::reads(weight.getType()) && way != Way::AcrossK &&
      (width == 4 || depth % wholeDepth(weight.getType()) == 0))
    return std::make_unique<PlaneTile>(p, weight, PlaneReader(p, weight), way, width == 4, rows,
                                       depth, in, rounded, strict);
  Operand operand(p, weight, width, rounded);
  if (strict)
    operand.readOnly(p.rows(weight.getType()));
  return tileOf(p, operand, way, rows, depth, in);
}
