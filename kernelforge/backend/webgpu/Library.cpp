#include "kernelforge/backend/webgpu/Library.h"

#include "kernelforge/backend/webgpu/WebGpuDevice.h"

#include <dlfcn.h>
#include <filesystem>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <vector>

using namespace kernelforge;
using namespace kernelforge::webgpu;
namespace fs = std::filesystem;

namespace {

constexpr const char *what = "WebGPU library cannot be used";
constexpr const char *hint = "run `make setup`, which fetches wgpu-native, or name another library "
                             "with --webgpu-library";

constexpr const char *tooOld = "name a library that implements the webgpu.h of 2025 or newer";

std::vector<fs::path> defaultPaths() {
  const fs::path built = KERNELFORGE_WEBGPU_LIBRARY;
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  return {program.parent_path().parent_path() / "lib" / built.filename(), built};
}

/// Looks symbols up; where the library exports none but wgpuGetProcAddress, through that. Never
/// both: in wgpu-native that function is exported, and aborts.
class Symbols {
public:
  explicit Symbols(void *handle) : handle(handle) {
    if (!dlsym(handle, "wgpuCreateInstance"))
      lookUp = reinterpret_cast<WGPUProcGetProcAddress>(dlsym(handle, "wgpuGetProcAddress"));
  }
  template <typename Function> bool find(Function &function, const char *name) const {
    function = lookUp ? reinterpret_cast<Function>(lookUp({name, WGPU_STRLEN}))
                      : reinterpret_cast<Function>(dlsym(handle, name));
    return function != nullptr;
  }

private:
  void *handle;
  WGPUProcGetProcAddress lookUp = nullptr;
};

/// The release of wgpu-native whose headers these are: its own numbers change with each.
constexpr uint32_t nativeRelease = 29;

/// A library whose functions have the names and not the parameters of webgpu.h would end the
/// program at the first call.
Status checkVersion(const Api &api, const Symbols &symbols, const std::string &file) {
  if (api.isNative()) {
    const uint32_t release = api.wgpuGetVersion ? api.wgpuGetVersion() >> 24 : 0;
    if (release == nativeRelease)
      return {};
    return missing(what, file,
                   fmt::format("it is wgpu-native {} where {} is needed", release, nativeRelease),
                   hint);
  }
  // Until 2025, Dawn had two functions for each with a callback.
  WGPUProc before = nullptr;
  if (symbols.find(before, "wgpuInstanceRequestAdapter2"))
    return missing(what, file, "it is a Dawn from before webgpu.h was settled", tooOld);
  return {};
}

Expected<std::string> existingPath(const std::string &path) {
  std::error_code error;
  if (!path.empty()) {
    if (fs::is_regular_file(path, error))
      return fs::absolute(path, error).string();
    return missing(what, path, "there is no such file", "name one that is there");
  }
  std::vector<std::string> tried;
  for (const fs::path &candidate : defaultPaths()) {
    if (fs::is_regular_file(candidate, error))
      return candidate.string();
    tried.push_back(candidate.string());
  }
  return missing(what, "wgpu-native", fmt::format("there is no {}", fmt::join(tried, " or ")),
                 hint);
}

} // namespace

Expected<std::string> kernelforge::webGpuLibraryFile() { return existingPath(""); }

Expected<std::shared_ptr<const Library>> Library::open(const std::string &path) {
  KF_TRY(const std::string file, existingPath(path));
  void *handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle)
    return missing(what, file, dlerror(), hint);
  auto library = std::make_shared<Library>();
  library->where = file;
  const Symbols symbols(handle);
  std::vector<const char *> absent;
#define KF_FIND(function)                                                                          \
  if (!symbols.find(library->functions.function, #function))                                       \
    absent.push_back(#function);
  KF_WEBGPU_FUNCTIONS(KF_FIND)
#undef KF_FIND
  if (!absent.empty()) {
    dlclose(handle);
    return missing(what, file, fmt::format("it has no {}", fmt::join(absent, ", ")), tooOld);
  }
#define KF_FIND(function) symbols.find(library->functions.function, #function);
  KF_WEBGPU_EXTRAS(KF_FIND)
#undef KF_FIND
  symbols.find(library->functions.dawnTick, "wgpuDeviceTick");
  symbols.find(library->functions.dawnFreeMatrices,
               "wgpuAdapterPropertiesSubgroupMatrixConfigsFreeMembers");
  KF_CHECK(checkVersion(library->functions, symbols, file));
  return library;
}
