// Matmuls of few rows. Of each column that a team sums, its threads read neighbouring 16 bytes,
// then the next ones; what they summed comes together by shuffles, each of which halves
// the sums that a thread still holds. Rows that the kernel computes itself are computed once by
// each workgroup, into its memory.
#include "kernelforge/codegen/webgpu/MatmulRows.h"

#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/Weights.h"
#include "kernelforge/codegen/webgpu/Epilogue.h"
#include "kernelforge/codegen/webgpu/MatmulUnits.h"
#include "kernelforge/codegen/webgpu/Methods.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;
using namespace kernelforge::webgpu;
using namespace kernelforge::webgpu::rows;

namespace {

using Values = SmallVector<Value>;

/// Emits a phase: of all groups, or of one.
class Emitter {
public:
  Emitter(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape, const Knobs &knobs,
          ArrayRef<unsigned> groups, StringRef entry)
      : p(module, kernel.kernel(), entry, knobs.threads), kernel(kernel), matmul(kernel.matmul()),
        shape(shape), knobs(knobs), groups(groups), unit(shape.groups[groups[0]].unit),
        units(shape.units(unit)), rows(p, sharingOf(shape)) {}

  Phase emit() {
    Type input = matmul.getInput().getType();
    int64_t blocks = 0;
    for (unsigned g : groups)
      blocks += shape.blocks(shape.groups[g], knobs);
    const bool allRows = shape.rows <= knobs.rows;
    Value block = allRows ? p.block() : p.named(p.rem(p.block(), blocks), "column_block");
    placeRows(allRows ? p.c(0) : p.div(p.block(), blocks));
    placeThread();
    prepareInput();
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

  /// What units of the rows are read from.
  void prepareInput() {
    Value input = matmul.getInput();
    if (shape.integers()) {
      const std::vector<Unit> all = shape.distinctUnits();
      const auto number = static_cast<int>(llvm::find(all, unit) - all.begin());
      if (knobs.prepare)
        integers = {p.workspace(2 * number, Access::Read, p.vec(p.i32, 4)),
                    p.workspace(2 * number + 1, Access::Read, p.vec(p.i32, 2))};
      else
        makeIntegersHere();
      for (auto [m, row] : llvm::enumerate(own)) {
        Value place = knobs.prepare ? row : p.c(int64_t(m));
        starts.push_back(p.named(p.mul(place, integers.wordsOfRow(shape, unit)), "words_start"));
        factStarts.push_back(
            p.named(p.mul(place, integers.factsOfRow(shape, unit)), "facts_start"));
      }
    } else if (shape.staged) {
      stageInput();
    } else {
      const bool isHalves = isHalf(*elementTypeOf(input.getType()));
      grain = unit.runs == 0 ? unit.elements : isHalves ? 8 : 4;
      reader.emplace(p, input, grain);
      for (Value row : own)
        starts.push_back(p.named(p.mul(row, shape.k / grain), "input_start"));
    }
  }

  /// The same for this workgroup alone.
  void makeIntegersHere() {
    Value input = matmul.getInput();
    integers.words =
        p.shared("words", p.vec(p.i32, 4), knobs.rows * integers.wordsOfRow(shape, unit));
    integers.facts =
        p.shared("facts", p.vec(p.i32, 2), knobs.rows * integers.factsOfRow(shape, unit));
    for (auto [m, row] : llvm::enumerate(own)) {
      rows.prepareRow(input, row);
      p.loop("run", p.thread(), p.c(shape.k / runElements), p.blockThreads(), [&](Value run) {
        makeIntegers(p, rows, input, shape, unit, row, run, integers, p.c(int64_t(m)));
      });
    }
    p.barrier();
  }

  /// Rows that are computed come to workgroup memory: quads of all units that stand at the same
  /// place in them side by side, so that neighbouring threads read neighbouring quads.
  void stageInput() {
    Value input = matmul.getInput();
    const int64_t lanes = std::min<int64_t>(unit.elements, 4), width = shape.k / lanes;
    const int64_t runs = std::max<int64_t>(1, unit.runs), quads = unit.elements / lanes / runs;
    std::optional<PlaneReader> planes;
    if (unit.runs > 0)
      planes.emplace(p, matmul.getWeights()[kernel.groups()[groups[0]].segments[0]]);
    staged = p.shared("rows", lanes == 4 ? Type(p.vec(p.f32, 4)) : p.f32, width * knobs.rows);
    for (auto [m, row] : llvm::enumerate(own)) {
      rows.prepareRow(input, row);
      for (int64_t run = 0; run < runs; ++run)
        p.loop("quad", p.thread(), p.c(units * quads), p.blockThreads(), [&](Value at) {
          Value number = p.named(p.div(at, quads), "unit"), quad = p.rem(at, quads);
          Value col = planes ? planes->column(number, run) : p.mul(number, unit.elements);
          Value x = rows.evaluate(input, {row, p.add(col, p.mul(quad, lanes)), lanes});
          Value place = p.add(p.mul(quad, units), number);
          p.storeVector(roundedFor(p, shape.numerics, x), staged,
                        p.add(place, int64_t(m) * width + run * quads * units));
        });
    }
    p.barrier();
  }

  /// Unit `at` of row `m`.
  InputUnit inputUnit(int64_t m, Value at, WeightUnits &weight) {
    InputUnit found;
    const auto row = static_cast<size_t>(m);
    if (shape.integers()) {
      for (int64_t run = 0; run < unit.runs; ++run) {
        for (int64_t plane = 0; plane < shape.bytePlanes(); ++plane)
          (plane == 0 ? found.high : found.low)
              .push_back(
                  p.named(p.loadVector(integers.words, p.add(p.add(starts[row], at),
                                                             (plane * unit.runs + run) * units)),
                          "x"));
        Value both = p.named(
            p.loadVector(integers.facts, p.add(p.add(factStarts[row], at), run * units)), "facts");
        found.factors.push_back(p.bitsToFloat(p.extract(both, int64_t(0))));
        found.sums.push_back(p.extract(both, 1));
      }
    } else if (shape.staged) {
      const int64_t quads = std::max<int64_t>(1, unit.elements / 4);
      for (int64_t i = 0; i < quads; ++i)
        found.quads.push_back(
            p.named(p.loadVector(staged, p.add(at, (m * quads + i) * units)), "x"));
    } else if (unit.runs == 0) {
      found.quads = reader->quads(reader->load(p.add(starts[row], at), "x"));
    } else {
      for (int64_t run = 0; run < unit.runs; ++run) {
        Value begin = p.add(starts[row], weight.column(at, run, grain));
        for (int64_t i = 0; i < runElements / grain; ++i)
          llvm::append_range(found.quads, reader->quads(reader->load(p.add(begin, i), "x")));
      }
    }
    if (!shape.staged && shape.numerics == Numerics::F16 &&
        *elementTypeOf(matmul.getInput().getType()) != ElementType::F16)
      for (Value &quad : found.quads)
        quad = roundedFor(p, shape.numerics, quad);
    return found;
  }

  /// The first column of a block, and where a team's columns stand among the results.
  struct Place {
    Value first; ///< column of the results
    int64_t apart, run;
    Value column(PhaseBuilder &p, Value local) const {
      Value col = p.add(first, local);
      return apart == 0 ? col : p.select(p.lessThan(local, p.c(run)), col, p.add(col, apart - run));
    }
  };

  Place placeOf(const Columns &columns, Value block) {
    const int64_t count = knobs.columns();
    if (columns.apart == 0)
      return {p.named(p.mul(block, count), "first_col"), 0, count};
    const int64_t run = count / 2, inHead = columns.apart / run;
    Value head = p.mul(p.div(block, inHead), 2 * columns.apart);
    return {p.named(p.add(head, p.mul(p.rem(block, inHead), run)), "first_col"), columns.apart,
            run};
  }

  void computeGroup(unsigned g, Value block) {
    const SegmentGroup &group = kernel.groups()[g];
    const Columns &columns = shape.groups[g];
    const Place place = placeOf(columns, block);
    Value memory = p.shared("sums", p.f32, shape.sums(knobs));
    auto piece = [&](Value number) {
      Value local = p.mul(p.add(p.mul(number, knobs.teams()), team), knobs.r);
      local = p.named(local, "local_col");
      Value col = p.named(place.column(p, local), "col");
      Values sums = multiply(group, columns, col);
      combine(sums, memory, columns, local);
    };
    if (knobs.pieces == 1)
      piece(p.c(0));
    else
      p.loop("piece", p.c(0), p.c(knobs.pieces), 1, piece);
    p.barrier();
    Strip strip;
    strip.memory = memory;
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
    storeStrip(p, rows, matmul, group, strip, total);
  }

  /// This thread's sums of columns from `col` on: by segment, row and column.
  Values multiply(const SegmentGroup &group, const Columns &columns, Value col) {
    std::vector<WeightUnits> weights;
    Values begins; // of columns, by segment and column
    for (unsigned segment : group.segments)
      weights.emplace_back(p, matmul.getWeights()[segment], unit.elements, shape.numerics);
    const bool areThere = columns.n % knobs.columns() == 0;
    for (int64_t r = 0; r < knobs.r; ++r) {
      Value own = p.add(col, r);
      if (!areThere)
        own = p.min(own, p.c(columns.n - 1));
      begins.push_back(p.named(p.mul(own, units), "begin"));
    }
    const int64_t team = knobs.team(), whole = units / (team * knobs.u);
    auto step = [&](Value at, int64_t count, ValueRange carried) {
      return multiplyUnits(weights, begins, at, count, carried);
    };
    Value zero = unit.elements == 1 || shape.integers() ? p.cf(0) : p.splat(p.cf(0), 4);
    Values sums(weights.size() * begins.size() * own.size(), zero);
    if (whole > 0)
      sums = p.loop("k", first, p.c(whole * team * knobs.u), team * knobs.u, "sum", sums,
                    [&](Value at, ValueRange carried) { return step(at, knobs.u, carried); });
    if (const int64_t done = whole * team * knobs.u; done < units)
      sums = p.loop("k", p.add(first, done), p.c(units), team, "sum", sums,
                    [&](Value at, ValueRange carried) { return step(at, 1, carried); });
    for (Value &sum : sums)
      sum = p.named(p.sumOfLanes(sum), "sum");
    return sums;
  }

  /// Adds `count` units of each column, the first at `at`. All loads of weights come first.
  Values multiplyUnits(MutableArrayRef<WeightUnits> weights, ArrayRef<Value> begins, Value at,
                       int64_t count, ValueRange carried) {
    const int64_t team = knobs.team();
    std::vector<WeightUnits::Loaded> loaded;
    for (int64_t u = 0; u < count; ++u)
      for (WeightUnits &weight : weights)
        for (Value begin : begins)
          loaded.push_back(weight.load(p.add(p.add(begin, at), u * team)));
    Values sums(carried);
    const WeightUnits::Loaded *next = loaded.data();
    for (int64_t u = 0; u < count; ++u) {
      std::vector<InputUnit> inputs;
      for (int64_t m = 0; m < knobs.rows; ++m)
        inputs.push_back(inputUnit(m, p.add(at, u * team), weights[0]));
      for (auto [s, weight] : llvm::enumerate(weights))
        for (size_t r = 0; r < begins.size(); ++r)
          weight.multiply(*next++, inputs, [&, s = s](size_t m) -> Value & {
            return sums[(s * inputs.size() + m) * begins.size() + r];
          });
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
  RowExpressions rows;
  Value total, firstRow;
  Values own; ///< rows
  Value lane, part, team,
      first;                        ///< of this thread: the number of its first unit
  std::optional<PlainUnits> reader; ///< of the input where it is a plain argument
  int64_t grain = 1;                ///< elements of one of its units
  Value staged;                     ///< rows in workgroup memory
  IntegerRows integers;             ///< rows as whole numbers
  Values starts, factStarts;        ///< of the rows in what they are read from
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
    launching.phases.push_back(Emitter(module, kernel, shape, knobs, groups, name).emit());
    launching.phases.back().afterPrevious = i == 0; // they do not wait for each other
  }
  return launching;
}

const Method &webgpu::matmulRows() {
  static const Rows method;
  return method;
}
