#include "kernelforge/compiler/ObjectCache.h"
#include "kernelforge/backend/ProgramJson.h"
#include "kernelforge/compiler/BuildId.h"
#include "kernelforge/compiler/Sections.h"
#include "kernelforge/ir/Hash.h"
#include "kernelforge/support/AtomicFile.h"
#include "kernelforge/support/Log.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <string_view>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace kernelforge {
namespace fs = std::filesystem;

namespace {

/// First line of an entry. The number is the format's: raise it when the header or the payload
/// changes.
constexpr std::string_view magic = "kernelforge-object 2\n";

/// The largest entry that is read. A kernel is some tens of kilobytes.
constexpr int64_t maxEntryBytes = int64_t(64) << 20;

auto damaged(std::string why) {
  return unusable("cached object is not usable", "", std::move(why));
}

//===--------------------------------------------------------------------------------------------===
// The payload: facts about an artifact as JSON, then its code
//===--------------------------------------------------------------------------------------------===

std::string factsOf(const Artifact &artifact) {
  return artifactJson(artifact).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// The facts are ours (their checksum was right); what does not fit them all the same is a defect
/// of the entry.
Expected<Artifact> artifactFromFacts(std::string_view text, std::string_view code) {
  const Json facts = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  Expected<Artifact> artifact = artifactFrom(facts, code);
  if (!artifact)
    return damaged(artifact.error().why);
  artifact->fromCache = true;
  artifact->compileSeconds = 0;
  return artifact;
}

//===--------------------------------------------------------------------------------------------===
// The entry: magic, then key, facts and code as sections
//===--------------------------------------------------------------------------------------------===

/// Names the first field in which two key texts differ.
std::string firstDifference(std::string_view wanted, std::string_view stored) {
  while (!wanted.empty() && !stored.empty()) {
    std::string_view a = wanted.substr(0, wanted.find('\n'));
    if (a != stored.substr(0, stored.find('\n')))
      return std::string(a.substr(0, a.find(' ')));
    wanted.remove_prefix(std::min(a.size() + 1, wanted.size()));
    stored.remove_prefix(std::min(a.size() + 1, stored.size()));
  }
  return "number of fields";
}

Expected<Artifact> parseEntry(std::string_view entry, std::string_view keyText) {
  if (!entry.starts_with(magic))
    return damaged("it is of another format");
  entry.remove_prefix(magic.size());
  KF_TRY(std::string_view key, takeSection(entry, "key"));
  if (key != keyText)
    return damaged(fmt::format("its key differs in {}", firstDifference(keyText, key)));
  KF_TRY(std::string_view facts, takeSection(entry, "facts"));
  KF_TRY(std::string_view code, takeSection(entry, "code"));
  if (!entry.empty())
    return damaged("bytes follow its end");
  return artifactFromFacts(facts, code);
}

//===--------------------------------------------------------------------------------------------===
// Files
//===--------------------------------------------------------------------------------------------===

std::string systemReason() { return std::generic_category().message(errno); }

/// Why code must not be read from a file or folder; empty where it may.
std::string whyUntrusted(const struct stat &status) {
  if (status.st_uid != ::geteuid())
    return "it belongs to another user";
  if (status.st_mode & (S_IWGRP | S_IWOTH))
    return "others may write to it";
  return "";
}

/// A whole entry; an absent one is an error without a reason.
Expected<std::string> readEntry(const fs::path &file) {
  int descriptor = ::open(file.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0)
    return damaged(errno == ENOENT ? "" : systemReason());
  struct Close {
    int descriptor;
    ~Close() { ::close(descriptor); }
  } close{descriptor};
  struct stat status;
  if (::fstat(descriptor, &status) != 0)
    return damaged(systemReason());
  if (!S_ISREG(status.st_mode))
    return damaged("it is no regular file");
  if (std::string why = whyUntrusted(status); !why.empty())
    return damaged(why);
  if (status.st_size > maxEntryBytes)
    return damaged(fmt::format("it is larger than {} bytes", maxEntryBytes));
  std::string bytes(status.st_size, '\0');
  size_t have = 0;
  while (have < bytes.size()) {
    ssize_t got = ::read(descriptor, bytes.data() + have, bytes.size() - have);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return damaged(systemReason());
    if (got == 0)
      return damaged("it was cut while it was read");
    have += got;
  }
  return bytes;
}

} // namespace

std::string ObjectKey::text() const {
  const std::array<std::pair<std::string_view, const std::string *>, 7> fields{
      {{"kernel", &kernelHash},
       {"schedule", &schedule},
       {"layouts", &layouts},
       {"target", &target},
       {"build", &buildId},
       {"llvm", &llvmBuild},
       {"driver", &driver}}};
  std::string text;
  for (const auto &[name, value] : fields) // the length keeps a value with a line break apart
    text += fmt::format("{} {} {}\n", name, value->size(), *value);
  return text;
}

std::optional<ObjectKey> makeObjectKey(std::string kernelHash, std::string schedule,
                                       std::string layouts, const Target &target) {
  static const std::optional<std::string> build = buildId();
  static const std::string llvm = llvmBuild();
  if (!build)
    return std::nullopt;
  return ObjectKey{
      std::move(kernelHash), std::move(schedule), std::move(layouts), target.key(), *build, llvm};
}

ObjectCache ObjectCache::open(const fs::path &folder) {
  ObjectCache cache;
  auto ignore = [&](std::string_view why) {
    logger().warn("compiled objects are not cached in {}: {}", escapeControls(folder.string()),
                  why);
    return cache;
  };
  std::error_code error;
  if (folder.has_parent_path())
    fs::create_directories(folder.parent_path(), error);
  if (!error && ::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    error = std::error_code(errno, std::generic_category());
  if (error)
    return ignore(error.message());
  struct stat status;
  if (::stat(folder.c_str(), &status) != 0)
    return ignore(systemReason());
  if (!S_ISDIR(status.st_mode))
    return ignore("it is no folder");
  if (std::string why = whyUntrusted(status); !why.empty())
    return ignore(why);
  cache.folder = folder;
  cache.storing = std::make_shared<std::atomic<bool>>(true);
  return cache;
}

fs::path ObjectCache::entryPath(const ObjectKey &key) const {
  return folder / (sha256Hex(key.text()) + ".kfo");
}

std::optional<Artifact> ObjectCache::find(const ObjectKey &key) const {
  if (!enabled())
    return std::nullopt;
  fs::path file = entryPath(key);
  auto miss = [&](const Error &error) -> std::optional<Artifact> {
    if (!error.why.empty())
      logger().info("cached object {} is not used: {}", escapeControls(file.string()),
                    escapeControls(error.why));
    return std::nullopt;
  };
  Expected<std::string> entry = readEntry(file);
  if (!entry)
    return miss(entry.error());
  Expected<Artifact> artifact = parseEntry(*entry, key.text());
  if (!artifact)
    return miss(artifact.error());
  return std::move(*artifact);
}

void ObjectCache::store(const ObjectKey &key, const Artifact &artifact) const {
  if (!enabled() || !storing->load())
    return;
  std::string entry(magic);
  appendSection(entry, "key", key.text());
  appendSection(entry, "facts", factsOf(artifact));
  appendSection(entry, "code", artifact.code);
  if (int64_t(entry.size()) > maxEntryBytes)
    return;
  if (Status status = writeFileAtomically(entryPath(key), entry, 0600); !status) {
    // Most likely a full disk: one attempt is enough, and so is one warning.
    if (storing->exchange(false))
      logger().warn("compiled objects are not kept: {}", status.error().line());
  }
}

} // namespace kernelforge
