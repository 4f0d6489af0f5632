// Attention for few rows: a workgroup takes a chunk of the keys of one row for some of the query
// heads that share a head of the caches, so that keys and values are read once for all of these. A
// second phase joins the chunks. With chunks of all keys there is one phase.
#include "kernelforge/codegen/simt/AttentionSplit.h"
#include "kernelforge/codegen/simt/AttentionKeys.h"
#include "kernelforge/codegen/simt/CacheVectors.h"
#include "kernelforge/codegen/simt/Elements.h"
#include "kernelforge/codegen/simt/Reduce.h"

#include "llvm/Support/MathExtras.h"

#include <fmt/format.h>
#include <tuple>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::simt::split;

using Predicate = arith::CmpIPredicate;

namespace {

/// Sums over some lanes, shared out among them.
struct LaneSums {
  SmallVector<Value> values; ///< those that a lane has
  int64_t lanesEach = 1;     ///< lanes that have the same ones
  bool isPadded = false;     ///< there are places for more than were summed up
};

/// Sums of each of `values` over `lanes` lanes, a power of two, whose numbers are `mask` apart:
/// `own` is the place among them. While there are several values, each step leaves a lane half of
/// them: that takes fewer exchanges than all sums in all lanes.
LaneSums sumOverLanes(PhaseBuilder &p, SmallVector<Value> values, int64_t lanes, int64_t mask,
                      Value own, int64_t subgroup) {
  LaneSums sums;
  const auto count = static_cast<int64_t>(values.size());
  const int64_t padded = count >= lanes ? llvm::alignTo(count, lanes)
                                        : int64_t(llvm::PowerOf2Ceil(static_cast<uint64_t>(count)));
  sums.isPadded = padded > count;
  values.resize(static_cast<size_t>(padded), p.cf(0));
  for (int64_t step = lanes / 2; step > 0; step /= 2) {
    const size_t half = values.size() / 2;
    if (half == 0) {
      values[0] = p.named(p.addf(values[0], p.shuffleXor(values[0], step * mask, subgroup)), "dot");
      sums.lanesEach *= 2;
      continue;
    }
    Value isUpper = p.named(p.cmp(Predicate::ne, p.andBits(own, step), p.c(0)),
                            fmt::format("is_upper_{}", step));
    for (size_t i = 0; i < half; ++i) {
      Value kept = p.named(p.select(isUpper, values[i + half], values[i]), "kept");
      Value given = p.named(p.select(isUpper, values[i], values[i + half]), "given");
      values[i] = p.named(p.addf(kept, p.shuffleXor(given, step * mask, subgroup)), "dot");
    }
    values.truncate(half);
  }
  sums.values = std::move(values);
  return sums;
}

/// What a workgroup knows after some keys, of each of its query heads.
struct State {
  SmallVector<Value> highest; ///< score, the same in all threads
  SmallVector<Value> sums;    ///< of weights, a thread's share of it
  SmallVector<Value> outputs; ///< quads of a thread: of head, piece and place in it

  SmallVector<Value> all() const {
    SmallVector<Value> values(highest);
    values.append(sums);
    values.append(outputs);
    return values;
  }
  static State of(ValueRange values, size_t heads) {
    return {SmallVector<Value>(values.take_front(heads)),
            SmallVector<Value>(values.slice(heads, heads)),
            SmallVector<Value>(values.drop_front(2 * heads))};
  }
};

/// Emits the phase that reads the keys.
class AttentionSplitEmitter {
public:
  AttentionSplitEmitter(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                        StringRef entry)
      : p(module, kernel.kernel(), entry, shape.knobs.threads), op(kernel.attention()),
        shape(shape), seen(p, op), keys(p, op, /*areValues=*/false),
        values(p, op, /*areValues=*/true) {}

  Phase emit();

private:
  void readQuery();
  Value slotOf(Value from, Value j, Value last);
  SmallVector<Value> scoresOfKey(ArrayRef<CacheVectors::Loaded> loaded);
  using Pieces = SmallVector<CacheVectors::Loaded>;
  Pieces loadStep(CacheVectors &cache, Value from, Value j, Value last);
  void scoreStep(const Pieces &loaded, Value j, Value count);
  SmallVector<Value> addStep(const Pieces &loaded, Value j, ValueRange outputs);
  State attend(Value from, Value to, const State *before);
  void finish(const State &state, Value sees);
  void storePartials(const State &state, ValueRange totals);
  void storeOutputs(const State &state, ValueRange totals, Value sees);
  void storeZeros();
  Value sumOfParts(Value first);
  size_t heads() const { return static_cast<size_t>(shape.knobs.heads); }

  PhaseBuilder p;
  AttentionOp op;
  const Shape &shape;
  AttentionKeys seen;
  CacheVectors keys, values;
  Value row, rowCount, chunk, sequence, firstSlot, firstHead, cacheHead;
  Value keyLane, keyOfStep, valueLane, valueOfStep; ///< the thread's place in a step
  Value firstKeyPiece, firstValuePiece;             ///< of a slot
  SmallVector<Value> firstHighest;                  ///< of each head, before any key
  Value isOnly;                                     ///< the chunk has all keys of the row
  SmallVector<Value> query;                         ///< quads of head, piece and place in it
  Value pool;                                       ///< scores, then weights, then outputs
};

Value AttentionSplitEmitter::slotOf(Value from, Value j, Value last) {
  // What is past the last key has no weight, but must be numbers: the last one is read again.
  Value key = p.min(p.add(from, j), last);
  return p.named(seen.slot(sequence, key, firstSlot), "slot");
}

void AttentionSplitEmitter::readQuery() {
  Value scale = p.cf(op.getScale().convertToDouble());
  for (int64_t g = 0; g < shape.knobs.heads; ++g) {
    Value head = p.add(p.mul(row, shape.facts.heads), p.add(firstHead, g));
    Value start = p.named(p.mul(head, shape.facts.keyDim), "query_start");
    for (int64_t v = 0; v < shape.keyPieces; ++v) {
      Value piece = p.add(keyLane, v * shape.keyLanes);
      for (int64_t e = 0; e < keys.vectors(); ++e) {
        Value element = p.add(p.mul(piece, 4 * keys.vectors()), 4 * e);
        Value scaled = p.mulf(simt::readQuery(p, op, start, element), scale);
        query.push_back(p.named(scaled, "q"));
      }
    }
  }
}

/// The thread's share of a key's scores, by head.
SmallVector<Value> AttentionSplitEmitter::scoresOfKey(ArrayRef<CacheVectors::Loaded> loaded) {
  SmallVector<Value> dots(heads());
  const auto each = static_cast<size_t>(keys.vectors());
  for (auto [v, piece] : llvm::enumerate(loaded))
    for (auto [e, quad] : llvm::enumerate(keys.expand(piece)))
      for (size_t g = 0; g < heads(); ++g) {
        Value q = query[(g * loaded.size() + v) * each + e];
        for (int64_t lane = 0; lane < 4; ++lane) { // one sum: no lanes are left to add up
          Value x = p.extract(quad, lane), y = p.extract(q, lane);
          dots[g] = dots[g] ? p.fma(x, y, dots[g]) : p.mulf(x, y);
        }
      }
  for (Value &dot : dots)
    p.named(dot, "product");
  return dots;
}

/// What a thread reads of the keys or values of a step, the first of which is `from` + `j`.
AttentionSplitEmitter::Pieces AttentionSplitEmitter::loadStep(CacheVectors &cache, Value from,
                                                              Value j, Value last) {
  const bool areValues = &cache == &values;
  const int64_t step = areValues ? shape.valuesAtOnce : shape.keysAtOnce;
  const int64_t count = areValues ? shape.valuePieces : shape.keyPieces;
  const int64_t lanes = areValues ? shape.valueLanes : shape.keyLanes;
  Value first = areValues ? firstValuePiece : firstKeyPiece;
  Pieces loaded;
  for (int64_t u = 0; u < shape.knobs.unroll; ++u) {
    Value slot = slotOf(from, p.add(j, u * step), last);
    for (int64_t v = 0; v < count; ++v)
      loaded.push_back(cache.load(slot, p.add(first, v * lanes), areValues ? "v" : "k"));
  }
  return loaded;
}

/// Scores of the keys of a step into the pool; there are `count` of the block.
void AttentionSplitEmitter::scoreStep(const Pieces &loaded, Value j, Value count) {
  for (int64_t u = 0; u < shape.knobs.unroll; ++u) {
    const auto own = ArrayRef(loaded).slice(size_t(u * shape.keyPieces), size_t(shape.keyPieces));
    LaneSums sums = sumOverLanes(p, scoresOfKey(own), shape.keyLanes, 1, keyLane, shape.subgroup());
    Value place = p.add(j, u * shape.keysAtOnce);
    auto store = [&] {
      for (auto [i, sum] : llvm::enumerate(sums.values)) {
        Value head =
            p.add(p.mul(p.div(keyLane, sums.lanesEach), int64_t(sums.values.size())), int64_t(i));
        auto put = [&] {
          Value score = emitSoftcap(p, op.getSoftcap().convertToDouble(), sum);
          p.store(score, pool, p.add(p.mul(head, shape.block), place));
        };
        if (sums.isPadded)
          p.ifThen(p.lessThan(head, p.c(shape.knobs.heads)), put);
        else
          put();
      }
    };
    // Every lane comes to the exchanges, and one of those with a sum stores it.
    Value isThere = p.lessThan(place, count);
    if (sums.lanesEach > 1)
      isThere = p.b.create<arith::AndIOp>(
          p.loc, isThere, p.cmp(Predicate::eq, p.rem(keyLane, sums.lanesEach), p.c(0)));
    p.ifThen(isThere, store);
  }
}

/// The outputs with the values of a step times their weights.
SmallVector<Value> AttentionSplitEmitter::addStep(const Pieces &loaded, Value j,
                                                  ValueRange outputs) {
  SmallVector<Value> next(outputs);
  const size_t ofHead = next.size() / heads();
  for (int64_t u = 0; u < shape.knobs.unroll; ++u) {
    SmallVector<Value> weights;
    Value place = p.add(j, u * shape.valuesAtOnce);
    for (size_t g = 0; g < heads(); ++g)
      weights.push_back(p.named(p.load(pool, p.add(place, int64_t(g) * shape.block)), "weight"));
    for (int64_t v = 0; v < shape.valuePieces; ++v) {
      SmallVector<Value> quads = values.expand(loaded[size_t(u * shape.valuePieces + v)]);
      for (size_t g = 0; g < heads(); ++g)
        for (auto [e, quad] : llvm::enumerate(quads)) {
          Value &sum = next[g * ofHead + size_t(v) * quads.size() + e];
          sum = p.fma(quad, weights[g], sum);
        }
    }
  }
  return next;
}

/// Scores, weights and outputs of the keys from `from` to `to`, at most a block, with what was seen
/// before.
State AttentionSplitEmitter::attend(Value from, Value to, const State *before) {
  const int64_t block = shape.block, threads = p.blockThreads();
  Value count = p.named(p.sub(to, from), "count"), last = p.sub(to, 1);
  Pieces early;
  if (shape.isOneStep()) { // values are on their way while weights are computed
    const Pieces loaded = loadStep(keys, from, keyOfStep, last);
    early = loadStep(values, from, valueOfStep, last);
    scoreStep(loaded, keyOfStep, count);
  } else {
    p.loop("j0", p.c(0), count, shape.keysAtOnce * shape.knobs.unroll, [&](Value j0) {
      Value j = p.named(p.add(j0, keyOfStep), "j");
      scoreStep(loadStep(keys, from, j, last), j, count);
    });
  }
  p.barrier();

  auto place = [&](size_t g, Value j) { return p.add(j, static_cast<int64_t>(g) * block); };
  SmallVector<Value> own = p.loop("j", p.thread(), count, threads, "own_highest", firstHighest,
                                  [&](Value j, ValueRange carried) {
                                    SmallVector<Value> next;
                                    for (size_t g = 0; g < heads(); ++g)
                                      next.push_back(p.maxf(carried[g], p.load(pool, place(g, j))));
                                    return next;
                                  });
  State state;
  state.highest = reduceBlock(p, own, Combine::Max, shape.subgroup(), "highest_parts");
  SmallVector<Value> fades(heads()), sums(heads(), p.cf(0));
  if (before)
    for (size_t g = 0; g < heads(); ++g) {
      state.highest[g] = p.named(p.maxf(before->highest[g], state.highest[g]), "new_highest");
      // What was summed up before was against the highest score before.
      fades[g] = p.named(p.exp(p.subf(before->highest[g], state.highest[g])), "fade");
      sums[g] = p.mulf(before->sums[g], fades[g]);
    }
  // Keys that are not there have weights, too: 0.
  state.sums =
      p.loop("j", p.thread(), p.c(block), threads, "sum", sums, [&](Value j, ValueRange carried) {
        Value isThere = p.named(p.lessThan(j, count), "is_there");
        SmallVector<Value> next;
        for (size_t g = 0; g < heads(); ++g) {
          Value score = p.load(pool, place(g, j));
          Value weight = p.exp(p.subf(score, state.highest[g]));
          weight = p.named(p.select(isThere, weight, p.cf(0)), "weight");
          p.store(roundedTo(p, factorType(op), weight), pool, place(g, j));
          next.push_back(p.addf(carried[g], weight));
        }
        return next;
      });
  p.barrier();

  SmallVector<Value> outputs(static_cast<size_t>(shape.outputQuads()), p.splat(p.cf(0), 4));
  const size_t ofHead = outputs.size() / heads();
  if (before)
    for (auto [i, output] : llvm::enumerate(outputs))
      output = p.mulf(before->outputs[i], fades[i / ofHead]);
  if (shape.isOneStep())
    state.outputs = addStep(early, valueOfStep, outputs);
  else
    state.outputs = p.loop("j0", p.c(0), count, shape.valuesAtOnce * shape.knobs.unroll, "out",
                           outputs, [&](Value j0, ValueRange carried) {
                             Value j = p.named(p.add(j0, valueOfStep), "j");
                             return addStep(loadStep(values, from, j, last), j, carried);
                           });
  return state;
}

/// Sums the threads' outputs up and stores them: as they are for a chunk of several, else divided
/// by the sums of weights. `sees`: whether there was a key at all, where all are in one phase.
void AttentionSplitEmitter::finish(const State &state, Value sees) {
  const int64_t dim = shape.facts.valueDim, piece = shape.pieceOfValue;
  const int64_t ofHead = shape.valuePieces * piece, subgroup = shape.subgroup();
  SmallVector<Value> elements;
  for (Value quad : state.outputs)
    for (int64_t e = 0; e < 4; ++e)
      elements.push_back(p.extract(quad, e));
  // Lanes of a subgroup with equal columns share the elements out among them, subgroups leave their
  // sums in memory.
  const int64_t lanes = subgroup > shape.valueLanes ? subgroup / shape.valueLanes : 1;
  Value place = p.rem(p.div(p.thread(), shape.valueLanes), lanes);
  place = p.named(place, "place");
  const auto count = static_cast<int64_t>(elements.size());
  LaneSums sums = sumOverLanes(p, std::move(elements), lanes, shape.valueLanes, place, subgroup);
  p.barrier(); // all have read the weights
  Value part = p.named(p.div(p.thread(), shape.valueLanes * lanes), "part");
  Value begin = p.named(p.mul(part, shape.knobs.heads * dim), "part_begin");
  Value isOwner =
      sums.lanesEach == 1 ? Value() : p.cmp(Predicate::eq, p.rem(place, sums.lanesEach), p.c(0));
  place = p.div(place, sums.lanesEach);
  for (auto [i, value] : llvm::enumerate(sums.values)) {
    Value element =
        p.named(p.add(p.mul(place, int64_t(sums.values.size())), int64_t(i)), "element");
    auto store = [&, value = value] {
      Value ofPiece = p.rem(element, ofHead);
      Value at = p.mul(p.div(element, ofHead), dim);
      Value column = p.add(p.mul(p.div(ofPiece, piece), shape.valueLanes * piece),
                           p.add(p.mul(valueLane, piece), p.rem(ofPiece, piece)));
      p.store(value, pool, p.add(begin, p.add(at, column)));
    };
    Value isOne = isOwner;
    if (sums.isPadded) {
      Value isOutput = p.lessThan(element, p.c(count));
      isOne = isOne ? p.b.create<arith::AndIOp>(p.loc, isOne, isOutput).getResult() : isOutput;
    }
    if (isOne)
      p.ifThen(isOne, store);
    else
      store();
  }
  SmallVector<Value> totals = reduceBlock(p, state.sums, Combine::Sum, subgroup, "sum_parts");
  if (!chunk) {
    storeOutputs(state, totals, sees);
    return;
  }
  p.ifThen(isOnly, [&] { storeOutputs(state, totals, {}); });
  p.ifThen(p.cmp(Predicate::eq, isOnly, p.b.create<arith::ConstantIntOp>(p.loc, 0, 1)),
           [&] { storePartials(state, totals); });
}

/// A quad of the pool over all parts of it.
Value AttentionSplitEmitter::sumOfParts(Value first) {
  Value quad;
  for (int64_t part = 0; part < shape.parts; ++part) {
    SmallVector<Value> lanes;
    for (int64_t e = 0; e < 4; ++e)
      lanes.push_back(
          p.load(pool, p.add(first, part * shape.knobs.heads * shape.facts.valueDim + e)));
    quad = quad ? p.addf(quad, p.vector(lanes)) : p.vector(lanes);
  }
  return p.named(quad, "quad");
}

/// What the second phase joins: outputs, highest score and sum of weights of each head.
void AttentionSplitEmitter::storePartials(const State &state, ValueRange totals) {
  const int64_t quads = shape.facts.valueDim / 4;
  Value partials = p.workspace(0, Access::Write, p.vec(p.f32, 4));
  Value index = p.add(p.mul(p.add(p.mul(chunk, rowCount), row), shape.facts.heads), firstHead);
  Value first = p.named(p.mul(index, shape.partialQuads()), "first_partial");
  p.loop("quad_index", p.thread(), p.c(shape.knobs.heads * quads), p.blockThreads(),
         [&](Value quad) {
           Value place = p.add(p.mul(p.div(quad, quads), shape.partialQuads()), p.rem(quad, quads));
           p.storeVector(sumOfParts(p.mul(quad, 4)), partials, p.add(first, place));
         });
  p.ifThen(p.cmp(Predicate::eq, p.thread(), p.c(0)), [&] {
    for (size_t g = 0; g < heads(); ++g)
      p.storeVector(p.vector({state.highest[g], totals[g], p.cf(0), p.cf(0)}), partials,
                    p.add(first, (int64_t(g) + 1) * shape.partialQuads() - 1));
  });
}

/// Outputs divided by sums of weights. `sees`: null, or whether there was a key at all.
void AttentionSplitEmitter::storeOutputs(const State &state, ValueRange totals, Value sees) {
  const int64_t dim = shape.facts.valueDim;
  Value out = p.result(0, Access::Write, View::Quads);
  for (int64_t g = 0; g < shape.knobs.heads; ++g) {
    Value head = p.add(firstHead, g), weight = totals[size_t(g)];
    if (op.getSinks()) {
      Value own = p.exp(p.subf(seen.sink(head), state.highest[size_t(g)]));
      weight = p.addf(weight, own);
    }
    weight = p.named(weight, "all_weights");
    Value start = p.named(p.mul(p.add(p.mul(row, shape.facts.heads), head), dim), "output_start");
    p.loop("quad_index", p.thread(), p.c(dim / 4), p.blockThreads(), [&](Value quad) {
      Value column = p.mul(quad, 4);
      Value mean = p.divf(sumOfParts(p.add(column, g * dim)), weight);
      if (sees)
        mean = p.select(sees, mean, p.splat(p.cf(0), 4));
      writeElement(p, mean, out, *elementTypeOf(op.getOutput().getType()), p.add(start, column));
    });
  }
}

/// The outputs of a row that sees no key.
void AttentionSplitEmitter::storeZeros() {
  const int64_t dim = shape.facts.valueDim, quads = shape.knobs.heads * dim / 4;
  Value head = p.add(p.mul(row, shape.facts.heads), firstHead);
  Value start = p.named(p.mul(head, dim), "output_start");
  p.loop("quad_index", p.thread(), p.c(quads), p.blockThreads(), [&](Value quad) {
    writeElement(p, p.splat(p.cf(0), 4), p.result(0, Access::Write, View::Quads),
                 *elementTypeOf(op.getOutput().getType()), p.add(start, p.mul(quad, 4)));
  });
}

Phase AttentionSplitEmitter::emit() {
  const int64_t chunkKeys = shape.knobs.chunk;
  Type rowType = op.getQuery().getType();
  if (shape.facts.startsEarly)
    p.waitForPrevious();
  Value group = p.named(p.rem(p.block(), shape.groups()), "group");
  row = p.named(p.div(p.block(), shape.groups()), "row");
  Extent grid = p.rowsExtent(rowType) * Extent(shape.groups());
  if (chunkKeys > 0) {
    rowCount = p.rows(rowType);
    Value both = row;
    row = p.named(p.b.create<arith::RemUIOp>(p.loc, both, rowCount), "row");
    chunk = p.named(p.b.create<arith::DivUIOp>(p.loc, both, rowCount), "chunk");
    grid = grid * Extent(1, shape.facts.cachedSize, chunkKeys);
  }
  firstHead = p.named(p.mul(group, shape.knobs.heads), "first_head");
  cacheHead = p.named(p.div(group, shape.facts.group() / shape.knobs.heads), "cache_head");
  keyLane = p.named(p.rem(p.thread(), shape.keyLanes), "key_lane");
  keyOfStep = p.named(p.div(p.thread(), shape.keyLanes), "key_of_step");
  valueLane = p.named(p.rem(p.thread(), shape.valueLanes), "value_lane");
  valueOfStep = p.named(p.div(p.thread(), shape.valueLanes), "value_of_step");
  sequence = shape.facts.sequences == 1
                 ? p.c(0)
                 : p.named(p.load(p.argument(op.getSequences()), row), "sequence");
  firstKeyPiece = p.add(p.mul(cacheHead, keys.pieces()), keyLane);
  firstKeyPiece = p.named(firstKeyPiece, "first_key_piece");
  firstValuePiece = p.add(p.mul(cacheHead, values.pieces()), valueLane);
  firstValuePiece = p.named(firstValuePiece, "first_value_piece");
  pool = p.shared("pool", p.f32, shape.poolFloats());
  readQuery();
  auto [own, ownEnd] = seen.range(row, sequence);
  const SmallVector<Value> range = madeUniform(p, {own, ownEnd}, "range");
  Value first = range[0], end = range[1];
  firstSlot = seen.firstSlot(sequence);
  if (firstSlot)
    p.named(firstSlot, "first_slot");
  // A sink is what was seen before all keys.
  for (int64_t g = 0; g < shape.knobs.heads; ++g)
    firstHighest.push_back(op.getSinks() ? p.named(seen.sink(p.add(firstHead, g)), "sink_score")
                                         : p.cf(lowestScore));
  if (chunkKeys > 0) {
    Value begin = p.named(p.mul(chunk, chunkKeys), "chunk_begin");
    Value from = p.named(p.max(first, begin), "from_key");
    Value to = p.named(p.min(end, p.add(begin, chunkKeys)), "to_key");
    isOnly = p.named(p.cmp(Predicate::ule, end, p.c(chunkKeys)), "is_only");
    p.ifThen(p.lessThan(from, to), [&] { finish(attend(from, to, nullptr), {}); });
    // The second phase may not be launched at all.
    Value hasNone = p.b.create<arith::AndIOp>(p.loc, p.cmp(Predicate::uge, first, end), isOnly);
    Value isFirst = p.cmp(Predicate::eq, chunk, p.c(0));
    p.ifThen(p.b.create<arith::AndIOp>(p.loc, hasNone, isFirst), [&] { storeZeros(); });
    return p.finish(grid);
  }
  State init;
  init.highest = firstHighest;
  init.sums.assign(heads(), p.cf(0));
  init.outputs.assign(static_cast<size_t>(shape.outputQuads()), p.splat(p.cf(0), 4));
  std::string names;
  for (StringRef name : {"highest", "sum"})
    for (int64_t g = 0; g < shape.knobs.heads; ++g)
      names += fmt::format("{}{} ", name.str(), g);
  SmallVector<Value> last = p.loop("from", first, end, shape.block, names + "out", init.all(),
                                   [&](Value from, ValueRange carried) {
                                     const State before = State::of(carried, heads());
                                     Value to =
                                         p.named(p.min(end, p.add(from, shape.block)), "to_key");
                                     State next = attend(from, to, &before);
                                     p.barrier(); // before the next scores
                                     return next.all();
                                   });
  finish(State::of(last, heads()), p.lessThan(first, end));
  return p.finish(grid);
}

} // namespace

Launching split::emit(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                      StringRef entry) {
  Launching launching;
  if (shape.knobs.chunk == 0) {
    launching.phases.push_back(AttentionSplitEmitter(module, kernel, shape, entry).emit());
    return launching;
  }
  launching.phases.push_back(
      AttentionSplitEmitter(module, kernel, shape, phaseEntry(entry, 0, 2)).emit());
  launching.phases.push_back(emitJoin(module, kernel, shape, phaseEntry(entry, 1, 2)));
  // As many partial results as there are workgroups for each query head of theirs.
  Workspace partials;
  partials.bytes = launching.phases[0].grid * Extent(shape.knobs.heads * shape.partialQuads() * 16);
  launching.workspaces.push_back(partials);
  return launching;
}
