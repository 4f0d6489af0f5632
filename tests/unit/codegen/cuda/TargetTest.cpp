#include "kernelforge/codegen/cuda/Target.h"
#include "kernelforge/codegen/cuda/Convention.h"

#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/Target/TargetMachine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

DeviceInfo gpu(const std::string &chip) {
  DeviceInfo info;
  info.kind = "cuda";
  info.name = "GPU";
  info.chip = chip;
  info.limits.sharedBytes = 12345;
  return info;
}

Target parsed(std::string_view chip, std::string_view features = "",
              const DeviceInfo *device = nullptr) {
  auto target = cuda::parseTarget(chip, features, device);
  EXPECT_TRUE(target) << target.error().line();
  return target ? *target : Target();
}

std::string errorOf(std::string_view chip, std::string_view features = "",
                    const DeviceInfo *device = nullptr) {
  auto target = cuda::parseTarget(chip, features, device);
  return target ? "no error" : target.error().line();
}

} // namespace

TEST(CudaTarget, EveryChipIsOneOfLlvm) {
  for (const std::string &chip : cuda::chipNames()) {
    auto machine = cuda::createTargetMachine(parsed(chip));
    ASSERT_TRUE(machine) << machine.error().line();
    EXPECT_TRUE((*machine)->getMCSubtargetInfo()->isCPUStringValid(chip)) << chip;
  }
}

TEST(CudaTarget, LimitsAreTheChipsOrTheDevices) {
  const Target target = parsed("sm_90a");
  EXPECT_EQ(target.kind, "cuda");
  EXPECT_EQ(target.limits.sharedBytes, 227 * 1024);
  EXPECT_EQ(target.limits.threadsPerBlock, 1024);
  EXPECT_EQ(target.limits.blocksPerDimension, 2147483647);
  EXPECT_EQ(target.limits.bufferAlignment, cuda::bufferAlignment);
  EXPECT_EQ(target.limits.indexBits, 32);
  EXPECT_THAT(target.features, IsEmpty());
  EXPECT_THAT(target.enabled, ElementsAre("ptx80", "sm_90a"));
  const DeviceInfo device = gpu("sm_90");
  EXPECT_EQ(parsed("sm_90a", "", &device).limits.sharedBytes, 12345);
}

TEST(CudaTarget, NativeIsTheDevicesChipOrTheNewestBefore) {
  for (const auto &[device, chip] :
       {std::pair("sm_75", "sm_75"), std::pair("sm_80", "sm_80"), std::pair("sm_90", "sm_90a"),
        std::pair("sm_88", "sm_87"), std::pair("sm_100", "sm_90"), std::pair("sm_120", "sm_90")}) {
    const DeviceInfo info = gpu(device);
    EXPECT_EQ(parsed("native", "", &info).chip, chip) << device;
    EXPECT_EQ(parsed("", "", &info).chip, chip) << device;
    EXPECT_TRUE(cuda::checkRunnable(parsed("native", "", &info), info)) << device;
    EXPECT_EQ(parsed("portable", "", &info).chip, "sm_75");
  }
  const DeviceInfo old = gpu("sm_60");
  EXPECT_THAT(errorOf("native", "", &old), HasSubstr("GPU): it is a sm_60; use a device of sm_75"));
}

TEST(CudaTarget, WithoutADeviceItIsPortable) {
  EXPECT_EQ(parsed("").chip, "sm_75");
  auto native = cuda::parseTarget("native", "", nullptr);
  ASSERT_FALSE(native);
  EXPECT_EQ(native.error().kind, ErrorKind::Missing);
}

TEST(CudaTarget, UnknownWordsAreRefusedWithNearOnes) {
  EXPECT_THAT(errorOf("sm_9a"),
              AllOf(HasSubstr("target is not known"), HasSubstr("did you mean 'sm_90'")));
  EXPECT_THAT(errorOf("sm_52"), HasSubstr("known: sm_75"));
  EXPECT_THAT(errorOf("sm_80", "ptx80"), HasSubstr("did you mean '+ptx80'?"));
  EXPECT_THAT(errorOf("sm_80", "+avx2"), HasSubstr("a feature is a version of PTX that has sm_80"));
  // Versions from before the chip are none of its.
  EXPECT_THAT(errorOf("sm_90a", "+ptx78"), HasSubstr("target feature is not usable (+ptx78)"));
}

TEST(CudaTarget, APtxVersionIsAFeatureAndPartOfTheKey) {
  const Target target = parsed("sm_80", "+ptx83");
  EXPECT_THAT(target.features, ElementsAre("+ptx83"));
  EXPECT_NE(target.key(), parsed("sm_80").key());
}

TEST(CudaTarget, CodeRunsOnNewerChipsAndThatOfSm90aOnItsOwnAlone) {
  EXPECT_TRUE(cuda::checkRunnable(parsed("sm_75"), gpu("sm_90")));
  EXPECT_TRUE(cuda::checkRunnable(parsed("sm_90"), gpu("sm_100")));
  EXPECT_TRUE(cuda::checkRunnable(parsed("sm_90a"), gpu("sm_90")));
  const Status older = cuda::checkRunnable(parsed("sm_90"), gpu("sm_86"));
  ASSERT_FALSE(older);
  EXPECT_EQ(older.error().kind, ErrorKind::Missing);
  EXPECT_THAT(older.error().line(), HasSubstr("(sm_90): GPU is a sm_86, and older"));
  const Status newer = cuda::checkRunnable(parsed("sm_90a"), gpu("sm_100"));
  ASSERT_FALSE(newer);
  EXPECT_THAT(newer.error().line(), HasSubstr("runs on that chip alone, and GPU is a sm_100"));
}
