#include "kernelforge/codegen/cuda/NarrowUnits.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::cuda::matmul;

NarrowUnits::NarrowUnits(PhaseBuilder &p, Value weight, ElementType element)
    : p(p), assembly(p), element(element) {
  if (PlaneReader::reads(weight.getType()))
    planes.emplace(p, weight);
  else
    buffer = p.argument(weight, Access::Read, View::Words4);
}

int64_t NarrowUnits::elementsOf(Type weight) {
  if (!PlaneReader::reads(weight))
    return 8;
  return 16 * info(*elementTypeOf(weight)).fields();
}

int64_t NarrowUnits::wordsOf(Type weight) {
  const ElementTypeInfo &type = info(*elementTypeOf(weight));
  if (!PlaneReader::reads(weight))
    return 4;
  return 4 + PlaneReader::highWords(type) + 1 + PlaneReader::subScaleWords(type);
}

Value NarrowUnits::column(Value unitOfRow, int64_t run) {
  return planes ? planes->column(unitOfRow, run, 8) : unitOfRow;
}

NarrowUnits::Loaded NarrowUnits::load(Value number) {
  Loaded loaded;
  if (!planes) {
    loaded.plain = p.named(p.streamed(p.loadVector(buffer, number)), "w");
    return loaded;
  }
  loaded.piece = planes->load(number);
  p.streamed(loaded.piece.quants);
  return loaded;
}

SmallVector<Value> NarrowUnits::valuesOf(const Loaded &loaded) const {
  if (!planes)
    return {loaded.plain};
  SmallVector<Value> values = {loaded.piece.quants, loaded.piece.scale};
  if (loaded.piece.highs)
    values.push_back(loaded.piece.highs);
  values.append(loaded.piece.subScales.begin(), loaded.piece.subScales.end());
  return values;
}

NarrowUnits::Loaded NarrowUnits::loadedOf(ValueRange values, Value number,
                                          const Loaded &like) const {
  Loaded loaded = like;
  if (!planes) {
    loaded.plain = values[0];
    return loaded;
  }
  size_t next = 0;
  loaded.piece.number = number;
  loaded.piece.quants = values[next++];
  loaded.piece.scale = values[next++];
  if (loaded.piece.highs)
    loaded.piece.highs = values[next++];
  for (Value &word : loaded.piece.subScales)
    word = values[next++];
  return loaded;
}

SmallVector<Value> NarrowUnits::words(const Loaded &loaded, int64_t run) {
  SmallVector<Value> words;
  if (!planes) {
    for (int64_t i = 0; i < 4; ++i)
      words.push_back(p.extract(loaded.plain, i));
    return words;
  }
  const auto scales = planes->scales(loaded.piece);
  for (Value quad : planes->elements(loaded.piece, run, scales[static_cast<size_t>(run)]))
    for (int64_t i : {0, 2})
      words.push_back(assembly.packHalves(element, p.extract(quad, i), p.extract(quad, i + 1)));
  return words;
}
