// Dawn as a library that exports wgpuGetProcAddress, for measuring with `--webgpu-library`.
//
// PyPI's `wgpudawn` is a Dawn of today, linked into an extension of Python that exports nothing but
// its initialiser. The table of functions that Python sees has the address of wgpuGetProcAddress,
// which gives all others: so this library opens Python, imports the extension and asks. Python
// runs at no other time. scripts/dawn.sh builds it and puts beside it what it needs:
//
//   libdawn-from-python.so                         this
//   _wgpu_dawn.abi3.so                             of wgpudawn
//   _cffi_backend.cpython-3MINOR-MACHINE.so ...    of cffi, one for each version of Python
//
// libpython3.MINOR.so.1.0 is opened by name, the newest that there is of the versions that have a
// file here; KERNELFORGE_DAWN_PYTHON names another one, which the loader of the system does not
// find by itself.
#include <webgpu.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <string>

namespace {

namespace fs = std::filesystem;

/// Where this library lies.
fs::path folder() {
  Dl_info info;
  if (!dladdr(reinterpret_cast<void *>(&folder), &info) || !info.dli_fname)
    return {};
  return fs::absolute(info.dli_fname).parent_path();
}

void complain(const std::string &why) {
  std::fprintf(stderr, "libdawn-from-python: %s\n", why.c_str());
}

bool hasBackend(const fs::path &folder, int minor) {
  const std::string prefix = "_cffi_backend.cpython-3" + std::to_string(minor) + "-";
  std::error_code error;
  for (const fs::directory_entry &entry : fs::directory_iterator(folder, error))
    if (entry.path().filename().string().rfind(prefix, 0) == 0)
      return true;
  return false;
}

/// Python's library, its symbols where extensions find them; null where there is none.
void *openPython(const fs::path &folder) {
  if (const char *given = std::getenv("KERNELFORGE_DAWN_PYTHON"))
    return dlopen(given, RTLD_NOW | RTLD_GLOBAL);
  for (int minor = 14; minor >= 11; --minor) {
    if (!hasBackend(folder, minor))
      continue;
    const std::string name = "libpython3." + std::to_string(minor) + ".so.1.0";
    if (void *python = dlopen(name.c_str(), RTLD_NOW | RTLD_GLOBAL))
      return python;
  }
  return nullptr;
}

/// A text as a literal of Python.
std::string quoted(const std::string &text) {
  std::string out = "'";
  for (char c : text)
    out += c == '\'' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return out + "'";
}

/// Dawn's own wgpuGetProcAddress; null, with the reason on standard error, where it is not found.
WGPUProcGetProcAddress findDawn() {
  const fs::path here = folder();
  void *python = openPython(here);
  if (!python) {
    complain("there is no library of a Python that " + here.string() + " has a _cffi_backend for");
    return nullptr;
  }
  const auto isInitialized = reinterpret_cast<int (*)()>(dlsym(python, "Py_IsInitialized"));
  const auto initialize = reinterpret_cast<void (*)(int)>(dlsym(python, "Py_InitializeEx"));
  const auto run = reinterpret_cast<int (*)(const char *)>(dlsym(python, "PyRun_SimpleString"));
  const auto leave = reinterpret_cast<void *(*)()>(dlsym(python, "PyEval_SaveThread"));
  if (!isInitialized || !initialize || !run || !leave || isInitialized()) {
    complain("this is no library of Python, or Python runs already");
    return nullptr;
  }
  initialize(0); // without its handlers of signals
  uintptr_t address = 0;
  char where[32];
  std::snprintf(where, sizeof where, "%" PRIuPTR, reinterpret_cast<uintptr_t>(&address));
  const int status = run(("import ctypes, sys\n"
                          "sys.path.insert(0, " +
                          quoted(here.string()) +
                          ")\n"
                          "import _wgpu_dawn\n"
                          "ffi, lib = _wgpu_dawn.ffi, _wgpu_dawn.lib\n"
                          "ctypes.c_size_t.from_address(" +
                          where +
                          ").value = int(\n"
                          "    ffi.cast('uintptr_t', ffi.addressof(lib, 'wgpuGetProcAddress')))\n")
                             .c_str());
  leave();
  if (status != 0)
    complain("Python could not import " + (here / "_wgpu_dawn.abi3.so").string());
  return reinterpret_cast<WGPUProcGetProcAddress>(address);
}

} // namespace

/// As in webgpu.h; null for every name where there is no Dawn.
extern "C" __attribute__((visibility("default"))) WGPUProc wgpuGetProcAddress(WGPUStringView name) {
  static const WGPUProcGetProcAddress dawn = findDawn();
  return dawn ? dawn(name) : nullptr;
}
