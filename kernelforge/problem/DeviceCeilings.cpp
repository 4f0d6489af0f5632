#include "kernelforge/problem/DeviceCeilings.h"

#include "kernelforge/problem/ModuleText.h"
#include "kernelforge/support/Team.h"

#include <algorithm>

#include <fmt/format.h>

using namespace kernelforge;

/// Launches of a run of @launches.
static constexpr int launchesOfRun = 32;

/// Multiplications, and additions, of an element of @arithmetic: far more than memory could keep up
/// with.
static constexpr int64_t multiplyAddsOfElement = 128;
static constexpr int64_t elementsOfRow = 1024;

/// @copy of one launch, @move of none, which the device does by itself, and @launches of many that
/// wait for each other.
static std::string moduleText(int64_t mostRows) {
  std::string text = fmt::format(R"(!t = tensor<?x1024xf32, #transformer.dims<"rows">>
func.func @copy(%rows: index {{transformer.size = #transformer.size<"rows", 1 to {0}>}},
                %x: !t {{transformer.input = "x"}}) -> !t {{
  %0 = transformer.activation %x <relu> : !t
  return %0 : !t
}}
func.func @move(%rows: index {{transformer.size = #transformer.size<"rows", 1 to {0}>}},
                %x: !t {{transformer.input = "x"}}) -> !t {{
  return %x : !t
}}
func.func @launches(%rows: index {{transformer.size = #transformer.size<"rows", 1 to 1>}},
                    %x: !t {{transformer.input = "x"}}) -> !t {{
)",
                                 mostRows);
  for (int i = 0; i < launchesOfRun; ++i)
    text += fmt::format("  %{} = transformer.add {}, %x : !t\n", i,
                        i == 0 ? "%x" : fmt::format("%{}", i - 1));
  return text + fmt::format("  return %{} : !t\n}}\n", launchesOfRun - 1);
}

/// @arithmetic, which is to become one kernel.
static std::string arithmeticText(int64_t mostRows) {
  std::string text = fmt::format(R"(!t = tensor<?x1024xf32, #transformer.dims<"rows">>
func.func @arithmetic(%rows: index {{transformer.size = #transformer.size<"rows", 1 to {}>}},
                      %x: !t {{transformer.input = "x"}}) -> !t {{
)",
                                 mostRows);
  std::string value = "%x";
  for (int64_t i = 0; i < multiplyAddsOfElement; ++i) {
    text += fmt::format("  %m{0} = transformer.mul {1}, %x : !t\n"
                        "  %a{0} = transformer.add %m{0}, %x : !t\n",
                        i, value);
    value = fmt::format("%a{}", i);
  }
  return text + "  return " + value + " : !t\n}\n";
}

Expected<std::unique_ptr<DeviceCeilings>> DeviceCeilings::create(SessionOptions options) {
  std::unique_ptr<DeviceCeilings> made(new DeviceCeilings);
  DeviceCeilings &ceilings = *made;
  options.fuse = false; // launches stay launches
  options.poison = false;
  options.records.reset(); // a ceiling does not depend on what was tuned
  options.dumpFolder.clear();
  ceilings.options = options;
  KF_TRY(ceilings.session, Session::create(std::move(options)));
  // Within what one binding can be, and a part of a small device's memory.
  const Limits &limits = ceilings.device().limits;
  int64_t bytes = ceilings.device().sharesHostMemory ? int64_t(64) << 20 : int64_t(256) << 20;
  if (limits.bindingBytes > 0)
    bytes = std::min(bytes, limits.bindingBytes);
  if (limits.memoryBytes > 0)
    bytes = std::min(bytes, limits.memoryBytes / 16);
  ceilings.mostRows = std::max<int64_t>(bytes / rowBytes, 1);
  KF_TRY(auto module,
         parseModuleText(&ceilings.session->context(), moduleText(ceilings.mostRows), "ceilings"));
  KF_CHECK(ceilings.session->compile(std::move(module)));
  const auto size = static_cast<uint64_t>(ceilings.mostRows * rowBytes);
  KF_TRY(ceilings.input, PageMemory::allocate(size));
  KF_TRY(ceilings.output, PageMemory::allocate(size));
  // Written once: pages that nobody wrote are all the same page.
  std::fill_n(ceilings.input.data(), size, std::byte{0});
  std::fill_n(ceilings.output.data(), size, std::byte{0});
  KF_CHECK(ceilings.session->bind("x", ceilings.input.span()));
  return made;
}

/// Of one run, after one that is not counted.
Expected<double> DeviceCeilings::secondsOf(Session &of, const std::string &function, int64_t rows,
                                           double seconds) {
  const std::span<std::byte> result = output.span();
  KF_TRY(TimedCalls timed, of.timed(function, {&rows, 1}, {&result, 1}));
  CallTimes all;
  KF_TRY(all, timed(1)); // not counted
  all = {};
  int64_t calls = 0;
  for (int64_t batch = 1; calls == 0 || all.onHost < seconds * 1e9; batch *= 2) {
    KF_TRY(CallTimes some, timed(batch));
    all.taken += some.taken;
    all.onHost += some.onHost;
    calls += batch;
  }
  // A clock that stands still within a run tells nothing.
  if (all.taken <= 0)
    return failed("ceiling cannot be measured", device().name,
                  "its clock does not tell how long a run takes", "measure on another device");
  return all.taken * 1e-9 / static_cast<double>(calls);
}

Expected<double> DeviceCeilings::copy(int64_t bytes, double seconds) {
  const int64_t rows = std::clamp<int64_t>(bytes / (2 * rowBytes), 1, mostRows);
  KF_TRY(double byKernel, secondsOf(*session, "copy", rows, seconds));
  // Not every clock tells how long a copy without a launch takes.
  const double byDevice = secondsOf(*session, "move", rows, seconds).value_or(byKernel);
  return static_cast<double>(2 * rowBytes * rows) / std::min(byKernel, byDevice);
}

Expected<int64_t> DeviceCeilings::uncached() {
  if (device().callsLibraries) // whose caches are known
    return std::min(uncachedBytes(), mostBytes());
  constexpr int64_t least = 1 << 20;
  constexpr double longest = 0.001; // a copy of so many seconds moves more than a cache holds
  int64_t bytes = std::min(least, mostBytes());
  for (; bytes < mostBytes(); bytes = std::min(4 * bytes, mostBytes())) {
    KF_TRY(double rate, copy(bytes, 0));
    if (static_cast<double>(bytes) / rate >= longest)
      break;
  }
  return bytes;
}

Expected<double> DeviceCeilings::launch(double seconds) {
  KF_TRY(double run, secondsOf(*session, "launches", 1, seconds));
  return run / launchesOfRun;
}

Status DeviceCeilings::prepareArithmetic() {
  constexpr int64_t most = 4096;
  constexpr double longest = 0.001;
  const int64_t largest = std::min(most, mostRows);
  SessionOptions own = options;
  own.fuse = true;
  KF_TRY(arithmetic, Session::create(std::move(own)));
  KF_TRY(auto module, parseModuleText(&arithmetic->context(), arithmeticText(largest), "ceilings"));
  KF_CHECK(arithmetic->compile(std::move(module)));
  if (arithmetic->program("arithmetic")->launches.size() != 1)
    return unusable("ceiling cannot be measured", "arithmetic",
                    "it is no single kernel on this target");
  KF_CHECK(arithmetic->bind("x", input.span()));
  // As many rows as keep all of the device busy, or take long enough.
  for (arithmeticRows = 1; arithmeticRows < largest;
       arithmeticRows = std::min(4 * arithmeticRows, largest)) {
    KF_TRY(double each, secondsOf(*arithmetic, "arithmetic", arithmeticRows, 0));
    if (each >= longest)
      break;
  }
  return {};
}

Expected<double> DeviceCeilings::multiplyAdds(double seconds) {
  if (arithmeticRows == 0)
    KF_CHECK(prepareArithmetic());
  KF_TRY(double each, secondsOf(*arithmetic, "arithmetic", arithmeticRows, seconds));
  return static_cast<double>(2 * multiplyAddsOfElement * elementsOfRow * arithmeticRows) / each;
}

Expected<KernelCeilings> kernelforge::kernelCeilings(DeviceCeilings *device, int64_t bytes,
                                                     int threads, const std::atomic<bool> *cancel,
                                                     Numerics numerics) {
  constexpr double seconds = 0.02;
  if (!device)
    return measureKernelCeilings(bytes, {threads, seconds, cancel, runTeam}, numerics);
  KernelCeilings ceilings;
  if (Expected<double> arithmetic = device->multiplyAdds(seconds))
    ceilings.fma = *arithmetic;
  else if (arithmetic.error().kind != ErrorKind::Unusable)
    return tl::unexpected(arithmetic.error());
  KF_TRY(ceilings.read, device->copy(bytes, seconds));
  return ceilings;
}
