// A library that exports wgpuGetProcAddress alone, over the wgpu-native that the build found: it
// has the functions of the standard and none of its extras, as any other library.
#include <webgpu.h>

#include <dlfcn.h>
#include <string>
#include <string_view>

namespace {

void *symbol(const char *name) {
  static void *const library = dlopen(WEBGPU_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  return library ? dlsym(library, name) : nullptr;
}

/// wgpu-native aborts at the filter of internal errors.
void pushErrorScope(WGPUDevice device, WGPUErrorFilter filter) {
  reinterpret_cast<WGPUProcDevicePushErrorScope>(symbol("wgpuDevicePushErrorScope"))(
      device, filter == WGPUErrorFilter_Internal ? WGPUErrorFilter_Validation : filter);
}

/// Without timestamps, so that time is told by the host's clock.
WGPUBool hasFeature(WGPUAdapter adapter, WGPUFeatureName feature) {
  return feature != WGPUFeatureName_TimestampQuery &&
         reinterpret_cast<WGPUProcAdapterHasFeature>(symbol("wgpuAdapterHasFeature"))(adapter,
                                                                                      feature);
}

} // namespace

extern "C" __attribute__((visibility("default"))) WGPUProc wgpuGetProcAddress(WGPUStringView name) {
  const std::string text =
      name.length == WGPU_STRLEN ? std::string(name.data) : std::string(name.data, name.length);
  for (std::string_view extra : {"wgpuDevicePoll", "wgpuQueueGetTimestampPeriod", "wgpuGetVersion",
                                 "wgpuInstanceEnumerateAdapters"})
    if (text == extra)
      return nullptr;
  if (text == "wgpuDevicePushErrorScope")
    return reinterpret_cast<WGPUProc>(pushErrorScope);
  if (text == "wgpuAdapterHasFeature")
    return reinterpret_cast<WGPUProc>(hasFeature);
  return reinterpret_cast<WGPUProc>(symbol(text.c_str()));
}
