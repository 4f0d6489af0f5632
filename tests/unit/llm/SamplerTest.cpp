#include "kernelforge/llm/Sampler.h"

#include <cmath>
#include <gmock/gmock.h>
#include <limits>
#include <map>
#include <numeric>
#include <set>

using namespace kernelforge;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

SamplingOptions everything() {
  SamplingOptions options;
  options.temperature = 1;
  options.topK = 0;
  options.topP = 1;
  options.minP = 0;
  return options;
}

int32_t sampleAt(const SamplingOptions &options, const std::vector<float> &logits,
                 uint64_t position = 0, const std::vector<int32_t> &history = {}) {
  auto sampler = Sampler::create(options);
  EXPECT_TRUE(sampler);
  auto id = sampler->sample(logits, history, position);
  EXPECT_TRUE(id);
  return id ? *id : -1;
}

/// Which ids come up in 4,000 draws, and how often.
std::map<int32_t, int> draws(const SamplingOptions &options, const std::vector<float> &logits) {
  auto sampler = Sampler::create(options);
  EXPECT_TRUE(sampler);
  std::map<int32_t, int> counts;
  for (uint64_t position = 0; position < 4000; ++position)
    ++counts[*sampler->sample(logits, {}, position)];
  return counts;
}
std::vector<int32_t> drawn(const SamplingOptions &options, const std::vector<float> &logits) {
  std::vector<int32_t> ids;
  for (auto [id, count] : draws(options, logits))
    ids.push_back(id);
  return ids;
}

const std::vector<float> steps = {std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)};

TEST(Sampler, GreedyTakesTheGreatestAndTheFirstOfEquals) {
  SamplingOptions options;
  options.temperature = 0;
  EXPECT_EQ(sampleAt(options, {1, 5, 3}), 1);
  EXPECT_EQ(sampleAt(options, {1, 5, 5}), 1);
  EXPECT_EQ(sampleAt(options, {-std::numeric_limits<float>::infinity(), -7}), 1);
}

TEST(Sampler, FollowsTheDistribution) {
  auto counts = draws(everything(), steps);
  EXPECT_NEAR(counts[0], 400, 80);
  EXPECT_NEAR(counts[1], 1600, 130);
  EXPECT_NEAR(counts[2], 800, 110);
  EXPECT_NEAR(counts[3], 1200, 120);
}

TEST(Sampler, TemperatureSharpensAndFlattens) {
  SamplingOptions options = everything();
  options.temperature = 0.1f; // 0.4^10 against 0.3^10
  EXPECT_NEAR(draws(options, steps)[1], 3780, 80);
  options.temperature = 100;
  EXPECT_NEAR(draws(options, steps)[0], 990, 120);
}

TEST(Sampler, Filters) {
  SamplingOptions options = everything();
  options.topK = 2;
  EXPECT_THAT(drawn(options, steps), ElementsAre(1, 3));
  options = everything();
  options.topP = 0.69f; // 0.4 + 0.3 is the first sum that reaches it
  EXPECT_THAT(drawn(options, steps), ElementsAre(1, 3));
  options.topP = 0.01f;
  EXPECT_THAT(drawn(options, steps), ElementsAre(1));
  options = everything();
  options.minP = 0.49f; // of 0.4: 0.196
  EXPECT_THAT(drawn(options, steps), ElementsAre(1, 2, 3));
  options.minP = 1;
  EXPECT_THAT(drawn(options, steps), ElementsAre(1));
}

TEST(Sampler, FiltersComeBeforeTemperature) {
  // What is left is the same at every temperature: shares of the model's own distribution.
  for (float temperature : {0.3f, 1.0f, 3.0f}) {
    SamplingOptions options = everything();
    options.temperature = temperature;
    options.minP = 0.49f; // of 0.4: 0.196
    EXPECT_THAT(drawn(options, steps), ElementsAre(1, 2, 3)) << temperature;
    options = everything();
    options.temperature = temperature;
    options.topP = 0.69f;
    EXPECT_THAT(drawn(options, steps), ElementsAre(1, 3)) << temperature;
  }
}

TEST(Sampler, TopPWorksBeyondOneBatchOfSorting) {
  std::vector<float> logits(5000, 0.0f);
  SamplingOptions options = everything();
  options.topP = 0.5f;
  std::set<int32_t> seen;
  for (auto id : drawn(options, logits))
    seen.insert(id);
  EXPECT_GT(seen.size(), 1000u);
  EXPECT_LT(*seen.rbegin(), 2500); // equal logits rank by id
}

TEST(Sampler, PenaltyHoldsWithinTheWindow) {
  SamplingOptions options;
  options.temperature = 0;
  options.repeatPenalty = 2;
  EXPECT_EQ(sampleAt(options, {3, 4}, 0, {1}), 0);
  EXPECT_EQ(sampleAt(options, {3, 4}, 0, {1, 1}), 0);
  EXPECT_EQ(sampleAt(options, {-3, -2}, 0, {1}), 0);     // negative logits are multiplied
  EXPECT_EQ(sampleAt(options, {3, 7}, 0, {1, 1, 1}), 1); // once, however often
  EXPECT_EQ(sampleAt(options, {3, 4}, 0, {99, -1}), 1);  // ids of another vocabulary
  options.repeatWindow = 1;
  EXPECT_EQ(sampleAt(options, {3, 4}, 0, {1, 0}), 1);
  options.repeatWindow = 0;
  EXPECT_EQ(sampleAt(options, {3, 4}, 0, {1}), 1);
}

TEST(Sampler, ADrawDependsOnSeedAndPositionAlone) {
  std::vector<float> logits(1000);
  std::iota(logits.begin(), logits.end(), 0.0f);
  for (float &l : logits)
    l = std::sin(l);
  SamplingOptions options = everything();
  options.seed = 42;
  auto sampler = Sampler::create(options);
  std::vector<int32_t> forward, backward;
  for (uint64_t p = 0; p < 20; ++p)
    forward.push_back(*sampler->sample(logits, {}, p));
  for (uint64_t p = 20; p-- > 0;)
    backward.insert(backward.begin(), sampleAt(options, logits, p));
  EXPECT_EQ(forward, backward);
  options.seed = 43;
  EXPECT_NE(sampleAt(options, logits, 0) * 1000 + sampleAt(options, logits, 1),
            forward[0] * 1000 + forward[1]);
}

TEST(Sampler, LogitsThatAreNoNumbersAreErrors) {
  float inf = std::numeric_limits<float>::infinity();
  auto sampler = Sampler::create({});
  for (std::vector<float> logits : {std::vector<float>{}, {1, NAN, 2}, {1, inf}, {-inf, -inf}}) {
    auto id = sampler->sample(logits, {}, 0);
    EXPECT_FALSE(id);
  }
  EXPECT_EQ(sampler->sample(std::vector<float>{1, NAN}, {}, 5).error().line(),
            "logits are no numbers (after 5 tokens): nan at id 1");
}

TEST(Sampler, APenaltyBeyondWhatNumbersHoldLeavesAChoice) {
  SamplingOptions options;
  options.temperature = 0;
  options.repeatPenalty = 1e38f;
  EXPECT_EQ(sampleAt(options, {-9, -7}, 0, {0, 1}), 0); // both the least there is
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(sampleAt(options, {-inf, -7}, 0, {0, 1}), 1); // never is never
}

TEST(Sampler, OptionsAreChecked) {
  auto refusal = [](auto change) {
    SamplingOptions options;
    change(options);
    auto sampler = Sampler::create(options);
    EXPECT_FALSE(sampler);
    return sampler ? "" : sampler.error().line();
  };
  EXPECT_THAT(refusal([](auto &o) { o.temperature = -1; }), HasSubstr("temperature): -1"));
  EXPECT_THAT(refusal([](auto &o) { o.temperature = 1e6f; }), HasSubstr("temperature"));
  EXPECT_THAT(refusal([](auto &o) { o.temperature = NAN; }), HasSubstr("nan"));
  EXPECT_THAT(refusal([](auto &o) { o.topK = -1; }), HasSubstr("top-k"));
  EXPECT_THAT(refusal([](auto &o) { o.topP = 0; }), HasSubstr("top-p"));
  EXPECT_THAT(refusal([](auto &o) { o.topP = 1.1f; }), HasSubstr("1.1"));
  EXPECT_THAT(refusal([](auto &o) { o.minP = -0.1f; }), HasSubstr("min-p"));
  EXPECT_THAT(refusal([](auto &o) { o.repeatPenalty = 0; }), HasSubstr("repeat-penalty"));
  EXPECT_THAT(refusal([](auto &o) { o.repeatPenalty = INFINITY; }), HasSubstr("inf"));
  EXPECT_THAT(refusal([](auto &o) { o.repeatWindow = -1; }), HasSubstr("window"));
}

} // namespace
