// How an adapter is found and connected to.
#include "kernelforge/backend/webgpu/Context.h"
#include "kernelforge/support/Host.h"

#include <algorithm>
#include <cctype>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mutex>
#include <set>

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

/// The library, and its release where it tells; empty: neither is known.
std::string providerName(const Api &api) {
  if (!api.isNative())
    return api.isDawn() ? "Dawn" : "";
  const uint32_t release = api.wgpuGetVersion();
  return fmt::format("wgpu-native {}.{}.{}.{}", release >> 24, release >> 16 & 0xff,
                     release >> 8 & 0xff, release & 0xff);
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

/// What kernels use of packed_4x8_integer_dot_product.
constexpr const char *packedDotShader = R"(
@group(0) @binding(0) var<storage, read_write> words: array<u32>;
@compute @workgroup_size(1) fn main() {
  let signs: vec4<i32> = unpack4xI8(words[0]);
  let bytes: vec4<u32> = unpack4xU8(words[1]);
  words[0] = bitcast<u32>(dot4I8Packed(words[0], words[1]) + signs.x) + bytes.x;
}
)";

/// Keeps the first adapter that a library gave for as long as the program runs, and with it the
/// driver: NVIDIA's takes memory of the loader's each time it is loaded, which is soon used up.
void keepDriver(const Library &library, WGPUInstance instance, WGPUAdapter adapter) {
  static std::mutex mutex;
  static std::set<std::string> kept;
  const std::lock_guard guard(mutex);
  if (!kept.insert(library.path()).second)
    return;
  library.api().wgpuInstanceAddRef(instance);
  library.api().wgpuAdapterAddRef(adapter);
}

/// Dawn has an adapter that computes nothing, for tests of its own.
bool computes(const Api &api, WGPUAdapter adapter) {
  WGPUAdapterInfo info = WGPU_ADAPTER_INFO_INIT;
  if (api.wgpuAdapterGetInfo(adapter, &info) != WGPUStatus_Success)
    return true;
  const bool isNull = info.backendType == WGPUBackendType_Null;
  api.wgpuAdapterInfoFreeMembers(info);
  return !isNull;
}

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
  keepDriver(*context->library, context->instance.get(), context->adapter.get());
  context->describeAdapter();
  KF_CHECK(context->makeDevice());
  context->tryFeatures();
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
  else if (api().isDawn())
    descriptor.nextInChain = dawnToggles();
  instance = {api().wgpuCreateInstance(&descriptor), api().wgpuInstanceRelease};
  if (!instance)
    return missing("WebGPU cannot be used", library->path(), "the library gives no instance");
  return {};
}

Expected<std::vector<std::string>> Context::adapterNames(std::shared_ptr<const Library> library) {
  const std::shared_ptr<Context> context(new Context(std::move(library)));
  const auto guard = context->lock();
  KF_CHECK(context->makeInstance());
  KF_TRY(const std::vector<Handle<WGPUAdapter>> adapters, context->findAdapters(true));
  std::vector<std::string> names;
  for (const Handle<WGPUAdapter> &one : adapters)
    if (std::string name = nameOf(context->api(), one.get());
        std::ranges::find(names, name) == names.end())
      names.push_back(std::move(name));
  return names;
}

Expected<std::vector<Handle<WGPUAdapter>>> Context::findAdapters(bool all) {
  std::vector<Handle<WGPUAdapter>> adapters;
  if (all && api().wgpuInstanceEnumerateAdapters) {
    WGPUInstanceEnumerateAdapterOptions options = {};
    options.backends = WGPUInstanceBackend_Primary;
    std::vector<WGPUAdapter> found(
        api().wgpuInstanceEnumerateAdapters(instance.get(), &options, nullptr));
    found.resize(api().wgpuInstanceEnumerateAdapters(instance.get(), &options, found.data()));
    for (WGPUAdapter one : found)
      adapters.emplace_back(one, api().wgpuAdapterRelease);
    return adapters;
  }
  // Where there is no list, what different wishes lead to.
  std::string why;
  for (const WGPUPowerPreference preference :
       {WGPUPowerPreference_HighPerformance, WGPUPowerPreference_LowPower}) {
    WGPURequestAdapterOptions options = WGPU_REQUEST_ADAPTER_OPTIONS_INIT;
    options.powerPreference = preference;
    if (api().isDawn())
      options.nextInChain = dawnToggles();
    Answer<WGPUAdapter> answer;
    WGPURequestAdapterCallbackInfo info = WGPU_REQUEST_ADAPTER_CALLBACK_INFO_INIT;
    info.mode = WGPUCallbackMode_AllowProcessEvents;
    info.callback = onAnswer<WGPUAdapter, WGPURequestAdapterStatus>;
    info.userdata1 = &answer;
    api().wgpuInstanceRequestAdapter(instance.get(), &options, info);
    waitForCallbacks([&] { return answer.isOver; });
    Handle<WGPUAdapter> found = {answer.object, api().wgpuAdapterRelease};
    if (found && computes(api(), found.get()))
      adapters.push_back(std::move(found));
    else if (why.empty())
      why = found ? "it has no driver but one that computes nothing" : onOneLine(answer.message);
    if (!all)
      break;
  }
  if (adapters.empty())
    return missing(noAdapter, library->path(), why, driverHint);
  return adapters;
}

Status Context::chooseAdapter(const std::string &filter) {
  KF_TRY(std::vector<Handle<WGPUAdapter>> candidates, findAdapters(!filter.empty()));
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
  std::vector<std::string> parts = {providerName(api()), text(info.description),
                                    backendName(info.backendType)};
  std::erase(parts, "");
  description.driver = fmt::format("{}", fmt::join(parts, ", "));
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
  // The standard has no number of bytes nor of multiprocessors; a processor's are the machine's.
  if (description.software) {
    limits.memoryBytes = host().memoryBytes;
    limits.workers = host().physicalCores;
  }
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
      // The standard's range where the library does not tell.
      limits.subgroupMin = info.subgroupMinSize ? info.subgroupMinSize : 4;
      limits.subgroupMax = info.subgroupMaxSize ? info.subgroupMaxSize : 128;
    }
  }
  api().wgpuAdapterInfoFreeMembers(info);
  if (api().isDawn())
    matrices = dawnMatrices(api(), adapter.get());
  if (!matrices.words.empty())
    wanted.push_back(matrices.feature);
}

bool Context::compiles(std::string_view wgsl) const {
  return checked("WebGPU shader cannot be compiled", description.name,
                 [&] { const Handle<WGPUShaderModule> shader = makeShader(wgsl, "trial"); })
      .has_value();
}

void Context::tryFeatures() {
  // wgpu-native cannot be asked for features of the language.
  if (compiles(packedDotShader))
    description.features.emplace_back("packed-dot");
  // The number of a feature that is not in the standard may be another one's.
  if (!matrices.words.empty() && compiles(dawnMatrixShader))
    description.features.insert(description.features.end(), matrices.words.begin(),
                                matrices.words.end());
}

Status Context::makeDevice() {
  WGPUDeviceDescriptor descriptor = WGPU_DEVICE_DESCRIPTOR_INIT;
  if (api().isDawn())
    descriptor.nextInChain = dawnToggles();
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
  waitForCallbacks([&] { return answer.isOver; });
  if (!answer.object)
    return failed("WebGPU device cannot be made", description.name, onOneLine(answer.message));
  deviceHandle = {answer.object, api().wgpuDeviceRelease};
  queueHandle = {api().wgpuDeviceGetQueue(device()), api().wgpuQueueRelease};
  if (timestamps && api().wgpuQueueGetTimestampPeriod)
    period = api().wgpuQueueGetTimestampPeriod(queue());
  return {};
}

} // namespace kernelforge::webgpu
