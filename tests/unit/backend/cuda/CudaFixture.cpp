#include "CudaFixture.h"

#include "EmulatedCudaDevice.h"

#include <cstdlib>
#include <dlfcn.h>

namespace kernelforge {

CudaOptions testOptions() {
  const char *path = std::getenv("KERNELFORGE_TEST_CUDA_LIBRARY");
  return {.libraryPath = path ? path : FAKE_DRIVER};
}

void *driverFunction(const char *name) {
  void *library = dlopen(testOptions().libraryPath.c_str(), RTLD_NOW | RTLD_NOLOAD);
  return library ? dlsym(library, name) : nullptr;
}

std::string driverLog() {
  auto *log = reinterpret_cast<const char *(*)()>(driverFunction("fakeDriverLog"));
  return log ? log() : "no log";
}

std::string ptx(std::string_view functions) {
  return ".version 7.0\n.target sm_80\n.address_size 64\n" + std::string(functions);
}

static void lose(Device &device) {
  ProgramMaker maker("loss");
  Phase phase;
  phase.entry = "lose";
  const int kernel = maker.kernel("loss", ptx(R"(
.visible .entry lose(
)
{
  .reg .b32 %r<2>;
  .reg .b64 %d<2>;
  mov.u32 %r1, %tid.x;
  mov.u64 %d1, 64;
  st.global.u32 [%d1], %r1;
  ret;
}
)"),
                                  {phase});
  maker.launch(kernel, {});
  const auto program = maker.done();
  auto loaded = device.load({&program, 1});
  ASSERT_TRUE(loaded) << loaded.error().line();
  auto bound = loaded->front()->bind({});
  ASSERT_TRUE(bound) << bound.error().line();
  const auto ticket = (*bound)->submit({});
  ASSERT_TRUE(ticket) << ticket.error().line();
  // Nobody knows of it before somebody waits.
  EXPECT_EQ(kindOf(device.wait(*ticket)), ErrorKind::Lost);
}

/// Emulation that knows which buffers are a launch's finds more than that of the made-up driver.
static Expected<std::unique_ptr<Device>> createForKernels() {
  if (std::getenv("KERNELFORGE_TEST_CUDA_LIBRARY"))
    return createCudaDevice(testOptions());
  return createEmulatedCudaDevice();
}

const TestTarget &testTarget() {
  static const TestTarget target = {.kind = "cuda",
                                    .affine = ptx(R"(
.visible .entry affine(
  .param .u64 source,
  .param .u64 result,
  .param .u32 n
)
.reqntid 64, 1, 1
{
  .reg .pred %p<2>;
  .reg .b32 %r<4>;
  .reg .b64 %d<4>;
  .reg .f32 %f<2>;
  mov.u32 %r0, %ctaid.x;
  mov.u32 %r1, %tid.x;
  shl.b32 %r0, %r0, 6;
  add.u32 %r0, %r0, %r1;
  ld.param.u32 %r2, [n];
  setp.ge.u32 %p1, %r0, %r2;
  @%p1 ret;
  ld.param.u64 %d0, [source];
  ld.param.u64 %d1, [result];
  mul.wide.u32 %d2, %r0, 4;
  add.u64 %d0, %d0, %d2;
  add.u64 %d1, %d1, %d2;
  ld.global.f32 %f0, [%d0];
  fma.rn.f32 %f1, %f0, 0f40000000, 0f3F800000;
  st.global.f32 [%d1], %f1;
  ret;
}
)"),
                                    .number = ptx(R"(
.visible .entry number(
  .param .u64 result
)
{
  .reg .b32 %r<3>;
  .reg .b64 %d<2>;
  mov.u32 %r0, %ctaid.x;
  ld.param.u64 %d0, [result];
  mul.wide.u32 %d1, %r0, 4;
  add.u64 %d0, %d0, %d1;
  ld.global.u32 %r1, [%d0];
  mad.lo.u32 %r1, %r0, 3, %r1;
  st.global.u32 [%d0], %r1;
  ret;
}
)"),
                                    .sum = ptx(R"(
.visible .entry sum_rows(
  .param .u64 weight,
  .param .u64 partial,
  .param .u32 n
)
{
  .reg .pred %p<2>;
  .reg .b32 %r<5>;
  .reg .b64 %d<4>;
  .reg .f32 %f<2>;
  mov.u32 %r0, %ctaid.x;
  shl.b32 %r1, %r0, 4;
  add.u32 %r2, %r1, 16;
  ld.param.u32 %r3, [n];
  min.u32 %r2, %r2, %r3;
  ld.param.u64 %d0, [weight];
  ld.param.u64 %d1, [partial];
  mov.f32 %f0, 0f00000000;
again:
  setp.ge.u32 %p1, %r1, %r2;
  @%p1 bra done;
  mul.wide.u32 %d2, %r1, 4;
  add.u64 %d2, %d0, %d2;
  ld.global.f32 %f1, [%d2];
  add.f32 %f0, %f0, %f1;
  add.u32 %r1, %r1, 1;
  bra again;
done:
  mul.wide.u32 %d2, %r0, 4;
  add.u64 %d1, %d1, %d2;
  st.global.f32 [%d1], %f0;
  ret;
}
.visible .entry sum_all(
  .param .u64 partial,
  .param .u64 runs,
  .param .u64 result,
  .param .u32 n
)
{
  .reg .pred %p<2>;
  .reg .b32 %r<4>;
  .reg .b64 %d<4>;
  .reg .f32 %f<2>;
  ld.param.u32 %r0, [n];
  add.u32 %r0, %r0, 15;
  shr.u32 %r0, %r0, 4;
  mov.u32 %r1, 0;
  ld.param.u64 %d0, [partial];
  mov.f32 %f0, 0f00000000;
again:
  setp.ge.u32 %p1, %r1, %r0;
  @%p1 bra done;
  mul.wide.u32 %d1, %r1, 4;
  add.u64 %d1, %d0, %d1;
  ld.global.f32 %f1, [%d1];
  add.f32 %f0, %f0, %f1;
  add.u32 %r1, %r1, 1;
  bra again;
done:
  ld.param.u64 %d1, [runs];
  ld.global.u32 %r2, [%d1];
  add.u32 %r2, %r2, 1;
  st.global.u32 [%d1], %r2;
  cvt.rn.f32.u32 %f1, %r2;
  ld.param.u64 %d2, [result];
  st.global.f32 [%d2], %f0;
  st.global.f32 [%d2+4], %f1;
  ret;
}
)"),
                                    .create = [] { return createCudaDevice(testOptions()); },
                                    .createForKernels = createForKernels,
                                    // A real driver gives the process no other one.
                                    .lose = std::getenv("KERNELFORGE_TEST_CUDA_LIBRARY") ? nullptr
                                                                                         : lose,
                                    .requiredBy = "KERNELFORGE_REQUIRE_CUDA"};
  return target;
}

} // namespace kernelforge
