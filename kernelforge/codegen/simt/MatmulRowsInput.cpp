#include "kernelforge/codegen/simt/MatmulRowsInput.h"

#include "kernelforge/codegen/simt/Reduce.h"
#include "kernelforge/codegen/simt/Weights.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::simt::rows;

using Values = SmallVector<Value>;

RowInput::RowInput(PhaseBuilder &p, transformer::MatmulOp matmul, const Shape &shape,
                   const Knobs &knobs, const Unit &unit)
    : p(p), input(matmul.getInput()), shape(shape), knobs(knobs), ofUnit(unit),
      units(shape.units(unit)), stagedUnits(shape.stagedUnits(unit)) {
  // Sums are proportional to a row, but what numbers are rounded to is not.
  auto made = input.getDefiningOp<transformer::RmsNormOp>();
  if (made && isMade(shape, knobs) && !roundedTo(shape.numerics) && made.getSeparateHeads() == 1)
    norm = made;
}

Value RowInput::evaluate(RowExpressions &expressions, const Position &position) {
  if (!norm)
    return expressions.evaluate(input, position);
  Value x = p.named(expressions.evaluate(norm.getInput(), position), "x");
  normed.push_back(x);
  Value weight = readParameter(p, norm.getWeight(), position.col, position.lanes);
  if (const double offset = norm.getOffset().convertToDouble(); offset != 0)
    weight = p.addf(p.cf(offset), weight);
  return p.mulf(x, weight);
}

void RowInput::makeRow(RowExpressions &expressions, Value row, int64_t count,
                       llvm::function_ref<void(Value part)> make) {
  expressions.prepareRow(norm ? norm.getInput() : input, row);
  if (!norm) {
    p.loop("part", p.thread(), p.c(count), p.blockThreads(), make);
    return;
  }
  Value none = p.splat(p.cf(0), std::min<int64_t>(ofUnit.elements, 4));
  Value sum = p.loop("part", p.thread(), p.c(count), p.blockThreads(), "squares", none,
                     [&](Value part, ValueRange carried) {
                       normed.clear();
                       make(part);
                       Value sum = carried[0];
                       for (Value x : normed)
                         sum = p.fma(x, x, sum);
                       return Values{sum};
                     })[0];
  squares.push_back(p.named(p.sumOfLanes(sum), "squares"));
}

/// A barrier, which a norm's sums need, too.
void RowInput::waitForRows() {
  if (!norm) {
    p.barrier();
    return;
  }
  for (Value total : reduceBlock(p, squares, Combine::Sum, sharingOf(shape).subgroup, "squares")) {
    Value mean = p.divf(total, p.cf(static_cast<double>(shape.k)));
    Value root = p.sqrt(p.addf(mean, p.cf(norm.getEpsilon().convertToDouble())));
    factors.push_back(p.named(p.divf(p.cf(1), root), "norm_factor"));
  }
}

void RowInput::prepare(RowExpressions &expressions, ArrayRef<Value> rows) {
  if (shape.integers()) {
    makeWholeNumbers(expressions, rows);
  } else if (knobs.stage) {
    stage(expressions, rows);
  } else {
    const bool isHalves = isHalf(*elementTypeOf(input.getType()));
    grain = ofUnit.runs == 0 ? ofUnit.elements : isHalves ? 8 : 4;
    reader.emplace(p, input, grain);
    for (Value row : rows)
      starts.push_back(p.named(p.mul(row, shape.k / grain), "input_start"));
  }
}

void RowInput::makeWholeNumbers(RowExpressions &expressions, ArrayRef<Value> rows) {
  const int64_t words = integers.wordsOfRow(shape, ofUnit),
                facts = integers.factsOfRow(shape, ofUnit);
  const Type word = p.vec(p.i32, 4), fact = p.vec(p.i32, 2);
  if (knobs.prepare) {
    const std::vector<Unit> all = shape.distinctUnits();
    const auto number = static_cast<int>(llvm::find(all, ofUnit) - all.begin());
    integers = {p.workspace(2 * number, Access::Read, word),
                p.workspace(2 * number + 1, Access::Read, fact)};
  } else {
    const auto count = static_cast<int64_t>(rows.size());
    integers = {p.shared("words", word, count * words), p.shared("facts", fact, count * facts)};
  }
  auto read = [&](const Position &position) { return evaluate(expressions, position); };
  const IntegerMaker maker(p, read, shape, ofUnit, integers);
  for (auto [m, row] : llvm::enumerate(rows)) {
    Value place = knobs.prepare ? row : p.c(int64_t(m));
    if (!knobs.prepare)
      makeRow(expressions, row, maker.parts(), [&](Value part) { maker.make(row, part, place); });
    starts.push_back(p.named(p.mul(place, words), "words_start"));
    factStarts.push_back(p.named(p.mul(place, facts), "facts_start"));
  }
  if (!knobs.prepare)
    waitForRows();
}

/// Quads of all units that stand at the same place in them come side by side, so that neighbouring
/// threads read neighbouring quads.
void RowInput::stage(RowExpressions &expressions, ArrayRef<Value> rows) {
  const int64_t lanes = std::min<int64_t>(ofUnit.elements, 4), width = shape.stagedWords(ofUnit);
  staged = p.shared("rows", lanes == 4 ? Type(p.vec(p.f32, 4)) : p.f32,
                    width / lanes * static_cast<int64_t>(rows.size()));
  const int64_t quads = (ofUnit.runs > 0 ? runElements : ofUnit.elements) / lanes;
  for (auto [m, row] : llvm::enumerate(rows))
    makeRow(expressions, row, shape.k / lanes, [&](Value at) {
      Value x = evaluate(expressions, {row, p.mul(at, lanes), lanes});
      Value number = p.div(at, quads), quad = p.rem(at, quads);
      if (ofUnit.runs > 0) {
        const RunPlace place(p, ofUnit, number);
        number = place.unit;
        quad = p.add(p.mul(place.run, quads), quad);
      }
      Value place = p.add(p.mul(quad, stagedUnits), number);
      p.storeVector(roundedFor(p, shape.numerics, x), staged,
                    p.add(place, int64_t(m) * width / lanes));
    });
  waitForRows();
}

Value RowInput::column(Value at, int64_t run, int64_t steps) {
  const int64_t ofChunk = ofUnit.chunk / ofUnit.elements; // units
  Value begin = p.mul(p.div(at, ofChunk), ofUnit.chunk / steps);
  Value within = p.mul(p.rem(at, ofChunk), runElements / steps);
  return p.add(p.add(begin, within), run * ofChunk * runElements / steps);
}

InputRuns RowInput::wholeNumbers(size_t row, Value at, const Runs &runs) {
  InputRuns found;
  for (int64_t run = runs.first; run < runs.first + runs.count; ++run) {
    for (int64_t plane = 0; plane < shape.bytePlanes(); ++plane) {
      Value word = p.add(p.add(starts[row], at), (plane * ofUnit.runs + run) * units);
      (plane == 0 ? found.high : found.low)
          .push_back(p.named(p.loadVector(integers.words, word), "x"));
    }
    Value fact = p.add(p.add(factStarts[row], at), run * units);
    Value both = p.named(p.loadVector(integers.facts, fact), "facts");
    found.factors.push_back(p.bitsToFloat(p.extract(both, int64_t(0))));
    found.sums.push_back(p.extract(both, 1));
  }
  return found;
}

Values RowInput::quadsOf(size_t row, Value at, const Runs &runs) {
  Values quads;
  if (knobs.stage) {
    const int64_t ofRow = std::max<int64_t>(1, ofUnit.elements / 4);
    const int64_t ofRun = ofRow / std::max<int64_t>(1, ofUnit.runs);
    for (int64_t i = runs.first * ofRun; i < (runs.first + runs.count) * ofRun; ++i) {
      Value place = p.add(at, (static_cast<int64_t>(row) * ofRow + i) * stagedUnits);
      quads.push_back(p.named(p.loadVector(staged, place), "x"));
    }
    return quads;
  }
  if (ofUnit.runs == 0) {
    quads = reader->quads(reader->load(p.add(starts[row], at), "x"));
  } else {
    for (int64_t run = runs.first; run < runs.first + runs.count; ++run) {
      Value begin = p.add(starts[row], column(at, run, grain));
      for (int64_t i = 0; i < runElements / grain; ++i)
        llvm::append_range(quads, reader->quads(reader->load(p.add(begin, i), "x")));
    }
  }
  if (elementTypeOf(input.getType()) != roundedTo(shape.numerics))
    for (Value &quad : quads)
      quad = roundedFor(p, shape.numerics, quad);
  return quads;
}

InputRuns RowInput::read(size_t row, Value at, const Runs &runs, bool totals) {
  if (shape.integers())
    return wholeNumbers(row, at, runs);
  InputRuns found;
  found.quads = quadsOf(row, at, runs);
  constexpr size_t quadsOfRun = runElements / 4;
  for (size_t i = 0; totals && i < found.quads.size(); i += quadsOfRun) {
    Value total = found.quads[i];
    for (size_t j = 1; j < quadsOfRun; ++j)
      total = p.addf(total, found.quads[i + j]);
    found.totals.push_back(p.named(p.sumOfLanes(p.named(total, "total")), "total"));
  }
  return found;
}
