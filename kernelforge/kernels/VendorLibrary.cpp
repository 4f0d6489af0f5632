#include "kernelforge/kernels/VendorLibrary.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

using namespace kernelforge;
namespace fs = std::filesystem;

fs::path kernelforge::vendorFolder() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  return program.parent_path().parent_path() / "lib" / "kernelforge" / "vendor";
}

Expected<VendorLibrary> VendorLibrary::open(const std::string &name,
                                            std::initializer_list<const char *> files,
                                            std::string hint) {
  const fs::path folder = vendorFolder();
  std::string defect;
  for (const char *file : files) {
    // Through links, as a library looks for its own dependencies beside itself.
    std::error_code error;
    const fs::path path = fs::canonical(folder / file, error);
    if (error)
      continue;
    if (void *handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL))
      return VendorLibrary(handle, path.string());
    defect = dlerror();
  }
  for (const char *file : files)
    if (void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL))
      return VendorLibrary(handle, file);
  if (defect.empty())
    defect = fmt::format("none of {} is in {} or known to the system", fmt::join(files, ", "),
                         folder.string());
  return missing(name + " is not here", folder.string(), std::move(defect), std::move(hint));
}

void *VendorLibrary::address(const char *symbol) const { return dlsym(handle, symbol); }
