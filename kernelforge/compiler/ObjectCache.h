// Compiled kernels on disk, so that a warm start compiles nothing. A wrong hit would be a wrong
// result: the key is complete, stored in the clear with each entry and compared field by field.
#pragma once

#include "kernelforge/backend/Program.h"
#include "kernelforge/codegen/Target.h"

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace kernelforge {

/// Everything that decides what code a kernel gets.
struct ObjectKey {
  std::string kernelHash;
  std::string schedule;  ///< as canonical JSON
  std::string layouts;   ///< of its weights, as canonical text
  std::string target;    ///< as Target::key()
  std::string buildId;   ///< of passes and code generators
  std::string llvmBuild; ///< as llvmBuild()
  /// Of the device, where its driver finished the code. Empty where that is yet to be done, as with
  /// WGSL and PTX, or nothing is to be done: such code is any driver's.
  std::string driver = {};

  /// The fields as "name length value" lines: equal texts are equal keys.
  std::string text() const;
};

/// A key for the running compiler: fills in build id and LLVM. Nothing where this build has no id;
/// then nothing can be cached safely.
std::optional<ObjectKey> makeObjectKey(std::string kernelHash, std::string schedule,
                                       std::string layouts, const Target &target);

/// One folder of compiled kernels. Never an obstacle: whatever is wrong with the folder or an entry
/// is a miss, logged; compilation goes on. May be used from several threads and processes.
class ObjectCache {
public:
  /// A cache that has nothing and keeps nothing (--no-cache).
  static ObjectCache disabled() { return ObjectCache(); }

  /// The cache in `folder`, which is created (for the user alone) where it is not there. Code is
  /// read from it, so it must belong to the user and be writable by nobody else: otherwise it is
  /// ignored, with a warning.
  static ObjectCache open(const std::filesystem::path &folder);

  bool enabled() const { return !folder.empty(); }

  /// The artifact stored under `key`, with `fromCache` set; its names (`kernel`, `scheduleSource`)
  /// are left to the caller. Nothing where there is none, or its entry is damaged, of another
  /// format or of another key: the reason is logged at level info.
  std::optional<Artifact> find(const ObjectKey &key) const;

  /// Keeps `artifact` under `key`. What cannot be kept is not kept: the first failure warns and
  /// ends the storing.
  void store(const ObjectKey &key, const Artifact &artifact) const;

  /// The file that holds `key`'s artifact, whether or not it is there.
  std::filesystem::path entryPath(const ObjectKey &key) const;

private:
  ObjectCache() = default;

  std::filesystem::path folder;               ///< empty: disabled
  std::shared_ptr<std::atomic<bool>> storing; ///< false after a failure
};

} // namespace kernelforge
