#include "kernelforge/codegen/webgpu/MatmulStages.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::webgpu::matmul;

SmallVector<Value> StageLoop::zeros() {
  SmallVector<Value> all;
  for (const auto &tile : tiles)
    all.append(tile->zeros());
  return all;
}

/// Pieces of all tiles at a stage, by its number among all.
SmallVector<Value> StageLoop::fetch(Value stage, ValueRange places) {
  const Stages &stages = grid.stages;
  auto whole = [&] {
    SmallVector<Value> pieces;
    for (auto [tile, place] : llvm::zip(tiles, places))
      pieces.append(tile->fetch(place));
    return pieces;
  };
  auto edge = [&] {
    SmallVector<Value> pieces;
    Value firstK = p.named(p.mul(stage, cut.bk), "stage_k");
    for (auto [tile, place] : llvm::zip(tiles, places))
      pieces.append(tile->fetch(place, firstK, depth));
    return pieces;
  };
  if (stages.whole == 0)
    return edge();
  if (stages.whole == stages.all || stage == p.c(0))
    return whole();
  SmallVector<Value> none = zeros();
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

/// `places` are those of the stage after the one that is put.
void StageLoop::put(ValueRange pieces, ValueRange places, Value at) {
  for (auto [tile, place] : llvm::zip(tiles, places)) {
    const size_t count = tile->zeros().size();
    tile->put(pieces.take_front(count), p.sub(place, tile->step()), memory, at);
    pieces = pieces.drop_front(count);
  }
}

SmallVector<Value> StageLoop::run(ValueRange sums, std::string names, Multiply multiply) {
  SmallVector<Value> init(sums), places;
  Value firstK = p.mul(grid.firstStage, cut.bk);
  for (auto [i, tile] : llvm::enumerate(tiles))
    places.push_back(tile->start(i == 0 ? grid.firstRow : grid.firstCol, firstK,
                                 i == 0 ? "a" : (i == 1 ? "b" : fmt::format("b{}", i))));
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
    if (!turn)
      p.barrier(); // the stage before has been read
    put(pieces, places, turn);
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
