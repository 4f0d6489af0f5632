// Errors, waiting, and what is made on a device. How it is found is in Adapter.cpp.
#include "kernelforge/backend/webgpu/Context.h"

#include "kernelforge/backend/webgpu/WarmUp.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <chrono>
#include <fmt/format.h>
#include <thread>

namespace kernelforge::webgpu {

std::string text(WGPUStringView view) {
  if (!view.data)
    return {};
  return view.length == WGPU_STRLEN ? std::string(view.data) : std::string(view.data, view.length);
}

std::string onOneLine(std::string_view message) {
  // Frames drawn around source lines, and headings that say nothing.
  std::string out;
  size_t begin = 0;
  while (begin <= message.size()) {
    const size_t end = std::min(message.find('\n', begin), message.size());
    std::string line(message.substr(begin, end - begin));
    begin = end + 1;
    for (std::string_view frame : {"┌─", "│", "╭─", "└", "─", "╰"})
      for (size_t at = line.find(frame); at != std::string::npos; at = line.find(frame))
        line.replace(at, frame.size(), " ");
    std::string words;
    for (char c : line)
      if (c == ' ' || c == '\t' || c == '\r')
        words += words.empty() || words.back() == ' ' ? "" : " ";
      else
        words += c;
    while (!words.empty() && words.back() == ' ')
      words.pop_back();
    const bool says = std::any_of(words.begin(), words.end(),
                                  [](unsigned char c) { return std::isalnum(c) != 0; });
    if (!says || words == "Caused by:" || words == "Validation Error")
      continue;
    out += (out.empty() ? "" : out.back() == ':' ? " " : ", ") + words;
  }
  return out.empty() ? "no reason is given" : out;
}

void ErrorSink::lose(std::string why) {
  const std::lock_guard guard(mutex);
  if (!whyLost)
    whyLost = std::move(why);
}

void ErrorSink::report(std::string text) {
  const std::lock_guard guard(mutex);
  if (!message)
    message = std::move(text);
}

std::optional<std::string> ErrorSink::lost() const {
  const std::lock_guard guard(mutex);
  return whyLost;
}

std::optional<std::string> ErrorSink::take() {
  const std::lock_guard guard(mutex);
  return std::exchange(message, std::nullopt);
}

Context::Context(std::shared_ptr<const Library> library)
    : library(std::move(library)), warm(std::make_unique<WarmUp>()) {}

Context::~Context() {
  // Callbacks of a device that goes away look at the sink, so that goes last.
  const auto guard = lock();
  warm.reset();
  queueHandle.reset();
  deviceHandle.reset();
  adapter.reset();
  instance.reset();
}

Status Context::alive() const {
  if (const auto why = sink->lost())
    return makeError(ErrorKind::Lost, "WebGPU device is lost", description.name, *why,
                     "its memory is gone; make another one");
  return {};
}

void Context::processEvents(bool block, uint64_t submission) const {
  // wgpu-native polls a device; its futures are none.
  if (api().isNative() && deviceHandle)
    api().wgpuDevicePoll(device(), block, block && submission ? &submission : nullptr);
  else
    api().wgpuInstanceProcessEvents(instance.get());
}

Status Context::waitUntil(const std::function<bool()> &isDone, uint64_t submission) const {
  using namespace std::chrono_literals;
  using Clock = std::chrono::steady_clock;
  // Who sleeps wakes up 50 us late, a tenth of a short step: what is soon over is waited for awake,
  // unless a processor does the work and has better to do.
  const auto awake = Clock::now() + (description.software ? 0us : 4000us);
  auto pause = 1us;
  for (bool first = true;; first = false) {
    {
      const auto guard = lock();
      if (isDone())
        return {};
      KF_CHECK(alive());
      if (first || !api().isNative()) {
        processEvents(false);
        if (isDone())
          return {};
      }
    }
    // Others submit while this thread waits.
    if (api().isNative()) {
      KF_CHECK(alive());
      processEvents(true, submission);
    }
    if (first && api().isNative())
      continue;
    if (Clock::now() < awake) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(pause);
      pause = std::min(pause * 2, std::chrono::microseconds(200us));
    }
  }
}

void Context::waitForCallbacks(const std::function<bool()> &isDone) const {
  while (!isDone()) {
    processEvents(false);
    std::this_thread::yield();
  }
}

namespace {

/// What the scopes caught, from the innermost.
struct Caught {
  int open = 0;
  WGPUErrorType type = WGPUErrorType_NoError;
  std::string message;
};

void onScope(WGPUPopErrorScopeStatus status, WGPUErrorType type, WGPUStringView message,
             void *userdata, void *) {
  auto &caught = *static_cast<Caught *>(userdata);
  --caught.open;
  if (caught.type != WGPUErrorType_NoError ||
      (status == WGPUPopErrorScopeStatus_Success && type == WGPUErrorType_NoError))
    return;
  caught.type = status == WGPUPopErrorScopeStatus_Success ? type : WGPUErrorType_Unknown;
  caught.message = text(message);
}

bool saysLost(std::string_view message) {
  return message.find("device is lost") != std::string_view::npos ||
         message.find("Device is lost") != std::string_view::npos ||
         message.find("device lost") != std::string_view::npos;
}

} // namespace

Status Context::checked(std::string_view what, std::string_view where,
                        const std::function<void()> &function) const {
  KF_CHECK(alive());
  constexpr std::array filters = {WGPUErrorFilter_Validation, WGPUErrorFilter_OutOfMemory,
                                  WGPUErrorFilter_Internal};
  // wgpu-native aborts at the third, and knows no such errors.
  const int scopes = api().isNative() ? 2 : 3;
  for (int i = 0; i < scopes; ++i)
    api().wgpuDevicePushErrorScope(device(), filters[i]);
  function();
  Caught caught;
  caught.open = scopes;
  for (int i = 0; i < scopes; ++i) {
    WGPUPopErrorScopeCallbackInfo info = WGPU_POP_ERROR_SCOPE_CALLBACK_INFO_INIT;
    info.mode = WGPUCallbackMode_AllowProcessEvents;
    info.callback = onScope;
    info.userdata1 = &caught;
    api().wgpuDevicePopErrorScope(device(), info);
  }
  waitForCallbacks([&] { return caught.open == 0; });
  std::string why = onOneLine(caught.message);
  // wgpu-native calls nobody back, and says so here alone.
  if (caught.type != WGPUErrorType_NoError && saysLost(why))
    sink->lose(why);
  KF_CHECK(alive());
  if (caught.type == WGPUErrorType_NoError)
    return {};
  if (caught.type == WGPUErrorType_OutOfMemory)
    why = "the device has no memory left: " + why;
  return failed(std::string(what), std::string(where), std::move(why));
}

Status Context::waitForQueue() const {
  struct Done {
    std::atomic<bool> isOver = false;
    std::atomic<bool> isRight = true;
  };
  // A device that is lost may call back when nobody waits any more.
  auto done = std::make_unique<std::shared_ptr<Done>>(std::make_shared<Done>());
  const std::shared_ptr<Done> shared = *done;
  {
    const auto guard = lock();
    KF_CHECK(alive());
    WGPUQueueWorkDoneCallbackInfo info = WGPU_QUEUE_WORK_DONE_CALLBACK_INFO_INIT;
    info.mode = WGPUCallbackMode_AllowProcessEvents;
    info.callback = [](WGPUQueueWorkDoneStatus status, WGPUStringView, void *userdata, void *) {
      const std::unique_ptr<std::shared_ptr<Done>> done(
          static_cast<std::shared_ptr<Done> *>(userdata));
      (*done)->isRight = status == WGPUQueueWorkDoneStatus_Success;
      (*done)->isOver = true;
    };
    info.userdata1 = done.release();
    api().wgpuQueueOnSubmittedWorkDone(queue(), info);
  }
  KF_CHECK(waitUntil([&] { return shared->isOver.load(); }));
  KF_CHECK(probe());
  KF_CHECK(reported());
  if (!shared->isRight)
    return failed("WebGPU work failed", description.name, "the library does not say why");
  return {};
}

Status Context::reported() const {
  if (const auto message = sink->take())
    return failed("WebGPU reports an error", description.name, onOneLine(*message));
  return {};
}

Status Context::probe() const {
  const auto guard = lock();
  // Others call back.
  if (!api().isNative())
    return alive();
  return checked("WebGPU device cannot be used", description.name, [&] {
    const Handle<WGPUCommandEncoder> encoder = {
        api().wgpuDeviceCreateCommandEncoder(device(), nullptr), api().wgpuCommandEncoderRelease};
  });
}

uint64_t Context::submit(WGPUCommandBuffer commands) const {
  if (api().wgpuQueueSubmitForIndex)
    return api().wgpuQueueSubmitForIndex(queue(), 1, &commands);
  api().wgpuQueueSubmit(queue(), 1, &commands);
  return 0;
}

Expected<Handle<WGPUBuffer>> Context::makeBuffer(uint64_t bytes, WGPUBufferUsage usage,
                                                 std::string_view what) const {
  WGPUBufferDescriptor descriptor = WGPU_BUFFER_DESCRIPTOR_INIT;
  descriptor.size = bytes;
  descriptor.usage = usage;
  descriptor.label = view(what);
  Handle<WGPUBuffer> buffer;
  KF_CHECK(checked("WebGPU memory cannot be had", fmt::format("{}, {} bytes", what, bytes), [&] {
    buffer = {api().wgpuDeviceCreateBuffer(device(), &descriptor), api().wgpuBufferRelease};
  }));
  if (!buffer)
    return failed("WebGPU memory cannot be had", fmt::format("{}, {} bytes", what, bytes),
                  "the library gives none");
  return buffer;
}

Handle<WGPUShaderModule> Context::makeShader(std::string_view wgsl, std::string_view label) const {
  std::string text(wgsl);
  if (api().isNative())
    for (std::string_view directive :
         {"enable subgroups;", "diagnostic(off, subgroup_uniformity);"})
      if (const size_t at = text.find(directive); at != std::string::npos)
        text.replace(at, directive.size(), directive.size(), ' '); // columns stay as they are
  WGPUShaderSourceWGSL source = WGPU_SHADER_SOURCE_WGSL_INIT;
  source.code = view(text);
  WGPUShaderModuleDescriptor module = WGPU_SHADER_MODULE_DESCRIPTOR_INIT;
  module.nextInChain = &source.chain;
  module.label = view(label);
  return {api().wgpuDeviceCreateShaderModuleTrusted
              ? api().wgpuDeviceCreateShaderModuleTrusted(device(), &module,
                                                          WGPUShaderRuntimeChecks_None)
              : api().wgpuDeviceCreateShaderModule(device(), &module),
          api().wgpuShaderModuleRelease};
}

void Context::lose() const {
  const auto guard = lock();
  api().wgpuDeviceDestroy(device());
}

} // namespace kernelforge::webgpu
