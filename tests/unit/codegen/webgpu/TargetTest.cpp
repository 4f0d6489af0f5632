// Features of adapters, and code with fewer of them.
#include "kernelforge/codegen/webgpu/Target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

/// An adapter with everything.
DeviceInfo adapter() {
  DeviceInfo info;
  info.kind = "webgpu";
  info.name = "GPU";
  info.features = {"shader-f16",
                   "subgroups",
                   "timestamp-query",
                   "packed-dot",
                   "subgroup-matrix-f16-16x16x16",
                   "subgroup-matrix-i8-16x16x32"};
  info.limits.sharedBytes = 49152;
  info.limits.subgroupMin = info.limits.subgroupMax = 32;
  return info;
}

Target parsed(std::string_view chip, std::string_view features, const DeviceInfo *device) {
  auto target = webgpu::parseTarget(chip, features, device);
  EXPECT_TRUE(target) << target.error().line();
  return target ? *target : Target();
}

Target native(std::string_view features = "", const DeviceInfo &device = adapter()) {
  return parsed("native", features, &device);
}

Error errorOf(std::string_view chip, std::string_view features, const DeviceInfo *device) {
  auto target = webgpu::parseTarget(chip, features, device);
  EXPECT_FALSE(target) << features;
  return target ? Error() : target.error();
}

TEST(WebGpuTarget, NativeHasWhatCodeCanUse) {
  const Target target = native();
  EXPECT_THAT(target.enabled,
              ElementsAre("packed-dot", "shader-f16", "subgroup-matrix-f16-16x16x16",
                          "subgroup-matrix-i8-16x16x32", "subgroups"));
  EXPECT_EQ(target.limits, adapter().limits);
  EXPECT_EQ(target.featureString(), "+packed-dot,+shader-f16,+subgroup-matrix-f16-16x16x16,"
                                    "+subgroup-matrix-i8-16x16x32,+subgroups");
  EXPECT_THAT(webgpu::matrixShapes(target), ElementsAre(webgpu::MatrixShape{"f16", 16, 16, 16},
                                                        webgpu::MatrixShape{"i8", 16, 16, 32}));
}

TEST(WebGpuTarget, PortableHasNone) {
  const DeviceInfo device = adapter();
  for (const DeviceInfo *info : {static_cast<const DeviceInfo *>(nullptr), &device}) {
    const Target target = parsed("portable", "", info);
    EXPECT_THAT(target.enabled, IsEmpty());
    EXPECT_THAT(target.features, IsEmpty());
    EXPECT_EQ(target.limits.subgroupMax, 0);
    EXPECT_EQ(target.limits.sharedBytes, 16384);
  }
}

TEST(WebGpuTarget, FeaturesAreSwitchedOff) {
  EXPECT_THAT(native("-subgroup-matrix").enabled,
              ElementsAre("packed-dot", "shader-f16", "subgroups"));
  EXPECT_THAT(native("-subgroup-matrix-f16-16x16x16, -packed-dot").enabled,
              ElementsAre("shader-f16", "subgroup-matrix-i8-16x16x32", "subgroups"));
  // What needs them goes, too.
  EXPECT_THAT(native("-shader-f16").enabled,
              ElementsAre("packed-dot", "subgroup-matrix-i8-16x16x32", "subgroups"));
  const Target without = native("-subgroups");
  EXPECT_THAT(without.enabled, ElementsAre("packed-dot", "shader-f16"));
  EXPECT_EQ(without.limits.subgroupMin, 0);
  EXPECT_EQ(without.limits.subgroupMax, 0);
  EXPECT_EQ(native("-packed-dot,+packed-dot").enabled, native().enabled);
}

TEST(WebGpuTarget, PortableMayHaveThem) {
  const Target target = parsed("portable", "+subgroup-matrix-f16-16x16x16", nullptr);
  EXPECT_THAT(target.enabled,
              ElementsAre("shader-f16", "subgroup-matrix-f16-16x16x16", "subgroups"));
  EXPECT_EQ(target.limits.subgroupMin, 32);
  EXPECT_TRUE(webgpu::checkRunnable(target, [] {
    DeviceInfo info = adapter();
    info.limits.threadsPerBlock = 256;
    info.limits.bindings = 8;
    info.limits.bindingBytes = 128 << 20;
    return info;
  }()));
  const Target any = parsed("portable", "+subgroups", nullptr);
  EXPECT_EQ(any.limits.subgroupMin, 4);
  EXPECT_EQ(any.limits.subgroupMax, 128);
}

TEST(WebGpuTarget, RefusesWordsAndWhatIsNotThere) {
  DeviceInfo plain = adapter();
  plain.features = {"timestamp-query"};
  EXPECT_EQ(errorOf("native", "+shader-f16", &plain).kind, ErrorKind::Missing);
  EXPECT_THAT(errorOf("", "+shader-f16", &plain).line(),
              AllOf(HasSubstr("shader-f16"), HasSubstr("GPU does not have it")));
  EXPECT_TRUE(native("-shader-f16,-subgroup-matrix", plain).enabled.empty());
  const DeviceInfo device = adapter();
  for (const char *wrong : {"-subgrups", "+shader-f61", "+packeddot", "shader-f16", "+",
                            "+timestamp-query", "+subgroup-matrix", "+subgroup-matrix-f16-16x16",
                            "+subgroup-matrix-f16-016x16x16", "-subgroup-matrix-u8-16x16x32"})
    EXPECT_EQ(errorOf("native", wrong, &device).kind, ErrorKind::Unusable) << wrong;
  EXPECT_THAT(errorOf("native", "-subgrups", &device).line(),
              HasSubstr("did you mean 'subgroups'?"));
  EXPECT_THAT(errorOf("portable", "+subgroup-matrix-f16-16x16x1b", nullptr).line(),
              HasSubstr("subgroup-matrix-f16-16x16x16"));
  EXPECT_THAT(errorOf("native", "shader-f16", &device).line(), HasSubstr("-shader-f16"));
  EXPECT_EQ(errorOf("natif", "", &device).kind, ErrorKind::Unusable);
  EXPECT_EQ(errorOf("native", "", nullptr).kind, ErrorKind::Missing);
}

TEST(WebGpuTarget, KeyHoldsFeatures) {
  DeviceInfo narrow = adapter();
  narrow.limits.subgroupMin = narrow.limits.subgroupMax = 8;
  EXPECT_NE(native().key(), native("-packed-dot").key());
  EXPECT_NE(native().key(), native("", narrow).key());
  EXPECT_EQ(native("-subgroups").key(), native("-subgroups", narrow).key());
}

TEST(WebGpuTarget, RunsWhereItsFeaturesAre) {
  EXPECT_TRUE(webgpu::checkRunnable(native(), adapter()));
  DeviceInfo other = adapter();
  std::erase(other.features, "packed-dot");
  const Status refused = webgpu::checkRunnable(native(), other);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::Missing);
  EXPECT_THAT(refused.error().line(), HasSubstr("packed-dot"));
  EXPECT_TRUE(webgpu::checkRunnable(native("-packed-dot"), other));
  other = adapter();
  other.limits.subgroupMax = 64;
  EXPECT_THAT(webgpu::checkRunnable(native(), other).error().line(), HasSubstr("32 to 32 threads"));
  EXPECT_TRUE(webgpu::checkRunnable(native("-subgroups"), other));
}

} // namespace
