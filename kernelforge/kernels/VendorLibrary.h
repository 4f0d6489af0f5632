// Libraries of others that are measured beside ours. None is linked: they are opened when a vendor
// variant is asked for, and a process without them lacks only those variants.
#pragma once

#include "kernelforge/support/Error.h"

#include <filesystem>
#include <initializer_list>
#include <string>
#include <vector>

namespace kernelforge {

/// PREFIX/lib/kernelforge/vendor, where PREFIX is the folder above that of the running program:
/// build/release for build/release/bin/kernelforge, and the top of an unpacked archive.
std::filesystem::path vendorFolder();

/// A shared library, open as long as the process lives: libraries with threads of their own do not
/// survive being closed.
class VendorLibrary {
public:
  /// Opens the first of `files` that is in the vendor folder, else the first that the system's
  /// loader finds. Missing, with the hint, where there is none.
  static Expected<VendorLibrary> open(const std::string &name,
                                      std::initializer_list<const char *> files, std::string hint);

  /// A function, null where the library has none of that name:
  /// `library.function<void(int)>("omp_set_num_threads")`.
  template <typename Function> Function *function(const char *symbol) const {
    return reinterpret_cast<Function *>(address(symbol));
  }

  /// Where it was found: a path, or the name that the system's loader knows.
  const std::string &path() const { return where; }

private:
  VendorLibrary(void *handle, std::string where) : handle(handle), where(std::move(where)) {}
  void *address(const char *symbol) const;

  void *handle;
  std::string where;
};

} // namespace kernelforge
