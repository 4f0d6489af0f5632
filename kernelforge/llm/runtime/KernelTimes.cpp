#include "kernelforge/llm/runtime/KernelTimes.h"

#include <algorithm>

using namespace kernelforge;

void KernelTimer::add(const Program &program, const std::vector<int64_t> &sizes,
                      const std::vector<int64_t> &nanoseconds) {
  for (size_t i = 0; i < program.launches.size() && i < nanoseconds.size(); ++i) {
    const Launch &launch = program.launches[i];
    const Artifact &artifact = program.artifacts[launch.artifact];
    KernelTime &time = kernels[artifact.kernel];
    time.name = artifact.kernel;
    time.variant = artifact.variant;
    ++time.calls;
    time.seconds += static_cast<double>(nanoseconds[i]) * 1e-9;
    std::vector<int64_t> own;
    for (int size : launch.sizes)
      own.push_back(sizes[size]);
    time.flops += artifact.cost.flops(own.data());
    time.bytes += artifact.cost.bytes(own.data());
  }
}

std::vector<KernelTime> KernelTimer::times() const {
  std::vector<KernelTime> all;
  for (const auto &[name, time] : kernels)
    all.push_back(time);
  std::sort(all.begin(), all.end(),
            [](const KernelTime &a, const KernelTime &b) { return a.seconds > b.seconds; });
  return all;
}
