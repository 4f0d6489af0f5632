// sample and advance on a CPU: the reference's ids and state, bit by bit.
#include "KernelRunner.h"
#include "SampleRows.h"

#include "kernelforge/kernels/Reference.h"
#include "kernelforge/support/CounterRandom.h"
#include "kernelforge/support/Sampling.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>

using namespace kernelforge;

namespace {

using Ints = std::vector<int32_t>;

std::string sizeText(const std::string &name) {
  return fmt::format("%{0}: index {{transformer.size = #transformer.size<\"{0}\", 1 to 64>}}",
                     name);
}
std::string type(const std::string &size, int64_t width, const std::string &element) {
  return fmt::format("tensor<?x{}{}, #transformer.dims<\"{}\">>",
                     width == 0 ? "" : fmt::format("{}x", width), element, size);
}

//===----------------------------------------------------------------------===//
// sample
//===----------------------------------------------------------------------===//

std::string sampleText(int64_t vocabulary, int64_t window) {
  const std::string x = type("rows", vocabulary, "f32"), s = type("rows", 5, "f32"),
                    d = type("rows", 3, "i32"), p = type("rows", 0, "i32"),
                    r = type("rows", window, "i32");
  return fmt::format("transformer.kernel @k({}, %x: {}, %s: {}, %d: {}, %p: {}{}) -> {} {{\n"
                     "%y = transformer.sample %x settings(%s) draws(%d) positions(%p) {} : "
                     "({}, {}, {}, {}{}) -> {}\ntransformer.yield %y : {}\n}}",
                     sizeText("rows"), x, s, d, p, window ? ", %r: " + r : "", p,
                     window ? "recent(%r)" : "", x, s, d, p, window ? ", " + r : "", p, p);
}

Ints expectedIds(const Sampled &s, int64_t vocabulary, int64_t window) {
  const auto rows = static_cast<int64_t>(s.positions.size());
  Ints ids(rows);
  reference::sample({reference::denseRows(s.logits.data(), rows, vocabulary),
                     reference::denseRows(s.settings.data(), rows, 5), s.draws, s.positions,
                     s.recent, window},
                    ids);
  return ids;
}

TEST(SampleKernel, ChoosesTheReferencesIds) {
  for (const std::string &level : everyRunnableLevel())
    for (auto [vocabulary, window] :
         {std::pair<int64_t, int64_t>{1, 1}, {2, 3}, {15, 0}, {16, 9}, {17, 5}, {333, 64}}) {
      const CompiledKernel kernel = compileOrDie(sampleText(vocabulary, window), level);
      const int64_t rows = 63;
      const Sampled s = sampled(rows, vocabulary, window);
      std::vector<Bytes> arguments{bytesOf(s.logits), bytesOf(s.settings), bytesOf(s.draws),
                                   bytesOf(s.positions)};
      if (window != 0)
        arguments.push_back(bytesOf(s.recent));
      const Ints ids = valuesOf<int32_t>(kernel.run({rows}, arguments).results[0]);
      const Ints expected = expectedIds(s, vocabulary, window);
      for (int64_t r = 0; r < rows; ++r)
        EXPECT_EQ(ids[r], expected[r]) << level << ", " << vocabulary << " ids, row " << r;
      EXPECT_EQ(expected[5], -1); // no logit that is a number
    }
}

//===----------------------------------------------------------------------===//
// advance
//===----------------------------------------------------------------------===//

std::string advanceText(int64_t page, int64_t window) {
  const std::string i = type("rows", 0, "i32"), l = type("sequences", 0, "i32"),
                    t = page ? type("sequences", 3, "i32") : l, r = type("rows", window, "i32");
  const std::string more = window ? ", " + r : "";
  return fmt::format(
      "transformer.kernel @k({}, {}, %i: {i}, %p: {i}, %s: {i}, %of: {i}, %t: {t}, %l: {l}, "
      "%m: {l}{}) -> ({i}, {i}, {i}, {l}{more}) {{\n"
      "%y:{n} = transformer.advance %i, %p, %s sequences(%of) table(%t) lengths(%l) limits(%m) "
      "{} {{page = {}}} : ({i}, {i}, {i}, {i}, {t}, {l}, {l}{more}) -> ({i}, {i}, {i}, {l}{more})\n"
      "transformer.yield %y#0, %y#1, %y#2, %y#3{} : {i}, {i}, {i}, {l}{more}\n}}",
      sizeText("rows"), sizeText("sequences"), window ? ", %r: " + r : "",
      window ? "recent(%r)" : "", page, window ? ", %y#4" : "", fmt::arg("i", i), fmt::arg("l", l),
      fmt::arg("t", t), fmt::arg("more", more), fmt::arg("n", window ? 5 : 4));
}

TEST(AdvanceKernel, GivesTheReferencesState) {
  const std::string level = runnableLevels().front();
  for (int64_t page : {0, 1, 8})
    for (int64_t window : {0, 1, 6}) {
      const CompiledKernel kernel = compileOrDie(advanceText(page, window), level);
      const int64_t rows = 61, sequences = 7, width = page ? 3 : 1;
      auto random = [](uint64_t seed, int64_t count, int32_t from, int32_t to) {
        Ints values(count);
        for (int64_t i = 0; i < count; ++i)
          values[i] = from + int32_t(randomBits(seed, i) % uint64_t(to - from));
        return values;
      };
      const Ints ids = random(1, rows, -1, 9), positions = random(2, rows, 0, 30),
                 slots = random(3, rows, -1, 5), of = random(4, rows, 0, sequences),
                 table = random(5, sequences * width, page ? -1 : 0, 90),
                 lengths = random(6, sequences, 1, 9), limits = random(7, sequences, 5, 40),
                 recent = random(8, rows * window, -1, 99);
      std::vector<Bytes> arguments{bytesOf(ids),   bytesOf(positions), bytesOf(slots), bytesOf(of),
                                   bytesOf(table), bytesOf(lengths),   bytesOf(limits)};
      if (window != 0)
        arguments.push_back(bytesOf(recent));
      const KernelOutcome outcome = kernel.run({rows, sequences}, arguments);
      Ints nextIds(rows), nextPositions(rows), nextSlots(rows), nextLengths(sequences),
          nextRecent(rows * window);
      reference::advance(
          {ids, positions, slots, of, table, width, lengths, limits, recent, window, page},
          {nextIds, nextPositions, nextSlots, nextLengths, nextRecent});
      const std::string what = fmt::format("page {}, window {}", page, window);
      EXPECT_EQ(valuesOf<int32_t>(outcome.results[0]), nextIds) << what;
      EXPECT_EQ(valuesOf<int32_t>(outcome.results[1]), nextPositions) << what;
      EXPECT_EQ(valuesOf<int32_t>(outcome.results[2]), nextSlots) << what;
      EXPECT_EQ(valuesOf<int32_t>(outcome.results[3]), nextLengths) << what;
      if (window != 0)
        EXPECT_EQ(valuesOf<int32_t>(outcome.results[4]), nextRecent) << what;
      EXPECT_THAT(nextSlots, testing::Contains(-1)) << what;
      EXPECT_THAT(nextSlots, testing::Contains(testing::Gt(0))) << what;
    }
}

TEST(StepKernels, StandAlone) {
  const std::string x = type("rows", 8, "f32"), s = type("rows", 5, "f32"),
                    d = type("rows", 3, "i32"), p = type("rows", 0, "i32");
  auto kernel = CompiledKernel::compile(
      fmt::format("transformer.kernel @k({0}, %x: {1}, %s: {2}, %d: {3}, %p: {4}) -> {4} {{\n"
                  "%z = transformer.softmax %x : {1}\n"
                  "%y = transformer.sample %z settings(%s) draws(%d) positions(%p) : "
                  "({1}, {2}, {3}, {4}) -> {4}\ntransformer.yield %y : {4}\n}}",
                  sizeText("rows"), x, s, d, p),
      "native");
  ASSERT_FALSE(kernel);
  EXPECT_THAT(kernel.error().line(), testing::HasSubstr("in one kernel with other operations"));
}

} // namespace
