#include "kernelforge/codegen/simt/AttentionStage.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;

SmallVector<Value> AttentionStage::load(AttentionTile &tile, const TileKeys &seen, Value base,
                                        Value cacheHead) {
  SmallVector<Value> loaded;
  Value first = p.mul(cacheHead, cache.pieces());
  for (int64_t i = 0; i < plan.each(); ++i) {
    Value unit = p.add(p.thread(), i * plan.threads);
    Value slot = tile.slot(seen, p.add(base, p.div(unit, plan.units)));
    Value piece = p.mul(p.rem(unit, plan.units), plan.piecesEach);
    for (int64_t j = 0; j < plan.piecesEach; ++j) {
      CacheVectors::Loaded one =
          cache.load(slot, p.add(first, p.add(piece, j)), areValues ? "v" : "k");
      loaded.push_back(one.words);
      if (one.scale)
        loaded.push_back(one.scale);
    }
  }
  return loaded;
}

void AttentionStage::put(AttentionTile &tile, const TileKeys &seen, Value base, ValueRange loaded,
                         Store store) {
  const size_t each = loaded.size() / size_t(plan.each());
  const bool hasScale = each > size_t(plan.piecesEach);
  for (int64_t i = 0; i < plan.each(); ++i) {
    Value unit = p.add(p.thread(), i * plan.threads), key = p.div(unit, plan.units);
    ValueRange own = loaded.slice(size_t(i) * each, each);
    auto storeUnit = [&] {
      SmallVector<CacheVectors::Loaded> pieces;
      for (size_t j = 0; j < each; j += hasScale ? 2 : 1)
        pieces.push_back({own[j], hasScale ? own[j + 1] : Value()});
      Value isSeen = areValues ? tile.isSeen(seen, p.add(base, key)) : Value();
      store(key, p.rem(unit, plan.units), pieces, isSeen);
    };
    if ((i + 1) * plan.threads <= plan.keys * plan.units)
      storeUnit();
    else
      p.ifThen(p.lessThan(unit, p.c(plan.keys * plan.units)), storeUnit);
  }
}
