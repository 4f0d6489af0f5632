// A decoder on the CUDA device, whose driver is made up and emulates kernels: a step is one
// recorded graph that chooses its token, also after the GPU was lost; memory is counted before it
// is taken.
#include "kernelforge/backend/cuda/CudaDevice.h"
#include "kernelforge/compiler/Targets.h"
#include "kernelforge/llm/RandomModel.h"
#include "kernelforge/llm/runtime/Decoder.h"

#include <algorithm>
#include <dlfcn.h>
#include <gmock/gmock.h>

using namespace kernelforge;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

namespace {

const std::vector<int32_t> prompt = {5, 9, 2, 301, 77};

class CudaDecoder : public testing::Test {
protected:
  void SetUp() override {
    auto made = makeRandomModel("mixed", {ElementType::F32, {}, 0});
    ASSERT_TRUE(made) << made.error().line();
    model = std::make_unique<ModelFile>(std::move(*made));
  }

  template <typename Function> static Function *driver(const char *name) {
    void *library = dlopen(CUDA_FAKE_DRIVER, RTLD_NOW | RTLD_NOLOAD);
    return reinterpret_cast<Function *>(library ? dlsym(library, name) : nullptr);
  }
  /// What the driver was asked for since the last call.
  static std::string log() { return driver<const char *()>("fakeDriverLog")(); }

  Expected<std::unique_ptr<Decoder>> create() {
    DecoderOptions options;
    options.context = 64;
    options.prefillChunk = 8;
    options.deviceSteps = true;
    options.session.cache = false;
    KF_TRY(options.session.target, parseTarget("cuda", "sm_90a", ""));
    options.session.openDevice = [this]() -> Expected<std::unique_ptr<Device>> {
      ++devices;
      return createCudaDevice({.libraryPath = CUDA_FAKE_DRIVER});
    };
    return Decoder::create(*model, std::move(options));
  }

  static std::vector<float> append(Decoder &decoder, std::vector<int32_t> tokens) {
    auto logits = decoder.append(tokens);
    EXPECT_TRUE(logits) << logits.error().line();
    return logits ? std::vector<float>(logits->begin(), logits->end()) : std::vector<float>(512);
  }
  static int32_t best(const std::vector<float> &logits) {
    return int32_t(std::ranges::max_element(logits) - logits.begin());
  }

  std::unique_ptr<ModelFile> model;
  int devices = 0;
};

TEST_F(CudaDecoder, StepsAreGraphsThatChooseTheirTokens) {
  auto made = create();
  ASSERT_TRUE(made) << made.error().line();
  Decoder &decoder = **made;
  ASSERT_TRUE(decoder.hasDeviceSteps());
  constexpr int count = 8;
  // What the host chooses from the logits.
  std::vector<int32_t> expected;
  append(decoder, prompt);
  for (int32_t token = 42; expected.size() < count; token = expected.back())
    expected.push_back(best(append(decoder, {token})));
  decoder.truncate(int64_t(prompt.size()));
  ASSERT_TRUE(decoder.beginSteps(42, {}, count));
  std::vector<int32_t> tokens;
  for (int i = 0; i < count; ++i) {
    log();
    auto token = decoder.nextToken();
    ASSERT_TRUE(token) << token.error().line();
    tokens.push_back(*token);
    // The two programs that take turns are launched once and recorded once.
    if (i >= 4 && i + 1 < count)
      EXPECT_THAT(log(),
                  AllOf(HasSubstr("replay"), Not(HasSubstr("launch")), Not(HasSubstr("record"))));
  }
  EXPECT_EQ(tokens, expected);
  auto logits = decoder.endSteps();
  ASSERT_TRUE(logits) << logits.error().line();
  EXPECT_EQ(best({logits->begin(), logits->end()}), expected.back());
}

TEST_F(CudaDecoder, GoesOnAfterAKernelFaults) {
  auto made = create();
  ASSERT_TRUE(made) << made.error().line();
  Decoder &decoder = **made;
  const std::vector<float> expected = append(decoder, prompt);
  const int32_t first = best(expected), second = best(append(decoder, {first}));
  decoder.truncate(int64_t(prompt.size()));
  ASSERT_TRUE(decoder.beginSteps(first, {}, 4));
  driver<void(int64_t)>("fakeDriverFault")(3);
  auto token = decoder.nextToken();
  ASSERT_TRUE(token) << token.error().line();
  EXPECT_EQ(*token, second);
  EXPECT_EQ(devices, 2);
  EXPECT_TRUE(decoder.endSteps());
}

TEST_F(CudaDecoder, ADriverThatGivesNoOtherGpuIsAnErrorAndTheProcessGoesOn) {
  auto made = create();
  ASSERT_TRUE(made) << made.error().line();
  const std::vector<float> expected = append(**made, prompt);
  driver<void(int64_t)>("fakeDriverFault")(3);
  driver<void(int)>("fakeDriverInit")(719);
  const auto lost = (*made)->append(std::vector<int32_t>{42});
  driver<void(int)>("fakeDriverInit")(0);
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().kind, ErrorKind::Failed);
  EXPECT_THAT(lost.error().line(),
              AllOf(HasSubstr("GPU was lost"), HasSubstr("start the program")));
  made->reset();
  DecoderOptions options;
  options.context = 64;
  options.session.cache = false;
  auto target = parseTarget(targetKinds().front(), "", "");
  if (!target)
    GTEST_SKIP() << target.error().line();
  options.session.target = *target;
  auto other = Decoder::create(*model, std::move(options));
  ASSERT_TRUE(other) << other.error().line();
  EXPECT_EQ(best(append(**other, prompt)), best(expected));
}

TEST_F(CudaDecoder, TimesItsKernels) {
  auto made = create();
  ASSERT_TRUE(made) << made.error().line();
  (*made)->enableKernelTimes();
  EXPECT_FALSE((*made)->hasDeviceSteps());
  append(**made, {7});
  const std::vector<KernelTime> times = (*made)->kernelTimes();
  ASSERT_FALSE(times.empty());
  for (const KernelTime &each : times)
    EXPECT_GT(each.calls, 0) << each.name;
}

} // namespace
