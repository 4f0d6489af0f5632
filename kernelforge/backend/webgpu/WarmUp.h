// A GPU that had nothing to do runs slowly for a while: what is timed then is its clock, not the
// code. So it is kept at work for a moment before anything is timed.
#pragma once

#include "kernelforge/backend/webgpu/Context.h"

#include <chrono>
#include <mutex>

namespace kernelforge::webgpu {

/// Work without a purpose for one device, for any thread. Made when it is first needed. Not called
/// under the context's lock.
class WarmUp {
public:
  /// Keeps the device busy until it is as fast as it gets (RampUp) where it was not timed in the
  /// last second: an H200 that was idle for some seconds runs at a fifth of its clock at first. A
  /// processor in the place of a GPU is left alone. Errors as those of Context.
  Status run(const Context &context);

  /// The device was just at work.
  void note() {
    const std::lock_guard guard(mutex);
    last = Clock::now();
  }

private:
  using Clock = std::chrono::steady_clock;

  Status make(const Context &context);

  std::mutex mutex; ///< of all that follows
  Handle<WGPUComputePipeline> pipeline;
  Handle<WGPUBuffer> buffer;
  Handle<WGPUBindGroup> group;
  std::optional<Clock::time_point> last;
};

} // namespace kernelforge::webgpu
