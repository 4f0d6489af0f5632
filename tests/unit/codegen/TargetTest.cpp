#include "kernelforge/codegen/cpu/Target.h"

#include <gtest/gtest.h>

#include "llvm/ADT/StringMap.h"
#include "llvm/TargetParser/Host.h"

using namespace kernelforge;

namespace {

TEST(Target, Levels) {
  auto avx2 = parseTarget("avx2", "");
  ASSERT_TRUE(avx2) << avx2.error().line();
  EXPECT_TRUE(avx2->has("avx2") && avx2->has("fma") && avx2->has("f16c"));
  EXPECT_FALSE(avx2->has("avx512f"));
  EXPECT_EQ(avx2->limits.vectorBits, 256);

  auto avx512 = parseTarget("avx512", "");
  ASSERT_TRUE(avx512) << avx512.error().line();
  for (const char *feature : {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma", "f16c"})
    EXPECT_TRUE(avx512->has(feature)) << feature;
  EXPECT_FALSE(avx512->has("avx512vnni"));
  EXPECT_EQ(avx512->limits.vectorBits, 512);
}

TEST(Target, KnownProcessors) {
  for (const char *cpu : {"haswell", "sapphirerapids", "znver4", "znver5"}) {
    auto target = parseTarget(cpu, "");
    ASSERT_TRUE(target) << target.error().line();
    EXPECT_EQ(target->chip, cpu);
    EXPECT_TRUE(target->features.empty());
    EXPECT_EQ(target->limits.vectorBits, std::string(cpu) == "haswell" ? 256 : 512);
  }
  EXPECT_TRUE(parseTarget("sapphirerapids", "")->has("amx-bf16"));
}

TEST(Target, FeatureLists) {
  auto target = parseTarget("avx512", "+avx512vnni,-avx512bf16, +amx-bf16");
  ASSERT_TRUE(target) << target.error().line();
  EXPECT_TRUE(target->has("avx512vnni"));
  EXPECT_TRUE(target->has("amx-tile")) << "implied by amx-bf16";
  EXPECT_EQ(target->featureString(), "+avx512vnni,-avx512bf16,+amx-bf16");

  auto without = parseTarget("znver4", "-avx512f");
  ASSERT_TRUE(without);
  EXPECT_FALSE(without->has("avx512vnni")) << "implies what was taken away";
  EXPECT_EQ(without->limits.vectorBits, 256);

  // A processor without AVX-512 has no 512-bit registers either: they come along.
  auto with = parseTarget("haswell", "+avx512f");
  ASSERT_TRUE(with);
  EXPECT_EQ(with->limits.vectorBits, 512);
}

TEST(Target, ListMayBeginWithALevel) {
  auto target = parseTarget("native", "avx2");
  ASSERT_TRUE(target) << target.error().line();
  EXPECT_EQ(target->chip, "x86-64-v3");
  target = parseTarget("", "avx512,+avx512vnni");
  ASSERT_TRUE(target) << target.error().line();
  EXPECT_TRUE(target->chip == "x86-64-v4" && target->has("avx512vnni"));
  EXPECT_FALSE(parseTarget("znver4", "avx2")) << "a level does not go with a CPU";
}

TEST(Target, NativeHasTheFeaturesOfThisMachineAndNoOthers) {
  auto target = parseTarget("native", "");
  ASSERT_TRUE(target) << target.error().line();
  auto again = parseTarget(target->chip, target->featureString());
  ASSERT_TRUE(again) << again.error().line();
  EXPECT_EQ(again->enabled, target->enabled) << "the target is not determined by its text";
  for (const auto &feature : llvm::sys::getHostCPUFeatures()) {
    std::string name = feature.getKey().str();
    // Which features the table knows shows by taking them away.
    if (parseTarget("avx512", "-" + name) || name == "avx2" || name == "fma" || name == "f16c")
      EXPECT_EQ(target->has(name), feature.getValue()) << name;
  }
  EXPECT_TRUE(checkRunnable(*target));
}

TEST(Target, UnknownNamesAreErrorsThatNameNearOnes) {
  auto cpu = parseTarget("znver44", "");
  ASSERT_FALSE(cpu);
  EXPECT_EQ(cpu.error().kind, ErrorKind::Unusable);
  EXPECT_NE(cpu.error().hint.find("znver4"), std::string::npos) << cpu.error().line();

  auto feature = parseTarget("avx512", "+avx512vni");
  ASSERT_FALSE(feature);
  EXPECT_EQ(feature.error().kind, ErrorKind::Unusable);
  EXPECT_NE(feature.error().hint.find("avx512vnni"), std::string::npos) << feature.error().line();

  for (const char *list : {"avx512vnni", "+", "+help", "++avx2", "+avx2;+fma"})
    EXPECT_FALSE(parseTarget("avx512", list)) << list;
  EXPECT_FALSE(parseTarget("help", ""));
}

TEST(Target, LessThanTheLeastIsRefused) {
  for (const char *cpu : {"nehalem", "x86-64", "sandybridge"})
    EXPECT_FALSE(parseTarget(cpu, "")) << cpu;
  EXPECT_FALSE(parseTarget("znver4", "-fma"));
}

TEST(Target, RunningElsewhereIsRefusedWithTheFeature) {
  auto hostFeatures = llvm::sys::getHostCPUFeatures();
  // No processor has all of these.
  for (const char *feature : {"amx-complex", "avx10.1-512", "fma4", "avxvnniint16"}) {
    if (hostFeatures.lookup(feature))
      continue;
    auto target = parseTarget("avx2", std::string("+") + feature);
    ASSERT_TRUE(target) << target.error().line();
    Status status = checkRunnable(*target);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().kind, ErrorKind::Missing);
    EXPECT_NE(status.error().why.find(feature), std::string::npos) << status.error().line();
  }
}

} // namespace
