#include "kernelforge/codegen/simt/MatmulEmitter.h"

#include "llvm/ADT/StringExtras.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::simt::tiles;

TileEmitter::TileEmitter(ModuleOp module, const KernelAnalysis &kernel,
                         ArrayRef<SegmentGroup> groups, StringRef entry, const Cut &cut,
                         int64_t threads, int partialSums)
    : p(module, kernel.kernel(), entry, threads), kernel(kernel), groups(groups), cut(cut),
      partialSums(partialSums), grid(p, kernel, groups, cut),
      segments(static_cast<int64_t>(groups[0].segments.size())) {}

void TileEmitter::makeTiles(
    std::unique_ptr<Tile> ofRows,
    llvm::function_ref<std::unique_ptr<Tile>(Value weight, int64_t segment)> ofWeight) {
  ValueRange weights = kernel.matmul().getWeights();
  tiles.push_back(std::move(ofRows));
  for (int64_t s = 0; s < segments; ++s)
    tiles.push_back(ofWeight(weights[groups[0].segments[static_cast<size_t>(s)]], s));
  for (const SegmentGroup &group : groups.drop_front())
    others.push_back(ofWeight(weights[group.segments[0]], 0));
}

Phase TileEmitter::emit() {
  const SmallVector<Value> sums = multiply();
  if (partialSums >= 0)
    storePartial(sums);
  else
    grid.choose({}, [&](size_t number) {
      const SegmentGroup &group = groups[number];
      if (storesSums(kernel, group))
        storeDirectly(sums, group);
      else
        storeInStrips(sums, group);
      return SmallVector<Value>();
    });
  return p.finish(grid.grid());
}

SmallVector<Value> TileEmitter::multiply() {
  const int64_t each = held.across * segments;
  SmallVector<std::string> names;
  for (int64_t i = 0; i < held.down; ++i)
    for (int64_t j = 0; j < each; ++j)
      names.push_back(fmt::format("c{}_{}", i, j));
  const SmallVector<Value> zeros(names.size(), held.zero);
  StageLoop loop{p, kernel.matmul().getK(), grid, cut, tiles, others, memory, turnVectors};
  return loop.run(zeros, llvm::join(names, " "),
                  [&](MutableArrayRef<Value> sums, Value at) { multiplyStage(sums, at); });
}

void TileEmitter::storePartial(ArrayRef<Value> sums) {
  Value partial = p.workspace(partialSums, Access::Write, p.vec(p.f32, 4));
  for (int64_t s = 0; s < segments; ++s)
    for (int64_t i = 0; i < held.down; ++i) {
      Value at = partialQuad(p, cut, grid.stages.slices, segments, grid.tile, grid.slice, s,
                             rowOfTile(i), held.quad);
      put(sums, i, s, partial, p.named(at, "sums_at"), cut.bn / 4);
    }
}

void TileEmitter::storeInStrips(ArrayRef<Value> sums, const SegmentGroup &group) {
  const int64_t stride = strips.stride / 4, count = held.down / held.together;
  storeStrips(p, kernel, group, grid, cut, strips, memory, [&](Value strip) {
    for (int64_t q = 0; q < count; ++q) {
      Value mine = p.add(p.mul(held.part, count), q);
      p.ifThen(p.cmp(arith::CmpIPredicate::eq, strip, mine), [&] {
        for (int64_t e = 0; e < held.together; ++e) {
          Value at = p.named(p.add(p.mul(rowOfStrip(e), stride), held.quad), "put");
          for (int64_t s = 0; s < segments; ++s)
            put(sums, q * held.together + e, s, memory, p.add(at, s * strips.segmentStride / 4),
                stride);
        }
      });
    }
  });
}
