// A library that implements webgpu.h, opened at run time.
#pragma once

#include "kernelforge/backend/webgpu/Api.h"
#include "kernelforge/support/Error.h"

#include <memory>
#include <string>

namespace kernelforge::webgpu {

/// An open library. It stays open as long as the process lives: such libraries have threads of
/// their own, which do not survive being closed.
class Library {
public:
  /// Opens the library at `path`; where that is empty, the wgpu-native that comes with the program:
  /// in PREFIX/lib, where PREFIX is the folder above the program's, or where the build found it.
  /// Missing where there is none, it cannot be opened, or functions of webgpu.h are not in it.
  static Expected<std::shared_ptr<const Library>> open(const std::string &path);

  const Api &api() const { return functions; }
  /// Where it was found.
  const std::string &path() const { return where; }

private:
  Api functions;
  std::string where;
};

} // namespace kernelforge::webgpu
