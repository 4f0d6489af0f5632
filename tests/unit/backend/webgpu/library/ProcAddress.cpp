// A library that exports wgpuGetProcAddress alone, over the one that the build found.
#include <webgpu.h>

#include <dlfcn.h>
#include <string>

extern "C" __attribute__((visibility("default"))) WGPUProc wgpuGetProcAddress(WGPUStringView name) {
  static void *const library = dlopen(WEBGPU_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  const std::string text =
      name.length == WGPU_STRLEN ? std::string(name.data) : std::string(name.data, name.length);
  return library ? reinterpret_cast<WGPUProc>(dlsym(library, text.c_str())) : nullptr;
}
