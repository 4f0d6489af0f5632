#include "kernelforge/codegen/cpu/Epilogue.h"

#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/codegen/cpu/QuantizedStore.h"
#include "kernelforge/codegen/cpu/TableRows.h"
#include "kernelforge/codegen/cpu/VectorMath.h"
#include "kernelforge/ir/Caches.h"
#include "kernelforge/ir/OpCases.h"

#include <fmt/format.h>
#include <limits>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cpu;
using namespace kernelforge::transformer;

static bool hasStatistics(Operation *op) { return kindOf(op) == OpKind::Statistics; }

/// Heads whose statistics lie on the stack: 12 KB of each.
constexpr int64_t maxHeads = 4096;

/// Elements of a row of exponentials that is kept in scratch, 64 KB; of longer ones they are
/// computed twice.
constexpr int64_t maxKept = 16384;

//===----------------------------------------------------------------------===//
// What can be computed
//===----------------------------------------------------------------------===//

namespace {

/// Looks through a kernel for what RowExpressions cannot do.
class Checker {
public:
  explicit Checker(KernelOp kernel) : kernel(kernel) {}

  Status check() {
    for (auto op : kernel.getBody().getOps<ComputeOp>())
      if (op.getSeparateHeads() > maxHeads)
        return refuse(op, fmt::format("it norms {} heads of a row, the most are {}",
                                      op.getSeparateHeads(), maxHeads));
    // Roots read their rows with a prologue of their own.
    for (Operation &op : kernel.getBody().front())
      if (!isRowwise(&op) || kindOf(&op) == OpKind::Stores)
        for (Value operand : op.getOperands())
          KF_CHECK(checkPaths(operand, {}));
    return {};
  }

private:
  tl::unexpected<Error> refuse(Operation *op, std::string why, std::string hint = "") {
    return unusable("kernel cannot be compiled for a CPU",
                    kernelName(kernel) + ", " + op->getName().getStringRef().str(), std::move(why),
                    std::move(hint));
  }

  /// Row gathers between a store and an operation; statistics are kept for one such way only.
  using Path = SmallVector<Value>;

  bool needsStatistics(Value value) {
    Operation *op = value.getDefiningOp();
    if (!op || !isRowwise(op))
      return false;
    if (auto known = needs.find(op); known != needs.end())
      return known->second;
    bool result = hasStatistics(op) ||
                  llvm::any_of(rowInputs(op), [&](Value input) { return needsStatistics(input); });
    return needs[op] = result;
  }

  Status checkPaths(Value value, const Path &path) {
    if (!needsStatistics(value))
      return {};
    Operation *op = value.getDefiningOp();
    auto [known, isNew] = paths.try_emplace(op, path);
    if (!isNew) {
      if (known->second == path)
        return {};
      return refuse(op, "its rows are needed both gathered and not gathered, or gathered twice",
                    "split the kernel there");
    }
    Path inner = path;
    if (auto gather = dyn_cast<GatherRowsOp>(op))
      inner.push_back(gather.getRows());
    for (Value input : rowInputs(op))
      KF_CHECK(checkPaths(input, inner));
    return {};
  }

  KernelOp kernel;
  llvm::DenseMap<Operation *, bool> needs;
  llvm::DenseMap<Operation *, Path> paths;
};

} // namespace

Status cpu::checkRowwise(KernelOp kernel) { return Checker(kernel).check(); }

//===----------------------------------------------------------------------===//
// Whole rows
//===----------------------------------------------------------------------===//

void RowExpressions::forEachVector(Value row, int64_t width,
                                   llvm::function_ref<void(const Position &)> body,
                                   int64_t unroll) {
  const int64_t whole = width / lanes * lanes, step = lanes * unroll;
  const int64_t unrolled = whole / step * step;
  if (unrolled > 0)
    k.loop(k.c(0), k.c(unrolled), step, [&](Value col) {
      for (int64_t i = 0; i < unroll; ++i)
        body({row, i == 0 ? col : k.add(col, i * lanes), {}, {}});
    });
  if (unrolled < whole)
    k.loop(k.c(unrolled), k.c(whole), lanes, [&](Value col) { body({row, col, {}, {}}); });
  if (whole < width)
    body({row, k.c(whole), {}, k.firstLanes(k.c(width - whole))});
}

void RowExpressions::forEachStore(Value row, int64_t width, int64_t atOnce,
                                  llvm::function_ref<void(const Position &)> body, int64_t unroll) {
  if (atOnce == lanes)
    return forEachVector(row, width, body, unroll);
  k.loop(k.c(0), k.c(width), atOnce, [&](Value col) { body({row, col, {}, {}}); });
}

Position RowExpressions::positionIn(Value row, const Run &run, Value offset, Value mask) {
  if (!run.first)
    return {row, offset, {}, mask};
  Position position{row, k.add(run.first, offset), {}, mask};
  if (run.width % lanes != 0) { // the run begins anywhere
    position.columns = columnsOf(position);
    position.col = {};
  }
  return position;
}

Value RowExpressions::keptRow(Operation *op, int64_t width) {
  Value &place = keptRows[op];
  if (!place) {
    place = k.at(k.scratch, keptBytes);
    keptBytes += (width + lanes - 1) / lanes * lanes * 4;
  }
  return place;
}

int64_t RowExpressions::chainsOf(Value value) const {
  // What is only loaded comes faster than sums can be added to one another.
  return isa<BlockArgument>(value) || loaders.count(value) ? 4 : 1;
}

RowExpressions::Accumulators RowExpressions::reduceRow(
    Value value, Value row, const Run &run, Accumulators accumulators,
    llvm::function_ref<Accumulators(Value x, const Position &, ValueRange)> body,
    llvm::function_ref<Value(Value, Value)> combine, int64_t chains) {
  const int64_t width = run.width, whole = width / lanes * lanes;
  auto add = [&](Value offset, Value mask, ValueRange carried) {
    const Position position = positionIn(row, run, offset, mask);
    return body(evaluate(value, position), position, carried);
  };
  const int64_t step = chains * lanes;
  int64_t done = 0;
  if (chains > 1 && whole >= 2 * step) {
    done = whole / step * step;
    const size_t each = accumulators.size();
    Accumulators all;
    for (int64_t i = 0; i < chains; ++i)
      all.append(accumulators);
    all = k.loop(k.c(0), k.c(done), step, all, [&](Value col, ValueRange carried) {
      Accumulators next;
      for (int64_t i = 0; i < chains; ++i)
        next.append(add(i == 0 ? col : k.add(col, i * lanes), {},
                        carried.slice(static_cast<size_t>(i) * each, each)));
      return next;
    });
    for (size_t i = 0; i < each; ++i) {
      accumulators[i] = all[i];
      for (size_t chain = 1; chain < static_cast<size_t>(chains); ++chain)
        accumulators[i] = combine(accumulators[i], all[chain * each + i]);
    }
  }
  if (done < whole)
    accumulators = k.loop(k.c(done), k.c(whole), lanes, accumulators,
                          [&](Value col, ValueRange carried) { return add(col, {}, carried); });
  if (whole < width)
    accumulators = add(k.c(whole), k.firstLanes(k.c(width - whole)), accumulators);
  return accumulators;
}

/// What a whole row (or head) is read for, by operation; statistic() of Element gives it again.
struct RowExpressions::Statistics {
  RowExpressions &rows;
  Value input, row;
  Run run;
  KernelBuilder &k = rows.k;
  double width = static_cast<double>(run.width);

  Value masked(Value mask, Value x, double other) {
    return mask ? k.select(mask, x, k.splat(other)) : x;
  }
  /// The sum of what `term` makes of each vector and its position.
  Value sum(llvm::function_ref<Value(Value x, const Position &p)> term, int64_t chains) {
    return k.reduceAdd(rows.reduceRow(
        input, row, run, {k.splat(0)},
        [&](Value x, const Position &p, ValueRange carried) {
          return Accumulators{k.addf(carried[0], masked(p.mask, term(x, p), 0))};
        },
        [&](Value x, Value y) { return k.addf(x, y); }, chains)[0]);
  }
  Value sum(llvm::function_ref<Value(Value x)> term) {
    return sum([&](Value x, const Position &) { return term(x); }, rows.chainsOf(input));
  }
  Value inverseRoot(Value total, const APFloat &epsilon) {
    Value mean = k.divf(total, k.cf(width));
    Value root = k.sqrtf(k.addf(mean, k.cf(epsilon.convertToDouble())));
    return k.broadcast(k.divf(k.cf(1), root));
  }
  Value square(Value x) { return k.mulf(x, x); }

  Accumulators operator()(RmsNormOp norm) {
    return {inverseRoot(sum([&](Value x) { return square(x); }), norm.getEpsilon())};
  }

  Accumulators operator()(LayerNormOp norm) {
    // Two passes: the difference of the mean square and the squared mean would cancel. And of the
    // distances from the first element: a mean that is large beside the spread would be rounded by
    // as much as matters.
    const bool isShort = width < lanes;
    Value mask = isShort ? k.firstLanes(k.c(static_cast<int64_t>(width))) : Value();
    Value first = rows.evaluate(input, rows.positionIn(row, run, k.c(0), mask));
    Value origin = k.shuffle(first, first, SmallVector<int64_t>(lanes, 0));
    auto distance = [&](Value x) { return k.subf(x, origin); };
    Value mean = k.broadcast(k.divf(sum(distance), k.cf(width)));
    Value total = sum([&](Value x) { return square(k.subf(distance(x), mean)); });
    return {origin, mean, inverseRoot(total, norm.getEpsilon())};
  }

  Accumulators operator()(SoftmaxOp softmax) {
    const double lowest = -std::numeric_limits<double>::infinity();
    auto larger = [&](Value x, Value y) { return k.maxf(x, y); };
    Value max = k.broadcast(k.reduceMax(rows.reduceRow(
        input, row, run, {k.splat(lowest)},
        [&](Value x, const Position &p, ValueRange carried) {
          return Accumulators{larger(carried[0], masked(p.mask, x, lowest))};
        },
        larger, rows.chainsOf(input))[0]));
    const bool keeps = !run.first && run.width <= maxKept;
    const Value kept = keeps ? rows.keptRow(softmax, run.width) : Value();
    constexpr int64_t chains = 1; // an exponential takes longer than its sum waits
    Value total = sum(
        [&](Value x, const Position &p) {
          Value power = emitExpOfNonPositive(k, k.subf(x, max));
          if (keeps)
            k.storeVec(power, k.at(kept, k.mul(p.col, 4)));
          return power;
        },
        chains);
    return {keeps ? kept : max, k.broadcast(k.divf(k.cf(1), total))};
  }
};

void RowExpressions::prepareRow(ValueRange values, Value row, Value first, Value end) {
  Visited visited;
  for (Value value : values)
    prepare(value, {row, first, end}, visited);
}

void RowExpressions::prepare(Value value, const Prepared &prepared, Visited &visited) {
  Operation *op = value.getDefiningOp();
  if (!op || loaders.count(value) || !visited.insert(value).second)
    return;
  Prepared inner = prepared;
  if (auto gather = dyn_cast<GatherRowsOp>(op))
    inner.row = index(gather.getRows(), prepared.row);
  for (Value input : rowInputs(op))
    prepare(input, inner, visited);
  if (!hasStatistics(op))
    return;
  if (cast<ComputeOp>(op).getSeparateHeads() > 1)
    return prepareHeads(op, prepared);
  Value input = op->getOperand(0);
  statistics[op] =
      *callCase<Accumulators>(Statistics{*this, input, prepared.row, {{}, widthOf(input)}}, op);
}

/// There may be many heads, and which one a column is in is not known before: their statistics are
/// kept in memory.
void RowExpressions::prepareHeads(Operation *op, const Prepared &prepared) {
  Value input = op->getOperand(0);
  const int64_t heads = cast<ComputeOp>(op).getSeparateHeads(), width = widthOf(input) / heads;
  SmallVector<Value> kept = statistics.lookup(op);
  k.loop(prepared.first ? k.div(prepared.first, width) : k.c(0),
         prepared.end ? k.div(prepared.end, width) : k.c(heads), 1, [&](Value head) {
           const Run run{k.mul(head, width), width};
           const Accumulators found =
               *callCase<Accumulators>(Statistics{*this, input, prepared.row, run}, op);
           while (kept.size() < found.size())
             kept.push_back(k.onStack(heads));
           for (auto [x, pointer] : llvm::zip(found, kept))
             k.store(k.b.create<vector::ExtractOp>(k.loc, x, ArrayRef<int64_t>{0}),
                     k.at(pointer, k.mul(head, 4)), 4);
         });
  statistics[op] = kept;
}

//===----------------------------------------------------------------------===//
// Vectors of a row
//===----------------------------------------------------------------------===//

RowExpressions::Key RowExpressions::keyOf(Value value, const Position &position) {
  return {value.getAsOpaquePointer(),
          position.row.getAsOpaquePointer(),
          position.col ? position.col.getAsOpaquePointer() : nullptr,
          position.columns ? position.columns.getAsOpaquePointer() : nullptr,
          position.mask ? position.mask.getAsOpaquePointer() : nullptr,
          k.b.getInsertionBlock()};
}

Value RowExpressions::evaluate(Value value, const Position &position) {
  if (depth == 0)
    evaluated.clear();
  ++depth;
  Value result = evaluateOnce(value, position);
  --depth;
  return result;
}

Value RowExpressions::evaluateOnce(Value value, const Position &position) {
  if (auto known = evaluated.find(keyOf(value, position)); known != evaluated.end())
    return known->second;
  Value result = evaluateAnew(value, position);
  evaluated[keyOf(value, position)] = result;
  return result;
}

Value RowExpressions::evaluateAnew(Value value, const Position &position) {
  if (auto loader = loaders.find(value); loader != loaders.end())
    return loader->second(position);
  if (isa<BlockArgument>(value))
    return loadRows(value, position);
  return evaluateOp(value.getDefiningOp(), position);
}

/// The numbers of a row, or of a vector of parameters, at the columns of a position.
static Value loadColumns(const Numbers &row, const Position &p) {
  return p.columns ? row.gather(p.columns, p.mask) : row.from(p.col).load(p.mask);
}

Value RowExpressions::loadRows(Value argument, const Position &p) {
  return loadColumns(Numbers::ofArgument(k, argument).row(p.row, widthOf(argument)), p);
}

Value RowExpressions::loadParameter(Value argument, const Position &p) {
  return loadColumns(Numbers::ofArgument(k, argument), p);
}

Value RowExpressions::columnsOf(const Position &p) {
  if (p.columns)
    return p.columns;
  Value col = k.b.create<arith::TruncIOp>(k.loc, k.i32, p.col);
  return k.b.create<arith::AddIOp>(k.loc, k.broadcast(col), k.iota());
}

Position RowExpressions::inHead(const Position &p, int64_t width) {
  if (p.col && width % lanes == 0)
    return {p.row, k.rem(p.col, width), {}, p.mask};
  Value columns = k.b.create<arith::RemUIOp>(k.loc, columnsOf(p), k.splatI(width));
  return {p.row, {}, columns, p.mask};
}

Value RowExpressions::loadOfHead(Value pointer, const Position &p, int64_t width) {
  if (p.col && width % lanes == 0)
    return k.broadcast(k.loadF32(k.at(pointer, k.mul(k.div(p.col, width), 4))));
  Value heads = k.b.create<arith::DivUIOp>(k.loc, columnsOf(p), k.splatI(width));
  return k.gather(pointer, heads, p.mask);
}

Value RowExpressions::index(Value indices, Value row) {
  return k.widen(k.load(k.i32, k.at(k.argument(indices), k.mul(row, 4)), 4));
}

/// A vector of the result, by operation: those that have a case here are computed.
struct RowExpressions::Element {
  RowExpressions &rows;
  Operation *op;
  const Position &p;
  KernelBuilder &k = rows.k;

  Value input(unsigned i) { return rows.evaluate(op->getOperand(i), p); }
  Value parameter(Value argument) { return rows.loadParameter(argument, p); }
  Value statistic(unsigned i) {
    auto found = rows.statistics.find(op);
    assert(found != rows.statistics.end() && "prepareRow comes before evaluate");
    const int64_t heads = cast<ComputeOp>(op).getSeparateHeads();
    return heads == 1 ? found->second[i]
                      : rows.loadOfHead(found->second[i], p, widthOf(op->getResult(0)) / heads);
  }
  /// An element of a norm's weight or bias, which are as long as a head.
  Value ofHead(Value argument) {
    const int64_t heads = cast<ComputeOp>(op).getSeparateHeads();
    return heads == 1
               ? parameter(argument)
               : rows.loadParameter(argument, rows.inHead(p, widthOf(op->getResult(0)) / heads));
  }
  /// What a norm multiplies by.
  template <typename Norm> Value factorOf(Norm norm) {
    const double offset = norm.getOffset().convertToDouble();
    Value weight = ofHead(norm.getWeight());
    return offset == 0 ? weight : k.addf(weight, k.splat(offset));
  }

  Value operator()(GatherRowsOp gather) {
    return rows.evaluate(gather.getInput(),
                         {rows.index(gather.getRows(), p.row), p.col, p.columns, p.mask});
  }
  Value operator()(EmbeddingOp embedding) {
    Value table = embedding.getTable();
    Value x = loadTableRow(k, k.argument(table), cast<RankedTensorType>(table.getType()),
                           rows.index(embedding.getIds(), p.row), p.col, p.columns, p.mask);
    const double factor = embedding.getScale().convertToDouble();
    return factor == 1 ? x : k.mulf(x, k.splat(factor));
  }
  Value operator()(RmsNormOp norm) {
    return k.mulf(k.mulf(input(0), statistic(0)), factorOf(norm));
  }
  Value operator()(LayerNormOp norm) {
    Value x = k.subf(k.subf(input(0), statistic(0)), statistic(1));
    x = k.mulf(x, statistic(2));
    Value weight = factorOf(norm);
    return norm.getBias() ? k.fma(x, weight, ofHead(norm.getBias())) : k.mulf(x, weight);
  }
  Value operator()(SoftmaxOp) {
    Value first = statistic(0); // the highest, or where the exponentials lie
    Value power;
    if (isa<VectorType>(first.getType()))
      power = emitExpOfNonPositive(k, k.subf(input(0), first));
    else if (p.columns)
      power = k.gather(first, p.columns, p.mask);
    else
      power = k.loadVec(k.at(first, k.mul(p.col, 4)));
    return k.mulf(power, statistic(1));
  }
  Value operator()(CastOp cast) {
    return roundTo(k, *elementTypeOf(cast.getOutput().getType()), input(0));
  }
  Value operator()(ActivationOp activation) {
    return emitActivation(k, activation.getFunction(), input(0));
  }
  Value operator()(AddOp) { return k.addf(input(0), input(1)); }
  Value operator()(MulOp) { return k.mulf(input(0), input(1)); }
  Value operator()(ScaleOp scale) {
    const double factor = scale.getFactor().convertToDouble();
    Value x = factor == 1 ? input(0) : k.mulf(input(0), k.splat(factor));
    return emitSoftcap(k, scale.getSoftcap().convertToDouble(), x);
  }
  Value operator()(RopeOp rope) { return rows.rope(rope, p); }
};

Value RowExpressions::evaluateOp(Operation *op, const Position &p) {
  return *callCase<Value>(Element{*this, op, p}, op); // checkOperations refuses others
}

bool RowExpressions::hasCode(Operation *op) {
  if (kindOf(op) == OpKind::Stores)
    return isa<CacheAppendOp>(op);
  return hasCase<Element>(op) && (!hasStatistics(op) || hasCase<Statistics>(op));
}

//===----------------------------------------------------------------------===//
// Rope
//===----------------------------------------------------------------------===//

Numbers RowExpressions::angles(RopeOp op, const Position &p) {
  return Numbers::ofArgument(k, op.getTable())
      .row(index(op.getPositions(), p.row), op.getRotaryDim());
}

Value RowExpressions::rope(RopeOp op, const Position &p) {
  const auto headDim = static_cast<int64_t>(op.getHeadDim());
  const int64_t half = headDim / 2;
  const bool halfSplit = op.getPairing() == Pairing::HalfSplit;
  if (p.columns || op.getRotaryDim() != headDim || (halfSplit ? half : headDim) % lanes != 0)
    return ropeOfAnyColumns(op, p);

  Value inHead = k.rem(p.col, headDim);
  const Numbers table = angles(op, p);
  Value x = evaluate(op.getInput(), p);
  if (halfSplit) {
    // All sixteen stand in one half of a head; their partners are the same lanes of the other.
    Value isSecond = k.cmp(arith::CmpIPredicate::sge, inHead, k.c(half));
    Value partnerCol = k.add(p.col, k.select(isSecond, k.c(-half), k.c(half)));
    Value partner = evaluate(op.getInput(), {p.row, partnerCol, {}, p.mask});
    const Numbers cosines = table.from(k.rem(inHead, half));
    Value cos = cosines.load(), sin = cosines.from(half).load();
    Value sign = k.broadcast(k.select(isSecond, k.cf(1), k.cf(-1)));
    return k.fma(x, cos, k.mulf(k.mulf(partner, sin), sign));
  }
  // Eight pairs side by side, with eight angles.
  SmallVector<int64_t> twice, swapped;
  SmallVector<float> signs;
  for (int64_t i = 0; i < lanes; ++i) {
    twice.push_back(i / 2);
    swapped.push_back(i ^ 1);
    signs.push_back(i % 2 == 0 ? -1.0f : 1.0f);
  }
  const Numbers cosines = table.from(k.div(inHead, 2));
  auto duplicated = [&](const Numbers &of) {
    Value eight = of.loadFirst(lanes / 2);
    return k.shuffle(eight, eight, twice);
  };
  Value cos = duplicated(cosines), sin = duplicated(cosines.from(half));
  Value sign =
      k.b.create<arith::ConstantOp>(k.loc, DenseElementsAttr::get(k.vf32, ArrayRef<float>(signs)));
  return k.fma(x, cos, k.mulf(k.mulf(k.shuffle(x, x, swapped), sin), sign));
}

Value RowExpressions::ropeOfAnyColumns(RopeOp op, const Position &p) {
  OpBuilder &b = k.b;
  const int64_t rotaryDim = op.getRotaryDim(), half = rotaryDim / 2;
  const bool halfSplit = op.getPairing() == Pairing::HalfSplit;
  auto plus = [&](Value x, Value y) -> Value { return b.create<arith::AddIOp>(k.loc, x, y); };
  auto below = [&](Value x, int64_t limit) {
    return k.cmp(arith::CmpIPredicate::slt, x, k.splatI(limit));
  };

  Value columns = columnsOf(p);
  Value inHead =
      b.create<arith::RemUIOp>(k.loc, columns, k.splatI(static_cast<int64_t>(op.getHeadDim())));
  Value rotates = below(inHead, rotaryDim);
  Value isFirst, angle;
  if (halfSplit) {
    isFirst = below(inHead, half);
    angle = k.select(isFirst, inHead, plus(inHead, k.splatI(-half)));
  } else {
    Value odd = b.create<arith::AndIOp>(k.loc, inHead, k.splatI(1));
    isFirst = below(odd, 1);
    angle = b.create<arith::ShRUIOp>(k.loc, inHead, k.splatI(1));
  }
  const int64_t distance = halfSplit ? half : 1;
  Value toPartner = k.select(isFirst, k.splatI(distance), k.splatI(-distance));
  // Lanes that do not rotate are their own partners, with any angle.
  Value partners = plus(columns, k.select(rotates, toPartner, k.splatI(0)));
  angle = k.select(rotates, angle, k.splatI(0));

  const Numbers table = angles(op, p);
  Value x = evaluate(op.getInput(), p);
  Value partner = evaluate(op.getInput(), {p.row, {}, partners, p.mask});
  Value cos = table.gather(angle), sin = table.from(half).gather(angle);
  Value sign = k.select(isFirst, k.splat(-1), k.splat(1));
  Value rotated = k.fma(x, cos, k.mulf(k.mulf(partner, sin), sign));
  return k.select(rotates, rotated, x);
}

//===----------------------------------------------------------------------===//
// Stores
//===----------------------------------------------------------------------===//

int64_t RowExpressions::storedAtOnce(const Sink &sink) {
  auto append = dyn_cast<CacheAppendOp>(sink.op);
  return append ? std::max(lanes, info(slotOf(append.getCache().getType()).type).blockElements)
                : lanes;
}

void RowExpressions::store(ArrayRef<Sink> sinks, const Position &p) {
  assert(p.col && !p.columns && "stores are contiguous");
  SmallVector<SmallVector<Value>> values;
  evaluated.clear();
  ++depth;
  for (const Sink &sink : sinks) {
    values.emplace_back();
    for (int64_t i = 0; i < storedAtOnce(sink); i += lanes)
      values.back().push_back(evaluate(sink.value, {p.row, k.add(p.col, i), {}, p.mask}));
  }
  --depth;
  for (auto [sink, vectors] : llvm::zip(sinks, values)) {
    const int64_t width = widthOf(sink.value);
    auto storeIn = [&, value = vectors.front()](const Numbers &rows, Value row) {
      rows.from(k.add(k.mul(row, width), p.col)).store(value, p.mask);
    };
    if (auto append = dyn_cast<CacheAppendOp>(sink.op)) {
      const CacheSlot layout = slotOf(append.getCache().getType());
      Value slot = index(append.getSlots(), p.row), cache = k.argument(append.getCache());
      k.ifThen(k.cmp(arith::CmpIPredicate::sge, slot, k.c(0)), [&, &vectors = vectors] {
        if (layout.isQuantized())
          emitBlockStore(k, layout, vectors, k.at(cache, k.mul(slot, layout.bytes())), p.col);
        else
          storeIn({k, layout.type, cache}, slot);
      });
    } else {
      storeIn(Numbers::ofResult(k, sink.resultIndex, sink.value.getType()), p.row);
    }
  }
}
