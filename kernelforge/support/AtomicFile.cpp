#include "kernelforge/support/AtomicFile.h"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <random>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>

namespace kernelforge {
namespace fs = std::filesystem;

namespace {

std::string systemReason() { return std::generic_category().message(errno); }

/// A temporary file: removed when it goes out of scope, unless it was renamed.
struct TemporaryFile {
  fs::path path;
  int descriptor = -1;

  TemporaryFile() = default;
  TemporaryFile(const TemporaryFile &) = delete;
  TemporaryFile &operator=(const TemporaryFile &) = delete;
  ~TemporaryFile() {
    if (descriptor >= 0)
      ::close(descriptor);
    if (!path.empty())
      ::unlink(path.c_str());
  }

  /// mkstemp would fix the mode at 0600; opening with O_EXCL lets the umask have its say.
  bool create(const fs::path &target, unsigned mode) {
    static std::atomic<unsigned> counter{std::random_device{}()};
    for (int attempt = 0; attempt < 100; ++attempt) {
      fs::path candidate = target;
      candidate += fmt::format(".{}-{:08x}.tmp", ::getpid(), counter.fetch_add(1));
      descriptor = ::open(candidate.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
      if (descriptor >= 0) {
        path = candidate;
        return true;
      }
      if (errno != EEXIST)
        return false;
    }
    return false;
  }

  bool write(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR)
        continue;
      if (written < 0)
        return false;
      bytes.remove_prefix(written);
    }
    return true;
  }

  /// Gives it the owner and permissions of another, as far as this process may.
  bool imitate(const struct stat &other) {
    const bool isOwned = ::fchown(descriptor, other.st_uid, other.st_gid) == 0;
    // The rights of setuid and setgid are those of an owner.
    return ::fchmod(descriptor, other.st_mode & (isOwned ? 07777 : 0777)) == 0;
  }

  bool close() {
    int open = std::exchange(descriptor, -1);
    return ::close(open) == 0;
  }
};

/// Makes the rename durable. Some file systems cannot; the file is whole all the same.
void syncFolder(const fs::path &folder) {
  int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0)
    return;
  ::fsync(descriptor);
  ::close(descriptor);
}

} // namespace

std::string writingHint(int error) {
  switch (error) {
  case ENOENT:
  case ENOTDIR:
    return "name a file in a folder that exists";
  case EACCES:
  case EROFS:
  case EPERM:
    return "name a file where you may write";
  case ENOSPC:
  case EDQUOT:
    return "free space";
  case EFBIG:
    return "raise the limit on file sizes";
  default:
    return "";
  }
}

/// With `like`, owner and permissions are that file's.
static Status writeAndRename(const fs::path &file, std::string_view bytes, unsigned mode,
                             const struct stat *like) {
  auto failure = [&](const char *step) {
    return failed("file cannot be written", file.string(),
                  fmt::format("{}: {}", step, systemReason()), writingHint(errno));
  };
  TemporaryFile temporary;
  if (!temporary.create(file, mode))
    return failure("creating a temporary file beside it");
  if (!temporary.write(bytes))
    return failure("writing");
  if (like && !temporary.imitate(*like))
    return failure("keeping its permissions");
  if (::fsync(temporary.descriptor) != 0)
    return failure("syncing");
  if (!temporary.close())
    return failure("closing");
  if (::rename(temporary.path.c_str(), file.c_str()) != 0)
    return failure("renaming");
  temporary.path.clear();
  syncFolder(file.has_parent_path() ? file.parent_path() : fs::path("."));
  return {};
}

Status writeFileAtomically(const fs::path &file, std::string_view bytes, unsigned mode) {
  return writeAndRename(file, bytes, mode, nullptr);
}

Status replaceFileAtomically(const fs::path &file, std::string_view bytes) {
  struct stat status{};
  if (::stat(file.c_str(), &status) != 0)
    return failed("file cannot be written", file.string(), systemReason(), writingHint(errno));
  return writeAndRename(file, bytes, 0600, &status); // nobody reads it before it is as it was
}

} // namespace kernelforge
