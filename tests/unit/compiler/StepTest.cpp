// Steps of decoding that feed themselves: the host's loop of logits and a sampler gives the same.
#include "DecoderFixture.h"

#include "kernelforge/compiler/Targets.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Sampling.h"

#include <algorithm>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

using Ints = std::vector<int32_t>;

constexpr int64_t window = 4;
constexpr int32_t steps = 9, limit = 8; ///< sequence 1 ends on the way

/// Of each sequence: greedy, with all filters, with penalties alone.
SampleSettings settingsOf(size_t sequence) {
  return sequence == 0   ? SampleSettings::of(0, 1, 0, 1.5F)
         : sequence == 1 ? SampleSettings::of(1.5F, 0.95F, 0.01F, 1.2F)
                         : SampleSettings::of(0.7F, 1, 0, 1.8F);
}
SampleDraw drawOf(size_t sequence, uint64_t position) {
  return {static_cast<int32_t>(30 * (sequence == 1)), (sequence << 40) + 77, position};
}

/// The conversation of a session whose module has a step, too.
class Conversation {
public:
  explicit Conversation(const SessionOptions &options) {
    const DecoderCase decoder = decoderCase("LlamaHalfSplit");
    mlir::MLIRContext context;
    FunctionRange step{"step", 1, 4, 1, TestDecoder::sequences};
    step.step = true;
    step.recentWindow = window;
    auto module = buildDecoder(
        &context, decoder.description,
        {FunctionRange{"prefill", 1, 32, 32, 3}, FunctionRange{"decode", 1, 3, 3, 3}, step},
        [](llvm::StringRef) { return ElementType::F32; });
    auto made = TestDecoder::create(decoder, options, printModule(*module));
    EXPECT_TRUE(made) << made.error().line();
    test = std::move(*made);
  }

  /// Reads the prompts, and chooses the tokens that follow them.
  void prefill() {
    test->reset();
    sequences = {{1, 7, 30, 2}, {5, 9}, {8, 8, 12}};
    choose("prefill", sequences);
  }

  /// One step of the host's loop; a sequence that has its tokens takes no part.
  void hostStep() {
    Batch tokens(3);
    for (size_t s = 0; s < 3; ++s)
      if (s != 1 || sequences[s].size() <= limit)
        tokens[s] = {sequences[s].back()};
    choose("decode", tokens);
  }

  /// What the device makes of the same, `steps` times without the host.
  void deviceSteps() {
    Ints ids, positions, slots, of{0, 1, 2, 0}, table, lengths, draws, recent;
    Ints limits{1000, limit, 1000};
    std::vector<float> settings;
    for (size_t s = 0; s < 3; ++s) {
      const auto length = static_cast<int32_t>(sequences[s].size());
      ids.push_back(sequences[s].back());
      positions.push_back(length - 1);
      table.push_back(static_cast<int32_t>((2 - s) * TestDecoder::context));
      slots.push_back(table.back() + length - 1);
      lengths.push_back(length);
    }
    ids.push_back(3); // a row that pads the batch
    positions.push_back(0);
    slots.push_back(-1);
    for (size_t row = 0; row < 4; ++row) {
      const auto each = settingsOf(row % 3).row();
      settings.insert(settings.end(), each.begin(), each.end());
      const SampleDraw draw = drawOf(row % 3, 0);
      draws.insert(draws.end(), {draw.topK, static_cast<int32_t>(draw.seed),
                                 static_cast<int32_t>(draw.seed >> 32)});
      const Ints last = recentOf(row % 3);
      recent.insert(recent.end(), window - last.size(), -1);
      recent.insert(recent.end(), last.begin(), last.end());
    }
    bind("settings", settings);
    bind("draws", draws);
    bind("limits", limits);
    bind("sequences", of);
    bind("table", table);
    std::pair<const char *, Ints *> state[] = {{"ids", &ids},
                                               {"positions", &positions},
                                               {"slots", &slots},
                                               {"lengths", &lengths},
                                               {"recent", &recent}};
    for (int32_t i = 0; i < steps; ++i) {
      std::vector<Ints> next;
      std::vector<std::span<std::byte>> results;
      next.reserve(std::size(state));
      std::vector<float> logits(size_t(4) * 80);
      for (auto [name, values] : state) {
        bind(name, *values);
        results.push_back(std::as_writable_bytes(std::span(next.emplace_back(values->size()))));
      }
      results.push_back(std::as_writable_bytes(std::span(logits)));
      const int64_t sizes[] = {4, 3, TestDecoder::context, TestDecoder::context};
      const Ints before = slots;
      const Status status = test->session().run("step", sizes, results);
      ASSERT_TRUE(status) << status.error().line();
      for (size_t j = 0; j < next.size(); ++j)
        std::ranges::copy(next[j], state[j].second->begin());
      for (size_t s = 0; s < 3; ++s)
        if (before[s] >= 0) {
          const auto row = std::span<const float>(logits).subspan(80 * s, 80);
          EXPECT_EQ(ids[s], TokenSampler().choose(row, settingsOf(s),
                                                  drawOf(s, sequences[s].size()), recentOf(s)));
          sequences[s].push_back(ids[s]);
        }
      EXPECT_EQ(slots[3], -1);
    }
    EXPECT_EQ(slots[1], -1) << "sequence 1 was to end";
    EXPECT_EQ(lengths[1], limit);
    EXPECT_EQ(lengths[0], static_cast<int32_t>(sequences[0].size()));
  }

  Batch sequences; ///< all tokens, the last one not yet fed

private:
  Ints recentOf(size_t sequence) const {
    const Ints &all = sequences[sequence];
    return {all.end() - static_cast<std::ptrdiff_t>(std::min<size_t>(window, all.size())),
            all.end()};
  }

  template <typename T> void bind(const char *name, std::vector<T> &values) {
    const Status status = test->session().bind(name, std::as_writable_bytes(std::span(values)));
    ASSERT_TRUE(status) << status.error().line();
  }

  void choose(const char *function, const Batch &tokens) {
    auto logits = test->append(function, tokens, /*all=*/false);
    ASSERT_TRUE(logits) << logits.error().line();
    TokenSampler sampler;
    size_t row = 0;
    for (size_t s = 0; s < 3; ++s)
      if (!tokens[s].empty())
        sequences[s].push_back(sampler.choose(std::span(*logits).subspan(80 * row++, 80),
                                              settingsOf(s), drawOf(s, sequences[s].size()),
                                              recentOf(s)));
  }

  std::unique_ptr<TestDecoder> test;
};

void expectSameTokens(const SessionOptions &options) {
  Conversation conversation(options);
  conversation.prefill();
  for (int32_t i = 0; i < steps; ++i)
    conversation.hostStep();
  const Batch expected = conversation.sequences;
  EXPECT_EQ(expected[0].size(), 5u + steps);
  EXPECT_EQ(expected[1].size(), limit + 1u);
  conversation.prefill();
  conversation.deviceSteps();
  EXPECT_EQ(conversation.sequences, expected);
}

} // namespace

TEST(Steps, FeedThemselvesInTheReference) {
  SessionOptions options = TestDecoder::options();
  options.target = referenceTarget();
  expectSameTokens(options);
}

TEST(Steps, FeedThemselvesOnTheCpu) { expectSameTokens(TestDecoder::options()); }
