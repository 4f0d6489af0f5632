#include "kernelforge/codegen/simt/MatmulStages.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::simt::tiles;

SmallVector<Value> StageLoop::zeros() {
  SmallVector<Value> all;
  for (const auto &tile : tiles)
    all.append(tile->zeros());
  return all;
}

/// Calls `each` with every tile and those of `pieces` that are its.
static void withPieces(ArrayRef<std::unique_ptr<Tile>> tiles, ValueRange pieces,
                       llvm::function_ref<void(size_t number, Tile &, ValueRange)> each) {
  for (auto [i, tile] : llvm::enumerate(tiles)) {
    const size_t count = tile->zeros().size();
    each(i, *tile, pieces.take_front(count));
    pieces = pieces.drop_front(count);
  }
}

/// Pieces of all tiles at a stage, by its number among all.
SmallVector<Value> StageLoop::fetch(Value stage, ValueRange places) {
  const Stages &stages = grid.stages;
  const SmallVector<Value> none = zeros();
  auto load = [&](Value firstK) {
    SmallVector<Value> pieces;
    withPieces(tiles, none, [&](size_t i, Tile &tile, ValueRange its) {
      auto fetchOf = [&](Tile &own) { return own.fetch(places[i], firstK, depth); };
      if (i == 0 || others.empty())
        pieces.append(fetchOf(tile));
      else
        pieces.append(grid.choose(its.getTypes(), [&](size_t group) {
          return fetchOf(group == 0 ? tile : *others[group - 1]);
        }));
    });
    return pieces;
  };
  auto whole = [&] { return load({}); };
  auto edge = [&] { return load(p.named(p.mul(stage, cut.bk), "stage_k")); };
  if (stages.whole == 0)
    return edge();
  if (stages.whole == stages.all || stage == p.c(0))
    return whole();
  return p.ifElse("next", p.lessThan(stage, p.c(stages.whole)), ValueRange(none).getTypes(), whole,
                  edge);
}

/// What the stage after this one needs, fetched while this one is multiplied. After the last one
/// that is nothing, and `pieces` stay: where K ends within a stage, zeros come of themselves.
SmallVector<Value> StageLoop::fetchNext(Value stage, ValueRange places, ValueRange pieces) {
  Value next = p.named(p.add(stage, 1), "next_stage");
  auto load = [&] { return fetch(p.add(grid.firstStage, next), places); };
  if (grid.stages.whole != grid.stages.all)
    return load();
  return p.ifElse("next", p.lessThan(next, grid.stageCount), pieces.getTypes(), load,
                  [&] { return SmallVector<Value>(pieces); });
}

void StageLoop::put(ValueRange pieces, ValueRange places, Value at) {
  withPieces(tiles, pieces,
             [&](size_t i, Tile &tile, ValueRange its) { tile.put(its, places[i], memory, at); });
}

SmallVector<Value> StageLoop::run(ValueRange sums, std::string names, Multiply multiply) {
  SmallVector<Value> init(sums), places;
  Value firstK = p.mul(grid.firstStage, cut.bk);
  int64_t dealt = 0; // threads: tiles that few threads share out are of different ones
  for (auto [i, tile] : llvm::enumerate(tiles)) {
    const int64_t firstThread = tile->threads() < p.blockThreads() ? dealt : 0;
    places.push_back(tile->start(i == 0 ? grid.firstRow : grid.firstCol, firstK, firstThread,
                                 i == 0 ? "a" : (i == 1 ? "b" : fmt::format("b{}", i))));
    if (i == 1)
      for (const auto &other : others)
        other->start(grid.firstCol, firstK, firstThread, "b");
    dealt = (dealt + tile->threads()) % p.blockThreads();
  }
  const SmallVector<Value> first = fetch(grid.firstStage, places);
  init.append(first);
  for (size_t i = 0; i < first.size(); ++i)
    names += fmt::format(" piece{}", i);
  for (auto [i, tile] : llvm::enumerate(tiles)) {
    init.push_back(p.add(places[i], tile->step()));
    names += i == 0 ? " a_at" : (i == 1 ? " b_at" : fmt::format(" b_at{}", i));
  }
  if (turnVectors > 0) {
    init.push_back(p.c(0));
    names += " turn";
  }
  auto step = [&](Value stage, ValueRange carried) {
    SmallVector<Value> all(carried.take_front(sums.size()));
    ValueRange pieces = carried.slice(sums.size(), first.size());
    ValueRange places = carried.slice(sums.size() + first.size(), tiles.size());
    Value turn = turnVectors > 0 ? carried.back() : Value();
    SmallVector<Value> own; // places of the stage that is put
    for (auto [place, tile] : llvm::zip(places, tiles))
      own.push_back(p.sub(place, tile->step()));
    if (!turn)
      p.barrier(); // the stage before has been read
    put(pieces, own, turn);
    p.barrier();
    const SmallVector<Value> next = fetchNext(stage, places, pieces);
    multiply(all, turn);
    all.append(next);
    for (auto [place, tile] : llvm::zip(places, tiles))
      all.push_back(p.add(place, tile->step()));
    if (turn)
      all.push_back(p.sub(p.c(turnVectors), turn));
    return all;
  };
  SmallVector<Value> results = p.loop("stage", p.c(0), grid.stageCount, 1, names, init, step);
  results.truncate(sums.size());
  return results;
}
