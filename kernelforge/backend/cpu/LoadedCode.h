// Object files of kernels, linked into this process.
#pragma once

#include "kernelforge/backend/Program.h"
#include "kernelforge/support/Error.h"

#include <memory>
#include <span>
#include <vector>

namespace llvm::orc {
class LLJIT;
} // namespace llvm::orc

namespace kernelforge {

/// Runs one task of one phase of a kernel: see Artifact.
class KernelEntry {
public:
  using Function = void (*)(void *const *args, const int64_t *sizes, int64_t phase, int64_t task,
                            void *scratch);

  explicit KernelEntry(Function function = nullptr) : function(function) {}

  // The sanitizer of indirect calls looks for a mark before the function; ours may begin a page.
  __attribute__((no_sanitize("function"))) void operator()(void *const *args, const int64_t *sizes,
                                                           int64_t phase, int64_t task,
                                                           void *scratch) const {
    function(args, sizes, phase, task, scratch);
  }

private:
  Function function;
};

/// Owns the code of a list of artifacts; entries are valid while it lives.
class LoadedCode {
public:
  /// Links the objects; they may call memcpy and memset and nothing else. Failed with the linker's
  /// reason. A library call has no entry.
  static Expected<std::unique_ptr<LoadedCode>> load(std::span<const Artifact> artifacts);
  ~LoadedCode();

  KernelEntry entry(size_t artifact) const { return entries[artifact]; }

private:
  LoadedCode() = default;

  std::unique_ptr<llvm::orc::LLJIT> jit;
  std::vector<KernelEntry> entries;
};

} // namespace kernelforge
