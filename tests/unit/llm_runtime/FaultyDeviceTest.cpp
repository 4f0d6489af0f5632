// What users see of a device that fails: the right text, or one clear line.
#include "FaultyDevice.h"

#include "kernelforge/compiler/Targets.h"
#include "kernelforge/llm/RandomModel.h"
#include "kernelforge/llm/runtime/Decoder.h"
#include "kernelforge/support/Log.h"

#include <algorithm>
#include <atomic>
#include <gmock/gmock.h>
#include <set>
#include <spdlog/logger.h>
#include <spdlog/sinks/ostream_sink.h>
#include <sstream>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

class FaultyDevices : public testing::Test {
protected:
  void SetUp() override {
    auto made = makeRandomModel("tiny", {});
    ASSERT_TRUE(made) << made.error().line();
    model = std::make_unique<ModelFile>(std::move(*made));
    auto logger = std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log));
    logger->set_level(spdlog::level::warn); // what a user sees who asked for no more
    before = setLogger(std::move(logger));
  }
  void TearDown() override { setLogger(before); }

  Expected<std::unique_ptr<Decoder>> create(Faults *faults, bool steps = false) {
    DecoderOptions options;
    options.deviceSteps = steps;
    options.context = 64;
    options.prefillChunk = 4;
    options.session.cache = false;
    options.session.threads = 2;
    KF_TRY(options.session.target, parseTarget(targetKinds().front(), "", ""));
    if (faults)
      options.session.openDevice = [faults] { return createFaultyDevice(*faults); };
    return Decoder::create(*model, options);
  }

  /// Ten tokens after a prompt of six: the likeliest, where `rules` say nothing else.
  Expected<std::vector<int32_t>> generate(Faults *faults, const TokenRules &rules = {}) {
    KF_TRY(auto decoder, create(faults));
    KF_TRY(std::span<const float> logits, decoder->append(prompt));
    std::vector<int32_t> tokens;
    for (size_t i = 0; i < 10; ++i) {
      tokens.push_back(choose(logits, rules, prompt.size() + i));
      KF_TRY(logits, decoder->append({&tokens.back(), 1}));
    }
    return tokens;
  }

  /// The same ten by steps that choose on the device, of which the last is appended after them.
  Expected<std::vector<int32_t>> generateBySteps(Faults &faults, const TokenRules &rules = {}) {
    KF_TRY(auto decoder, create(&faults, /*steps=*/true));
    EXPECT_TRUE(decoder->hasDeviceSteps());
    KF_TRY(std::span<const float> logits, decoder->append(prompt));
    std::vector<int32_t> tokens = {choose(logits, rules, prompt.size())};
    KF_CHECK(decoder->beginSteps(tokens.front(), rules, 20)); // most of them are never taken
    for (int i = 0; i < 8; ++i) {
      KF_TRY(tokens.emplace_back(), decoder->nextToken());
    }
    KF_TRY(logits, decoder->endSteps());
    EXPECT_EQ(choose(logits, rules, prompt.size() + 8), tokens.back());
    EXPECT_EQ(decoder->length(), int64_t(prompt.size()) + 8);
    KF_TRY(logits, decoder->append({&tokens.back(), 1}));
    tokens.push_back(choose(logits, rules, prompt.size() + 9));
    return tokens;
  }

  static int32_t choose(std::span<const float> logits, const TokenRules &rules, uint64_t position) {
    return TokenSampler().choose(logits, rules.settings, {rules.topK, rules.seed, position}, {});
  }

  const std::vector<int32_t> prompt{7, 3, 11, 60, 2, 9};
  std::unique_ptr<ModelFile> model;
  std::ostringstream log;
  std::shared_ptr<spdlog::logger> before;
};

TEST_F(FaultyDevices, MemoryOfItsOwnGivesTheSameText) {
  auto expected = generate(nullptr);
  ASSERT_TRUE(expected) << expected.error().line();
  EXPECT_GT(std::set(expected->begin(), expected->end()).size(), 1u) << "shows nothing";
  Faults faults;
  auto tokens = generate(&faults);
  ASSERT_TRUE(tokens) << tokens.error().line();
  EXPECT_EQ(*tokens, *expected);
  EXPECT_EQ(faults.devices, 1);
}

TEST_F(FaultyDevices, LostInTheMiddleItGoesOn) {
  const auto expected = generate(nullptr);
  ASSERT_TRUE(expected);
  Faults none;
  ASSERT_TRUE(generate(&none));
  // In the prompt, in its second run, at the first token and at the last.
  const int64_t first = none.submits - 12;
  for (int64_t submit : {first, first + 1, first + 2, none.submits - 1}) {
    log.str("");
    Faults faults;
    faults.losingSubmit = submit;
    auto tokens = generate(&faults);
    ASSERT_TRUE(tokens) << tokens.error().line();
    EXPECT_EQ(*tokens, *expected) << "lost at " << submit;
    EXPECT_EQ(faults.devices, 2);
    const std::string said = log.str();
    EXPECT_THAT(said, HasSubstr("device is lost"));
    EXPECT_EQ(std::ranges::count(said, '\n'), 1) << said;
  }
}

TEST_F(FaultyDevices, StepsOnTheDeviceGiveTheSameText) {
  const TokenRules drawn = {SampleSettings::of(1.5F, 0.95F, 0.01F, 1), 40, uint64_t(5) << 33 | 1};
  for (const TokenRules &rules : {TokenRules(), drawn}) {
    const auto expected = generate(nullptr, rules);
    ASSERT_TRUE(expected) << expected.error().line();
    Faults faults;
    auto tokens = generateBySteps(faults, rules);
    ASSERT_TRUE(tokens) << tokens.error().line();
    EXPECT_EQ(*tokens, *expected);
  }
}

TEST_F(FaultyDevices, LostInAStepItGoesOn) {
  const auto expected = generate(nullptr);
  ASSERT_TRUE(expected);
  Faults none;
  ASSERT_TRUE(generateBySteps(none));
  // Nine steps, of which the last is not taken, and the last token.
  const int64_t first = none.submits - 10;
  for (int64_t submit : {first, first + 4, first + 8}) {
    log.str("");
    Faults faults;
    faults.losingSubmit = submit;
    auto tokens = generateBySteps(faults);
    ASSERT_TRUE(tokens) << tokens.error().line();
    EXPECT_EQ(*tokens, *expected) << "lost at " << submit;
    EXPECT_EQ(faults.devices, 2);
    EXPECT_EQ(std::ranges::count(log.str(), '\n'), 1) << log.str();
  }
}

TEST_F(FaultyDevices, StepsAreNoMoreThanWereAskedFor) {
  Faults faults;
  auto decoder = create(&faults, /*steps=*/true);
  ASSERT_TRUE(decoder) << decoder.error().line();
  ASSERT_TRUE((*decoder)->append(prompt));
  EXPECT_FALSE((*decoder)->endSteps()) << "there was none";
  const int64_t before = faults.submits, scratch = (*decoder)->memory().scratchBytes;
  ASSERT_TRUE((*decoder)->beginSteps(5, {}, 3));
  // State of a sequence and logits, twice, and what stays: 3 words, settings and draws.
  const int64_t words = 2 * (4 + (*decoder)->description().vocabSize) + 3 + 5 + 3;
  EXPECT_EQ((*decoder)->memory().scratchBytes, scratch + 4 * words);
  for (int i = 0; i < 3; ++i)
    ASSERT_TRUE((*decoder)->nextToken());
  auto more = (*decoder)->nextToken();
  ASSERT_FALSE(more);
  EXPECT_THAT(more.error().line(), HasSubstr("all that were asked for are over"));
  ASSERT_TRUE((*decoder)->endSteps());
  EXPECT_EQ(faults.submits, before + 3);
  // A context of 64 has room for 55 more.
  ASSERT_TRUE((*decoder)->beginSteps(5, {}, 1000));
  for (int i = 0; i < 55; ++i)
    ASSERT_TRUE((*decoder)->nextToken());
  EXPECT_FALSE((*decoder)->nextToken());
  EXPECT_FALSE((*decoder)->beginSteps(5, {}, 1));
  std::atomic<bool> cancel = true;
  (*decoder)->truncate(9);
  ASSERT_TRUE((*decoder)->beginSteps(5, {}, 9));
  more = (*decoder)->nextToken(&cancel);
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().kind, ErrorKind::Interrupted);
}

TEST_F(FaultyDevices, NoMemoryIsOneLine) {
  // Of everything that is allocated, each alone is missing once.
  Faults none;
  ASSERT_TRUE(generate(&none));
  for (int64_t allocation : {int64_t(0), int64_t(2), none.allocations / 2, none.allocations - 1}) {
    Faults faults;
    faults.failingAllocation = allocation;
    auto tokens = generate(&faults);
    ASSERT_FALSE(tokens) << allocation;
    EXPECT_EQ(tokens.error().kind, ErrorKind::Failed);
    EXPECT_THAT(tokens.error().line(), HasSubstr("memory cannot be had"));
  }
}

TEST_F(FaultyDevices, ALimitOfABindingIsOneLine) {
  Faults faults;
  faults.bindingBytes = int64_t(32) << 20;
  EXPECT_TRUE(generate(&faults));
  faults.bindingBytes = 4096;
  auto tokens = generate(&faults);
  ASSERT_FALSE(tokens);
  EXPECT_EQ(tokens.error().kind, ErrorKind::Unusable);
  EXPECT_THAT(tokens.error().line(), HasSubstr("beyond the limit of 4096"));
}

TEST_F(FaultyDevices, GridBarriersAreRefusedByName) {
  Faults faults;
  faults.refusesBarriers = true;
  EXPECT_TRUE(generate(&faults)) << "no kernel needs one";
  auto device = createFaultyDevice(faults);
  ASSERT_TRUE(device);
  auto program = std::make_shared<Program>();
  Artifact artifact;
  artifact.kernel = "barrier";
  artifact.launching.phases = {{.entry = "barrier", .coResident = true}};
  program->artifacts = {artifact};
  const std::shared_ptr<const Program> loaded = program;
  auto executables = (*device)->load({&loaded, 1});
  ASSERT_FALSE(executables);
  EXPECT_THAT(executables.error().line(), HasSubstr("(barrier)"));
}

} // namespace
