// The attention family: grouped-query attention over caches, in two forms. Many rows: a task is a
// block of query rows and one key/value head, whose keys and values are packed once per block. One
// row at a time: keys and values are read where they lie, and where there are few rows, each row's
// keys are split over several tasks, whose parts a second phase puts together.
#include "kernelforge/codegen/cpu/AttentionLanes.h"
#include "kernelforge/codegen/cpu/AttentionSchedule.h"
#include "kernelforge/codegen/cpu/AttentionTile.h"
#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/codegen/cpu/VectorMath.h"
#include "kernelforge/ir/Caches.h"
#include "kernelforge/ir/Numerics.h"

#include <cmath>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::cpu::attention;
using namespace kernelforge::transformer;

using Predicate = arith::CmpIPredicate;

namespace {

/// What all parts of the emitter need.
class AttentionEmitter {
public:
  AttentionEmitter(KernelBuilder &k, AttentionOp op, const Shape &shape, int64_t splits,
                   int64_t splitKeys)
      : k(k), op(op), shape(shape), splits(splits), splitKeys(splitKeys) {}

  void emitBlocks(Tile &tile, int64_t queryBlock);
  void emitRows(Tile &tile);

  /// f32 of one task's part of a row: the outputs, then the highest scores and the sums, each
  /// spread over a vector.
  int64_t partFloats() const { return (shape.valueVectors() + 2) * lanes; }

private:
  Value index(Value argument, Value at) {
    return k.widen(k.load(k.i32, k.at(k.argument(argument), k.mul(at, 4)), 4));
  }
  Tile::Range visible(Value row, Value sequence);
  /// Keys or values of one head of a sequence.
  HeadRows cacheRows(Value cache, const CacheSlot &slot, Value sequence, Value head);
  /// Goes through the keys that the tile's rows see.
  void attend(Tile &tile, Value sequence, Value head);
  /// The first of the query heads (or outputs) of a row that read key/value head `head`; a head
  /// takes `headBytes`.
  Value rowAt(Value base, Value row, Value head, int64_t headBytes) {
    return k.at(base,
                k.add(k.mul(row, shape.heads * headBytes), k.mul(head, shape.group * headBytes)));
  }
  Value queryAt(Value row, Value head) {
    return rowAt(k.argument(op.getQuery()), row, head, shape.keyDim * shape.queryBytes());
  }
  Value resultAt(Value row, Value head) {
    return rowAt(k.result(0), row, head, shape.valueDim * shape.resultBytes());
  }
  /// The sinks of the query heads that read key/value head `head`.
  std::optional<Sinks> sinks(Value head, Value takePart = {});
  void forEachValueVector(llvm::function_ref<void(Value byteOffset, Value mask)> body);
  /// Stores a vector of a result, `byteOffset` of which would be its place were they f32.
  void storeResult(Value x, Value to, Value byteOffset, Value mask);
  /// 1 / sum, or 0 for a row that saw no key; a vector.
  Value normalizer(Value sum);
  void storeNormalized(Tile &tile, Value row, Value head);
  void emitRowPart(Tile &tile, Value row, Value head, Value split);
  /// Keys of each part of a row that sees `range`.
  Value shareOf(const Tile::Range &range);
  void mergeParts(Value row, Value head);
  Value part(Value row, Value head, Value split, Value groupHead);

  KernelBuilder &k;
  AttentionOp op;
  const Shape shape;
  const int64_t splits, splitKeys;
};

Tile::Range AttentionEmitter::visible(Value row, Value sequence) {
  Value own = k.add(index(op.getPositions(), row), 1);
  Value first = k.c(0), end = op.getCausal() ? own : index(op.getLengths(), sequence);
  if (auto window = int64_t(op.getWindow())) {
    first = k.max(k.c(0), k.sub(own, k.c(window)));
    end = k.min(end, own);
  }
  return {first, end};
}

HeadRows AttentionEmitter::cacheRows(Value cache, const CacheSlot &slot, Value sequence,
                                     Value head) {
  Value base = k.argument(cache), first = k.c(0);
  if (shape.page == 0)
    first = k.mul(index(op.getTable(), sequence), slot.bytes());
  HeadRows rows = HeadRows::of(k, slot, base, first, head);
  rows.rounds = shape.rounds();
  return rows;
}

void AttentionEmitter::attend(Tile &tile, Value sequence, Value head) {
  Value pages;
  if (shape.page > 0) {
    Value width = k.dimension(op.getTable().getType(), 1);
    pages = k.at(k.argument(op.getTable()), k.mul(k.mul(sequence, width), 4));
  }
  tile.attend(cacheRows(op.getKeys(), shape.keys, sequence, head),
              cacheRows(op.getValues(), shape.values, sequence, head), pages);
}

std::optional<Sinks> AttentionEmitter::sinks(Value head, Value takePart) {
  if (!op.getSinks())
    return std::nullopt;
  return Sinks{Numbers::ofArgument(k, op.getSinks()).from(k.mul(head, shape.group)), takePart};
}

void AttentionEmitter::storeResult(Value x, Value to, Value byteOffset, Value mask) {
  if (shape.result == ElementType::F32)
    k.storeVec(x, k.at(to, byteOffset), mask);
  else
    Numbers(k, shape.result, to).from(k.div(byteOffset, 4)).store(x, mask);
}

void AttentionEmitter::forEachValueVector(llvm::function_ref<void(Value, Value)> body) {
  const int64_t whole = shape.valueDim / lanes * lanes;
  k.loop(k.c(0), k.c(whole * 4), lanes * 4, [&](Value offset) { body(offset, Value()); });
  if (whole != shape.valueDim)
    body(k.c(whole * 4), k.firstLanes(k.c(shape.valueDim - whole)));
}

Value AttentionEmitter::normalizer(Value sum) {
  Value none = k.cmpf(arith::CmpFPredicate::OEQ, sum, k.splat(0));
  return k.select(none, k.splat(0), k.divf(k.splat(1), sum));
}

void AttentionEmitter::storeNormalized(Tile &tile, Value row, Value head) {
  Value out = resultAt(row, head);
  const int64_t headBytes = shape.valueDim * shape.resultBytes();
  tile.forEachRow([&](Value stacked, Value tileRow, Value groupHead) {
    Value to =
        k.at(out, k.add(k.mul(tileRow, shape.heads * headBytes), k.mul(groupHead, headBytes)));
    Value factor = normalizer(k.broadcast(k.loadF32(tile.sum(stacked))));
    forEachValueVector([&](Value offset, Value mask) {
      Value sums = k.loadVec(tile.outputAt(stacked, offset));
      storeResult(k.mulf(sums, factor), to, offset, mask);
    });
  });
}

//===----------------------------------------------------------------------===//
// Many rows
//===----------------------------------------------------------------------===//

void AttentionEmitter::emitBlocks(Tile &tile, int64_t queryBlock) {
  Value rows = k.rows(op.getQuery().getType());
  // The last rows first: causal, they see the most keys, and long tasks should not start late.
  Value block = k.sub(k.sub(k.ceilDiv(rows, queryBlock), k.c(1)), k.div(k.task, shape.kvHeads));
  Value head = k.rem(k.task, shape.kvHeads);
  Value from = k.mul(block, queryBlock), to = k.min(k.add(from, queryBlock), rows);
  tile.beginTask();
  // Runs of rows of one sequence: a run begins where the sequence differs from the last row's.
  k.loop(from, to, 1, [&](Value row) {
    Value sequence = index(op.getSequences(), row);
    Value last = index(op.getSequences(), k.max(k.sub(row, k.c(1)), from));
    Value begins = k.b.create<arith::OrIOp>(k.loc, k.cmp(Predicate::eq, row, from),
                                            k.cmp(Predicate::ne, sequence, last));
    k.ifThen(begins, [&] {
      auto end = k.loop(k.add(row, 1), to, 1, {k.add(row, 1)}, [&](Value next, ValueRange carried) {
        Value more = k.b.create<arith::AndIOp>(
            k.loc, k.cmp(Predicate::eq, index(op.getSequences(), next), sequence),
            k.cmp(Predicate::eq, carried[0], next));
        return SmallVector<Value>{k.select(more, k.add(next, 1), carried[0])};
      });
      tile.begin(
          queryAt(row, head), k.sub(end[0], row),
          [&](Value tileRow) { return visible(k.add(row, tileRow), sequence); }, sinks(head));
      attend(tile, sequence, head);
      storeNormalized(tile, row, head);
    });
  });
  tile.endTask();
}

//===----------------------------------------------------------------------===//
// One row at a time
//===----------------------------------------------------------------------===//

void AttentionEmitter::emitRows(Tile &tile) {
  Value item = k.task;
  if (splits == 1)
    return emitRowPart(tile, k.div(item, shape.kvHeads), k.rem(item, shape.kvHeads), k.c(0));
  k.ifThen(k.cmp(Predicate::eq, k.phase, k.c(0)), [&] {
    Value rowAndHead = k.div(item, splits);
    emitRowPart(tile, k.div(rowAndHead, shape.kvHeads), k.rem(rowAndHead, shape.kvHeads),
                k.rem(item, splits));
  });
  k.ifThen(k.cmp(Predicate::eq, k.phase, k.c(1)),
           [&] { mergeParts(k.div(item, shape.kvHeads), k.rem(item, shape.kvHeads)); });
}

Value AttentionEmitter::part(Value row, Value head, Value split, Value groupHead) {
  Value task = k.add(k.mul(k.add(k.mul(row, shape.kvHeads), head), splits), split);
  Value i = k.add(k.mul(task, shape.group), groupHead);
  return k.at(k.workspace(), k.mul(i, partFloats() * 4));
}

Value AttentionEmitter::shareOf(const Tile::Range &range) {
  Value share = k.ceilDiv(k.max(k.sub(range.second, range.first), k.c(0)), splits);
  return k.max(k.mul(k.ceilDiv(share, lanes), lanes), k.c(splitKeys));
}

void AttentionEmitter::emitRowPart(Tile &tile, Value row, Value head, Value split) {
  Value sequence = index(op.getSequences(), row);
  auto [first, end] = visible(row, sequence);
  if (splits > 1) {
    Value share = shareOf({first, end});
    first = k.add(first, k.mul(split, share));
    end = k.min(end, k.add(first, share));
  }
  // Of a row's parts the first has the sink, and is there where the row sees nothing.
  Value isFirst = splits > 1 ? k.cmp(Predicate::eq, split, k.c(0)) : Value();
  auto attendPart = [&, first = first, end = end] {
    tile.begin(
        queryAt(row, head), k.c(1), [&](Value) { return Tile::Range{first, end}; },
        sinks(head, isFirst));
    attend(tile, sequence, head);
  };
  if (splits == 1) {
    attendPart();
    return storeNormalized(tile, row, head);
  }
  Value isThere = k.b.create<arith::OrIOp>(k.loc, isFirst, k.lessThan(first, end));
  k.ifThen(isThere, [&] {
    attendPart();
    tile.forEachRow([&](Value stacked, Value, Value groupHead) {
      Value to = part(row, head, split, groupHead);
      const int64_t statistics = shape.valueVectors() * lanes * 4;
      k.loop(k.c(0), k.c(statistics), lanes * 4, [&](Value offset) {
        k.storeVec(k.loadVec(tile.outputAt(stacked, offset)), k.at(to, offset));
      });
      k.storeVec(k.broadcast(k.loadF32(tile.highest(stacked))), k.at(to, statistics));
      k.storeVec(k.broadcast(k.loadF32(tile.sum(stacked))), k.at(to, statistics + lanes * 4));
    });
  });
}

void AttentionEmitter::mergeParts(Value row, Value head) {
  const int64_t statistics = shape.valueVectors() * lanes * 4;
  Value out = resultAt(row, head);
  const Tile::Range seen = visible(row, index(op.getSequences(), row));
  Value keys = k.max(k.sub(seen.second, seen.first), k.c(1)), share = shareOf(seen);
  Value parts = k.div(k.sub(k.add(keys, share), k.c(1)), share); // those that are there
  k.loop(k.c(0), k.c(shape.group), 1, [&](Value groupHead) {
    auto partOf = [&](Value split) { return part(row, head, split, groupHead); };
    auto top = k.loop(k.c(0), parts, 1, {k.splat(-INFINITY)}, [&](Value split, ValueRange carried) {
      Value own = k.loadVec(k.at(partOf(split), statistics));
      return SmallVector<Value>{larger(k, own, carried[0])};
    });
    Value nothing = k.cmpf(arith::CmpFPredicate::OEQ, top[0], k.splat(-INFINITY));
    Value against = k.select(nothing, k.splat(0), top[0]);
    // Each part's weight goes to scratch: all columns use it.
    auto sum = k.loop(k.c(0), parts, 1, {k.splat(0)}, [&](Value split, ValueRange carried) {
      Value from = partOf(split);
      Value weight = emitExpOfNonPositive(k, k.subf(k.loadVec(k.at(from, statistics)), against));
      k.storeVec(weight, k.at(k.scratch, k.mul(split, lanes * 4)));
      return SmallVector<Value>{
          k.fma(k.loadVec(k.at(from, statistics + lanes * 4)), weight, carried[0])};
    });
    Value factor = normalizer(sum[0]);
    Value to = k.at(out, k.mul(groupHead, shape.valueDim * shape.resultBytes()));
    forEachValueVector([&](Value offset, Value mask) {
      auto total = k.loop(k.c(0), parts, 1, {k.splat(0)}, [&](Value split, ValueRange carried) {
        Value weight = k.loadVec(k.at(k.scratch, k.mul(split, lanes * 4)));
        return SmallVector<Value>{
            k.fma(k.loadVec(k.at(partOf(split), offset)), weight, carried[0])};
      });
      storeResult(k.mulf(total[0], factor), to, offset, mask);
    });
  });
}

} // namespace

//===----------------------------------------------------------------------===//
// Entry
//===----------------------------------------------------------------------===//

Expected<Launching> attention::emit(ModuleOp module, const KernelAnalysis &kernel,
                                    const Target &target, StringRef entry) {
  AttentionOp op = kernel.attention();
  KF_TRY(KnobValues values, knobsOf(kernel.kernel()));
  KF_TRY(const Knobs knobs, readKnobs(kernel, target, values));
  const int64_t queryBlock = knobs.queryBlock, splits = knobs.splits, splitKeys = knobs.splitKeys;
  const bool packed = queryBlock > 1;
  Shape shape;
  shape.mr = knobs.mr;
  shape.nr = knobs.nr;
  shape.keyBlock = knobs.keyBlock;
  shape.prefetch = knobs.prefetch;
  shape.heads = int64_t(op.getHeads());
  shape.kvHeads = op.getKeys().getType().getHeads();
  shape.group = shape.heads / shape.kvHeads;
  shape.keyDim = op.getKeys().getType().getDim();
  shape.valueDim = op.getValues().getType().getDim();
  shape.keys = slotOf(op.getKeys().getType());
  shape.values = slotOf(op.getValues().getType());
  shape.page = op.getKeys().getType().getPage();
  shape.query = *elementTypeOf(op.getQuery().getType());
  shape.result = *elementTypeOf(op.getOutput().getType());
  shape.scale = op.getScale().convertToDouble();
  shape.softcap = op.getSoftcap().convertToDouble();
  shape.packed = packed;
  shape.form = PanelForm::of(numericsOf(op), target);
  shape.maxRows = queryBlock;

  KernelBuilder k(module, kernel.kernel(), target, entry);
  AttentionEmitter emitter(k, op, shape, splits, splitKeys);
  const std::unique_ptr<Tile> tile = Tile::create(k, shape);
  if (packed)
    emitter.emitBlocks(*tile, queryBlock);
  else
    emitter.emitRows(*tile);
  k.finish();

  Launching launching;
  const int size = k.rowsIndex(op.getQuery().getType());
  const int64_t staticRows = kernel.rows(op.getQuery().getType()).second;
  auto perRows = [&](int64_t multiplier, int64_t divisor) {
    return size < 0 ? Extent{multiplier * ((staticRows + divisor - 1) / divisor)}
                    : Extent{multiplier, size, divisor};
  };
  Phase main;
  main.grid = perRows(1, queryBlock) * shape.kvHeads * splits;
  main.scratchBytes = tile->scratchBytes();
  launching.phases.push_back(main);
  if (splits > 1) {
    Phase merge;
    merge.grid = perRows(1, 1) * shape.kvHeads;
    merge.scratchBytes = splits * lanes * 4;
    launching.phases.push_back(merge);
    launching.workspaces.push_back(
        {.bytes = perRows(shape.kvHeads * splits * shape.group * emitter.partFloats() * 4, 1)});
  }
  return launching;
}
