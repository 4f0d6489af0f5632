// Matmuls of few rows. Of each column that a team sums, its threads read neighbouring 16 bytes,
// then the next ones; what they summed comes together by shuffles, each of which halves
// the sums that a thread still holds. Rows that the kernel computes itself are computed once by
// each workgroup, into its memory.
#include "kernelforge/codegen/simt/MatmulRows.h"

#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/MatmulRowsInput.h"
#include "kernelforge/codegen/simt/Methods.h"
#include "kernelforge/codegen/simt/Strip.h"
#include "kernelforge/codegen/simt/Weights.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::simt::rows;

namespace {

using Values = SmallVector<Value>;

/// Emits a phase: of all groups, or of one.
class MatmulRowsEmitter {
public:
  MatmulRowsEmitter(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                    const Knobs &knobs, ArrayRef<unsigned> groups, StringRef entry)
      : p(module, kernel.kernel(), entry, knobs.threads), kernel(kernel), matmul(kernel.matmul()),
        shape(shape), knobs(knobs), groups(groups), unit(shape.groups[groups[0]].unit),
        units(shape.units(unit)) {}

  Phase emit() {
    Type input = matmul.getInput().getType();
    int64_t blocks = 0;
    for (unsigned g : groups)
      blocks += shape.blocks(shape.groups[g], knobs);
    const bool allRows = shape.rows <= knobs.rows;
    const auto [rowBlock, block] = placeBlock(allRows, blocks);
    placeRows(rowBlock);
    placeThread();
    int64_t begin = 0;
    for (unsigned g : groups) {
      const int64_t end = begin + shape.blocks(shape.groups[g], knobs);
      auto compute = [&] { computeGroup(g, begin == 0 ? block : p.sub(block, begin)); };
      if (groups.size() == 1)
        compute();
      else
        p.ifThen(isWithin(block, begin, end, blocks), compute);
      begin = end;
    }
    return p.finish(p.rowsExtent(input, knobs.rows) * Extent(blocks));
  }

private:
  Value both(Value x, Value y) { return p.b.create<arith::AndIOp>(p.loc, x, y); }

  Value isWithin(Value block, int64_t begin, int64_t end, int64_t all) {
    Value isBefore = p.lessThan(block, p.c(end));
    Value isFrom = p.cmp(arith::CmpIPredicate::uge, block, p.c(begin));
    return begin == 0 ? isBefore : end == all ? isFrom : both(isFrom, isBefore);
  }

  /// Which rows and columns this workgroup has, counted in workgroups. Where weights are streamed,
  /// those that need the same ones are neighbours.
  std::pair<Value, Value> placeBlock(bool allRows, int64_t blocks) {
    if (allRows)
      return {p.c(0), p.block()};
    if (!shape.streams) {
      Value column = p.named(p.rem(p.block(), blocks), "column_block");
      return {p.div(p.block(), blocks), column};
    }
    Value count = p.div(p.add(p.rows(matmul.getInput().getType()), knobs.rows - 1), knobs.rows);
    return {p.b.create<arith::RemUIOp>(p.loc, p.block(), count),
            p.b.create<arith::DivUIOp>(p.loc, p.block(), count)};
  }

  /// The rows of this workgroup. Those past the last one repeat it, and are not stored.
  void placeRows(Value rowBlock) {
    auto type = cast<RankedTensorType>(matmul.getInput().getType());
    total = p.rows(type);
    firstRow = p.named(p.mul(rowBlock, knobs.rows), "first_row");
    const bool areThere = !type.isDynamicDim(0) && type.getDimSize(0) % knobs.rows == 0;
    own.push_back(firstRow);
    for (int64_t m = 1; m < knobs.rows; ++m) {
      Value row = p.add(firstRow, m);
      own.push_back(areThere ? row : p.named(p.min(row, p.sub(total, 1)), "row"));
    }
  }

  /// Where this thread stands: among the lanes that it exchanges values with, and in the team that
  /// shares out a column.
  void placeThread() {
    lane = p.named(p.rem(p.thread(), knobs.lanes), "lane");
    Value inTeam = p.named(p.rem(p.thread(), knobs.team()), "first_unit");
    first = inTeam;
    part = p.named(p.div(inTeam, knobs.lanes), "part");
    team = p.named(p.div(p.thread(), knobs.team()), "team");
  }

  void computeGroup(unsigned g, Value block) {
    const SegmentGroup &group = kernel.groups()[g];
    const Columns &columns = shape.groups[g];
    const ColumnPlace place(p, columns, block, knobs.columns());
    RowExpressions before(p, sharingOf(shape)), after(p, sharingOf(shape));
    weights.clear();
    for (unsigned segment : group.segments)
      weights.emplace_back(p, matmul.getWeights()[segment], unit, shape.numerics, shape.streams,
                           shape.lanesOfSum(knobs));
    input.emplace(p, matmul, shape, knobs, unit);
    const Strip strip = stripOf(columns, place);
    auto localOf = [&](Value piece) {
      Value local = p.mul(p.add(p.mul(piece, knobs.teams()), team), knobs.r);
      return p.named(local, "local_col");
    };
    auto beginsAt = [&](Value local) {
      return beginsOf(columns, p.named(place.column(p, local), "col"));
    };
    if (knobs.pieces == 1) {
      Value local = localOf(p.c(0));
      const Values begins = beginsAt(local);
      // What takes longest to come is asked for before the rows are made, or multiplied.
      Loads ahead;
      if (RowInput::isMade(shape, knobs) || knobs.early)
        ahead = load(begins, unitsAhead() > units ? p.min(first, p.c(units - 1)) : first,
                     unitsAhead() / knobs.team());
      waitForPrevious();
      const auto position = readAhead(p, after, matmul, group, strip, total);
      input->prepare(before, own);
      if (position)
        readAngles(after, group, *position);
      combine(multiply(begins, ahead), strip.memory, columns, local);
    } else {
      waitForPrevious();
      input->prepare(before, own);
      p.loop("piece", p.c(0), p.c(knobs.pieces), 1, [&](Value number) {
        Value local = localOf(number);
        combine(multiply(beginsAt(local), {}), strip.memory, columns, local);
      });
    }
    p.barrier();
    storeStrip(p, after, matmul, group, strip, total);
  }

  /// Where a workgroup's sums come to.
  Strip stripOf(const Columns &columns, const ColumnPlace &place) {
    Strip strip;
    strip.memory = p.shared("sums", p.f32, shape.sums(knobs));
    strip.begin = p.c(0);
    strip.rows = knobs.rows;
    strip.cols = knobs.columns();
    strip.rowStride = strip.cols;
    strip.segmentStride = strip.rows * strip.rowStride;
    strip.parts = knobs.ks;
    strip.partStride = columns.segments * strip.segmentStride;
    strip.firstRow = firstRow;
    strip.firstCol = place.first;
    strip.apart = place.apart;
    return strip;
  }

  /// Where the columns of a team from `col` on begin in each segment's weight.
  Values beginsOf(const Columns &columns, Value col) {
    Values begins;
    const bool areThere = columns.n % knobs.columns() == 0;
    for (int64_t r = 0; r < knobs.r; ++r) {
      Value column = p.add(col, r);
      if (!areThere)
        column = p.min(column, p.c(columns.n - 1));
      begins.push_back(p.named(p.mul(column, units), "begin"));
    }
    return begins;
  }

  using Loads = std::vector<WeightUnits::Loaded>;

  /// Asks for `count` units of each column, the first at `at`.
  Loads load(ArrayRef<Value> begins, Value at, int64_t count) {
    Loads loads;
    for (int64_t u = 0; u < count; ++u)
      for (WeightUnits &weight : weights)
        for (Value begin : begins)
          loads.push_back(weight.load(p.add(p.add(begin, at), u * knobs.team())));
    return loads;
  }

  /// Adds what `loads` has of them, run by run, for each of which the rows are read once.
  Values add(Loads loads, Value at, int64_t count, ValueRange carried) {
    Values sums(carried);
    const size_t ofUnit = loads.size() / static_cast<size_t>(count), segments = weights.size();
    const size_t columns = ofUnit / segments;
    for (int64_t u = 0; u < count; ++u) {
      Value unit = p.add(at, u * knobs.team());
      WeightUnits::Loaded *first = &loads[static_cast<size_t>(u) * ofUnit];
      for (const Runs &runs : weights[0].runs()) {
        std::vector<InputRuns> inputs;
        for (size_t m = 0; m < own.size(); ++m)
          inputs.push_back(input->read(m, unit, runs, weights[0].needsTotals()));
        for (size_t s = 0; s < segments; ++s)
          for (size_t r = 0; r < columns; ++r)
            weights[s].multiply(first[s * columns + r], runs, inputs, [&](size_t m) -> Value & {
              return sums[(s * inputs.size() + m) * columns + r];
            });
      }
    }
    return sums;
  }

  void waitForPrevious() {
    if (knobs.early)
      p.waitForPrevious();
  }

  int64_t wholeUnits() const { return shape.wholeUnits(unit, knobs); }
  /// Units of a column that a team asks for ahead: a round, or one a thread.
  int64_t unitsAhead() const { return knobs.team() * (wholeUnits() > 0 ? knobs.u : 1); }

  /// Adds all whole rounds to `sums`, each of which is asked for before the one before it is added.
  Values multiplyAhead(ArrayRef<Value> begins, Loads now, Values sums) {
    const int64_t round = knobs.team() * knobs.u, rounds = wholeUnits() / round;
    constexpr int64_t fewRounds = 4; // which are written out
    if (now.empty())
      now = load(begins, first, knobs.u);
    auto addAndLoad = [&](Value at) {
      Loads next = load(begins, p.add(at, round), knobs.u);
      sums = add(std::move(now), at, knobs.u, sums);
      now = std::move(next);
    };
    const size_t count = sums.size();
    auto carry = [&] {
      Values carried = sums;
      for (const WeightUnits::Loaded &one : now)
        llvm::append_range(carried, WeightUnits::valuesOf(one));
      return carried;
    };
    auto take = [&](ValueRange carried, Value at) {
      sums.assign(carried.begin(), carried.begin() + count);
      carried = carried.drop_front(count);
      size_t i = 0;
      for (int64_t u = 0; u < knobs.u; ++u)
        for (WeightUnits &weight : weights)
          for (Value begin : begins) {
            Value number = p.add(p.add(begin, at), u * knobs.team());
            now[i] = weight.loadedOf(carried, number, now[i]);
            carried = carried.drop_front(WeightUnits::valuesOf(now[i++]).size());
          }
    };
    Value last = p.add(first, wholeUnits() - round);
    if (rounds <= fewRounds) {
      for (int64_t i = 0; i + 1 < rounds; ++i)
        addAndLoad(p.add(first, i * round));
    } else {
      Values carried = p.loop("k", first, p.c(wholeUnits() - round), round, "sum", carry(),
                              [&](Value at, ValueRange values) {
                                take(values, at);
                                addAndLoad(at);
                                return carry();
                              });
      take(carried, last);
    }
    return add(std::move(now), last, knobs.u, sums);
  }

  /// This thread's sums of columns: by segment, row and column. `ahead`: its first units, or none.
  Values multiply(ArrayRef<Value> begins, const Loads &ahead) {
    const int64_t team = knobs.team(), whole = wholeUnits();
    Value zero = p.splat(p.cf(0), weights[0].lanes());
    Values sums(weights.size() * begins.size() * own.size(), zero);
    int64_t done = 0;
    if (knobs.ahead && whole > 0) {
      sums = multiplyAhead(begins, ahead, sums);
      done = whole;
    } else if (!ahead.empty()) {
      done = unitsAhead();
      auto addAhead = [&] { return add(ahead, first, done / team, sums); };
      if (done <= units)
        sums = addAhead();
      else
        sums = p.ifElse("sum", p.lessThan(first, p.c(units)), ValueRange(sums).getTypes(), addAhead,
                        [&] { return sums; });
    }
    auto addUpTo = [&](int64_t end, int64_t count) {
      if (done >= end)
        return;
      sums = p.loop("k", p.add(first, done), p.c(end), team * count, "sum", sums,
                    [&](Value at, ValueRange carried) {
                      return add(load(begins, at, count), at, count, carried);
                    });
      done = end;
    };
    addUpTo(whole, knobs.u);
    addUpTo(units, 1);
    for (auto [i, sum] : llvm::enumerate(sums)) {
      sum = p.sumOfLanes(sum);
      if (Value factor = input->factor(i / begins.size() % own.size()))
        sum = p.mulf(sum, factor);
      sum = p.named(sum, "sum");
    }
    return sums;
  }

  /// Sums over the lanes, as many at a time as there are lanes.
  void combine(const Values &sums, Value memory, const Columns &columns, Value local) {
    const int64_t each = columns.segments * knobs.rows * knobs.columns(), size = knobs.lanes;
    Value place = p.named(p.add(p.mul(part, each), local), "place");
    for (int64_t begin = 0; begin < int64_t(sums.size()); begin += size) {
      const int64_t count = std::min<int64_t>(size, int64_t(sums.size()) - begin);
      auto [sum, held] = butterfly(ArrayRef(sums).slice(size_t(begin), size_t(count)));
      const int64_t lanes = size / held; // that hold the same sum
      Value number = p.named(p.div(lane, lanes), "number"), v = p.add(number, begin);
      Value at = p.add(place, p.add(p.mul(p.div(v, knobs.r), knobs.columns()), p.rem(v, knobs.r)));
      if (held == 1)
        at = p.add(place, begin / knobs.r * knobs.columns() + begin % knobs.r);
      Value isFirst = p.cmp(arith::CmpIPredicate::eq, p.rem(lane, lanes), p.c(0));
      Value isThere = p.lessThan(number, p.c(count));
      auto store = [&, sum = sum] { p.store(sum, memory, at); };
      if (count == held && lanes == 1)
        store();
      else
        p.ifThen(lanes == 1 ? isThere : count == held ? isFirst : both(isFirst, isThere), store);
    }
  }

  /// The sum over lanes of one of `values`, at most as many as there are lanes: lane i has that of
  /// value i / (lanes / n), n the power of two that is given back with it. While several are left,
  /// a lane gives half of them away with each step.
  std::pair<Value, int64_t> butterfly(ArrayRef<Value> values) {
    Values left(values);
    int64_t held = 1;
    while (held < int64_t(left.size()))
      held *= 2;
    left.resize(size_t(held), p.cf(0));
    int64_t mask = knobs.lanes / 2;
    for (; left.size() > 1; mask /= 2) {
      const size_t half = left.size() / 2;
      Value isUpper =
          p.named(p.cmp(arith::CmpIPredicate::ne, p.andBits(lane, mask), p.c(0)), "is_upper");
      Values next;
      for (size_t i = 0; i < half; ++i) {
        Value mine = p.select(isUpper, left[i + half], left[i]);
        Value other = p.select(isUpper, left[i], left[i + half]);
        next.push_back(p.addf(mine, p.shuffleXor(other, mask, knobs.lanes)));
      }
      left = std::move(next);
    }
    for (; mask > 0; mask /= 2) {
      Value sum = p.named(left[0], "sum");
      left[0] = p.addf(sum, p.shuffleXor(sum, mask, knobs.lanes));
    }
    return {p.named(left[0], "sum"), held};
  }

  PhaseBuilder p;
  const KernelAnalysis &kernel;
  MatmulOp matmul;
  const Shape &shape;
  const Knobs &knobs;
  ArrayRef<unsigned> groups; ///< all of one unit
  Unit unit;
  int64_t units; ///< of a column
  Value total, firstRow;
  Values own;                       ///< rows
  Value lane, part, team, first;    ///< of this thread; `first`: the number of its first unit
  std::vector<WeightUnits> weights; ///< of the group that is computed
  std::optional<RowInput> input;
};

/// Few rows: threads share out K.
class Rows final : public Method {
public:
  std::string_view name() const override { return "rows"; }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    return rows::supports(kernel, target);
  }

  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override {
    return rows::space(shapeOf(kernel, target));
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry, const KnobValues &schedule) const override {
    const Shape shape = shapeOf(kernel, target);
    KF_TRY(const Knobs knobs, readKnobs(shape, schedule));
    return rows::emit(module, kernel, shape, knobs, entry);
  }

  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override {
    std::vector<std::string> lines = simt::describe(kernel);
    auto knob = [&](const char *name) { return schedule.at(name); };
    lines.back() = fmt::format("{} threads a workgroup, {} x {} share out K; {} columns x {} rows "
                               "at a time, {} units of a "
                               "column on their way, {} pieces",
                               knob("threads"), knob("ks"), knob("lanes"), knob("r"), knob("rows"),
                               knob("u"), knob("pieces"));
    return lines;
  }
};

} // namespace

ColumnPlace::ColumnPlace(PhaseBuilder &p, const Columns &columns, Value block, int64_t count)
    : apart(columns.apart), run(apart == 0 ? count : count / 2) {
  if (apart == 0) {
    first = p.named(p.mul(block, count), "first_col");
    return;
  }
  const int64_t inHead = apart / run;
  Value head = p.mul(p.div(block, inHead), 2 * apart);
  first = p.named(p.add(head, p.mul(p.rem(block, inHead), run)), "first_col");
}

Value ColumnPlace::column(PhaseBuilder &p, Value local) const {
  Value col = p.add(first, local);
  return apart == 0 ? col : p.select(p.lessThan(local, p.c(run)), col, p.add(col, apart - run));
}

Launching rows::emit(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                     const Knobs &knobs, StringRef entry) {
  // A phase has groups of one unit.
  const std::vector<Unit> units = shape.distinctUnits();
  SmallVector<SmallVector<unsigned>> phases(shape.separate ? shape.groups.size() : units.size());
  for (unsigned g = 0; g < shape.groups.size(); ++g)
    phases[shape.separate ? g : llvm::find(units, shape.groups[g].unit) - units.begin()].push_back(
        g);
  Launching launching;
  const size_t before = shape.integers() && knobs.prepare ? units.size() : 0,
               count = before + phases.size();
  for (size_t i = 0; i < before; ++i)
    prepareIntegers(module, kernel, shape, i, phaseEntry(entry, i, count), launching);
  for (const auto &[i, groups] : llvm::enumerate(phases)) {
    const std::string name = phaseEntry(entry, before + i, count);
    launching.phases.push_back(
        MatmulRowsEmitter(module, kernel, shape, knobs, groups, name).emit());
    launching.phases.back().afterPrevious = i == 0; // they do not wait for each other
  }
  return launching;
}

const Method &simt::matmulRows() {
  static const Rows method;
  return method;
}
