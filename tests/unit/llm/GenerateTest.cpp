// The generation loop over made-up logits: what ends it, what it counts, what it shows.
#include "kernelforge/llm/Generate.h"

#include "kernelforge/llm/Logits.h"
#include "kernelforge/llm/RandomModel.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

/// Says the bytes of a script one after another, greedily, whatever the prompt.
class Script {
public:
  explicit Script(std::string text) : ids(text.begin(), text.end()) {}
  explicit Script(std::vector<TokenId> ids) : ids(std::move(ids)) {}

  AppendTokens append() {
    return [this](std::span<const TokenId> tokens) -> Expected<std::span<const float>> {
      sizes.push_back(tokens.size());
      logits.assign(300, 0.0f);
      logits[static_cast<size_t>(ids.at(sizes.size() - 1) & 0xff)] = 5;
      return std::span<const float>(logits);
    };
  }

  /// The same as a model that chooses by itself, and is ahead of who asks.
  TokenSteps steps() {
    TokenSteps steps;
    steps.begin = [this](TokenId first, const SamplingOptions &sampling, int64_t most) -> Status {
      begun.emplace_back(first, most);
      EXPECT_EQ(sampling.temperature, 0);
      return {};
    };
    steps.next = [this]() -> Expected<TokenId> {
      if (given == failingStep)
        return makeError(failure, "run failed", "step", "it was told to");
      return ids.at(1 + given++);
    };
    steps.end = [this]() -> Expected<std::span<const float>> {
      ++ended;
      logits.assign(300, 0.0F);
      if (ids.at(given) < 0)
        logits.assign(300, std::nanf(""));
      else
        logits[static_cast<size_t>(ids.at(given))] = 5;
      return std::span<const float>(logits);
    };
    return steps;
  }

  std::vector<size_t> sizes; ///< tokens of each call
  std::vector<std::pair<TokenId, int64_t>> begun;
  size_t given = 0; ///< by steps
  int ended = 0;
  size_t failingStep = 1000;
  ErrorKind failure = ErrorKind::Failed;

private:
  std::vector<TokenId> ids;
  std::vector<float> logits;
};

/// One token a byte, as random models have it; 10 ('\n') ends a generation where `eos` is set.
Tokenizer byteTokenizer(bool eos = false) {
  ModelFile model = *makeRandomModel("tiny", {});
  if (eos)
    model.tokenizer.data->special.endOfGeneration = {'\n'};
  return *Tokenizer::load(model.tokenizer);
}

GenerateOptions greedy(int64_t maxTokens) {
  GenerateOptions options;
  options.maxTokens = maxTokens;
  options.sampling.temperature = 0;
  return options;
}

const std::vector<TokenId> prompt = {'a', 'b', 'c'};

TEST(GenerateTest, StopsAtMaxTokensWithoutRunningTheLast) {
  Script script("hello world");
  const Tokenizer tokenizer = byteTokenizer();
  auto out = generate(script.append(), &tokenizer, prompt, 100, greedy(5));
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(out->text, "hello");
  EXPECT_EQ(out->finish, FinishReason::Length);
  EXPECT_THAT(out->ids, ElementsAre('h', 'e', 'l', 'l', 'o'));
  EXPECT_THAT(script.sizes, ElementsAre(3, 1, 1, 1, 1));
  std::vector<float> last(300, 0.0f);
  last['o'] = 5;
  EXPECT_EQ(out->logitsHash, hashLogits(last));
  EXPECT_GT(out->timings.timeToFirstToken, 0);
  EXPECT_GE(out->timings.timeToFirstToken, out->timings.prefill);
  EXPECT_GT(out->decodeRate(), 0);
}

TEST(GenerateTest, ZeroTokensRunOnlyThePrompt) {
  Script script("x");
  auto out = generate(script.append(), nullptr, prompt, 3, greedy(0));
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_TRUE(out->ids.empty());
  EXPECT_EQ(out->finish, FinishReason::Length);
  EXPECT_GT(out->prefillRate(), 0);
  EXPECT_EQ(out->decodeRate(), 0);
  EXPECT_EQ(out->timings.timeToFirstToken, 0);
  EXPECT_TRUE(out->logitsHash);
}

TEST(GenerateTest, LogitsThatAreNoNumbersFailWhateverIsAskedFor) {
  const float inf = std::numeric_limits<float>::infinity();
  for (float bad : {std::nanf(""), inf, -inf})
    for (int64_t tokens : {0, 1, 5}) {
      AppendTokens broken = [row = std::vector<float>(300, bad)](std::span<const TokenId>) {
        return Expected<std::span<const float>>(std::span<const float>(row));
      };
      auto out = generate(broken, nullptr, prompt, 100, greedy(tokens));
      ASSERT_FALSE(out) << bad << " " << tokens;
      EXPECT_EQ(out.error().kind, ErrorKind::Failed);
      EXPECT_THAT(out.error().line(), HasSubstr("logits are no numbers (after 3 tokens): "));
    }
}

TEST(GenerateTest, EndOfGenerationIsCountedButNotShown) {
  const Tokenizer tokenizer = byteTokenizer(true);
  Script script("yes\nmore");
  auto out = generate(script.append(), &tokenizer, prompt, 100, greedy(8));
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(out->text, "yes");
  EXPECT_EQ(out->finish, FinishReason::Stop);
  EXPECT_EQ(out->ids.size(), 4u);

  Script again("yes\nmore");
  GenerateOptions options = greedy(8);
  options.ignoreEos = true;
  out = generate(again.append(), &tokenizer, prompt, 100, options);
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(out->text, "yes\nmore");
  EXPECT_EQ(out->finish, FinishReason::Length);
}

TEST(GenerateTest, StopStringIsCutOffAndNeverShown) {
  const Tokenizer tokenizer = byteTokenizer();
  Script script("one END two");
  GenerateOptions options = greedy(11);
  options.stop = {"END"};
  std::string shown;
  auto out = generate(script.append(), &tokenizer, prompt, 100, options,
                      [&](std::string_view piece) { shown += piece; });
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(out->text, "one ");
  EXPECT_EQ(shown, out->text);
  EXPECT_EQ(out->finish, FinishReason::StopString);
  EXPECT_EQ(out->ids.size(), 7u);
}

TEST(GenerateTest, HeldBackTextIsGivenAtTheEnd) {
  const Tokenizer tokenizer = byteTokenizer();
  Script script("ab EN");
  GenerateOptions options = greedy(5);
  options.stop = {"END"};
  auto out = generate(script.append(), &tokenizer, prompt, 100, options);
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(out->text, "ab EN");
}

TEST(GenerateTest, CharactersAreShownWhole) {
  const Tokenizer tokenizer = byteTokenizer();
  Script script("\xC3\xA9\xE2\x82"); // an accented e, then a character that never ends
  std::vector<std::string> pieces;
  auto out = generate(script.append(), &tokenizer, prompt, 100, greedy(4),
                      [&](std::string_view piece) { pieces.emplace_back(piece); });
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_THAT(pieces, ElementsAre("\xC3\xA9", "\xEF\xBF\xBD"));
}

TEST(GenerateTest, StopsWhereTheContextIsFull) {
  const Tokenizer tokenizer = byteTokenizer();
  Script script("hello");
  auto out = generate(script.append(), &tokenizer, prompt, 5, greedy(9));
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(out->finish, FinishReason::Context);
  // Positions 3 and 4 take two tokens; the third is chosen but has no room.
  EXPECT_EQ(out->text, "hel");
  EXPECT_THAT(script.sizes, ElementsAre(3, 1, 1));
}

TEST(GenerateTest, RefusesWhatCannotWork) {
  Script script("hello");
  auto error = [&](std::span<const TokenId> ids, int64_t context, const GenerateOptions &options) {
    auto out = generate(script.append(), nullptr, ids, context, options);
    EXPECT_FALSE(out);
    if (!out)
      EXPECT_EQ(out.error().kind, ErrorKind::Unusable);
    return out ? "" : out.error().line();
  };
  EXPECT_THAT(error({}, 5, greedy(1)), HasSubstr("no tokens"));
  EXPECT_THAT(error(prompt, 2, greedy(1)), HasSubstr("3 tokens exceed the context of 2"));
  EXPECT_THAT(error(prompt, 5, greedy(-1)), HasSubstr("-1"));
  GenerateOptions options = greedy(1);
  options.sampling.temperature = -1;
  EXPECT_THAT(error(prompt, 5, options), HasSubstr("temperature"));
  options = greedy(1);
  options.stop = {"x"};
  EXPECT_THAT(error(prompt, 5, options), HasSubstr("no tokenizer"));
  EXPECT_TRUE(script.sizes.empty());
}

TEST(GenerateTest, InterruptionKeepsWhatThereIs) {
  const Tokenizer tokenizer = byteTokenizer();
  Script script("hello world");
  std::atomic<bool> cancel = false;
  auto out = generate(
      script.append(), &tokenizer, prompt, 100, greedy(9),
      [&](std::string_view piece) { cancel = cancel || piece == "l"; }, &cancel);
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(out->finish, FinishReason::Interrupted);
  EXPECT_EQ(out->text, "hel");

  // Within the prompt: nothing was generated and no rate is claimed.
  AppendTokens interrupted = [](std::span<const TokenId>) -> Expected<std::span<const float>> {
    return makeError(ErrorKind::Interrupted, "run was interrupted", "prefill", "stopped by user");
  };
  out = generate(interrupted, &tokenizer, prompt, 100, greedy(9));
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(out->finish, FinishReason::Interrupted);
  EXPECT_TRUE(out->ids.empty());
  EXPECT_EQ(out->prefillRate(), 0);
  EXPECT_EQ(out->logitsHash, std::nullopt);
}

TEST(GenerateTest, AnInterruptedStepHasNoHash) {
  // Its row was overwritten in part: the hash of the row before would be of neither.
  Script script("hello world");
  int calls = 0;
  AppendTokens append = [&](std::span<const TokenId> tokens) -> Expected<std::span<const float>> {
    if (++calls == 3)
      return makeError(ErrorKind::Interrupted, "run was interrupted", "decode", "stopped by user");
    return script.append()(tokens);
  };
  auto out = generate(append, nullptr, prompt, 100, greedy(9));
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(out->finish, FinishReason::Interrupted);
  EXPECT_EQ(out->ids.size(), 2u);
  EXPECT_EQ(out->logitsHash, std::nullopt);
}

TEST(GenerateTest, ErrorsOfTheModelAreReturned) {
  AppendTokens broken = [](std::span<const TokenId>) -> Expected<std::span<const float>> {
    return failed("run failed", "prefill", "device lost");
  };
  auto out = generate(broken, nullptr, prompt, 100, greedy(9));
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().kind, ErrorKind::Failed);
}

TEST(GenerateTest, SameSeedSameTokens) {
  AppendTokens flat = [logits = std::vector<float>(300, 0.0f)](std::span<const TokenId>) {
    return Expected<std::span<const float>>(std::span<const float>(logits));
  };
  GenerateOptions options;
  options.maxTokens = 20;
  options.sampling.topK = 0;
  options.sampling.seed = 7;
  auto first = generate(flat, nullptr, prompt, 100, options);
  auto second = generate(flat, nullptr, prompt, 100, options);
  options.sampling.seed = 8;
  auto third = generate(flat, nullptr, prompt, 100, options);
  ASSERT_TRUE(first && second && third);
  EXPECT_EQ(first->ids, second->ids);
  EXPECT_NE(first->ids, third->ids);
}

//===----------------------------------------------------------------------===//
// A model that chooses tokens by itself
//===----------------------------------------------------------------------===//

/// Greedily, with steps, in a context of 100.
Expected<Generation> generateBySteps(Script &script, const Tokenizer *tokenizer,
                                     const GenerateOptions &options) {
  return generate(script.append(), tokenizer, prompt, 100, options, {}, nullptr, script.steps());
}

uint64_t hashOf(TokenId id) {
  std::vector<float> logits(300, 0.0F);
  logits[static_cast<size_t>(id)] = 5;
  return hashLogits(logits);
}

TEST(GenerateTest, StepsGiveAllTokensButTheFirst) {
  const Tokenizer tokenizer = byteTokenizer();
  Script script("hello world");
  auto out = generateBySteps(script, &tokenizer, greedy(5));
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(out->text, "hello");
  EXPECT_EQ(out->finish, FinishReason::Length);
  EXPECT_EQ(out->logitsHash, hashOf('o'));
  EXPECT_THAT(script.sizes, ElementsAre(3)) << "the prompt alone";
  EXPECT_THAT(script.begun, ElementsAre(std::pair<TokenId, int64_t>('h', 4)));
  EXPECT_EQ(script.ended, 1);

  Script one("hello");
  out = generateBySteps(one, &tokenizer, greedy(1));
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(out->text, "h");
  EXPECT_TRUE(one.begun.empty());
  EXPECT_EQ(one.ended, 0);
}

TEST(GenerateTest, StepsEndAsTokensDo) {
  const Tokenizer tokenizer = byteTokenizer(true);
  Script script("yes\nmore");
  auto out = generateBySteps(script, &tokenizer, greedy(8));
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(out->text, "yes");
  EXPECT_EQ(out->finish, FinishReason::Stop);
  EXPECT_EQ(out->logitsHash, hashOf('\n'));
  EXPECT_EQ(script.ended, 1);

  Script stopped("one END two");
  GenerateOptions options = greedy(11);
  options.stop = {"END"};
  out = generateBySteps(stopped, &tokenizer, options);
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(out->text, "one ");
  EXPECT_EQ(out->finish, FinishReason::StopString);
  EXPECT_EQ(out->logitsHash, hashOf('D'));

  Script full("hello");
  out = generate(full.append(), &tokenizer, prompt, 5, greedy(9), {}, nullptr, full.steps());
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(out->finish, FinishReason::Context);
  EXPECT_EQ(out->text, "hel");
  EXPECT_EQ(full.given, 2U);
}

TEST(GenerateTest, TheHostChoosesWhereIdsArePenalised) {
  Script script("hello");
  GenerateOptions options = greedy(3);
  options.sampling.repeatPenalty = 1.5F;
  auto out = generateBySteps(script, nullptr, options);
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_THAT(out->ids, ElementsAre('h', 'e', 'l'));
  EXPECT_THAT(script.sizes, ElementsAre(3, 1, 1));
  EXPECT_TRUE(script.begun.empty());
}

TEST(GenerateTest, StepsThatFailAreTold) {
  Script noNumbers(std::vector<TokenId>{'a', 'b', -1});
  auto out = generateBySteps(noNumbers, nullptr, greedy(9));
  ASSERT_FALSE(out);
  EXPECT_THAT(out.error().line(), HasSubstr("logits are no numbers (after 5 tokens): nan"));

  Script broken("hello");
  broken.failingStep = 2;
  out = generateBySteps(broken, nullptr, greedy(9));
  ASSERT_FALSE(out);
  EXPECT_THAT(out.error().line(), HasSubstr("it was told to"));

  Script interrupted("hello");
  interrupted.failingStep = 2;
  interrupted.failure = ErrorKind::Interrupted;
  out = generateBySteps(interrupted, nullptr, greedy(9));
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_EQ(out->finish, FinishReason::Interrupted);
  EXPECT_THAT(out->ids, ElementsAre('h', 'e', 'l'));
  EXPECT_EQ(out->logitsHash, std::nullopt);
}

} // namespace
