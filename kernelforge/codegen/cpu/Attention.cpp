// The attention family: grouped-query attention over contiguous caches, in two forms. Many rows: a
// task is a block of query rows and one key/value head, whose keys are packed once per block. One
// row at a time: keys and values are read where they lie, and where there are few rows, each row's
// keys are split over several tasks, whose parts a second phase puts together.
#include "kernelforge/codegen/cpu/AttentionTile.h"
#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/codegen/cpu/VectorMath.h"

#include <cmath>

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::cpu::attention;
using namespace kernelforge::transformer;

using Predicate = arith::CmpIPredicate;

namespace {

/// Larger heads or groups than any model has; keeps scratch sizes far from overflow.
constexpr int64_t maxHeadDim = 1024, maxHeads = 4096;
constexpr int64_t maxQueryBlock = 512, maxKeyBlock = 512, maxSplits = 64, maxPrefetch = 256;

/// Registers that hold a vector of 16 f32, counting two of AVX2 as one.
int64_t vectorRegisters(const CpuTarget &target) { return target.vectorBits() == 512 ? 32 : 8; }

/// Rows of a register tile: an accumulator each, with one vector and one factor beside them.
int64_t maxTileRows(const CpuTarget &target) {
  return std::min(vectorRegisters(target) - 2, lanes);
}

/// Vectors of a register tile of `mr` rows.
int64_t maxTileVectors(const CpuTarget &target, int64_t mr) {
  return std::clamp<int64_t>((vectorRegisters(target) - 1) / (mr + 1), 1, 4);
}

/// The kernel's one operation, if this family computes it.
Expected<AttentionOp> checkedOp(KernelOp kernel) {
  auto refuse = [&](std::string why, std::string hint) {
    return unusable("attention cannot be generated for the CPU", kernelName(kernel), std::move(why),
                    std::move(hint));
  };
  Block &body = kernel.getBody().front();
  auto op = dyn_cast<AttentionOp>(body.front());
  auto yield = dyn_cast<YieldOp>(body.back());
  if (!op || &body.back() != op->getNextNode() || yield.getNumOperands() != 1 ||
      yield.getOperand(0) != op.getOutput())
    return refuse("an attention kernel holds one transformer.attention and yields its result",
                  "fuse nothing into it");
  CacheType keys = op.getKeys().getType(), values = op.getValues().getType();
  if (keys.getPage() != 0)
    return refuse(fmt::format("transformer.attention reads a cache with pages of {} positions",
                              keys.getPage()),
                  "use a contiguous cache");
  if (!keys.getElementType().isF32() || !values.getElementType().isF32())
    return refuse("transformer.attention reads a cache that is not f32", "use caches of f32");
  auto element = [](Value value) {
    return cast<RankedTensorType>(value.getType()).getElementType();
  };
  if (!element(op.getQuery()).isF32() || !element(op.getOutput()).isF32())
    return refuse("transformer.attention has activations that are not f32", "use f32 activations");
  for (int64_t dim : {keys.getDim(), values.getDim()})
    if (dim > maxHeadDim)
      return refuse(fmt::format("transformer.attention has heads of {} values", dim),
                    fmt::format("heads may have up to {}", maxHeadDim));
  if (int64_t(op.getHeads()) > maxHeads)
    return refuse(fmt::format("transformer.attention has {} heads", op.getHeads()),
                  fmt::format("there may be up to {}", maxHeads));
  return op;
}

/// The range of rows or sequences that a tensor's leading dimension has.
std::pair<int64_t, int64_t> leadingRange(KernelOp kernel, Type type) {
  auto tensor = cast<RankedTensorType>(type);
  for (unsigned i = 0; i < kernel.getNumSizes(); ++i)
    if (kernel.getSize(i).getName().getValue() == rowsSizeName(tensor))
      return {kernel.getSize(i).getMin(), kernel.getSize(i).getMax()};
  return {tensor.getDimSize(0), tensor.getDimSize(0)};
}

/// What all parts of the emitter need.
class Emitter {
public:
  Emitter(KernelBuilder &k, AttentionOp op, const Shape &shape, int64_t splits, int64_t splitKeys)
      : k(k), op(op), shape(shape), splits(splits), splitKeys(splitKeys) {}

  void emitBlocks(int64_t queryBlock);
  void emitRows();

  /// f32 of one task's part of a row: the outputs, then the highest scores and the sums, each
  /// spread over a vector.
  int64_t partFloats() const { return (shape.valueVectors() + 2) * lanes; }

private:
  Value index(Value argument, Value at) {
    return k.widen(k.load(k.i32, k.at(k.argument(argument), k.mul(at, 4)), 4));
  }
  Tile::Range visible(Value row, Value sequence);
  /// Keys or values of one head in a sequence's first slot.
  Value cacheRow(Value cache, Value sequence, Value head) {
    int64_t dim = cast<CacheType>(cache.getType()).getDim();
    return k.at(k.argument(cache),
                k.add(k.mul(index(op.getTable(), sequence), shape.kvHeads * dim * 4),
                      k.mul(head, dim * 4)));
  }
  /// A row's first query head (or output) of those that read key/value head `head`.
  Value rowAt(Value base, Value row, Value head, int64_t dim) {
    return k.at(base, k.add(k.mul(row, shape.heads * dim * 4), k.mul(head, shape.group * dim * 4)));
  }
  void forEachValueVector(llvm::function_ref<void(Value byteOffset, Value mask)> body);
  /// 1 / sum, or 0 for a row that saw no key; a vector.
  Value normalizer(Value sum);
  void storeNormalized(Tile &tile, Value row, Value head);
  void emitRowPart(Value row, Value head, Value split);
  void mergeParts(Value row, Value head);
  Value part(Value row, Value head, Value split, Value groupHead);

  KernelBuilder &k;
  AttentionOp op;
  const Shape shape;
  const int64_t splits, splitKeys;
};

Tile::Range Emitter::visible(Value row, Value sequence) {
  Value own = k.add(index(op.getPositions(), row), 1);
  Value first = k.c(0), end = op.getCausal() ? own : index(op.getLengths(), sequence);
  if (auto window = int64_t(op.getWindow())) {
    first = k.max(k.c(0), k.sub(own, k.c(window)));
    end = k.min(end, own);
  }
  return {first, end};
}

void Emitter::forEachValueVector(llvm::function_ref<void(Value, Value)> body) {
  const int64_t whole = shape.valueDim / lanes * lanes;
  k.loop(k.c(0), k.c(whole * 4), lanes * 4, [&](Value offset) { body(offset, Value()); });
  if (whole != shape.valueDim)
    body(k.c(whole * 4), k.firstLanes(k.c(shape.valueDim - whole)));
}

Value Emitter::normalizer(Value sum) {
  Value none = k.cmpf(arith::CmpFPredicate::OEQ, sum, k.splat(0));
  return k.select(none, k.splat(0), k.divf(k.splat(1), sum));
}

void Emitter::storeNormalized(Tile &tile, Value row, Value head) {
  Value out = rowAt(k.result(0), row, head, shape.valueDim);
  tile.forEachRow([&](Value stacked, Value tileRow, Value groupHead) {
    Value to = k.at(out, k.add(k.mul(tileRow, shape.heads * shape.valueDim * 4),
                               k.mul(groupHead, shape.valueDim * 4)));
    Value factor = normalizer(k.broadcast(k.loadF32(tile.sum(stacked))));
    forEachValueVector([&](Value offset, Value mask) {
      Value sums = k.loadVec(k.at(tile.output(stacked), offset));
      k.storeVec(k.mulf(sums, factor), k.at(to, offset), mask);
    });
  });
}

//===----------------------------------------------------------------------===//
// Many rows
//===----------------------------------------------------------------------===//

void Emitter::emitBlocks(int64_t queryBlock) {
  Value rows = k.rows(op.getQuery().getType());
  // The last rows first: causal, they see the most keys, and long tasks should not start late.
  Value block = k.sub(k.sub(k.ceilDiv(rows, queryBlock), k.c(1)), k.div(k.task, shape.kvHeads));
  Value head = k.rem(k.task, shape.kvHeads);
  Value from = k.mul(block, queryBlock), to = k.min(k.add(from, queryBlock), rows);
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
      Tile tile(k, shape);
      tile.begin(rowAt(k.argument(op.getQuery()), row, head, shape.keyDim), k.sub(end[0], row),
                 [&](Value tileRow) { return visible(k.add(row, tileRow), sequence); });
      tile.attend(cacheRow(op.getKeys(), sequence, head), cacheRow(op.getValues(), sequence, head));
      storeNormalized(tile, row, head);
    });
  });
}

//===----------------------------------------------------------------------===//
// One row at a time
//===----------------------------------------------------------------------===//

void Emitter::emitRows() {
  Value item = k.task;
  if (splits == 1)
    return emitRowPart(k.div(item, shape.kvHeads), k.rem(item, shape.kvHeads), k.c(0));
  k.ifThen(k.cmp(Predicate::eq, k.phase, k.c(0)), [&] {
    Value rowAndHead = k.div(item, splits);
    emitRowPart(k.div(rowAndHead, shape.kvHeads), k.rem(rowAndHead, shape.kvHeads),
                k.rem(item, splits));
  });
  k.ifThen(k.cmp(Predicate::eq, k.phase, k.c(1)),
           [&] { mergeParts(k.div(item, shape.kvHeads), k.rem(item, shape.kvHeads)); });
}

Value Emitter::part(Value row, Value head, Value split, Value groupHead) {
  Value task = k.add(k.mul(k.add(k.mul(row, shape.kvHeads), head), splits), split);
  Value i = k.add(k.mul(task, shape.group), groupHead);
  return k.at(k.workspace(), k.mul(i, partFloats() * 4));
}

void Emitter::emitRowPart(Value row, Value head, Value split) {
  Value sequence = index(op.getSequences(), row);
  auto [first, end] = visible(row, sequence);
  if (splits > 1) {
    Value share = k.ceilDiv(k.max(k.sub(end, first), k.c(0)), splits);
    share = k.max(k.mul(k.ceilDiv(share, lanes), lanes), k.c(splitKeys));
    first = k.add(first, k.mul(split, share));
    end = k.min(end, k.add(first, share));
  }
  Tile tile(k, shape);
  tile.begin(rowAt(k.argument(op.getQuery()), row, head, shape.keyDim), k.c(1),
             [&](Value) { return Tile::Range{first, end}; });
  tile.attend(cacheRow(op.getKeys(), sequence, head), cacheRow(op.getValues(), sequence, head));
  if (splits == 1)
    return storeNormalized(tile, row, head);
  tile.forEachRow([&](Value stacked, Value, Value groupHead) {
    Value to = part(row, head, split, groupHead);
    const int64_t statistics = shape.valueVectors() * lanes * 4;
    k.loop(k.c(0), k.c(statistics), lanes * 4, [&](Value offset) {
      k.storeVec(k.loadVec(k.at(tile.output(stacked), offset)), k.at(to, offset));
    });
    k.storeVec(k.broadcast(k.loadF32(tile.highest(stacked))), k.at(to, statistics));
    k.storeVec(k.broadcast(k.loadF32(tile.sum(stacked))), k.at(to, statistics + lanes * 4));
  });
}

void Emitter::mergeParts(Value row, Value head) {
  const int64_t statistics = shape.valueVectors() * lanes * 4;
  Value out = rowAt(k.result(0), row, head, shape.valueDim);
  k.loop(k.c(0), k.c(shape.group), 1, [&](Value groupHead) {
    auto partOf = [&](Value split) { return part(row, head, split, groupHead); };
    auto top =
        k.loop(k.c(0), k.c(splits), 1, {k.splat(-INFINITY)}, [&](Value split, ValueRange carried) {
          Value own = k.loadVec(k.at(partOf(split), statistics));
          return SmallVector<Value>{larger(k, own, carried[0])};
        });
    Value nothing = k.cmpf(arith::CmpFPredicate::OEQ, top[0], k.splat(-INFINITY));
    Value against = k.select(nothing, k.splat(0), top[0]);
    // Each part's weight goes to scratch: all columns use it.
    auto sum = k.loop(k.c(0), k.c(splits), 1, {k.splat(0)}, [&](Value split, ValueRange carried) {
      Value from = partOf(split);
      Value weight = emitExp(k, k.subf(k.loadVec(k.at(from, statistics)), against));
      k.storeVec(weight, k.at(k.scratch, k.mul(split, lanes * 4)));
      return SmallVector<Value>{
          k.fma(k.loadVec(k.at(from, statistics + lanes * 4)), weight, carried[0])};
    });
    Value factor = normalizer(sum[0]);
    Value to = k.at(out, k.mul(groupHead, shape.valueDim * 4));
    forEachValueVector([&](Value offset, Value mask) {
      auto total =
          k.loop(k.c(0), k.c(splits), 1, {k.splat(0)}, [&](Value split, ValueRange carried) {
            Value weight = k.loadVec(k.at(k.scratch, k.mul(split, lanes * 4)));
            return SmallVector<Value>{
                k.fma(k.loadVec(k.at(partOf(split), offset)), weight, carried[0])};
          });
      k.storeVec(k.mulf(total[0], factor), k.at(to, offset), mask);
    });
  });
}

} // namespace

//===----------------------------------------------------------------------===//
// Schedules
//===----------------------------------------------------------------------===//

// Knobs: query_block (rows of a task; 1 is the form that takes one row at a time), key_block (keys
// of a step of the online softmax), mr and nr (register tile: stacked rows, vectors), splits (tasks
// that share one row's keys), split_keys (fewer keys are not split) and prefetch (rows of keys and
// values fetched ahead). Only the form of one row at a time splits and fetches ahead.
Expected<ScheduleAttr> attention::defaultSchedule(KernelOp kernel, const CpuTarget &target,
                                                  int64_t threads) {
  KF_TRY(AttentionOp op, checkedOp(kernel));
  const int64_t kvHeads = op.getKeys().getType().getHeads();
  const int64_t group = int64_t(op.getHeads()) / kvHeads;
  auto [minRows, maxRows] = leadingRange(kernel, op.getQuery().getType());
  const int64_t sequences = leadingRange(kernel, op.getLengths().getType()).second;
  const int64_t wantedTasks = 4 * std::max<int64_t>(threads, 1);

  // One row at a time where each row may be a sequence of its own (decoding), or rows are too few
  // to be worth packing keys for.
  const int64_t fewRows = 4, manySequences = 64;
  if (maxRows <= fewRows || (maxRows <= sequences && maxRows <= manySequences)) {
    // The group in as few register tiles of at most six rows as it takes, all of one size.
    const int64_t rows = std::min<int64_t>(6, maxTileRows(target));
    const int64_t mr = (group + (group + rows - 1) / rows - 1) / ((group + rows - 1) / rows);
    const int64_t tasks = std::max<int64_t>(minRows, 1) * kvHeads;
    const int64_t splits =
        threads <= 1 ? 1 : std::clamp<int64_t>((wantedTasks + tasks - 1) / tasks, 1, maxSplits);
    return makeSchedule(kernel.getContext(), {{"query_block", 1},
                                              {"key_block", 128},
                                              {"mr", mr},
                                              {"nr", maxTileVectors(target, mr)},
                                              {"splits", splits},
                                              {"split_keys", 256},
                                              {"prefetch", 16}});
  }
  // 6 x 4 vectors fill AVX-512's registers, 6 x 1 (two registers each) AVX2's. About 96 stacked
  // rows pay for packing a block of keys; fewer where the rows would not give every thread tasks.
  const int64_t mr = 6;
  int64_t stacked = 96;
  while (stacked > 24 && (maxRows * group + stacked - 1) / stacked * kvHeads < wantedTasks)
    stacked /= 2;
  const int64_t queryBlock = std::clamp<int64_t>(stacked / group, 2, maxQueryBlock);
  return makeSchedule(kernel.getContext(), {{"query_block", queryBlock},
                                            {"key_block", 64},
                                            {"mr", mr},
                                            {"nr", maxTileVectors(target, mr)},
                                            {"splits", 1},
                                            {"split_keys", 256},
                                            {"prefetch", 0}});
}

//===----------------------------------------------------------------------===//
// Entry
//===----------------------------------------------------------------------===//

Expected<Launching> attention::emit(ModuleOp module, KernelOp kernel, const CpuTarget &target,
                                    StringRef entry) {
  KF_TRY(AttentionOp op, checkedOp(kernel));
  KF_TRY(const int64_t queryBlock, knob(kernel, "query_block", 1, maxQueryBlock));
  const bool packed = queryBlock > 1;
  Shape shape;
  KF_TRY(shape.mr, knob(kernel, "mr", 1, maxTileRows(target)));
  KF_TRY(shape.nr, knob(kernel, "nr", 1, maxTileVectors(target, shape.mr)));
  const int64_t keyStep = packed ? shape.nr * lanes : lanes;
  KF_TRY(shape.keyBlock,
         knob(kernel, "key_block", keyStep, maxKeyBlock / keyStep * keyStep, keyStep));
  KF_TRY(const int64_t splits, knob(kernel, "splits", 1, packed ? 1 : maxSplits));
  KF_TRY(const int64_t splitKeys, knob(kernel, "split_keys", lanes, int64_t(1) << 20, lanes));
  KF_TRY(shape.prefetch, knob(kernel, "prefetch", 0, packed ? 0 : maxPrefetch));
  shape.heads = int64_t(op.getHeads());
  shape.kvHeads = op.getKeys().getType().getHeads();
  shape.group = shape.heads / shape.kvHeads;
  shape.keyDim = op.getKeys().getType().getDim();
  shape.valueDim = op.getValues().getType().getDim();
  shape.scale = op.getScale().convertToDouble();
  shape.softcap = op.getSoftcap().convertToDouble();
  shape.packed = packed;
  shape.maxRows = queryBlock;

  KernelBuilder k(module, kernel, target, entry);
  Emitter emitter(k, op, shape, splits, splitKeys);
  if (packed)
    emitter.emitBlocks(queryBlock);
  else
    emitter.emitRows();
  k.finish();

  Launching launching;
  const int size = k.rowsIndex(op.getQuery().getType());
  const int64_t staticRows = k.rowsRange(op.getQuery().getType()).second;
  auto perRows = [&](int64_t multiplier, int64_t divisor) {
    return size < 0 ? Extent{multiplier * ((staticRows + divisor - 1) / divisor)}
                    : Extent{multiplier, size, divisor};
  };
  Phase main;
  main.grid = {perRows(1, queryBlock), Extent{shape.kvHeads}, Extent{splits}};
  main.scratchBytes = Tile::scratchBytes(shape);
  launching.phases.push_back(main);
  if (splits > 1) {
    Phase merge;
    merge.grid = {perRows(1, 1), Extent{shape.kvHeads}};
    merge.scratchBytes = splits * lanes * 4;
    launching.phases.push_back(merge);
    launching.workspaceBytes =
        perRows(shape.kvHeads * splits * shape.group * emitter.partFloats() * 4, 1);
  }
  return launching;
}
