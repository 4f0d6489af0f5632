#include "kernelforge/codegen/cuda/ClusterSums.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cuda;

ClusterSums::ClusterSums(simt::PhaseBuilder &p, const Roles &roles, const MatrixShape &shape,
                         int64_t consumers, int64_t segments, int64_t blocks, Value memory)
    : rank(p.named(p.rem(p.block(), blocks), "rank")), p(p), assembly(p), shape(shape),
      threads(consumers * warpgroup), segments(segments), blocks(blocks), memory(memory) {}

/// A thread's sums of eight columns, two pairs, lie beside those of all other threads.
static constexpr int64_t quad = 4, quadBytes = 16;

SmallVector<Value> ClusterSums::join(ValueRange parts, Value isNeeded) {
  Value barrier = p.c(threads / warpgroup + 1); // panels take those before it
  Value own = p.add(memory, p.mul(p.thread(), quadBytes));
  assembly.meet(barrier, threads); // all have read the stages that were there
  const int64_t quads = shape.sums() / quad;
  auto put = [&] {
    for (int64_t i = 0; i < quads; ++i)
      assembly.storeQuad(p.add(own, i * threads * quadBytes),
                         parts.slice(size_t(i * quad), size_t(quad)));
  };
  if (isNeeded)
    p.ifThen(isNeeded, put);
  else
    put();
  assembly.arriveCluster();
  assembly.waitCluster();
  const int64_t share = quads / segments / blocks;
  Value mine = p.add(own, p.mul(rank, share * threads * quadBytes));
  SmallVector<Value> sums;
  if (isNeeded)
    sums = p.ifElse(
        "sums", isNeeded, SmallVector<Type>(size_t(share * segments * quad), p.f32),
        [&] { return addedUp(mine); },
        [&] { return SmallVector<Value>(size_t(share * segments * quad), p.cf(0)); });
  else
    sums = addedUp(mine);
  assembly.arriveCluster();
  return sums;
}

/// The share that begins at an address in each block.
SmallVector<Value> ClusterSums::addedUp(Value mine) {
  const int64_t each = shape.sums() / quad / segments, share = each / blocks;
  SmallVector<Value> sums;
  for (int64_t block = 0; block < blocks; ++block) {
    Value there = p.named(assembly.addressInBlock(mine, p.c(block)), "parts");
    for (int64_t s = 0; s < segments; ++s)
      for (int64_t i = 0; i < share; ++i) {
        Value at = p.add(there, (s * each + i) * threads * quadBytes);
        for (auto [n, part] : llvm::enumerate(assembly.loadClusterQuad(at))) {
          const auto number = size_t((s * share + i) * quad) + n;
          if (block == 0)
            sums.push_back(part);
          else
            sums[number] = p.addf(sums[number], part);
        }
      }
  }
  return sums;
}
