// A context on one GPU: what all that is made on it holds, and how its errors are told.
#pragma once

#include "kernelforge/backend/cuda/Library.h"
#include "kernelforge/codegen/Target.h"

#include <memory>
#include <mutex>
#include <string>
#include <string_view>

namespace kernelforge::cuda {

/// Owns a context of its own: one that is lost takes nothing else of the process along.
class Context : public std::enable_shared_from_this<Context> {
public:
  /// Makes a context on the GPU with this number. Missing where there is none, or it cannot be had.
  static Expected<std::shared_ptr<Context>> make(std::shared_ptr<const Library> library,
                                                 int ordinal);
  ~Context();
  Context(const Context &) = delete;
  Context &operator=(const Context &) = delete;

  const Api &api() const { return library->api(); }
  const DeviceInfo &info() const { return description; }

  /// Makes the context the thread's own while it lives; what the thread had before comes back.
  class Current {
  public:
    explicit Current(const Context &context);
    ~Current();
    Current(const Current &) = delete;
    Current &operator=(const Current &) = delete;

  private:
    const Api &api;
  };

  /// Lost, with why, where the GPU or what ran on it is.
  Status alive() const;

  /// Bytes of the GPU's memory that nobody has taken. Errors as those of check().
  Expected<int64_t> freeBytes() const;

  /// What a call gave back, as an error: Lost where no call can succeed any more, Failed with the
  /// driver's words otherwise.
  Status check(CUresult result, std::string_view what, std::string_view where = {}) const;

private:
  explicit Context(std::shared_ptr<const Library> library) : library(std::move(library)) {}
  Status describe(CUdevice device);
  std::string wordsOf(CUresult result) const;

  std::shared_ptr<const Library> library;
  CUcontext handle = nullptr;
  DeviceInfo description;
  mutable std::mutex mutex;
  mutable std::string whyLost; ///< empty while it is not
};

} // namespace kernelforge::cuda
