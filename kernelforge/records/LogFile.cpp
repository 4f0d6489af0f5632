#include "kernelforge/records/LogFile.h"

#include "kernelforge/support/MappedFile.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace kernelforge {
namespace fs = std::filesystem;

namespace {

std::string systemReason() { return std::generic_category().message(errno); }

struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0)
      ::close(number);
  }
};

/// Writes all of `bytes`: one write where the system can, more only where it was interrupted or to
/// learn why it stopped.
bool writeAll(int descriptor, std::string_view bytes) {
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

/// Makes a new file's name durable. Some file systems cannot.
void syncFolderOf(const fs::path &file) {
  Descriptor folder{::open(file.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (folder.number >= 0)
    ::fsync(folder.number);
}

} // namespace

Expected<FileLock> FileLock::acquire(const fs::path &file) {
  auto failure = [&] {
    return failed("records cannot be locked", file.string(), systemReason(),
                  "set KERNELFORGE_HOME to a folder that can be written");
  };
  int descriptor = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0)
    return failure();
  FileLock lock(descriptor);
  while (::flock(descriptor, LOCK_EX) != 0)
    if (errno != EINTR)
      return failure();
  return lock;
}

FileLock::~FileLock() {
  if (descriptor < 0)
    return;
  // Closing is not enough: a child forked meanwhile by another thread has the same lock.
  ::flock(descriptor, LOCK_UN);
  ::close(descriptor);
}

Status appendToLog(const fs::path &file, std::string_view lines) {
  auto failure = [&](const char *step) {
    return failed("record cannot be kept", file.string(),
                  std::string(step) + ": " + systemReason());
  };
  Descriptor log{::open(file.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600)};
  if (log.number < 0)
    return failed("record cannot be kept", file.string(), "opening: " + systemReason(),
                  "set KERNELFORGE_HOME to a folder that can be written");
  struct stat status;
  if (::fstat(log.number, &status) != 0)
    return failure("looking at it");
  if (!S_ISREG(status.st_mode))
    return failed("record cannot be kept", file.string(), "it is no regular file");

  // What a killed writer left without line break must not become the beginning of ours.
  char last = '\n';
  if (status.st_size > 0 && ::pread(log.number, &last, 1, status.st_size - 1) != 1)
    return failure("reading its end");
  std::string bytes(last == '\n' ? "" : "\n");
  bytes += lines;

  if (status.st_size + bytes.size() > maxLogBytes)
    return failed("record cannot be kept", file.string(),
                  "the log would have more than " + std::to_string(maxLogBytes) + " bytes",
                  "remove old records with `kernelforge records prune`");

  const char *step = "writing";
  bool done = writeAll(log.number, bytes);
  if (done) {
    step = "syncing";
    done = ::fdatasync(log.number) == 0;
  }
  if (!done) {
    Status error = failure(step);
    // Nobody else appended: the lock is ours. Where this fails as well, the line lacks its end.
    while (::ftruncate(log.number, status.st_size) != 0 && errno == EINTR)
      ;
    return error;
  }
  if (status.st_size == 0)
    syncFolderOf(file);
  return {};
}

Expected<std::string> readLog(const fs::path &file) {
  constexpr int attempts = 10;
  Expected<std::string> text = readFile(file.string(), "records cannot be read", maxLogBytes);
  for (int i = 1; i < attempts && !text && text.error().kind == ErrorKind::Failed; ++i)
    text = readFile(file.string(), "records cannot be read", maxLogBytes);
  return text;
}

} // namespace kernelforge
