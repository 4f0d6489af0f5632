// The second phase of attention for few rows: the highest score of all chunks, then threads with
// equal columns sum up every so many chunks, and what they have is added in workgroup memory.
#include "kernelforge/codegen/simt/AttentionKeys.h"
#include "kernelforge/codegen/simt/AttentionSplit.h"
#include "kernelforge/codegen/simt/Elements.h"
#include "kernelforge/codegen/simt/Reduce.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::simt::split;

using Predicate = arith::CmpIPredicate;

Phase split::emitJoin(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                      StringRef entry) {
  const int64_t quads = shape.facts.valueDim / 4;
  PhaseBuilder p(module, kernel.kernel(), entry, shape.joiningThreads());
  AttentionOp op = kernel.attention();
  AttentionKeys seen(p, op);
  if (shape.facts.startsEarly)
    p.waitForPrevious();
  const int64_t heads = shape.facts.heads, slices = p.blockThreads() / quads;
  const int64_t subgroup = std::min(shape.facts.subgroup, p.blockThreads());
  Value row = p.named(p.div(p.block(), heads), "row");
  Value head = p.named(p.rem(p.block(), heads), "head");
  Value rowCount = p.rows(op.getQuery().getType());
  Value sequence = shape.facts.sequences == 1
                       ? p.c(0)
                       : p.named(p.load(p.argument(op.getSequences()), row), "sequence");
  auto [first, end] = seen.range(row, sequence);
  const int64_t chunkKeys = shape.knobs.chunk;
  // A row with all its keys in the first chunk was finished there.
  Value hasSeveral = p.named(p.lessThan(p.c(chunkKeys), end), "has_several");
  Value firstChunk = p.named(p.div(first, chunkKeys), "first_chunk");
  Value endChunk = p.div(p.add(end, chunkKeys - 1), chunkKeys);
  endChunk = p.named(p.select(hasSeveral, endChunk, firstChunk), "end_chunk");
  Value quad = p.named(p.rem(p.thread(), quads), "quad_index");
  Value slice = p.named(p.div(p.thread(), quads), "slice");
  Value partials = p.workspace(0, Access::Read, p.vec(p.f32, 4));
  auto partialAt = [&](Value chunk) {
    Value index = p.add(p.mul(p.add(p.mul(chunk, rowCount), row), heads), head);
    return p.named(p.mul(index, shape.partialQuads()), "partial_at");
  };
  auto factsOf = [&](Value at) {
    return p.named(p.loadVector(partials, p.add(at, quads)), "highest_and_sum");
  };

  // The highest score of all chunks comes first, so that what is read then waits for nothing.
  Value sink = op.getSinks() ? p.named(seen.sink(head), "sink_score") : p.cf(lowestScore);
  Value own = p.loop("chunk", p.add(firstChunk, p.thread()), endChunk, p.blockThreads(),
                     "own_highest", {sink}, [&](Value chunk, ValueRange carried) {
                       Value highest = p.extract(factsOf(partialAt(chunk)), int64_t(0));
                       return SmallVector<Value>{p.maxf(carried[0], highest)};
                     })[0];
  Value highest = reduceBlock(p, {own}, Combine::Max, subgroup, "highest_parts")[0];
  // Threads that are more than whole slices sum up what another one does, too, and leave nothing.
  SmallVector<Value> sums =
      p.loop("chunk", p.add(firstChunk, slice), endChunk, slices, "sum out",
             {p.cf(0), p.splat(p.cf(0), 4)}, [&](Value chunk, ValueRange carried) {
               Value at = partialAt(chunk);
               Value out = p.named(p.loadVector(partials, p.add(at, quad)), "partial");
               Value facts = factsOf(at);
               Value share = p.exp(p.subf(p.extract(facts, int64_t(0)), highest));
               p.named(share, "share");
               return SmallVector<Value>{p.fma(p.extract(facts, 1), share, carried[0]),
                                         p.fma(out, p.splat(share, 4), carried[1])};
             });
  Value outs = p.shared("outs", p.vec(p.f32, 4), slices * quads);
  Value weights = p.shared("sums", p.f32, slices);
  p.ifThen(p.lessThan(slice, p.c(slices)), [&] {
    p.storeVector(sums[1], outs, p.thread());
    p.ifThen(p.cmp(Predicate::eq, quad, p.c(0)), [&] { p.store(sums[0], weights, slice); });
  });
  p.barrier();
  Value isQuad = p.lessThan(p.thread(), p.c(quads));
  p.ifThen(p.b.create<arith::AndIOp>(p.loc, isQuad, hasSeveral), [&] {
    Value out = p.loadVector(outs, p.thread()), sum = p.load(weights, p.c(0));
    for (int64_t i = 1; i < slices; ++i) {
      out = p.addf(out, p.loadVector(outs, p.add(p.thread(), i * quads)));
      sum = p.addf(sum, p.load(weights, p.c(i)));
    }
    if (op.getSinks()) // a key whose value is 0
      sum = p.addf(sum, p.exp(p.subf(sink, highest)));
    Value start = p.named(p.mul(p.add(p.mul(row, heads), head), 4 * quads), "output_start");
    Value sees = p.lessThan(first, end);
    Value mean = p.select(sees, p.divf(out, sum), p.splat(p.cf(0), 4));
    writeElement(p, mean, p.result(0, Access::Write, View::Quads),
                 *elementTypeOf(op.getOutput().getType()), p.add(start, p.mul(p.thread(), 4)));
  });
  // None is launched where no row can have several chunks.
  Extent isLong(1, shape.facts.cachedSize, int64_t(1) << 32);
  isLong.product[0].beyond = chunkKeys;
  return p.finish(p.rowsExtent(op.getQuery().getType()) * Extent(heads) * isLong);
}
