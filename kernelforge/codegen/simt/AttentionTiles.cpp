// Attention for many rows in plain f32: a workgroup takes a query head of a tile of rows, and
// blocks of keys and values through workgroup memory, where they take turns; the next ones are on
// their way in registers meanwhile. Eight threads side by side share a few rows: each computes the
// scores of every eighth key, and then every eighth quad of the output's columns.
#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/simt/AttentionFacts.h"
#include "kernelforge/codegen/simt/AttentionStage.h"
#include "kernelforge/codegen/simt/Elements.h"
#include "kernelforge/codegen/simt/Methods.h"
#include "kernelforge/codegen/simt/Reduce.h"

#include "llvm/Support/MathExtras.h"

#include <cmath>
#include <fmt/format.h>
#include <limits>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

namespace {

/// Threads that share rows, and rows of a thread and keys at most: 4 x 4 scores in registers.
constexpr int64_t rowThreads = 8, mostRowsEach = 4, mostKeysEach = 4;

/// Sizes of a tile for a number of threads.
struct Shape {
  AttentionFacts facts;
  int64_t threads = 64;
  int64_t keysEach = mostKeysEach; ///< of a thread, of a block
  int64_t rowsEach = mostRowsEach;
  int64_t pieceOfKey = 4, pieceOfValue = 4; ///< elements
  int64_t mostRegisters = 0;                ///< that a thread may have; 0: not known

  /// Keys of a block.
  int64_t blockKeys() const { return rowThreads * keysEach; }
  int64_t groups() const { return threads / rowThreads; }
  int64_t rows() const { return groups() * rowsEach; }
  /// Quads of a key or value in memory: an odd number, so that keys meet no bank twice.
  int64_t stride() const { return std::max(facts.keyDim, facts.valueDim) / 4 | 1; }
  int64_t weightStride() const { return rowThreads + 1; }
  /// Quads of the output that a thread has of each of its rows.
  int64_t outputQuads() const { return llvm::divideCeil(facts.valueDim / 4, rowThreads); }
  /// Quads of keys and values that a thread has on their way.
  int64_t staged() const {
    return int64_t(llvm::divideCeil(blockKeys() * facts.keyDim / pieceOfKey, threads) +
                   llvm::divideCeil(blockKeys() * facts.valueDim / pieceOfValue, threads));
  }
  /// Whether a thread has two, four, eight quads of a row's output; of others ptxas spills words.
  bool sharesEvenly() const { return llvm::isPowerOf2_64(uint64_t(outputQuads())); }
  /// Registers that a thread takes: quads on their way, of the output, of scores, and of queries
  /// and keys, and the most that ptxas took beside these for heads of 64 to 256.
  int64_t registers() const {
    const int64_t besides = sharesEvenly() ? 88 : 96;
    return 4 * (staged() + rowsEach * outputQuads() + rowsEach * keysEach + rowsEach + keysEach) +
           besides;
  }
  int64_t sharedQuads() const { return blockKeys() * stride() + rows() * weightStride(); }
  bool exchanges() const { return facts.subgroup >= rowThreads; }
  int64_t sharedBytes() const {
    return sharedQuads() * 16 +
           AttentionTile::sharedBytes(facts.sequences, rows(), threads, facts.subgroup) +
           (exchanges() ? 0 : 2 * rows() * rowThreads * 4);
  }
};

/// What a thread knows of each of its rows.
struct State {
  SmallVector<Value> highest, sums, outputs; ///< outputs: quads, row by row

  SmallVector<Value> all() const {
    SmallVector<Value> values(highest);
    values.append(sums);
    values.append(outputs);
    return values;
  }
  static State of(ValueRange values, int64_t rows) {
    const auto count = static_cast<size_t>(rows);
    return {SmallVector<Value>(values.take_front(count)),
            SmallVector<Value>(values.slice(count, count)),
            SmallVector<Value>(values.drop_front(2 * count))};
  }
};

class AttentionTilesEmitter {
public:
  AttentionTilesEmitter(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                        StringRef entry)
      : p(module, kernel.kernel(), entry, shape.threads), op(kernel.attention()), shape(shape),
        rowsEach(shape.rowsEach), keyStage(p, op, /*areValues=*/false, shape.blockKeys(), 1),
        valueStage(p, op, /*areValues=*/true, shape.blockKeys(), 1) {}

  Phase emit();

private:
  void put(AttentionStage &stage, AttentionTile &tile, const TileKeys &keys, Value base,
           ValueRange loaded);
  SmallVector<Value> scores();
  SmallVector<Value> ofRows(ValueRange own, Combine how, StringRef name);
  SmallVector<Value> weigh(const TileKeys &keys, Value base, const State &before, State &next);
  SmallVector<Value> addValues(ValueRange outputs, ValueRange fades);
  SmallVector<Value> attend(AttentionTile &tile, const TileKeys &keys, StringRef names,
                            ValueRange carried);
  void store(AttentionTile &tile, const State &state);

  PhaseBuilder p;
  AttentionOp op;
  const Shape &shape;
  const int64_t rowsEach; ///< of a thread
  AttentionStage keyStage, valueStage;
  Value head, cacheHead, column, group; ///< the thread's place
  Value block, weights;                 ///< workgroup memory
  SmallVector<TileRow> rows;
  SmallVector<Value> queryStarts;
};

/// What a stage loaded, into workgroup memory as f32.
void AttentionTilesEmitter::put(AttentionStage &stage, AttentionTile &tile, const TileKeys &keys,
                                Value base, ValueRange loaded) {
  CacheVectors &cache = stage.vectors();
  stage.put(tile, keys, base, loaded,
            [&](Value key, Value unit, ArrayRef<CacheVectors::Loaded> pieces, Value isSeen) {
              Value at = p.add(p.mul(key, shape.stride()), p.mul(unit, cache.vectors()));
              p.named(at, "at");
              for (auto [i, quad] : llvm::enumerate(cache.expand(pieces[0])))
                p.storeVector(isSeen ? p.select(isSeen, quad, p.splat(p.cf(0), 4)) : quad, block,
                              p.add(at, int64_t(i)));
            });
}

/// Of a thread's rows with its keys: a quad of keys for each row.
SmallVector<Value> AttentionTilesEmitter::scores() {
  Value keyAt = p.named(p.mul(column, shape.stride()), "key_at");
  const int64_t keysEach = shape.keysEach;
  auto step = [&](Value quad, ValueRange before) {
    SmallVector<Value> sums(before), key, query;
    for (int64_t i = 0; i < keysEach; ++i)
      key.push_back(p.named(
          p.loadVector(block, p.add(keyAt, p.add(quad, i * rowThreads * shape.stride()))), "k"));
    for (int64_t r = 0; r < rowsEach; ++r)
      query.push_back(p.named(readQuery(p, op, queryStarts[size_t(r)], p.mul(quad, 4)), "q"));
    for (int64_t r = 0; r < rowsEach; ++r)
      for (int64_t i = 0; i < keysEach; ++i) {
        Value &sum = sums[size_t(r * keysEach + i)];
        sum = p.fma(query[size_t(r)], key[size_t(i)], sum);
      }
    return sums;
  };
  const SmallVector<Value> zeros(size_t(rowsEach * keysEach), p.splat(p.cf(0), 4));
  SmallVector<Value> dots =
      p.loop("quad_index", p.c(0), p.c(shape.facts.keyDim / 4), 1, "dot", zeros, step);
  SmallVector<Value> scores;
  for (int64_t r = 0; r < rowsEach; ++r) {
    SmallVector<Value> ofRow(mostKeysEach, p.cf(0));
    for (int64_t i = 0; i < keysEach; ++i)
      ofRow[size_t(i)] = p.sumOfLanes(dots[size_t(r * keysEach + i)]);
    Value score = p.mulf(p.vector(ofRow), p.cf(op.getScale().convertToDouble()));
    p.named(score, "score");
    scores.push_back(p.named(emitSoftcap(p, op.getSoftcap().convertToDouble(), score), "score"));
  }
  return scores;
}

/// A value of each row, combined over the threads that share the row.
SmallVector<Value> AttentionTilesEmitter::ofRows(ValueRange own, Combine how, StringRef name) {
  SmallVector<Value> combined(own);
  if (shape.exchanges()) {
    for (Value &value : combined)
      for (int64_t mask = rowThreads / 2; mask > 0; mask /= 2)
        value = p.named(combine(p, how, value, p.shuffleXor(value, mask, shape.facts.subgroup)),
                        "of_row");
    return combined;
  }
  Value memory = p.shared(name, p.f32, shape.rows() * rowThreads);
  auto place = [&](size_t r) {
    return p.mul(p.add(group, int64_t(r) * shape.groups()), rowThreads);
  };
  for (auto [r, value] : llvm::enumerate(combined))
    p.store(value, memory, p.add(place(r), column));
  p.barrier();
  for (auto [r, value] : llvm::enumerate(combined)) {
    value = p.load(memory, place(r));
    for (int64_t i = 1; i < rowThreads; ++i)
      value = combine(p, how, value, p.load(memory, p.add(place(r), i)));
    p.named(value, "of_row");
  }
  return combined;
}

/// Weights of the scores of a block, into workgroup memory, and from `before` highest scores and
/// sums of `next`; gives what outputs must be scaled by, for each row.
SmallVector<Value> AttentionTilesEmitter::weigh(const TileKeys &keys, Value base,
                                                const State &before, State &next) {
  SmallVector<Value> own = scores(), highestOwn;
  SmallVector<Value> places;
  for (int64_t i = 0; i < mostKeysEach; ++i)
    places.push_back(p.c(i * rowThreads));
  Value key = p.named(p.add(p.add(base, column), p.vector(places)), "key");
  for (int64_t r = 0; r < rowsEach; ++r) {
    Value &score = own[size_t(r)];
    Value isSeen = p.lessThan(p.sub(key, rows[size_t(r)].first), keys.lengths[size_t(r)]);
    if (shape.keysEach < mostKeysEach) // the last lanes are of keys after the block
      isSeen =
          p.b.create<arith::AndIOp>(p.loc, isSeen, p.lessThan(key, p.add(base, shape.blockKeys())));
    score = p.named(p.select(isSeen, score, p.cf(lowestScore)), "seen_score");
    Value highest = p.extract(score, int64_t(0));
    for (int64_t i = 1; i < shape.keysEach; ++i)
      highest = p.maxf(highest, p.extract(score, i));
    highestOwn.push_back(p.named(highest, "own_highest"));
  }
  const SmallVector<Value> ofBlock = ofRows(highestOwn, Combine::Max, "highest_parts");
  SmallVector<Value> fades;
  for (int64_t r = 0; r < rowsEach; ++r) {
    const auto i = size_t(r);
    // Above what a key that is not seen has, so that this has no weight, whatever else there is.
    next.highest.push_back(p.named(p.maxf(before.highest[i], ofBlock[i]), "new_highest"));
    fades.push_back(p.named(p.exp(p.subf(before.highest[i], next.highest[i])), "fade"));
    Value weight = p.named(p.exp(p.subf(own[i], next.highest[i])), "weight");
    next.sums.push_back(p.fma(before.sums[i], fades[i], p.sumOfLanes(weight)));
    Value at = p.add(p.mul(p.add(group, r * shape.groups()), shape.weightStride()), column);
    p.storeVector(roundedTo(p, factorType(op), weight), weights, at);
  }
  return fades;
}

/// The outputs times `fades`, and the values in memory times their weights.
SmallVector<Value> AttentionTilesEmitter::addValues(ValueRange before, ValueRange fades) {
  SmallVector<Value> outputs(before);
  const int64_t quads = shape.outputQuads();
  for (auto [i, output] : llvm::enumerate(outputs))
    output = p.mulf(output, fades[i / size_t(quads)]);
  // A quad of weights is of every eighth key from its number on.
  return p.loop(
      "index", p.c(0), p.c(rowThreads), 1, "out", outputs, [&](Value index, ValueRange sums) {
        SmallVector<Value> next(sums), weight;
        for (int64_t r = 0; r < rowsEach; ++r)
          weight.push_back(p.named(
              p.loadVector(
                  weights,
                  p.add(p.mul(p.add(group, r * shape.groups()), shape.weightStride()), index)),
              "weight"));
        for (int64_t i = 0; i < shape.keysEach; ++i)
          for (int64_t q = 0; q < quads; ++q) {
            Value quad = p.add(column, q * rowThreads);
            if ((q + 1) * rowThreads > shape.facts.valueDim / 4) // is not stored
              quad = p.min(quad, p.c(shape.facts.valueDim / 4 - 1));
            Value at = p.add(p.mul(p.add(index, i * rowThreads), shape.stride()), quad);
            Value value = p.named(p.loadVector(block, at), "v");
            for (int64_t r = 0; r < rowsEach; ++r) {
              Value &sum = next[size_t(r * quads + q)];
              sum = p.fma(p.extract(weight[size_t(r)], i), value, sum);
            }
          }
        return next;
      });
}

/// All keys of a sequence. Carried: highest scores, sums of weights and outputs of the thread's
/// rows.
SmallVector<Value> AttentionTilesEmitter::attend(AttentionTile &tile, const TileKeys &keys,
                                                 StringRef names, ValueRange carried) {
  put(keyStage, tile, keys, keys.from, keyStage.load(tile, keys, keys.from, cacheHead));
  SmallVector<Value> init = valueStage.load(tile, keys, keys.from, cacheHead);
  const size_t count = init.size();
  p.barrier();
  llvm::append_range(init, carried);
  std::string all;
  for (size_t i = 0; i < count; ++i)
    all += fmt::format("v{} ", i);
  all += names;
  SmallVector<Value> last =
      p.loop("base", keys.from, keys.to, shape.blockKeys(), all, init,
             [&](Value base, ValueRange carried) {
               const SmallVector<Value> own(carried.take_front(count));
               const State before = State::of(carried.drop_front(count), rowsEach);
               Value following = p.named(p.add(base, shape.blockKeys()), "following");
               // After the last block the last keys are read again, and nobody looks at them.
               SmallVector<Value> nextKeys = keyStage.load(tile, keys, following, cacheHead);
               State next;
               const SmallVector<Value> fades = weigh(keys, base, before, next);
               p.barrier(); // all have read the keys
               put(valueStage, tile, keys, base, own);
               SmallVector<Value> results = valueStage.load(tile, keys, following, cacheHead);
               p.barrier();
               next.outputs = addValues(before.outputs, fades);
               p.barrier(); // all have read the values
               put(keyStage, tile, keys, following, nextKeys);
               p.barrier();
               llvm::append_range(results, next.all());
               return results;
             });
  return SmallVector<Value>(llvm::drop_begin(last, count));
}

void AttentionTilesEmitter::store(AttentionTile &tile, const State &state) {
  SmallVector<Value> totals = ofRows(state.sums, Combine::Sum, "sum_parts");
  Value sink = op.getSinks() ? p.named(tile.keys().sink(head), "sink_score") : Value();
  const ElementType type = *elementTypeOf(op.getOutput().getType());
  const int64_t dim = shape.facts.valueDim, quads = shape.outputQuads();
  for (int64_t r = 0; r < rowsEach; ++r) {
    const TileRow &row = rows[size_t(r)];
    Value total = totals[size_t(r)];
    if (sink) // a key whose value is 0
      total = p.addf(total, p.exp(p.subf(sink, state.highest[size_t(r)])));
    // A row that sees no key gives 0, whatever was read.
    Value sees = p.cmp(arith::CmpIPredicate::ne, row.length, p.c(0));
    Value factor = p.named(p.divf(p.cf(1), total), "factor");
    Value start = p.add(p.mul(row.row, shape.facts.heads), head);
    start = p.named(p.mul(start, dim), "output_start");
    p.ifThen(row.isThere, [&] {
      for (int64_t q = 0; q < quads; ++q) {
        Value quad = p.add(column, q * rowThreads);
        Value mean = p.mulf(state.outputs[size_t(r * quads + q)], factor);
        mean = p.select(sees, mean, p.splat(p.cf(0), 4));
        auto put = [&] {
          writeElement(p, mean, p.result(0, Access::Write, View::Quads), type,
                       p.add(start, p.mul(quad, 4)));
        };
        if ((q + 1) * rowThreads > dim / 4)
          p.ifThen(p.lessThan(quad, p.c(dim / 4)), put);
        else
          put();
      }
    });
  }
}

Phase AttentionTilesEmitter::emit() {
  const int64_t heads = shape.facts.heads;
  Type rowType = op.getQuery().getType();
  if (shape.facts.startsEarly)
    p.waitForPrevious();
  const TileStart start = startOfTile(p, op, shape.facts, shape.rows());
  head = start.head, cacheHead = start.cacheHead;
  column = p.named(p.rem(p.thread(), rowThreads), "column");
  group = p.named(p.div(p.thread(), rowThreads), "group");
  block = p.shared("block_of_keys", p.vec(p.f32, 4), shape.blockKeys() * shape.stride());
  weights = p.shared("weights", p.vec(p.f32, 4), shape.rows() * shape.weightStride());
  AttentionTile tile(p, op, shape.facts.sequences, shape.facts.subgroup, start.firstRow,
                     shape.rows());
  for (int64_t r = 0; r < rowsEach; ++r) {
    rows.push_back(tile.row(p.add(group, r * shape.groups())));
    Value first = p.mul(p.add(p.mul(rows.back().row, heads), head), shape.facts.keyDim);
    queryStarts.push_back(p.named(first, "query_start"));
  }
  State init;
  init.highest.assign(size_t(rowsEach), op.getSinks()
                                            ? p.named(tile.keys().sink(head), "first_highest")
                                            : p.cf(lowestScore / 4));
  // Scores of keys that are not seen are lower than any highest score.
  if (op.getSinks())
    for (Value &highest : init.highest)
      highest = p.maxf(highest, p.cf(lowestScore / 4));
  init.sums.assign(size_t(rowsEach), p.cf(0));
  init.outputs.assign(size_t(rowsEach * shape.outputQuads()), p.splat(p.cf(0), 4));
  std::string names;
  for (const char *name : {"highest", "sum"})
    for (int64_t r = 0; r < rowsEach; ++r)
      names += fmt::format("{}{} ", name, r);
  names += "out";
  SmallVector<Value> last =
      tile.overSequences(rows, names, init.all(), [&](const TileKeys &keys, ValueRange carried) {
        return attend(tile, keys, names, carried);
      });
  store(tile, State::of(last, rowsEach));
  return p.finish(p.rowsExtent(rowType, shape.rows()) * Extent(heads));
}

//===----------------------------------------------------------------------===//
// Schedules
//===----------------------------------------------------------------------===//

Shape baseOf(const KernelAnalysis &kernel, const Target &target) {
  Shape shape;
  shape.facts = attentionFacts(kernel, target);
  AttentionOp op = kernel.attention();
  shape.pieceOfKey = CacheVectors::pieceOf(op.getKeys().getType());
  shape.pieceOfValue = CacheVectors::pieceOf(op.getValues().getType());
  shape.mostRegisters = target.limits.registers;
  return shape;
}

Expected<Shape> readShape(const Shape &base, const KnobValues &values) {
  constexpr int64_t mostThreads = 512;
  const AttentionFacts &facts = base.facts;
  KnobReader read(facts.name, values);
  KF_CHECK(read.checkNames({"threads", "keys", "rows"}));
  Shape shape = base;
  KF_TRY(shape.threads, read.get("threads", {32, std::min(facts.threads, mostThreads), 32}));
  KF_TRY(const int64_t keys, read.get("keys", {rowThreads, rowThreads * mostKeysEach, rowThreads}));
  shape.keysEach = keys / rowThreads;
  KF_TRY(shape.rowsEach, read.get("rows", {1, mostRowsEach}));
  shape.facts.subgroup = std::min(facts.subgroup, shape.threads);
  if (!llvm::isPowerOf2_64(uint64_t(shape.threads)))
    return unusable("schedule is not legal", facts.name,
                    fmt::format("threads is {}", shape.threads), "use a power of two");
  if (shape.sharedBytes() > facts.sharedBytes)
    return unusable("schedule is not legal", facts.name,
                    fmt::format("it takes {} bytes of workgroup memory, and there are {}",
                                shape.sharedBytes(), facts.sharedBytes),
                    "use fewer threads or keys");
  if (shape.mostRegisters > 0 && shape.registers() > shape.mostRegisters)
    return unusable("schedule is not legal", facts.name,
                    fmt::format("a thread takes about {} registers, and there are {}",
                                shape.registers(), shape.mostRegisters),
                    "use fewer keys or rows");
  return shape;
}

KnobValues valuesOf(const Shape &shape) {
  return {{"threads", shape.threads}, {"keys", shape.blockKeys()}, {"rows", shape.rowsEach}};
}

/// As many rows as give nearly every multiprocessor two tiles, and as many keys as there is memory
/// for, and registers while they are on their way.
Shape usualShape(const Shape &base) {
  constexpr int64_t most = 128, usual = 64, least = 32, wanted = 248, mostStaged = 24;
  Shape shape = base;
  shape.threads = std::min(most, base.facts.threads);
  auto tiles = [&] {
    return int64_t(llvm::divideCeil(base.facts.rows, shape.rows())) * base.facts.heads;
  };
  auto hasMemory = [&] { return shape.sharedBytes() <= base.facts.sharedBytes; };
  auto fits = [&] {
    return shape.staged() <= mostStaged && readShape(base, valuesOf(shape)).has_value();
  };
  while (shape.threads > usual && tiles() < wanted)
    shape.threads /= 2;
  while (shape.rowsEach > 2 && tiles() < wanted)
    shape.rowsEach /= 2;
  // Fewer rows leave room for more keys.
  if (shape.mostRegisters > 0 && shape.rowsEach > 2 &&
      (8 * shape.rowsEach * shape.outputQuads() >= shape.mostRegisters || !shape.sharesEvenly()))
    shape.rowsEach = 2;
  while (shape.threads > usual && !hasMemory())
    shape.threads /= 2;
  while (shape.keysEach > 1 && !fits())
    shape.keysEach /= 2;
  while (shape.rowsEach > 1 && !fits())
    shape.rowsEach /= 2;
  while (shape.threads > least && !hasMemory())
    shape.threads /= 2;
  return shape;
}

/// Seconds on a large GPU.
double predict(const Shape &shape) {
  return shape.facts.secondsOfTiles(shape.rows(), shape.blockKeys(),
                                    {.rate = 25e12, .wait = 2.5e-6, .resident = 4});
}

class Tiles final : public Method {
public:
  std::string_view name() const override { return "tiles"; }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    KF_CHECK(checkAttention(kernel, target, /*workspaces=*/0));
    const Shape base = baseOf(kernel, target);
    return readShape(base, valuesOf(usualShape(base))).transform([](const Shape &) {});
  }

  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override {
    const Shape base = baseOf(kernel, target);
    ScheduleSpace space;
    space.knobs = {{"threads", {32, 64, 128, 256}, "of a workgroup"},
                   {"keys", {8, 16, 32}, "of a block"},
                   {"rows", {1, 2, 4}, "that eight threads share"}};
    space.analytic = valuesOf(usualShape(base));
    setBlockRules(
        space, [base](const KnobValues &values) { return readShape(base, values); },
        [](const Shape &shape) { return ::predict(shape); });
    return space;
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry, const KnobValues &schedule) const override {
    KF_TRY(const Shape shape, readShape(baseOf(kernel, target), schedule));
    Launching launching;
    launching.phases.push_back(AttentionTilesEmitter(module, kernel, shape, entry).emit());
    return launching;
  }

  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override {
    const int64_t threads = schedule.at("threads"), rows = schedule.at("rows");
    return {simt::describe(kernel).front(),
            fmt::format("a query head of {} rows a workgroup of {} threads, {} keys at a time",
                        threads / rowThreads * rows, threads, schedule.at("keys"))};
  }
};

} // namespace

const Method &simt::attentionTiles() {
  static const Tiles method;
  return method;
}
