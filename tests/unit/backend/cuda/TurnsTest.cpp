// Sides that compute the same, timed in turns: what bench/cuda does beside a device.
#include "Turns.h"
#include "Compiled.h"
#include "CudaFixture.h"

using namespace kernelforge;
using namespace kernelforge::bench;

namespace {

class TurnsTest : public DeviceTest {};

TEST_F(TurnsTest, SidesRunAsOftenAsTheyAreTimed) {
  const auto gpu = Gpu::open(testOptions().libraryPath);
  ASSERT_TRUE(gpu) << gpu.error().line();
  constexpr int64_t n = 130;
  ProgramBuffers buffers;
  for (float first : {1.0F, 2.0F}) {
    const std::vector<float> numbers(n, first);
    buffers.arguments.push_back(*gpu->upload(std::as_bytes(std::span(numbers))));
    buffers.results.push_back(*gpu->allocatePoisoned(4 * n));
  }
  const std::vector<BufferRef> results = buffers.results;
  auto ours = makeOurSide(*gpu, "ours", bench::repeated(*kernelforge::repeated(1), 2, 4), {n},
                          std::move(buffers));
  ASSERT_TRUE(ours) << ours.error().line();

  const auto memory = gpu->upload(std::vector<std::byte>(4 * n, std::byte(0)));
  ASSERT_TRUE(memory);
  auto theirs = makeRecordedSide(*gpu, "theirs", [&](cuda::CUstream stream) -> Status {
    KF_TRY(const cuda::CUdeviceptr address, cuda::addressOf(gpu->context(), *memory, "test"));
    return gpu->context().check(gpu->context().api().cuMemsetD8Async(address, 0x7f, 4 * n, stream),
                                "test");
  });
  ASSERT_TRUE(theirs) << theirs.error().line();

  auto turns = Turns::make(*gpu);
  ASSERT_TRUE(turns) << turns.error().line();
  Side *const sides[] = {ours->get(), theirs->get()};
  for (Pace pace : {Pace::IdleGaps, Pace::BackToBack}) {
    const auto seconds = turns->time(sides, pace, 3, 1);
    ASSERT_TRUE(seconds) << seconds.error().line();
    for (const std::vector<double> &side : *seconds) {
      ASSERT_EQ(side.size(), 3U);
      for (double sample : side)
        EXPECT_GE(sample, 0);
    }
    EXPECT_TRUE(turns->sample(**ours, pace));
  }
  for (size_t set : {0, 1}) {
    std::vector<float> numbers(n);
    ASSERT_TRUE(gpu->download(results[set], std::as_writable_bytes(std::span(numbers))));
    EXPECT_EQ(numbers, std::vector<float>(n, set == 0 ? 3.0F : 5.0F));
  }
  std::vector<std::byte> bytes(4 * n);
  ASSERT_TRUE(gpu->download(*memory, bytes));
  EXPECT_EQ(bytes, std::vector<std::byte>(4 * n, std::byte(0x7f)));
  EXPECT_TRUE(gpu->poison(results[0]));
}

TEST_F(TurnsTest, BuffersThatDoNotFitAreRefused) {
  const auto gpu = Gpu::open(testOptions().libraryPath);
  ASSERT_TRUE(gpu);
  const auto program = bench::repeated(*kernelforge::repeated(1), 2, 2);
  EXPECT_EQ(kindOf(makeOurSide(*gpu, "ours", program, {8}, {})), ErrorKind::Unusable);
}

TEST(Turns, PacesHaveTheNamesThatScriptsAskFor) {
  EXPECT_EQ(nameOf(Pace::BackToBack), "back-to-back");
  EXPECT_EQ(nameOf(Pace::IdleGaps), "idle-gaps");
}

} // namespace
