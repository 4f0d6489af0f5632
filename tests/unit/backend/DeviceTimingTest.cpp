#include "kernelforge/backend/DeviceTiming.h"
#include "kernelforge/backend/RampUp.h"
#include "kernelforge/backend/HostMemory.h"

#include <gmock/gmock.h>

using namespace kernelforge;
using testing::ElementsAre;

namespace {

/// Notes which programs it is asked to time; a run of program i takes i + 1 seconds.
class NotingDevice final : public HostMemoryDevice {
public:
  const DeviceInfo &info() const override { return self; }
  Expected<std::vector<std::unique_ptr<Executable>>>
  load(std::span<const std::shared_ptr<const Program>>) override {
    return unusable("program cannot be loaded", "test", "this device only counts");
  }
  Expected<std::vector<std::vector<double>>> time(std::span<BoundProgram *const> programs,
                                                  std::span<const int64_t>, int rounds) override {
    std::vector<std::vector<double>> seconds;
    for (BoundProgram *program : programs) {
      const auto number = reinterpret_cast<uintptr_t>(program); // never followed
      for (int round = 0; round < rounds; ++round)
        ++runs[number];
      seconds.emplace_back(rounds, static_cast<double>(number));
    }
    calls.emplace_back(programs.size(), rounds);
    return seconds;
  }

  std::map<uintptr_t, int> runs;
  std::vector<std::pair<size_t, int>> calls; ///< programs and rounds
  DeviceInfo self;
};

std::vector<BoundProgram *> numbered(size_t count) {
  std::vector<BoundProgram *> programs;
  for (size_t i = 1; i <= count; ++i)
    programs.push_back(reinterpret_cast<BoundProgram *>(i));
  return programs;
}

TEST(DeviceTiming, BindingsTakeTurnsOverAllBatches) {
  NotingDevice device;
  const std::vector<BoundProgram *> programs = numbered(3);
  size_t next = 0;
  // Two runs, then five: 1 2, 3 1 2 3 1.
  EXPECT_DOUBLE_EQ(timedRuns(device, programs, {}, 2, next)->taken, 3e9);
  EXPECT_EQ(next, 2u);
  EXPECT_DOUBLE_EQ(timedRuns(device, programs, {}, 5, next)->taken, 10e9);
  EXPECT_EQ(next, 1u);
  EXPECT_EQ(device.runs[1], 3);
  EXPECT_EQ(device.runs[2], 2);
  EXPECT_EQ(device.runs[3], 2);
}

TEST(DeviceTiming, RunsFollowEachOtherWithoutAWait) {
  NotingDevice device;
  size_t next = 0;
  const auto times = timedRuns(device, numbered(2), {}, 99, next);
  EXPECT_DOUBLE_EQ(times->taken, (49 * 3 + 1) * 1e9);
  EXPECT_GE(times->onHost, 0);
  EXPECT_THAT(device.calls, ElementsAre(std::pair(size_t(64), 1), std::pair(size_t(35), 1)));
}

TEST(DeviceTiming, NoRunsTakeNoTime) {
  NotingDevice device;
  size_t next = 0;
  EXPECT_EQ(timedRuns(device, numbered(1), {}, 0, next)->taken, 0);
  EXPECT_THAT(device.calls, ElementsAre());
}

/// How long a device is kept at work whose turns take `took(milliseconds since the first one)`.
template <typename Took> int64_t rampOf(Took took) {
  RampUp ramp;
  int64_t now = 0;
  while (!ramp.isOver()) {
    const int64_t turn = took(now);
    now += turn;
    ramp.add(std::chrono::milliseconds(now), std::chrono::milliseconds(turn));
  }
  return now;
}

TEST(RampUp, EndsWhenADeviceHasStoppedBecomingFaster) {
  EXPECT_NEAR(rampOf([](int64_t) { return 10; }), 500, 10) << "always at its clock";
  EXPECT_NEAR(rampOf([](int64_t now) { return now < 150 ? 45 : now < 340 ? 28 : 10; }), 550, 60);
  EXPECT_NEAR(rampOf([](int64_t now) { return now < 700 ? 40 : 10; }), 500, 50)
      << "no step for longer than steps take";
  EXPECT_NEAR(rampOf([](int64_t now) { return now % 500 < 20 ? 20 : 10; }), 500, 40) << "noise";
  EXPECT_NEAR(rampOf([](int64_t now) { return 200 - now / 20; }), 2000, 110) << "given up";
  EXPECT_EQ(rampOf([](int64_t) { return 3000; }), 3000) << "one turn is enough of a slow device";
}

} // namespace
