// A library that exports wgpuGetProcAddress alone, over the wgpu-native that the build found: it
// has the functions of the standard and none of its extras, as any other library; and less than
// that, or what Dawn has, where a test says so (Lacking.h).
#include "Lacking.h"

#include <webgpu.h>
#include <wgpu.h>

#include <algorithm>
#include <dlfcn.h>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED Lacking *kernelforgeLacking() {
  static Lacking lacking;
  return &lacking;
}

namespace {

Lacking &lacking() { return *kernelforgeLacking(); }

void *symbol(const char *name) {
  static void *const library = dlopen(WEBGPU_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  return library ? dlsym(library, name) : nullptr;
}
#define REAL(function) reinterpret_cast<decltype(&::function)>(symbol(#function))

std::string textOf(WGPUStringView view) {
  return view.length == WGPU_STRLEN ? std::string(view.data) : std::string(view.data, view.length);
}

/// wgpu-native aborts at the filter of internal errors.
void pushErrorScope(WGPUDevice device, WGPUErrorFilter filter) {
  REAL(wgpuDevicePushErrorScope)
  (device, filter == WGPUErrorFilter_Internal ? WGPUErrorFilter_Validation : filter);
}

constexpr auto matrixFeature = static_cast<WGPUFeatureName>(0x00050034);

WGPUBool hasFeature(WGPUAdapter adapter, WGPUFeatureName feature) {
  const Lacking &what = lacking();
  if (feature == matrixFeature)
    return what.isDawn;
  if ((feature == WGPUFeatureName_TimestampQuery && what.timestamps) ||
      (feature == WGPUFeatureName_ShaderF16 && what.f16))
    return false;
  // The standard's number of what wgpu-native has under its own.
  if (feature == WGPUFeatureName_Subgroups)
    return !what.subgroups && REAL(wgpuAdapterHasFeature)(adapter, static_cast<WGPUFeatureName>(
                                                                       WGPUNativeFeature_Subgroup));
  return REAL(wgpuAdapterHasFeature)(adapter, feature);
}

WGPUStatus getLimits(WGPUAdapter adapter, WGPULimits *limits) {
  const WGPUStatus status = REAL(wgpuAdapterGetLimits)(adapter, limits);
  if (const uint64_t most = lacking().bindingBytes)
    limits->maxStorageBufferBindingSize = std::min(limits->maxStorageBufferBindingSize, most);
  return status;
}

/// Dawn's descriptor of toggles, taken off its chain.
template <typename Descriptor> Descriptor withoutToggles(const Descriptor *descriptor) {
  struct Toggles {
    WGPUChainedStruct chain;
    size_t enabledCount;
    const char *const *enabled;
    size_t disabledCount;
    const char *const *disabled;
  };
  Descriptor plain = *descriptor;
  const auto *toggles = reinterpret_cast<const Toggles *>(descriptor->nextInChain);
  if (toggles && toggles->chain.sType == static_cast<WGPUSType>(0x0005000A)) {
    std::vector<std::string> &names = lacking().toggles.emplace_back();
    names.assign(toggles->enabled, toggles->enabled + toggles->enabledCount);
    for (size_t i = 0; i < toggles->disabledCount; ++i)
      names.push_back(std::string("-") + toggles->disabled[i]);
    plain.nextInChain = toggles->chain.next;
  }
  return plain;
}

WGPUInstance createInstance(const WGPUInstanceDescriptor *descriptor) {
  const WGPUInstanceDescriptor plain = withoutToggles(descriptor);
  return REAL(wgpuCreateInstance)(&plain);
}

WGPUFuture requestAdapter(WGPUInstance instance, const WGPURequestAdapterOptions *options,
                          WGPURequestAdapterCallbackInfo info) {
  const WGPURequestAdapterOptions plain = withoutToggles(options);
  return REAL(wgpuInstanceRequestAdapter)(instance, &plain, info);
}

/// By device.
std::map<WGPUDevice, WGPUDeviceLostCallbackInfo> &lostCallbacks() {
  static std::map<WGPUDevice, WGPUDeviceLostCallbackInfo> all;
  return all;
}

WGPUFuture requestDevice(WGPUAdapter adapter, const WGPUDeviceDescriptor *descriptor,
                         WGPURequestDeviceCallbackInfo info) {
  WGPUDeviceDescriptor plain = withoutToggles(descriptor);
  std::vector<WGPUFeatureName> features(plain.requiredFeatures,
                                        plain.requiredFeatures + plain.requiredFeatureCount);
  std::erase(features, matrixFeature);
  std::ranges::replace(features, WGPUFeatureName_Subgroups,
                       static_cast<WGPUFeatureName>(WGPUNativeFeature_Subgroup));
  plain.requiredFeatures = features.data();
  plain.requiredFeatureCount = features.size();
  struct Request {
    WGPUDeviceLostCallbackInfo onLost;
    WGPURequestDeviceCallbackInfo info;
  };
  WGPURequestDeviceCallbackInfo own = info;
  own.userdata1 = new Request{plain.deviceLostCallbackInfo, info};
  own.callback = [](WGPURequestDeviceStatus status, WGPUDevice device, WGPUStringView message,
                    void *userdata, void *) {
    const std::unique_ptr<Request> request(static_cast<Request *>(userdata));
    lostCallbacks()[device] = request->onLost;
    request->info.callback(status, device, message, request->info.userdata1,
                           request->info.userdata2);
  };
  return REAL(wgpuAdapterRequestDevice)(adapter, &plain, own);
}

/// wgpu-native tells nobody, as every other library does.
void destroyDevice(WGPUDevice device) {
  REAL(wgpuDeviceDestroy)(device);
  const WGPUDeviceLostCallbackInfo &onLost = lostCallbacks()[device];
  onLost.callback(&device, WGPUDeviceLostReason_Destroyed, {"it was destroyed", WGPU_STRLEN},
                  onLost.userdata1, onLost.userdata2);
}

/// Dawn's shapes of matrices, chained to an adapter's description.
struct Matrix {
  uint32_t type, resultType, m, n, k, least, most;
};
struct Matrices {
  WGPUChainedStruct chain;
  size_t count;
  const Matrix *matrices;
};
constexpr uint32_t f32 = 1, f16 = 2, u32 = 3, i32 = 4, u8 = 5, i8 = 6;
constexpr Matrix shapes[] = {{f16, f16, 16, 16, 16, 32, 32}, {f16, f32, 16, 16, 16, 32, 32},
                             {f16, f32, 16, 8, 8, 32, 32},   {i8, i32, 16, 16, 32, 32, 32},
                             {u8, u32, 16, 16, 32, 32, 32},  {i8, i32, 16, 16, 32, 32, 32}};

WGPUStatus getInfo(WGPUAdapter adapter, WGPUAdapterInfo *info) {
  auto *chain = reinterpret_cast<Matrices *>(info->nextInChain);
  info->nextInChain = nullptr;
  if (chain && chain->chain.sType == static_cast<WGPUSType>(0x0005003B)) {
    chain->count = std::size(shapes);
    chain->matrices = shapes;
  } else if (chain) {
    return WGPUStatus_Error;
  }
  return REAL(wgpuAdapterGetInfo)(adapter, info);
}

void freeMatrices(Matrices) {}
void tick(WGPUDevice) {}

WGPUShaderModule createShader(WGPUDevice device, const WGPUShaderModuleDescriptor *descriptor) {
  WGPUShaderModuleDescriptor changed = *descriptor;
  auto source = *reinterpret_cast<const WGPUShaderSourceWGSL *>(descriptor->nextInChain);
  std::string text = textOf(source.code);
  for (std::string_view directive :
       {"enable subgroups;", "enable chromium_experimental_subgroup_matrix;",
        "enable chromium_disable_uniformity_analysis;"})
    if (const size_t at = text.find(directive); at != std::string::npos)
      if (lacking().knowsMatrices || directive == "enable subgroups;")
        text.replace(at, directive.size(), "");
  if (lacking().packedDot && text.find("dot4I8Packed") != std::string::npos)
    text = "there is no such function";
  source.code = {text.data(), text.size()};
  changed.nextInChain = &source.chain;
  return REAL(wgpuDeviceCreateShaderModule)(device, &changed);
}

template <typename Function> WGPUProc proc(Function function) {
  return reinterpret_cast<WGPUProc>(function);
}

} // namespace

EXPORTED WGPUProc wgpuGetProcAddress(WGPUStringView name) {
  const std::string text = textOf(name);
  for (std::string_view extra :
       {"wgpuDevicePoll", "wgpuQueueGetTimestampPeriod", "wgpuGetVersion",
        "wgpuInstanceEnumerateAdapters", "wgpuDeviceCreateShaderModuleTrusted",
        "wgpuDeviceCreateComputePipelineAsync"})
    if (text == extra)
      return nullptr;
  if (lacking().isDawn && text == "wgpuDeviceTick")
    return proc(tick);
  if (lacking().isDawn && text == "wgpuAdapterPropertiesSubgroupMatrixConfigsFreeMembers")
    return proc(freeMatrices);
  const std::pair<std::string_view, WGPUProc> own[] = {
      {"wgpuDevicePushErrorScope", proc(pushErrorScope)},
      {"wgpuAdapterHasFeature", proc(hasFeature)},
      {"wgpuAdapterGetLimits", proc(getLimits)},
      {"wgpuAdapterGetInfo", proc(getInfo)},
      {"wgpuAdapterRequestDevice", proc(requestDevice)},
      {"wgpuDeviceDestroy", proc(destroyDevice)},
      {"wgpuInstanceRequestAdapter", proc(requestAdapter)},
      {"wgpuCreateInstance", proc(createInstance)},
      {"wgpuDeviceCreateShaderModule", proc(createShader)}};
  for (const auto &[known, function] : own)
    if (text == known)
      return function;
  return reinterpret_cast<WGPUProc>(symbol(text.c_str()));
}
