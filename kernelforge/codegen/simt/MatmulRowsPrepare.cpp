// The rows of a matmul as whole numbers in blocks of 32, each a multiple of what the block's
// largest value says: neighbouring threads make a block, four elements each where as many can
// exchange values by shuffles.
#include "kernelforge/codegen/simt/Epilogue.h"
#include "kernelforge/codegen/simt/MatmulRows.h"
#include "kernelforge/codegen/simt/MatmulUnits.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::simt::rows;

using Values = SmallVector<Value>;

namespace {

/// The f32 n + 1.5 * 2^23 has a whole number n in its low bits, and this above them.
constexpr double above = 12582912;
constexpr int64_t bitsAbove = 0x4b400000;

constexpr int64_t quadsOfBlock = 8, quadsOfRun = runElements / 4;

/// Largest whole number, so that the high byte of two is none above 127 after rounding.
int64_t largestOf(const Shape &shape) { return shape.bytePlanes() == 2 ? 32512 : 127; }

/// The largest lane of several quads.
Value largest(PhaseBuilder &p, ArrayRef<Value> quads) {
  Value most = quads[0];
  for (Value quad : quads.drop_front())
    most = p.maxf(most, quad);
  Value ofLanes = p.extract(most, int64_t(0));
  for (int64_t i = 1; i < 4; ++i)
    ofLanes = p.maxf(ofLanes, p.extract(most, i));
  return ofLanes;
}

/// Whole numbers of a quad, with so much added that none is negative, as words of bytes.
struct PackedQuad {
  Value high, low; ///< low: null where one byte is enough
  PackedQuad(PhaseBuilder &p, Value biased, int64_t planes) {
    // Two numbers in the halves of a word: the first and the third, the second and the fourth.
    auto pair = [&](int64_t i) {
      Value both = p.orBits(p.extract(biased, i), p.shl(p.extract(biased, i + 2), 16));
      return p.named(both, "pair");
    };
    Value even = pair(0), odd = pair(1);
    if (planes == 1) {
      high = p.orBits(even, p.shl(odd, 8));
    } else {
      constexpr int64_t lowBytes = 0x00ff00ff, highBytes = 0xff00ff00, half = 0x00800080;
      low = p.orBits(p.andBits(even, lowBytes), p.shl(p.andBits(odd, lowBytes), 8));
      high = p.orBits(p.andBits(p.shr(p.add(even, half), 8), lowBytes),
                      p.andBits(p.add(odd, half), highBytes));
    }
    high = p.xorBits(high, p.c(0x80808080)); // what was added is in these
  }
};

} // namespace

IntegerMaker::IntegerMaker(PhaseBuilder &p, Reader read, const Shape &shape, const Unit &unit,
                           const IntegerRows &to)
    : p(p), read(read), shape(shape), unit(unit), to(to),
      threads(std::min({shape.lanes, quadsOfBlock, p.blockThreads()})) {}

int64_t IntegerMaker::parts() const { return shape.k / (4 * quadsOfBlock) * threads; }

Value IntegerMaker::overThreads(Value value, int64_t count,
                                llvm::function_ref<Value(Value, Value)> join) const {
  for (int64_t mask = 1; mask < count; mask *= 2) {
    value = p.named(value, "own");
    value = join(value, p.shuffleXor(value, mask, shape.lanes));
  }
  return value;
}

void IntegerMaker::make(Value row, Value part, Value place) const {
  const int64_t own = quadsOfBlock / threads; // quads
  Values quads, magnitudes;
  for (int64_t i = 0; i < own; ++i) {
    Value col = p.mul(p.add(p.mul(part, own), i), 4);
    quads.push_back(p.named(read({row, col, 4}), "x"));
    magnitudes.push_back(p.absf(quads.back()));
  }
  auto larger = [&](Value x, Value y) { return p.maxf(x, y); };
  Value highest = p.named(overThreads(largest(p, magnitudes), threads, larger), "largest");
  const auto limit = static_cast<double>(largestOf(shape));
  Value isZero = p.cmpf(arith::CmpFPredicate::OEQ, highest, p.cf(0));
  Value inverse = p.named(p.select(isZero, p.cf(0), p.divf(p.cf(limit), highest)), "inverse");
  Value factor = p.named(p.mulf(highest, p.cf(1 / limit)), "factor");
  const int64_t added = shape.bytePlanes() == 2 ? 32768 : 128;
  const int64_t ofRun = std::min(own, quadsOfRun); // of a run, the quads of a thread
  const int64_t together = quadsOfRun / ofRun;     // threads that have a run
  const bool needsSums = unit.runs > 1;            // q8_0 has neither minima nor zeros
  for (int64_t begin = 0; begin < own; begin += ofRun) {
    Values high, low;
    Value sum = p.c(0);
    for (Value quad :
         ArrayRef(quads).slice(static_cast<size_t>(begin), static_cast<size_t>(ofRun))) {
      Value bits = p.floatToBits(p.addf(p.mulf(quad, inverse), p.cf(above)));
      Value biased = p.named(p.sub(bits, p.splat(p.c(bitsAbove - added), 4)), "biased");
      for (int64_t i = 0; needsSums && i < 4; ++i)
        sum = p.add(sum, p.extract(biased, i));
      const PackedQuad packed(p, biased, shape.bytePlanes());
      high.push_back(p.named(packed.high, "high"));
      if (packed.low)
        low.push_back(p.named(packed.low, "low"));
    }
    if (needsSums) {
      sum = p.sub(sum, 4 * ofRun * added);
      sum = overThreads(sum, together, [&](Value x, Value y) { return p.add(x, y); });
    }
    // The first of a run's threads gets the words of the others, in order.
    for (Values *words : {&high, &low})
      for (int64_t mask = 1; mask < together && !words->empty(); mask *= 2)
        for (Value word : Values(*words))
          words->push_back(p.named(p.shuffleXor(word, mask, shape.lanes), "word"));
    auto put = [&] {
      store(p.div(p.add(p.mul(part, own), begin), quadsOfRun), place, high, low, factor, sum);
    };
    if (together == 1)
      put();
    else
      p.ifThen(p.cmp(arith::CmpIPredicate::eq, p.rem(part, together), p.c(0)), put);
  }
}

void IntegerMaker::store(Value run, Value place, const Values &high, const Values &low,
                         Value factor, Value sum) const {
  const RunPlace at(p, unit, run);
  Value inRow = p.named(p.add(p.mul(at.run, shape.units(unit)), at.unit), "in_row");
  Value word = p.named(p.add(p.mul(place, to.wordsOfRow(shape, unit)), inRow), "at");
  p.storeVector(p.vector(high), to.words, word);
  if (!low.empty())
    p.storeVector(p.vector(low), to.words, p.add(word, to.factsOfRow(shape, unit)));
  p.storeVector(p.vector({p.floatToBits(factor), sum}), to.facts,
                p.add(p.mul(place, to.factsOfRow(shape, unit)), inRow));
}

void rows::prepareIntegers(ModuleOp module, const KernelAnalysis &kernel, const Shape &shape,
                           size_t number, StringRef entry, Launching &launching) {
  const Unit unit = shape.distinctUnits()[number];
  const int first = 2 * static_cast<int>(number);
  // Rows that are computed may need whole rows, for which a workgroup has all of one.
  const int64_t most = shape.staged ? 512 : 64;
  PhaseBuilder p(module, kernel.kernel(), entry, std::min(most, shape.threads));
  RowExpressions expressions(p, sharingOf(shape));
  Value input = kernel.matmul().getInput();
  const IntegerRows to = {p.workspace(first, Access::Write, p.vec(p.i32, 4)),
                          p.workspace(first + 1, Access::Write, p.vec(p.i32, 2))};
  auto read = [&](const Position &position) { return expressions.evaluate(input, position); };
  const IntegerMaker maker(p, read, shape, unit, to);
  const int64_t parts = maker.parts();
  const int64_t shares = shape.staged ? 1 : (parts + p.blockThreads() - 1) / p.blockThreads();
  Value row = p.named(p.div(p.block(), shares), "row");
  expressions.prepareRow(input, row);
  auto make = [&](Value part) { maker.make(row, part, row); };
  if (shape.staged) {
    p.loop("part", p.thread(), p.c(parts), p.blockThreads(), make);
  } else {
    Value share = p.rem(p.block(), shares);
    Value part = p.named(p.add(p.mul(share, p.blockThreads()), p.thread()), "part");
    p.ifThen(p.lessThan(part, p.c(parts)), [&] { make(part); });
  }
  const Extent rowCount = p.rowsExtent(input.getType());
  launching.phases.push_back(p.finish(rowCount * Extent(shares)));
  launching.workspaces.push_back({.bytes = rowCount * Extent(to.wordsOfRow(shape, unit) * 16)});
  launching.workspaces.push_back({.bytes = rowCount * Extent(to.factsOfRow(shape, unit) * 8)});
}
