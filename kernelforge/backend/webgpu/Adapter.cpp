// How an adapter is found and connected to.
#include "kernelforge/backend/webgpu/Context.h"
#include "kernelforge/support/Host.h"

#include <algorithm>
#include <cctype>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace kernelforge::webgpu {

namespace {

constexpr const char *noAdapter = "there is no WebGPU adapter";
constexpr const char *driverHint =
    "install a Vulkan driver: that of the GPU, or mesa-vulkan-drivers, which has one for "
    "processors "
    "and which `make setup` installs; VK_DRIVER_FILES may name its description";

/// What a request ends with. Requests that outlive the wait for them do not touch the stack.
template <typename Object> struct Answer {
  bool isOver = false;
  Object object = nullptr;
  std::string message;
};

template <typename Object, typename Outcome>
void onAnswer(Outcome, Object object, WGPUStringView message, void *userdata, void *) {
  auto &answer = *static_cast<Answer<Object> *>(userdata);
  answer.object = object;
  answer.message = text(message);
  answer.isOver = true;
}

std::string lowered(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::string nameOf(const Api &api, WGPUAdapter adapter) {
  WGPUAdapterInfo info = WGPU_ADAPTER_INFO_INIT;
  if (api.wgpuAdapterGetInfo(adapter, &info) != WGPUStatus_Success)
    return "unknown";
  std::string name = text(info.device);
  if (name.empty())
    name = text(info.description);
  api.wgpuAdapterInfoFreeMembers(info);
  return name.empty() ? "unknown" : name;
}

const char *backendName(WGPUBackendType type) {
  switch (type) {
  case WGPUBackendType_Vulkan:
    return "Vulkan";
  case WGPUBackendType_Metal:
    return "Metal";
  case WGPUBackendType_D3D12:
    return "Direct3D 12";
  case WGPUBackendType_D3D11:
    return "Direct3D 11";
  case WGPUBackendType_OpenGL:
  case WGPUBackendType_OpenGLES:
    return "OpenGL";
  default:
    return "";
  }
}

/// Features that kernels can use, in the words of WGSL and of the standard.
struct FeatureWord {
  const char *word;
  WGPUFeatureName feature;
  /// wgpu-native's own number for it, from before the standard had one; 0: none.
  int native = 0;
};
constexpr FeatureWord featureWords[] = {
    {"shader-f16", WGPUFeatureName_ShaderF16},
    {"subgroups", WGPUFeatureName_Subgroups, WGPUNativeFeature_Subgroup},
    {"timestamp-query", WGPUFeatureName_TimestampQuery},
};

int64_t orZero(uint64_t limit) {
  return static_cast<int64_t>(std::min<uint64_t>(limit, INT64_MAX));
}

} // namespace

Expected<std::shared_ptr<Context>> Context::connect(std::shared_ptr<const Library> library,
                                                    const std::string &filter) {
  std::shared_ptr<Context> context(new Context(std::move(library)));
  const auto guard = context->lock();
  KF_CHECK(context->makeInstance());
  KF_CHECK(context->chooseAdapter(filter));
  context->describeAdapter();
  KF_CHECK(context->makeDevice());
  return context;
}

Status Context::makeInstance() {
  WGPUInstanceDescriptor descriptor = WGPU_INSTANCE_DESCRIPTOR_INIT;
  // OpenGL is there on machines without a driver that computes.
  WGPUInstanceExtras extras = {};
  extras.chain.sType = static_cast<WGPUSType>(WGPUSType_InstanceExtras);
  extras.backends = WGPUInstanceBackend_Primary;
  if (api().isNative())
    descriptor.nextInChain = &extras.chain;
  instance = {api().wgpuCreateInstance(&descriptor), api().wgpuInstanceRelease};
  if (!instance)
    return missing("WebGPU cannot be used", library->path(), "the library gives no instance");
  return {};
}

Status Context::chooseAdapter(const std::string &filter) {
  std::vector<Handle<WGPUAdapter>> candidates;
  if (!filter.empty() && api().wgpuInstanceEnumerateAdapters) {
    WGPUInstanceEnumerateAdapterOptions options = {};
    options.backends = WGPUInstanceBackend_Primary;
    std::vector<WGPUAdapter> found(
        api().wgpuInstanceEnumerateAdapters(instance.get(), &options, nullptr));
    found.resize(api().wgpuInstanceEnumerateAdapters(instance.get(), &options, found.data()));
    for (WGPUAdapter one : found)
      candidates.emplace_back(one, api().wgpuAdapterRelease);
  } else {
    WGPURequestAdapterOptions options = WGPU_REQUEST_ADAPTER_OPTIONS_INIT;
    options.powerPreference = WGPUPowerPreference_HighPerformance;
    Answer<WGPUAdapter> answer;
    WGPURequestAdapterCallbackInfo info = WGPU_REQUEST_ADAPTER_CALLBACK_INFO_INIT;
    info.mode = WGPUCallbackMode_AllowProcessEvents;
    info.callback = onAnswer<WGPUAdapter, WGPURequestAdapterStatus>;
    info.userdata1 = &answer;
    api().wgpuInstanceRequestAdapter(instance.get(), &options, info);
    while (!answer.isOver)
      processEvents(false);
    if (!answer.object)
      return missing(noAdapter, library->path(), onOneLine(answer.message), driverHint);
    candidates.emplace_back(answer.object, api().wgpuAdapterRelease);
  }
  std::vector<std::string> names;
  for (Handle<WGPUAdapter> &candidate : candidates) {
    names.push_back(nameOf(api(), candidate.get()));
    if (lowered(names.back()).find(lowered(filter)) == std::string::npos)
      continue;
    adapter = std::move(candidate);
    return {};
  }
  if (names.empty())
    return missing(noAdapter, library->path(), "no driver has one", driverHint);
  return missing(noAdapter, filter, fmt::format("there is {}", fmt::join(names, ", ")),
                 "name a part of one of these");
}

void Context::describeAdapter() {
  WGPUAdapterInfo info = WGPU_ADAPTER_INFO_INIT;
  api().wgpuAdapterGetInfo(adapter.get(), &info);
  api().wgpuAdapterGetLimits(adapter.get(), &adapterLimits);
  description.kind = "webgpu";
  description.name = nameOf(api(), adapter.get());
  description.chip = text(info.architecture);
  if (description.chip.empty() && (info.vendorID || info.deviceID))
    description.chip = fmt::format("{:04x}:{:04x}", info.vendorID, info.deviceID);
  description.driver = text(info.description);
  if (const std::string backend = backendName(info.backendType); !backend.empty())
    description.driver += (description.driver.empty() ? "" : ", ") + backend;
  description.software = info.adapterType == WGPUAdapterType_CPU;
  description.sharesHostMemory = false;
  Limits &limits = description.limits;
  limits.sharedBytes = adapterLimits.maxComputeWorkgroupStorageSize;
  limits.threadsPerBlock = adapterLimits.maxComputeInvocationsPerWorkgroup;
  limits.blocksPerDimension = adapterLimits.maxComputeWorkgroupsPerDimension;
  limits.bufferAlignment = adapterLimits.minStorageBufferOffsetAlignment;
  limits.bindings = adapterLimits.maxStorageBuffersPerShaderStage;
  limits.bindingBytes = orZero(adapterLimits.maxStorageBufferBindingSize);
  limits.indexBits = 32;
  // The standard has no number of bytes; a processor's are the machine's.
  if (description.software)
    limits.memoryBytes = host().memoryBytes;
  for (const FeatureWord &known : featureWords) {
    WGPUFeatureName feature = known.feature;
    if (!api().wgpuAdapterHasFeature(adapter.get(), feature)) {
      feature = static_cast<WGPUFeatureName>(known.native);
      if (!known.native || !api().isNative() ||
          !api().wgpuAdapterHasFeature(adapter.get(), feature))
        continue;
    }
    wanted.push_back(feature);
    description.features.emplace_back(known.word);
    timestamps |= known.feature == WGPUFeatureName_TimestampQuery;
    if (known.feature == WGPUFeatureName_Subgroups) {
      limits.subgroupMin = info.subgroupMinSize;
      limits.subgroupMax = info.subgroupMaxSize;
    }
  }
  api().wgpuAdapterInfoFreeMembers(info);
}

Status Context::makeDevice() {
  WGPUDeviceDescriptor descriptor = WGPU_DEVICE_DESCRIPTOR_INIT;
  descriptor.label = view("kernelforge");
  descriptor.requiredFeatureCount = wanted.size();
  descriptor.requiredFeatures = wanted.data();
  descriptor.requiredLimits = &adapterLimits;
  descriptor.deviceLostCallbackInfo.mode = WGPUCallbackMode_AllowSpontaneous;
  descriptor.deviceLostCallbackInfo.callback = [](const WGPUDevice *, WGPUDeviceLostReason,
                                                  WGPUStringView message, void *sink, void *) {
    static_cast<ErrorSink *>(sink)->lose(onOneLine(text(message)));
  };
  descriptor.deviceLostCallbackInfo.userdata1 = sink.get();
  descriptor.uncapturedErrorCallbackInfo.callback = [](const WGPUDevice *, WGPUErrorType,
                                                       WGPUStringView message, void *sink, void *) {
    static_cast<ErrorSink *>(sink)->report(text(message));
  };
  descriptor.uncapturedErrorCallbackInfo.userdata1 = sink.get();
  Answer<WGPUDevice> answer;
  WGPURequestDeviceCallbackInfo info = WGPU_REQUEST_DEVICE_CALLBACK_INFO_INIT;
  info.mode = WGPUCallbackMode_AllowProcessEvents;
  info.callback = onAnswer<WGPUDevice, WGPURequestDeviceStatus>;
  info.userdata1 = &answer;
  api().wgpuAdapterRequestDevice(adapter.get(), &descriptor, info);
  while (!answer.isOver)
    processEvents(false);
  if (!answer.object)
    return failed("WebGPU device cannot be made", description.name, onOneLine(answer.message));
  deviceHandle = {answer.object, api().wgpuDeviceRelease};
  queueHandle = {api().wgpuDeviceGetQueue(device()), api().wgpuQueueRelease};
  if (timestamps && api().wgpuQueueGetTimestampPeriod)
    period = api().wgpuQueueGetTimestampPeriod(queue());
  return {};
}

} // namespace kernelforge::webgpu
