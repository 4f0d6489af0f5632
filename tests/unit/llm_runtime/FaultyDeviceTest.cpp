// What users see of a device that fails: the right text, or one clear line.
#include "FaultyDevice.h"

#include "kernelforge/compiler/Targets.h"
#include "kernelforge/llm/RandomModel.h"
#include "kernelforge/llm/runtime/Decoder.h"
#include "kernelforge/support/Log.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <set>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
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

  Expected<std::unique_ptr<Decoder>> create(Faults *faults) {
    DecoderOptions options;
    options.context = 64;
    options.prefillChunk = 4;
    options.session.cache = false;
    options.session.threads = 2;
    KF_TRY(options.session.target, parseTarget(targetKinds().front(), "", ""));
    if (faults)
      options.session.openDevice = [faults] { return createFaultyDevice(*faults); };
    return Decoder::create(*model, options);
  }

  /// Ten tokens, each the likeliest after a prompt of six.
  Expected<std::vector<int32_t>> generate(Faults *faults) {
    KF_TRY(auto decoder, create(faults));
    const std::vector<int32_t> prompt{7, 3, 11, 60, 2, 9};
    KF_TRY(std::span<const float> logits, decoder->append(prompt));
    std::vector<int32_t> tokens;
    for (int i = 0; i < 10; ++i) {
      tokens.push_back(
          static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
      KF_TRY(logits, decoder->append({&tokens.back(), 1}));
    }
    return tokens;
  }

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
