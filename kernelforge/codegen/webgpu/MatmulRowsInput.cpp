#include "kernelforge/codegen/webgpu/MatmulRowsInput.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::webgpu;
using namespace kernelforge::webgpu::rows;

using Values = SmallVector<Value>;

RowInput::RowInput(PhaseBuilder &p, transformer::MatmulOp matmul, const Shape &shape,
                   const Knobs &knobs, const Unit &unit)
    : p(p), input(matmul.getInput()), shape(shape), knobs(knobs), ofUnit(unit),
      units(shape.units(unit)), stagedUnits(shape.stagedUnits(unit)) {}

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
  for (auto [m, row] : llvm::enumerate(rows)) {
    Value place = knobs.prepare ? row : p.c(int64_t(m));
    if (!knobs.prepare) {
      expressions.prepareRow(input, row);
      const IntegerMaker maker(p, expressions, input, shape, ofUnit, integers);
      p.loop("part", p.thread(), p.c(maker.parts()), p.blockThreads(),
             [&](Value part) { maker.make(row, part, place); });
    }
    starts.push_back(p.named(p.mul(place, words), "words_start"));
    factStarts.push_back(p.named(p.mul(place, facts), "facts_start"));
  }
  if (!knobs.prepare)
    p.barrier();
}

/// Quads of all units that stand at the same place in them come side by side, so that neighbouring
/// threads read neighbouring quads.
void RowInput::stage(RowExpressions &expressions, ArrayRef<Value> rows) {
  const int64_t lanes = std::min<int64_t>(ofUnit.elements, 4);
  const int64_t width = shape.stagedWords(ofUnit) / lanes;
  const int64_t runs = std::max<int64_t>(1, ofUnit.runs), quads = ofUnit.elements / lanes / runs;
  staged = p.shared("rows", lanes == 4 ? Type(p.vec(p.f32, 4)) : p.f32,
                    width * static_cast<int64_t>(rows.size()));
  for (auto [m, row] : llvm::enumerate(rows)) {
    expressions.prepareRow(input, row);
    for (int64_t run = 0; run < runs; ++run)
      p.loop("quad", p.thread(), p.c(units * quads), p.blockThreads(), [&](Value at) {
        Value number = p.named(p.div(at, quads), "unit"), quad = p.rem(at, quads);
        Value col = ofUnit.runs > 0 ? column(number, run, 1) : p.mul(number, ofUnit.elements);
        Value x = expressions.evaluate(input, {row, p.add(col, p.mul(quad, lanes)), lanes});
        Value place = p.add(p.mul(quad, stagedUnits), number);
        p.storeVector(roundedFor(p, shape.numerics, x), staged,
                      p.add(place, int64_t(m) * width + run * quads * stagedUnits));
      });
  }
  p.barrier();
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
  if (*elementTypeOf(input.getType()) != ElementType::F16)
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
