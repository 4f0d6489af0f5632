// The second phase of attention for few rows: threads with equal columns take every so many chunks,
// and what they have is joined in workgroup memory.
#include "kernelforge/codegen/simt/AttentionKeys.h"
#include "kernelforge/codegen/simt/Elements.h"
#include "kernelforge/codegen/webgpu/AttentionSplit.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::webgpu;
using namespace kernelforge::webgpu::split;

using Predicate = arith::CmpIPredicate;

Phase split::emitJoin(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                      StringRef entry) {
  PhaseBuilder p(module, kernel.kernel(), entry, joiningThreads);
  AttentionOp op = kernel.attention();
  AttentionKeys seen(p, op);
  const int64_t heads = shape.facts.heads, quads = shape.facts.valueDim / 4;
  const int64_t slices = joiningThreads / quads, stride = shape.partialQuads();
  Value row = p.named(p.div(p.block(), heads), "row");
  Value head = p.named(p.rem(p.block(), heads), "head");
  Value rowCount = p.rows(op.getQuery().getType());
  Value sequence = shape.facts.sequences == 1
                       ? p.c(0)
                       : p.named(p.load(p.argument(op.getSequences()), row), "sequence");
  auto [first, end] = seen.range(row, sequence);
  const int64_t chunkKeys = shape.knobs.chunk;
  Value sees = p.named(p.lessThan(first, end), "sees_keys");
  Value firstChunk = p.named(p.div(first, chunkKeys), "first_chunk");
  Value endChunk = p.div(p.add(end, chunkKeys - 1), chunkKeys);
  endChunk = p.named(p.select(sees, endChunk, firstChunk), "end_chunk");
  Value quad = p.named(p.rem(p.thread(), quads), "quad_index");
  Value slice = p.named(p.div(p.thread(), quads), "slice");
  Value partials = p.workspace(0, Access::Read, p.vec(p.f32, 4));

  // A partial result with its highest score and sum of weights, and another one.
  struct Part {
    Value highest, sum, out;
  };
  auto join = [&](const Part &one, const Part &other) -> Part {
    Value highest = p.named(p.maxf(one.highest, other.highest), "new_highest");
    Value own = p.named(p.exp(p.subf(one.highest, highest)), "fade");
    Value others = p.named(p.exp(p.subf(other.highest, highest)), "share");
    return {highest, p.fma(other.sum, others, p.mulf(one.sum, own)),
            p.fma(other.out, others, p.mulf(one.out, own))};
  };
  // Threads that are more than whole slices join what another one does, too, and leave nothing.
  SmallVector<Value> own = p.loop(
      "chunk", p.add(firstChunk, slice), endChunk, slices, "highest sum out",
      {p.cf(lowestScore), p.cf(0), p.splat(p.cf(0), 4)}, [&](Value chunk, ValueRange carried) {
        Value index = p.add(p.mul(p.add(p.mul(chunk, rowCount), row), heads), head);
        Value at = p.named(p.mul(index, stride), "partial_at");
        Value out = p.named(p.loadVector(partials, p.add(at, quad)), "partial");
        Value facts = p.named(p.loadVector(partials, p.add(at, quads)), "facts");
        const Part joined = join({carried[0], carried[1], carried[2]},
                                 {p.extract(facts, int64_t(0)), p.extract(facts, 1), out});
        return SmallVector<Value>{joined.highest, joined.sum, joined.out};
      });
  Value outs = p.shared("outs", p.vec(p.f32, 4), slices * quads);
  Value facts = p.shared("highest_and_sum", p.f32, 2 * slices);
  p.ifThen(p.lessThan(slice, p.c(slices)), [&] {
    p.storeVector(own[2], outs, p.thread());
    p.ifThen(p.cmp(Predicate::eq, quad, p.c(0)), [&] {
      p.store(own[0], facts, p.mul(slice, 2));
      p.store(own[1], facts, p.add(p.mul(slice, 2), 1));
    });
  });
  p.barrier();
  p.ifThen(p.lessThan(p.thread(), p.c(quads)), [&] {
    Part all{p.load(facts, p.c(0)), p.load(facts, p.c(1)), p.loadVector(outs, p.thread())};
    for (int64_t i = 1; i < slices; ++i)
      all = join(all, {p.load(facts, p.c(2 * i)), p.load(facts, p.c(2 * i + 1)),
                       p.loadVector(outs, p.add(p.thread(), i * quads))});
    if (op.getSinks()) // a key whose value is 0
      all = join(all, {p.named(seen.sink(head), "sink_score"), p.cf(1), p.splat(p.cf(0), 4)});
    Value mean = p.divf(all.out, all.sum);
    Value start = p.named(p.mul(p.add(p.mul(row, heads), head), 4 * quads), "output_start");
    writeElement(p, p.select(sees, mean, p.splat(p.cf(0), 4)),
                 p.result(0, Access::Write, View::Quads), *elementTypeOf(op.getOutput().getType()),
                 p.add(start, p.mul(p.thread(), 4)));
  });
  return p.finish(p.rowsExtent(op.getQuery().getType()) * Extent(heads));
}
