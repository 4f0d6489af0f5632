#include "kernelforge/backend/cuda/Library.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

using namespace kernelforge;
using namespace kernelforge::cuda;

static constexpr const char *what = "NVIDIA's driver cannot be used";
static constexpr const char *hint = "install NVIDIA's driver (libcuda.so.1), or name it with "
                                    "--cuda-library";
static constexpr const char *newer = "use a driver of CUDA 12 or newer";
static constexpr int leastVersion = 12000;

Expected<std::shared_ptr<const Library>> Library::open(const std::string &path) {
  const std::string file = path.empty() ? "libcuda.so.1" : path;
  void *handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char *said = dlerror();
    std::string_view reason = said ? said : "it cannot be opened";
    if (reason.starts_with(file + ": ")) // which is named already
      reason.remove_prefix(file.size() + 2);
    return missing(what, file, std::string(reason), hint);
  }
  auto library = std::make_shared<Library>();
  std::vector<const char *> absent;
#define KF_FIND(name, symbol, parameters)                                                          \
  library->functions.name =                                                                        \
      reinterpret_cast<decltype(library->functions.name)>(dlsym(handle, symbol));                  \
  if (!library->functions.name)                                                                    \
    absent.push_back(symbol);
  KF_CUDA_FUNCTIONS(KF_FIND)
#undef KF_FIND
  if (!absent.empty())
    return missing(what, file, fmt::format("it has no {}", fmt::join(absent, ", ")), newer);
  // One that has the functions may still compile no PTX as new as ours.
  int version = 0;
  if (library->functions.cuDriverGetVersion(&version) == number::success && version < leastVersion)
    return missing(what, file,
                   fmt::format("it is of CUDA {}.{}", version / 1000, version % 1000 / 10), newer);
  return library;
}
