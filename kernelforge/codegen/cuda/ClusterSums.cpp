#include "kernelforge/codegen/cuda/ClusterSums.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cuda;

ClusterSums::ClusterSums(simt::PhaseBuilder &p, const Roles &roles, const MatrixShape &shape,
                         int64_t consumers, int64_t segments, int64_t blocks, Value memory)
    : rank(p.named(p.rem(p.block(), blocks), "rank")), p(p), assembly(p), shape(shape),
      threads(consumers * warpgroup), segments(segments), blocks(blocks), memory(memory) {}

// A thread's sums of eight columns, two pairs, are 16 bytes, those of all threads side by side.
SmallVector<Value> ClusterSums::join(ValueRange parts) {
  constexpr int64_t quadBytes = 16, quad = 4;
  const int64_t consumers = threads / warpgroup;
  Value barrier = p.c(consumers + 1); // panels take those before it
  Value own = p.add(memory, p.mul(p.thread(), quadBytes));
  assembly.meet(barrier, threads); // all have read the stages that were there
  const int64_t quads = shape.sums() / quad, each = quads / segments, share = each / blocks;
  for (int64_t i = 0; i < quads; ++i)
    assembly.storeQuad(p.add(own, i * threads * quadBytes),
                       parts.slice(size_t(i * quad), size_t(quad)));
  assembly.arriveCluster();
  assembly.waitCluster();
  Value mine = p.add(own, p.mul(rank, share * threads * quadBytes));
  SmallVector<Value> sums;
  for (int64_t block = 0; block < blocks; ++block) {
    Value there = p.named(assembly.addressInBlock(mine, p.c(block)), "parts");
    for (int64_t s = 0; s < segments; ++s)
      for (int64_t i = 0; i < share; ++i) {
        const auto part =
            assembly.loadClusterQuad(p.add(there, (s * each + i) * threads * quadBytes));
        for (int64_t n = 0; n < quad; ++n) {
          const auto number = size_t((s * share + i) * quad + n);
          if (block == 0)
            sums.push_back(part[size_t(n)]);
          else
            sums[number] = p.addf(sums[number], part[size_t(n)]);
        }
      }
  }
  assembly.arriveCluster();
  return sums;
}
