// Adapters that have less, and one that looks like Dawn.
#include "../../compiler/RunFunction.h"
#include "WebGpuFixture.h"
#include "library/Lacking.h"

#include "kernelforge/codegen/webgpu/Target.h"

#include <dlfcn.h>
#include <gmock/gmock.h>

using namespace kernelforge;
using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::Ge;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

namespace {

/// The device is made anew, as `lacking` says.
class WebGpuLacking : public DeviceTest {
protected:
  void SetUp() override {
    DeviceTest::SetUp();
    device.reset();
    void *library = dlopen(WEBGPU_PROC_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    ASSERT_TRUE(library) << dlerror();
    lacking = reinterpret_cast<Lacking *(*)()>(dlsym(library, "kernelforgeLacking"))();
    *lacking = {};
  }
  void TearDown() override {
    device.reset();
    if (lacking)
      *lacking = {};
  }
  void make() {
    auto made = createWebGpuDevice({.libraryPath = WEBGPU_PROC_LIBRARY});
    ASSERT_TRUE(made) << made.error().line();
    device = std::move(*made);
  }
  const std::vector<std::string> &features() const { return device->info().features; }
  /// Runs a program and times it.
  void expectItRuns() {
    const auto executable = load(repeated(3));
    ASSERT_TRUE(executable);
    const BufferRef out = poisoned(4000);
    const auto bound = bind(*executable, {{holding(std::vector<float>(1000, 3))}, {out}, {}});
    ASSERT_TRUE(bound);
    const int64_t n = 1000;
    const auto times = bound->runTimed({&n, 1});
    ASSERT_TRUE(times) << times.error().line();
    EXPECT_THAT(*times, AllOf(SizeIs(3), Each(Ge(0))));
    EXPECT_EQ(valuesOf<float>(out), std::vector<float>(1000, 7));
    BoundProgram *const programs[] = {bound.get()};
    EXPECT_TRUE(device->time(programs, {&n, 1}, 1));
  }

  Lacking *lacking = nullptr;
};

TEST_F(WebGpuLacking, NothingIsLacking) {
  lacking->timestamps = false;
  ASSERT_NO_FATAL_FAILURE(make());
  EXPECT_THAT(features(), AllOf(Contains("shader-f16"), Contains("subgroups"),
                                Contains("timestamp-query"), Contains("packed-dot")));
  EXPECT_GE(device->info().limits.subgroupMin, 4);
  expectItRuns();
}

TEST_F(WebGpuLacking, FeaturesAreLeftOut) {
  lacking->f16 = lacking->subgroups = lacking->packedDot = true;
  ASSERT_NO_FATAL_FAILURE(make());
  EXPECT_THAT(features(), testing::IsEmpty());
  EXPECT_EQ(device->info().limits.subgroupMax, 0);
  expectItRuns();
  // What is made for another adapter is refused, by what it needs.
  auto target = webgpu::parseTarget("portable", "+subgroups", nullptr);
  ASSERT_TRUE(target);
  const Status refused = webgpu::checkRunnable(*target, device->info());
  EXPECT_EQ(kindOf(refused), ErrorKind::Missing);
  EXPECT_THAT(errorOf(refused), HasSubstr("subgroups"));
  // Where the code comes all the same, the compiler of shaders names kernel and line.
  const std::shared_ptr<const Program> wrong = repeated(1, R"(
enable f16;
@compute @workgroup_size(64) fn affine() { let half = f16(1.0); }
)");
  EXPECT_THAT(errorOf(device->load({&wrong, 1})), AllOf(HasSubstr("my_kernel"), HasSubstr(":2:")));
}

TEST_F(WebGpuLacking, LittleCanBeBound) {
  constexpr int64_t most = 32 << 20;
  lacking->bindingBytes = most;
  ASSERT_NO_FATAL_FAILURE(make());
  EXPECT_EQ(device->info().limits.bindingBytes, most);
  expectItRuns();
  const auto executable = load(repeated(1));
  ASSERT_TRUE(executable);
  const BufferRef large = memory(most + 256);
  const auto bound = executable->bind({{large}, {memory(4000)}, {}});
  EXPECT_THAT(errorOf(bound),
              AllOf(HasSubstr("33554688 bytes"), HasSubstr("33554432 of one buffer are the most")));
  // A piece of the same memory can.
  EXPECT_TRUE(executable->bind({{{large.memory, 256, most}}, {memory(4000)}, {}}));
  auto target = webgpu::parseTarget("portable", "", nullptr);
  ASSERT_TRUE(target);
  EXPECT_THAT(errorOf(webgpu::checkRunnable(*target, device->info())),
              HasSubstr("134217728 bytes of a binding"));
}

TEST_F(WebGpuLacking, LargeWeightsAreBoundInPieces) {
  // Rows that begin in one piece and end in the next; a table of them; a transposed weight; quants
  // in planes, which the host packs, and a table of them.
  const std::string text = R"mlir(
func.func @f(%x: tensor<3x256xf32>, %i: tensor<3xi32>, %w: tensor<100x256xf32> {transformer.weight = "w"},
    %q: tensor<199x256xf16> {transformer.weight = "q"},
    %t: tensor<256x70xf16> {transformer.weight = "t"},
    %p: tensor<199x256x!transformer.quant<q6_k>> {transformer.weight = "p"})
    -> (tensor<3x100xf32>, tensor<3x199xf32>, tensor<3x70xf32>, tensor<3x256xf32>, tensor<3x199xf32>,
        tensor<3x256xf32>) {
  %a = transformer.matmul %x weights(%w) : (tensor<3x256xf32>, tensor<100x256xf32>) -> tensor<3x100xf32>
  %b = transformer.matmul %x weights(%q)
      : (tensor<3x256xf32>, tensor<199x256xf16>) -> tensor<3x199xf32>
  %c = transformer.matmul %x weights(%t) {transpose} : (tensor<3x256xf32>, tensor<256x70xf16>) -> tensor<3x70xf32>
  %d = transformer.embedding %i, %q
      : (tensor<3xi32>, tensor<199x256xf16>) -> tensor<3x256xf32>
  %e = transformer.matmul %x weights(%p)
      : (tensor<3x256xf32>, tensor<199x256x!transformer.quant<q6_k>>) -> tensor<3x199xf32>
  %f = transformer.embedding %i, %p
      : (tensor<3xi32>, tensor<199x256x!transformer.quant<q6_k>>) -> tensor<3x256xf32>
  return %a, %b, %c, %d, %e, %f : tensor<3x100xf32>, tensor<3x199xf32>, tensor<3x70xf32>,
      tensor<3x256xf32>, tensor<3x199xf32>, tensor<3x256xf32>
})mlir";
  lacking->bindingBytes = 16384;
  ASSERT_NO_FATAL_FAILURE(make());
  auto target = webgpu::parseTarget("native", "", &device->info());
  ASSERT_TRUE(target);
  SessionOptions options = testOptions(*target);
  options.openDevice = [] { return createWebGpuDevice({.libraryPath = WEBGPU_PROC_LIBRARY}); };
  auto outcome = runFunction(text, options);
  ASSERT_TRUE(outcome) << outcome.error().line();
  EXPECT_TRUE(outcome->isRight()) << outcome->why();
  // More pieces than buffers can be bound.
  options.target.limits.bindings = 8;
  EXPECT_THAT(errorOf(runFunction(text, options)),
              HasSubstr("buffers at once, of at most 16384 bytes, and the device allows 8"));
}

TEST_F(WebGpuLacking, DawnIsAskedForWhatItHas) {
  lacking->isDawn = true;
  ASSERT_NO_FATAL_FAILURE(make());
  EXPECT_THAT(features(), AllOf(Contains("subgroup-matrix-f16-16x16x16"),
                                Contains("subgroup-matrix-f16-16x8x8"),
                                Contains("subgroup-matrix-i8-16x16x32").Times(1)));
  EXPECT_THAT(features(), Not(Contains(HasSubstr("u8"))));
  EXPECT_THAT(device->info().driver, HasSubstr("Dawn, "));
  ASSERT_EQ(lacking->toggles.size(), 3U);
  for (const std::vector<std::string> &toggles : lacking->toggles)
    EXPECT_THAT(toggles,
                AllOf(Contains("allow_unsafe_apis"), Contains("vulkan_enable_f16_on_nvidia"),
                      Contains("-timestamp_quantization"), Not(Contains("skip_validation"))));
  expectItRuns();
}

TEST_F(WebGpuLacking, NumbersOfAnotherDawnGiveNoMatrices) {
  lacking->isDawn = true;
  lacking->knowsMatrices = false;
  ASSERT_NO_FATAL_FAILURE(make());
  EXPECT_THAT(features(), Not(Contains(HasSubstr("subgroup-matrix"))));
  expectItRuns();
}

} // namespace
