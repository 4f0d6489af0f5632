#include "kernelforge/codegen/cuda/WeightExpander.h"

#include "kernelforge/codegen/cuda/Pipeline.h"
#include "kernelforge/codegen/cuda/SharedLayout.h"

#include <algorithm>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cuda;

WeightExpander::WeightExpander(simt::PhaseBuilder &p, Value weight, int64_t columns,
                               ElementType element, int64_t stages, Value thread)
    : p(p), assembly(p), reader(p, weight), columns(columns),
      rows(cast<RankedTensorType>(weight.getType()).getDimSize(0)), element(element),
      thread(thread), pieces(stages * OperandTile::depth / (runElements * reader.runs())),
      items(columns * pieces / warpgroup) {}

// A piece of fewer than eight bits has a run of each field of a chunk.
int64_t WeightExpander::stagesOf(Type weight) {
  const ElementTypeInfo &type = info(*elementTypeOf(weight));
  return type.lowBits() != 8 && type.chunkElements > OperandTile::depth
             ? type.chunkElements / OperandTile::depth
             : 1;
}

int64_t WeightExpander::registersOf(Type weight, int64_t columns, int64_t stages) {
  constexpr int64_t words = 4;
  const ElementTypeInfo &type = info(*elementTypeOf(weight));
  const int64_t pieces =
      stages * OperandTile::depth / (runElements * type.fields()) * columns / warpgroup;
  const int64_t highs = simt::PlaneReader::highWords(type);
  const int64_t subScales = simt::PlaneReader::subScaleWords(type);
  // Pieces of one column have their scales together.
  const int64_t ofThread = std::max<int64_t>(columns / warpgroup, 1);
  const int64_t more = type.lowBits() == 8 ? 1 : 0; // while sixteen bytes of quants become numbers
  return pieces * (words + highs + more) + ofThread * (1 + subScales);
}

// Eight threads side by side write to eight rows, whose pieces the swizzle puts in eight places.
std::pair<Value, Value> WeightExpander::placeOf(int64_t i) {
  Value item = p.add(thread, i * warpgroup);
  return {p.rem(item, columns), p.div(item, columns)};
}

Value WeightExpander::numberOf(int64_t i, Value unit, Value firstCol) {
  const auto [column, piece] = placeOf(i);
  Value row = p.min(p.add(firstCol, column), p.c(rows - 1));
  return p.add(reader.firstPiece(row), p.add(p.mul(unit, pieces), piece));
}

SmallVector<Value> WeightExpander::load(Value number, Value firstCol) {
  last.clear();
  SmallVector<Value> loaded;
  for (int64_t i = 0; i < items; ++i) {
    last.push_back(reader.load(p.named(numberOf(i, number, firstCol), "piece")));
    const simt::PlaneReader::Piece &piece = last.back();
    loaded.append({piece.quants, piece.scale});
    if (piece.highs)
      loaded.push_back(piece.highs);
    llvm::append_range(loaded, piece.subScales);
  }
  count = loaded.size();
  return loaded;
}

void WeightExpander::store(ValueRange loaded, Value number, Value firstCol,
                           ArrayRef<Value> panels) {
  size_t next = 0;
  for (int64_t i = 0; i < items; ++i) {
    simt::PlaneReader::Piece piece = last[size_t(i)];
    piece.number = numberOf(i, number, firstCol);
    piece.quants = loaded[next++];
    piece.scale = loaded[next++];
    if (piece.highs)
      piece.highs = loaded[next++];
    for (Value &word : piece.subScales)
      word = loaded[next++];
    const auto scales = reader.scales(piece);
    const auto [column, ofUnit] = placeOf(i);
    for (int64_t run = 0; run < reader.runs(); ++run) {
      SmallVector<Value> words;
      for (Value quad : reader.elements(piece, run, scales[size_t(run)]))
        for (int64_t pair : {0, 2})
          words.push_back(
              assembly.packHalves(element, p.extract(quad, pair), p.extract(quad, pair + 1)));
      Value deep = reader.column(ofUnit, run), panel = panels[0];
      for (size_t stage = 1; stage < panels.size(); ++stage) {
        Value first = p.c(int64_t(stage) * OperandTile::depth);
        panel = p.select(p.lessThan(deep, first), panel, panels[stage]);
      }
      Value byte = p.mul(p.rem(deep, OperandTile::depth), OperandTile::elementBytes);
      for (int64_t half : {0, 1}) {
        Value at = Panel::offsetOf(p, column, p.add(byte, half * Panel::pieceBytes));
        assembly.storeQuad(p.add(panel, at), ArrayRef(words).slice(size_t(half) * 4, 4));
      }
    }
  }
}
