// Attention for few rows by the matrix units of a warp: a block takes a chunk of the keys of one
// row for up to eight query heads that share a head of the caches. Each of its warps goes through
// every so many keys by itself, with the next ones on their way in registers: scores are query
// times keys, outputs the transpose of values times weights, so that keys and values are operands
// as they lie in memory, and weights are where they were computed. In the end warps join what they
// have, and a second phase joins the chunks.
#include "kernelforge/codegen/cuda/Assembly.h"
#include "kernelforge/codegen/cuda/AttentionGroupsCaches.h"
#include "kernelforge/codegen/cuda/Pipeline.h"

#include "kernelforge/codegen/simt/AttentionKeys.h"
#include "kernelforge/codegen/simt/AttentionSplit.h"
#include "kernelforge/codegen/simt/CacheVectors.h"
#include "kernelforge/codegen/simt/Reduce.h"
#include "kernelforge/ir/Caches.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "llvm/Support/MathExtras.h"

#include <numbers>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::cuda;
using namespace kernelforge::cuda::groups;

using Predicate = arith::CmpIPredicate;

namespace {

/// What the logarithm (to 2) of weights is increased by that are cut into parts of f16.
constexpr double shiftOfScaled = 12;

/// What a warp knows after some keys. A thread has one head's highest score and a share of its sum
/// of weights. Scores are logarithms to 2.
struct State {
  Value highest, sum;
  SmallVector<Value> outputs;      ///< by tile of 16 columns, four each
  SmallVector<Value> keys, values; ///< of the next step: vectors of four words
  Value slot; ///< where the step after that begins; null: that need not be known so early

  SmallVector<Value> all() const {
    SmallVector<Value> carried{highest, sum};
    carried.append(outputs);
    carried.append(keys);
    carried.append(values);
    if (slot)
      carried.push_back(slot);
    return carried;
  }
};

class AttentionGroupsEmitter {
public:
  AttentionGroupsEmitter(ModuleOp module, const KernelAnalysis &kernel, const GroupsShape &shape,
                         StringRef entry)
      : p(module, kernel.kernel(), entry, shape.threads()), matrices(p), assembly(p),
        op(kernel.attention()), shape(shape), seen(p, op),
        page(static_cast<int64_t>(op.getKeys().getType().getPage())) {
    cast<func::FuncOp>(p.b.getInsertionBlock()->getParentOp())
        ->setAttr(NVVM::NVVMDialect::getMaxnregAttrName(),
                  p.b.getI32IntegerAttr(static_cast<int32_t>(shape.registers())));
  }

  Phase emit();

private:
  /// A step of some keys: the number of its first one, and its slot, or null where each key's slot
  /// is looked up.
  struct Step {
    Value base, slot;
  };

  void stageQuery();
  bool slotsAreLookedUp() const { return page != 0 && page % shape.knobs.keys == 0; }
  Value groupsBaseOf(Value step) { return p.mul(p.min(step, lastStep), shape.knobs.keys); }
  Value slotOfBase(Value base);
  Value slotOf(const Step &step, int64_t offset, Value ofThread);
  SmallVector<Value> scoresOf(ValueRange loaded, Value base);
  State attend(const State &before, Value step);
  State carriedOf(ValueRange values) const;
  void goThroughKeys();
  void join(const State &state);
  Value isHead(Value head) { return p.lessThan(head, p.c(shape.heads())); }
  void storeJoined(Value quad, ArrayRef<Value> highests);
  void storeZeros();
  int64_t warps() const { return shape.knobs.warps; }
  double shift() const { return shape.values.isScaled() ? shiftOfScaled : 0; }

  PhaseBuilder p;
  WarpMatrices matrices;
  Assembly assembly;
  AttentionOp op;
  const GroupsShape &shape;
  AttentionKeys seen;
  std::optional<StepKeys> stepKeys;
  std::optional<StepValues> stepValues;
  int64_t page;
  Value row, rowCount, chunk, sequence, firstSlot, firstHead, cacheHead;
  Value warpNumber;
  WarpPlace place;
  Value from, to, lastKey, lastStep; ///< of the keys that the block sees
  Value isOnly;                      ///< the chunk has all keys of the row
  Value query;                       ///< in shared memory, as threads multiply it
  Value scoreFactor;
  Value highests, sums, outs; ///< in shared memory: of each warp
};

/// Puts the query's heads into shared memory: for each part of their numbers and each 32 columns
/// 16 bytes of every thread of a warp, eight columns of its head.
void AttentionGroupsEmitter::stageQuery() {
  const int64_t dim = shape.facts.keyDim, heads = shape.heads(), threads = p.blockThreads();
  query = p.shared("query_parts", p.vec(p.i32, 4), shape.keys.parts * dim);
  struct Piece {
    Value number, isThere;
    SmallVector<Value> elements;
  };
  SmallVector<Piece> pieces;
  Value largest = p.cf(0);
  for (int64_t i = 0; i * threads < dim; ++i) {
    Piece piece;
    piece.number = p.add(p.thread(), i * threads);
    if ((i + 1) * threads > dim) {
      piece.isThere = p.named(p.lessThan(piece.number, p.c(dim)), "is_piece");
      piece.number = p.min(piece.number, p.c(dim - 1));
    }
    Value lane = p.rem(piece.number, warp), head = p.named(p.div(lane, 4), "query_head");
    Value column = stepKeys->columnOf(p.div(piece.number, warp), p.rem(lane, 4));
    Value ofBlock = p.add(firstHead, p.min(head, p.c(heads - 1)));
    Value start = p.mul(p.add(p.mul(row, shape.facts.heads), ofBlock), dim);
    for (int64_t quad : {0, 4}) {
      Value four = simt::readQuery(p, op, start, p.add(column, quad));
      for (int64_t e = 0; e < 4; ++e) {
        Value x = p.extract(four, e);
        if (heads < GroupsShape::mostHeads)
          x = p.select(isHead(head), x, p.cf(0));
        piece.elements.push_back(x);
        if (shape.keys.isScaled())
          largest = p.maxf(largest, p.absf(x));
      }
    }
    pieces.push_back(std::move(piece));
  }
  const bool isCapped = op.getSoftcap().convertToDouble() != 0;
  scoreFactor = p.cf(op.getScale().convertToDouble() * (isCapped ? 1 : std::numbers::log2e));
  Value factor;
  if (shape.keys.isScaled()) {
    // A power of two by which the largest number comes to between 2^11 and 2^12.
    constexpr int64_t exponent = 23, bias = 127, wanted = 11, least = bias - 60;
    Value all = reduceBlock(p, largest, Combine::Max, warp, "query_largest")[0];
    Value bits =
        p.max(p.andBits(p.floatToBits(all), int64_t(0xff) << exponent), p.c(least << exponent));
    factor = p.bitsToFloat(p.sub(p.c((2 * bias + wanted) << exponent), bits));
    scoreFactor = p.mulf(scoreFactor, p.bitsToFloat(p.sub(bits, wanted << exponent)));
  }
  for (Piece &piece : pieces) {
    SmallVector<SmallVector<Value>> words(size_t(shape.keys.parts));
    for (size_t i = 0; i < piece.elements.size(); i += 2) {
      Value x = piece.elements[i], y = piece.elements[i + 1];
      if (factor) {
        x = p.mulf(x, factor);
        y = p.mulf(y, factor);
      }
      for (auto [part, word] :
           llvm::enumerate(matrices.partsOf(shape.keys.element, shape.keys.parts, x, y)))
        words[part].push_back(word);
    }
    auto store = [&] {
      for (auto [part, four] : llvm::enumerate(words))
        p.storeVector(p.vector(four), query, p.add(piece.number, int64_t(part) * dim));
    };
    if (piece.isThere)
      p.ifThen(piece.isThere, store);
    else
      store();
  }
  p.barrier();
}

//===----------------------------------------------------------------------===//
// Keys and values
//===----------------------------------------------------------------------===//

/// Of a step's first key; null where keys of a step may be of several pages.
Value AttentionGroupsEmitter::slotOfBase(Value base) {
  if (page == 0)
    return p.add(firstSlot, base);
  if (!slotsAreLookedUp())
    return {};
  Value table = p.argument(op.getTable()), width = p.dimension(op.getTable().getType(), 1);
  Value number = p.load(table, p.add(p.mul(sequence, width), p.div(base, page)));
  return p.named(p.add(p.mul(number, page), p.rem(base, page)), "slot_of_step");
}

/// Slot of a key of a step. What the row does not see has no weight, but must be numbers: the
/// nearest key that it sees is read again.
Value AttentionGroupsEmitter::slotOf(const Step &step, int64_t offset, Value ofThread) {
  Value key = p.add(p.add(step.base, offset), ofThread);
  key = p.named(p.max(p.min(key, lastKey), from), "key");
  if (!step.slot)
    return p.named(seen.slot(sequence, key, firstSlot), "slot");
  return p.named(p.add(step.slot, p.sub(key, step.base)), "slot");
}

/// Scores of the thread's head: of two neighbouring keys of every eight.
SmallVector<Value> AttentionGroupsEmitter::scoresOf(ValueRange loaded, Value base) {
  SmallVector<Value> scores;
  Value count = p.sub(to, from), first = p.add(base, p.mul(place.pair, 2));
  for (auto [i, product] : llvm::enumerate(stepKeys->multiply(query, loaded))) {
    Value score = p.mulf(product, scoreFactor);
    if (const double softcap = op.getSoftcap().convertToDouble(); softcap != 0)
      score = p.mulf(emitSoftcap(p, softcap, score), p.cf(std::numbers::log2e));
    Value key = p.add(first, int64_t(i) / 2 * tileKeys + int64_t(i) % 2);
    Value isSeen = p.lessThan(p.sub(key, from), count); // unsigned: not before `from` either
    scores.push_back(p.named(p.select(isSeen, score, p.cf(lowestScore)), "score"));
  }
  return scores;
}

//===----------------------------------------------------------------------===//
// A warp's way through the keys
//===----------------------------------------------------------------------===//

State AttentionGroupsEmitter::carriedOf(ValueRange values) const {
  State state{values[0], values[1], {}, {}, {}, {}};
  values = values.drop_front(2);
  auto take = [&](int64_t count) {
    SmallVector<Value> taken(values.take_front(size_t(count)));
    values = values.drop_front(size_t(count));
    return taken;
  };
  state.outputs = take(shape.outputs());
  state.keys = take(stepKeys->loads());
  state.values = take(stepValues->loads());
  if (slotsAreLookedUp())
    state.slot = values[0];
  return state;
}

/// Takes the keys of a step, which were asked for in the one before, and asks for the next ones.
State AttentionGroupsEmitter::attend(const State &before, Value step) {
  Value base = p.named(p.mul(step, shape.knobs.keys), "base");
  Value nextStep = p.add(step, warps());
  Step next{p.named(groupsBaseOf(nextStep), "next_base"), {}};
  next.slot = slotsAreLookedUp() ? before.slot : slotOfBase(next.base);
  auto slots = [&](int64_t offset, Value ofThread) { return slotOf(next, offset, ofThread); };
  State state;
  const SmallVector<Value> scores = scoresOf(before.keys, base);
  state.keys = stepKeys->load(slots);

  Value highest = before.highest;
  for (Value score : scores)
    highest = p.maxf(highest, score);
  for (int64_t mask : {1, 2}) // the threads that have the head
    highest = p.maxf(highest, p.shuffleXor(highest, mask, warp));
  state.highest = p.named(highest, "new_highest");
  Value fade = p.named(assembly.powerOfTwo(p.subf(before.highest, state.highest)), "fade");
  Value against = shift() == 0 ? state.highest : p.subf(state.highest, p.cf(shift()));
  state.sum = p.mulf(before.sum, fade);
  SmallVector<Value> weights;
  for (Value score : scores) {
    weights.push_back(p.named(assembly.powerOfTwo(p.subf(score, against)), "weight"));
    state.sum = p.addf(state.sum, weights.back());
  }
  // Outputs are of other heads than scores: of two side by side.
  SmallVector<Value> fades;
  for (int64_t second : {0, 1})
    fades.push_back(
        p.named(matrices.ofLane(fade, p.add(p.mul(place.pair, 8), 4 * second)), "fade_of_head"));
  for (auto [i, output] : llvm::enumerate(before.outputs))
    state.outputs.push_back(p.mulf(output, fades[i % 2]));
  stepValues->add(state.outputs, weights, before.values);
  state.values = stepValues->load(slots);
  if (slotsAreLookedUp())
    state.slot = slotOfBase(groupsBaseOf(p.add(nextStep, warps())));
  return state;
}

void AttentionGroupsEmitter::goThroughKeys() {
  const int64_t keys = shape.knobs.keys;
  lastKey = p.sub(to, 1);
  lastStep = p.named(p.div(lastKey, keys), "last_step");
  Value firstStep = p.named(p.add(p.div(from, keys), warpNumber), "first_step");
  State init;
  // A sink is what was seen before all keys.
  Value head = p.add(firstHead, p.min(place.row, p.c(shape.heads() - 1)));
  init.highest = p.cf(lowestScore);
  if (op.getSinks())
    init.highest = p.named(p.maxf(p.mulf(seen.sink(head), p.cf(std::numbers::log2e)), init.highest),
                           "sink_score");
  init.sum = p.cf(0);
  init.outputs.assign(size_t(shape.outputs()), p.cf(0));
  Step first{groupsBaseOf(firstStep), {}};
  first.slot = slotOfBase(first.base);
  auto slots = [&](int64_t offset, Value ofThread) { return slotOf(first, offset, ofThread); };
  init.keys = stepKeys->load(slots);
  init.values = stepValues->load(slots);
  if (slotsAreLookedUp())
    init.slot = slotOfBase(groupsBaseOf(p.add(firstStep, warps())));
  stageQuery();
  join(carriedOf(p.loop(
      "step", firstStep, p.add(lastStep, 1), warps(), "highest sum carried", init.all(),
      [&](Value step, ValueRange carried) { return attend(carriedOf(carried), step).all(); })));
}

//===----------------------------------------------------------------------===//
// Results
//===----------------------------------------------------------------------===//

/// Joins what the warps have and stores it: as it is for a chunk of several, else divided by the
/// sum of weights.
void AttentionGroupsEmitter::join(const State &state) {
  const int64_t dim = shape.facts.valueDim, heads = shape.heads(), places = warps() * tileKeys;
  highests = p.shared("highest_of_warps", p.f32, places);
  sums = p.shared("sums_of_warps", p.f32, places);
  outs = p.shared("outs", p.f32, warps() * heads * dim);
  Value sum = state.sum;
  for (int64_t mask : {1, 2})
    sum = p.addf(sum, p.shuffleXor(sum, mask, warp));
  Value ofWarp = p.named(p.mul(warpNumber, tileKeys), "of_warp");
  p.ifThen(p.cmp(Predicate::eq, place.pair, p.c(0)), [&] {
    p.store(state.highest, highests, p.add(ofWarp, place.row));
    p.store(sum, sums, p.add(ofWarp, place.row));
  });
  p.barrier();
  for (int64_t second : {0, 1}) {
    Value head = p.named(p.add(p.mul(place.pair, 2), second), "head");
    auto store = [&] {
      Value all = p.load(highests, head);
      for (int64_t w = 1; w < warps(); ++w)
        all = p.maxf(all, p.load(highests, p.add(head, w * tileKeys)));
      Value factor = assembly.powerOfTwo(p.subf(p.load(highests, p.add(ofWarp, head)), all));
      Value begin = p.named(p.mul(p.add(p.mul(warpNumber, heads), head), dim), "begin");
      for (int64_t tile = 0; tile < dim / WarpMatrices::rows; ++tile)
        for (int64_t lower : {0, 1}) {
          Value output = state.outputs[size_t(4 * tile + 2 * lower + second)];
          p.store(p.mulf(output, factor), outs, p.add(begin, stepValues->columnOf(tile, lower)));
        }
    };
    if (heads < GroupsShape::mostHeads)
      p.ifThen(isHead(head), store);
    else
      store();
  }
  p.barrier();
  p.loop("quad", p.thread(), p.c(heads * dim / 4), p.blockThreads(), [&](Value quad) {
    Value head = p.named(p.div(quad, dim / 4), "head");
    SmallVector<Value> ofWarps;
    for (int64_t w = 0; w < warps(); ++w)
      ofWarps.push_back(p.load(highests, p.add(head, w * tileKeys)));
    storeJoined(quad, ofWarps);
  });
}

/// A quad of all heads' outputs. `highestOfWarps`: of its head.
void AttentionGroupsEmitter::storeJoined(Value quad, ArrayRef<Value> highestOfWarps) {
  const int64_t dim = shape.facts.valueDim, quads = dim / 4, heads = shape.heads();
  Value head = p.div(quad, quads), column = p.mul(p.rem(quad, quads), 4);
  Value highest = highestOfWarps[0];
  for (Value other : highestOfWarps.drop_front())
    highest = p.maxf(highest, other);
  Value total, four;
  for (int64_t w = 0; w < warps(); ++w) {
    Value sum = p.load(sums, p.add(head, w * tileKeys));
    sum = p.mulf(sum, assembly.powerOfTwo(p.subf(highestOfWarps[size_t(w)], highest)));
    total = total ? p.addf(total, sum) : sum;
    SmallVector<Value> lanes;
    for (int64_t e = 0; e < 4; ++e)
      lanes.push_back(p.load(outs, p.add(p.mul(quad, 4), w * heads * dim + e)));
    four = four ? p.addf(four, p.vector(lanes)) : p.vector(lanes);
  }
  if (shift() != 0)
    highest = p.subf(highest, p.cf(shift()));
  highest = p.mulf(highest, p.cf(std::numbers::ln2));
  Value ofRow = p.add(p.mul(row, shape.facts.heads), p.add(firstHead, head));
  auto storeOutput = [&] {
    Value weight = total;
    if (op.getSinks())
      weight = p.addf(weight, p.exp(p.subf(seen.sink(p.add(firstHead, head)), highest)));
    writeElement(p, p.divf(four, weight), p.result(0, Access::Write, View::Quads),
                 *elementTypeOf(op.getOutput().getType()), p.add(p.mul(ofRow, dim), column));
  };
  if (!chunk)
    return storeOutput();
  p.ifThen(isOnly, storeOutput);
  p.ifThen(p.cmp(Predicate::eq, isOnly, p.b.create<arith::ConstantIntOp>(p.loc, 0, 1)), [&] {
    Value partials = p.workspace(0, Access::Write, p.vec(p.f32, 4));
    Value index = p.add(p.mul(p.mul(chunk, rowCount), shape.facts.heads), ofRow);
    Value at = p.named(p.mul(index, quads + 1), "partial_at");
    p.storeVector(four, partials, p.add(at, p.rem(quad, quads)));
    p.ifThen(p.cmp(Predicate::eq, column, p.c(0)), [&] {
      p.storeVector(p.vector({highest, total, p.cf(0), p.cf(0)}), partials, p.add(at, quads));
    });
  });
}

/// The outputs of a row that sees no key.
void AttentionGroupsEmitter::storeZeros() {
  const int64_t dim = shape.facts.valueDim;
  Value start = p.mul(p.add(p.mul(row, shape.facts.heads), firstHead), dim);
  p.loop("quad", p.thread(), p.c(shape.heads() * dim / 4), p.blockThreads(), [&](Value quad) {
    writeElement(p, p.splat(p.cf(0), 4), p.result(0, Access::Write, View::Quads),
                 *elementTypeOf(op.getOutput().getType()), p.add(start, p.mul(quad, 4)));
  });
}

Phase AttentionGroupsEmitter::emit() {
  const int64_t chunkKeys = shape.knobs.chunk, blocks = shape.blocks();
  Type rowType = op.getQuery().getType();
  p.waitForPrevious();
  Value group = p.named(p.rem(p.block(), blocks), "group");
  row = p.named(p.div(p.block(), blocks), "row");
  Extent grid = p.rowsExtent(rowType) * Extent(blocks);
  if (chunkKeys > 0) {
    rowCount = p.rows(rowType);
    Value both = row;
    row = p.named(p.b.create<arith::RemUIOp>(p.loc, both, rowCount), "row");
    chunk = p.named(p.b.create<arith::DivUIOp>(p.loc, both, rowCount), "chunk");
    grid = grid * Extent(1, shape.facts.cachedSize, chunkKeys);
  }
  firstHead = p.named(p.mul(group, shape.heads()), "first_head");
  cacheHead = p.named(p.div(firstHead, shape.facts.group()), "cache_head");
  warpNumber = p.named(p.div(p.thread(), warp), "warp");
  place.own = p.named(p.rem(p.thread(), warp), "thread_of_warp");
  place.row = p.named(p.div(place.own, 4), "own_row");
  place.pair = p.named(p.rem(place.own, 4), "own_pair");
  stepKeys.emplace(p, op, shape, place).head = cacheHead;
  stepValues.emplace(p, op, shape, place).head = cacheHead;
  sequence = shape.facts.sequences == 1
                 ? p.c(0)
                 : p.named(p.load(p.argument(op.getSequences()), row), "sequence");
  auto [first, end] = seen.range(row, sequence);
  firstSlot = seen.firstSlot(sequence);
  from = first;
  to = end;
  Value isNone;
  if (chunkKeys > 0) {
    Value begin = p.named(p.mul(chunk, chunkKeys), "chunk_begin");
    from = p.named(p.max(first, begin), "from_key");
    to = p.named(p.min(end, p.add(begin, chunkKeys)), "to_key");
    isOnly = p.named(p.cmp(Predicate::ule, end, p.c(chunkKeys)), "is_only");
    // The second phase may not be launched at all.
    isNone = p.b.create<arith::AndIOp>(p.loc, p.cmp(Predicate::uge, first, end), isOnly);
    isNone = p.b.create<arith::AndIOp>(p.loc, isNone, p.cmp(Predicate::eq, chunk, p.c(0)));
  } else {
    isNone = p.cmp(Predicate::uge, first, end);
  }
  p.ifThen(p.lessThan(from, to), [&] { goThroughKeys(); });
  p.ifThen(isNone, [&] { storeZeros(); });
  return p.finish(grid);
}

} // namespace

Launching groups::emit(ModuleOp module, const KernelAnalysis &kernel, const GroupsShape &shape,
                       StringRef entry) {
  Launching launching;
  if (shape.knobs.chunk == 0) {
    launching.phases.push_back(AttentionGroupsEmitter(module, kernel, shape, entry).emit());
    return launching;
  }
  split::Shape joined;
  joined.facts = shape.facts;
  joined.knobs.chunk = shape.knobs.chunk;
  launching.phases.push_back(
      AttentionGroupsEmitter(module, kernel, shape, phaseEntry(entry, 0, 2)).emit());
  launching.phases.push_back(split::emitJoin(module, kernel, joined, phaseEntry(entry, 1, 2)));
  Workspace partials;
  partials.bytes = launching.phases[0].grid * Extent(shape.heads() * joined.partialQuads() * 16);
  launching.workspaces.push_back(partials);
  return launching;
}
