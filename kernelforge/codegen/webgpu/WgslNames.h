// Identifiers of a WGSL module.
#pragma once

#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/StringSet.h"

#include <string>

namespace kernelforge::webgpu {

/// Gives out names that are legal and not taken.
class WgslNames {
public:
  WgslNames() = default;
  /// Names of a function, none of which hides one of the module's.
  explicit WgslNames(const WgslNames *outer) : outer(outer) {}

  /// `wanted` where it can be had, else with a number behind it.
  std::string take(llvm::StringRef wanted);

private:
  bool isTaken(llvm::StringRef name) const {
    return taken.contains(name) || (outer && outer->isTaken(name));
  }

  const WgslNames *outer = nullptr;
  llvm::StringSet<> taken;
};

} // namespace kernelforge::webgpu
