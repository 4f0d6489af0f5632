// Sequences of different lengths in one call of one program, their prefill and decode rows mixed:
// each gets the bits that it gets alone, wherever its keys and values lie.
#include "DecoderFixture.h"

#include "kernelforge/compiler/Targets.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

constexpr int64_t sequences = 5, page = 8;

/// What five sequences append in each call of "prefill": long and short prompts, then the rest of a
/// prompt beside single tokens of others, then a token of each.
const std::vector<Batch> &calls() {
  static const std::vector<Batch> calls = {
      {{1, 7, 30, 2, 9, 4, 11}, {5}, {8, 8, 12, 3, 3, 21, 6, 6, 6, 1, 2, 25}, {}, {3, 1}},
      {{20}, {6, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, {29}, {17, 31}, {0}},
      {{19}, {4}, {18}, {2}, {9}},
  };
  return calls;
}

/// A token of some sequences, which "decode" appends after all of that.
const Batch &step() {
  static const Batch step = {{22}, {13}, {}, {27}, {10}};
  return step;
}

/// Result rows by sequence, in order.
using Rows = std::vector<std::vector<float>>;

/// Appends `tokens` in one call and shares the rows of its result out to the sequences.
void append(TestDecoder &decoder, const std::string &function, const Batch &tokens, Rows &rows) {
  auto results = decoder.append(function, tokens);
  ASSERT_TRUE(results) << results.error().line();
  size_t count = 0;
  for (const auto &sequence : tokens)
    count += sequence.size();
  const size_t width = results->size() / count;
  auto from = results->begin();
  for (size_t s = 0; s < tokens.size(); ++s) {
    const auto to = from + static_cast<int64_t>(tokens[s].size() * width);
    rows[s].insert(rows[s].end(), from, to);
    from = to;
  }
}

Rows together(TestDecoder &decoder) {
  decoder.reset();
  Rows rows(sequences);
  for (const Batch &tokens : calls())
    append(decoder, "prefill", tokens, rows);
  append(decoder, "decode", step(), rows);
  return rows;
}

/// Each sequence by itself, as the first one: with its part of each call, or a row in each call,
/// which is another way to cut the same work.
Rows alone(TestDecoder &decoder, bool rowByRow = false) {
  Rows rows(sequences);
  for (size_t s = 0; s < sequences; ++s) {
    decoder.reset();
    Rows own(1);
    for (const Batch &call : calls()) {
      std::vector<std::vector<int32_t>> parts;
      if (!rowByRow && !call[s].empty())
        parts.push_back(call[s]);
      for (size_t i = 0; rowByRow && i < call[s].size(); ++i)
        parts.push_back({call[s][i]});
      for (const std::vector<int32_t> &tokens : parts)
        append(decoder, "prefill", {tokens}, own);
    }
    if (!step()[s].empty())
      append(decoder, "decode", {step()[s]}, own);
    rows[s] = own[0];
  }
  return rows;
}

void expectSame(const Rows &actual, const Rows &expected, const std::string &what) {
  for (size_t s = 0; s < sequences; ++s) {
    ASSERT_EQ(actual[s].size(), expected[s].size());
    ASSERT_FALSE(actual[s].empty());
    size_t differ = 0;
    for (size_t i = 0; i < actual[s].size(); ++i)
      differ += actual[s][i] != expected[s][i]; // NaN is never the same
    EXPECT_EQ(differ, 0u) << what << ", sequence " << s << " of " << actual[s].size()
                          << " numbers; relative distance "
                          << relativeDistance(actual[s], expected[s]);
  }
}

class Batches : public testing::Test {
protected:
  static void SetUpTestSuite() { home = std::make_unique<TemporaryHome>(); }
  static void TearDownTestSuite() { home.reset(); }

  /// Nothing, and a failed test, where the decoder cannot be made.
  static std::unique_ptr<TestDecoder> make(DecoderCase decoder, int64_t pageSize,
                                           const Target &target) {
    decoder.sequences = sequences;
    decoder.cache.page = pageSize;
    SessionOptions options = TestDecoder::options();
    options.cache = true;
    options.target = target;
    auto test = TestDecoder::create(decoder, std::move(options));
    if (test)
      return std::move(*test);
    ADD_FAILURE() << decoder.name << ": " << test.error().line();
    return nullptr;
  }

  static void check(const std::string &name, ElementType cacheType, const Target &target) {
    SCOPED_TRACE(fmt::format("{} on {} {}", name, target.kind, target.chip));
    DecoderCase decoder = decoderCase(name);
    decoder.cache.type = cacheType;
    auto contiguous = make(decoder, 0, target), paged = make(decoder, page, target);
    ASSERT_TRUE(contiguous && paged);
    const Rows rows = together(*contiguous);
    expectSame(rows, alone(*contiguous), "together and alone");
    expectSame(rows, alone(*contiguous, true), "together and row by row");
    expectSame(together(*paged), rows, "paged and contiguous");
    expectSame(alone(*paged), rows, "alone, paged");
  }

  static inline std::unique_ptr<TemporaryHome> home;
};

TEST_F(Batches, EachSequenceHasTheBitsThatItHasAlone) {
  const Target native = TestDecoder::options("native").target,
               avx2 = TestDecoder::options("avx2").target;
  check("NormedHeads", ElementType::F32, native);
  check("LlamaInterleavedMixedTypes", ElementType::F16, native);
  check("WindowSoftcapOddHead", ElementType::F32, avx2);
}

TEST_F(Batches, AndSoItIsInTheReference) {
  check("NormedHeads", ElementType::BF16, referenceTarget());
}

} // namespace
