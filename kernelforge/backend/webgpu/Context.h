// A connection to one adapter: instance, device, queue, and how errors and waiting are done. All
// that is made on the device holds it.
#pragma once

#include "kernelforge/backend/webgpu/Library.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/support/Error.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge::webgpu {

/// A text of ours as the API takes it.
inline WGPUStringView view(std::string_view text) { return {text.data(), text.size()}; }
/// A text of the API.
std::string text(WGPUStringView view);
/// A message of several lines, as libraries write them, on one.
std::string onOneLine(std::string_view message);

/// What was reported outside any call that could give it back. Written by callbacks from any
/// thread.
class ErrorSink {
public:
  void lose(std::string why);
  void report(std::string message);
  /// Why the device is lost; nothing while it is not.
  std::optional<std::string> lost() const;
  /// The first message since the last call.
  std::optional<std::string> take();

private:
  mutable std::mutex mutex;
  std::optional<std::string> whyLost;
  std::optional<std::string> message;
};

class WarmUp;

/// Owns the connection. Calls that record or submit are made under lock().
class Context : public std::enable_shared_from_this<Context> {
public:
  /// Connects to an adapter: the one that the library prefers, or the first whose name contains
  /// `filter`, in any case. Asks for all of its limits, and for the features that kernels use.
  /// Missing where there is no such adapter.
  static Expected<std::shared_ptr<Context>> connect(std::shared_ptr<const Library> library,
                                                    const std::string &filter);
  /// The names of the adapters that a library finds, each once. Missing where there is none; some
  /// libraries do not list them, and tell those that they would choose.
  static Expected<std::vector<std::string>> adapterNames(std::shared_ptr<const Library> library);
  ~Context();
  Context(const Context &) = delete;
  Context &operator=(const Context &) = delete;

  const Api &api() const { return library->api(); }
  WGPUDevice device() const { return deviceHandle.get(); }
  WGPUQueue queue() const { return queueHandle.get(); }
  const DeviceInfo &info() const { return description; }
  const WGPULimits &limits() const { return adapterLimits; }
  bool hasTimestamps() const { return timestamps; }
  /// Nanoseconds of one count of a timestamp.
  double timestampPeriod() const { return period; }

  /// Libraries other than wgpu-native need calls to come one at a time, and what is recorded and
  /// submitted as a whole must stay so.
  [[nodiscard]] std::unique_lock<std::recursive_mutex> lock() const {
    return std::unique_lock(mutex);
  }

  /// Lost, with why, where the device is.
  Status alive() const;

  /// Calls `function`, and gives back what the API reports of it: Lost where the device is, Failed
  /// with the library's message on one line otherwise. Called under lock().
  Status checked(std::string_view what, std::string_view where,
                 const std::function<void()> &function) const;

  /// Lets callbacks be called until `isDone`, which is asked under lock() and is so when
  /// `submission` (0: all so far) is over. Lost where the device is lost before.
  Status waitUntil(const std::function<bool()> &isDone, uint64_t submission = 0) const;

  /// Lets callbacks be called until `isDone`, even where the device is lost: those that write into
  /// the caller's frame. Called under lock().
  void waitForCallbacks(const std::function<bool()> &isDone) const;

  /// Until all that was submitted so far is over. Errors that no call gave back come out here.
  Status waitForQueue() const;

  /// Failed with the first error that no call gave back, since this was asked last.
  Status reported() const;
  /// Whether errors outside of checked() are found by who waits: wgpu-native ends the program.
  bool reportsLater() const { return !api().isNative(); }

  /// Lost where the device is: wgpu-native is asked, since it does not tell by itself.
  Status probe() const;

  /// Submits one command buffer. Called under lock(), right after checked() found no error in
  /// recording it: wgpu-native ends the program where a submit fails. Gives its number for
  /// waitUntil(), where the library counts.
  uint64_t submit(WGPUCommandBuffer commands) const;

  /// A buffer of `bytes`, a multiple of 4. Failed where it cannot be had. Called under lock().
  Expected<Handle<WGPUBuffer>> makeBuffer(uint64_t bytes, WGPUBufferUsage usage,
                                          std::string_view what) const;

  /// A module of shaders, whose label is in messages about it. It may be invalid: an error goes to
  /// the scopes of the caller's thread. Where the library is wgpu-native, without checks of its own
  /// (as Dawn without its clamps, see dawnToggles()), and without lines about subgroups that it
  /// does not know although it has them: `enable subgroups;` and the diagnostic of their
  /// uniformity.
  Handle<WGPUShaderModule> makeShader(std::string_view wgsl, std::string_view label) const;

  /// Gives the device up, as a reset of the driver's would take it away.
  void lose() const;

  ErrorSink &errors() const { return *sink; }

  /// What keeps the device at work before it is timed.
  WarmUp &warmUp() const { return *warm; }

private:
  explicit Context(std::shared_ptr<const Library> library);

  Status makeInstance();
  Status chooseAdapter(const std::string &filter);
  /// The one that the library prefers, or all that can be found.
  Expected<std::vector<Handle<WGPUAdapter>>> findAdapters(bool all);
  void describeAdapter();
  Status makeDevice();
  /// Adds what only a shader that is compiled tells. Needs the device.
  void tryFeatures();
  bool compiles(std::string_view wgsl) const;
  /// Calls back; on request, where the library can, once `submission` is over.
  void processEvents(bool block, uint64_t submission = 0) const;

  std::shared_ptr<const Library> library;
  std::unique_ptr<ErrorSink> sink = std::make_unique<ErrorSink>();
  mutable std::recursive_mutex mutex;
  Handle<WGPUInstance> instance;
  Handle<WGPUAdapter> adapter;
  Handle<WGPUDevice> deviceHandle;
  Handle<WGPUQueue> queueHandle;
  std::unique_ptr<WarmUp> warm;
  WGPULimits adapterLimits = WGPU_LIMITS_INIT;
  std::vector<WGPUFeatureName> wanted;
  DawnMatrixFeatures matrices;
  DeviceInfo description;
  bool timestamps = false;
  double period = 1;
};

} // namespace kernelforge::webgpu
