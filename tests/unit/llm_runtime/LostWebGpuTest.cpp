// A WebGPU device that is lost in a generation: the model is loaded again on another one, and what
// was in the cache is computed again.
#include "kernelforge/backend/webgpu/WebGpuDevice.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/llm/RandomModel.h"
#include "kernelforge/llm/runtime/Decoder.h"

#include <algorithm>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

TEST(LostWebGpu, GivesTheSameLogitsAndTokens) {
  auto target = parseTarget("webgpu", "", "");
  if (!target)
    GTEST_SKIP() << target.error().line();
  auto model = makeRandomModel("mixed", {ElementType::F32, {}, 0});
  ASSERT_TRUE(model) << model.error().line();
  Device *device = nullptr;
  int devices = 0;
  DecoderOptions options;
  options.context = 64;
  options.prefillChunk = 16;
  options.deviceSteps = true;
  options.session.cache = false;
  options.session.target = *target;
  options.session.openDevice = [&]() -> Expected<std::unique_ptr<Device>> {
    KF_TRY(auto made, createWebGpuDevice());
    device = made.get();
    ++devices;
    return made;
  };
  auto decoder = Decoder::create(*model, std::move(options));
  ASSERT_TRUE(decoder) << decoder.error().line();
  auto append = [&](std::vector<int32_t> tokens) {
    auto logits = (*decoder)->append(tokens);
    EXPECT_TRUE(logits) << logits.error().line();
    return logits ? std::vector<float>(logits->begin(), logits->end()) : std::vector<float>();
  };
  const std::vector<int32_t> prompt = {5, 9, 2, 301, 77, 4, 8, 15, 16, 23};
  append(prompt);
  const std::vector<float> expected = append({42});
  ASSERT_EQ(devices, 1);
  (*decoder)->truncate(0);
  append(prompt);
  ASSERT_TRUE(loseWebGpuDevice(*device));
  EXPECT_EQ(append({42}), expected);
  EXPECT_EQ(devices, 2);

  // The same for steps that choose on the device, one of which is under way when it is lost.
  auto step = [&](bool isLost) {
    (*decoder)->truncate(0);
    append(prompt);
    EXPECT_TRUE((*decoder)->beginSteps(42, {}, 12));
    std::vector<int32_t> tokens;
    for (int i = 0; i < 6; ++i) {
      if (isLost && i == 3)
        EXPECT_TRUE(loseWebGpuDevice(*device));
      auto token = (*decoder)->nextToken();
      EXPECT_TRUE(token) << token.error().line();
      tokens.push_back(token.value_or(-1));
    }
    auto logits = (*decoder)->endSteps();
    EXPECT_TRUE(logits) << logits.error().line();
    return tokens;
  };
  const std::vector<int32_t> whole = step(false);
  EXPECT_EQ(whole.front(), std::ranges::max_element(expected) - expected.begin());
  EXPECT_EQ(step(true), whole);
  EXPECT_EQ(devices, 3);
}

} // namespace
