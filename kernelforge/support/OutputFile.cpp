#include "kernelforge/support/OutputFile.h"

#include "kernelforge/support/AtomicFile.h"
#include "kernelforge/support/Numbers.h"

#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <optional>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace kernelforge {
namespace fs = std::filesystem;

static constexpr const char *purpose = "file cannot be written";

static tl::unexpected<Error> failure(const fs::path &path, const char *step) {
  return failed(purpose, path.string(),
                fmt::format("{}: {}", step, std::generic_category().message(errno)),
                writingHint(errno));
}

/// The descriptor of this process that a link under /proc/self/fd stands for. It is no path to
/// what is open there: opening that anew would begin at its front, and lose what is written.
static std::optional<int> descriptorOf(const fs::path &link) {
  std::error_code error;
  const fs::path folder = fs::canonical(link.parent_path(), error);
  if (error || folder != fmt::format("/proc/{}/fd", ::getpid()))
    return std::nullopt;
  const auto number = parseInteger<int>(link.filename().native());
  return number ? std::optional(*number) : std::nullopt;
}

/// Where a path leads: the descriptor, or the path that is no link.
struct Destination {
  fs::path path;
  std::optional<int> descriptor;
};

static Expected<Destination> follow(const fs::path &path) {
  constexpr int mostLinks = 40; // as the system's own limit
  fs::path at = path;
  for (int links = 0; links < mostLinks; ++links) {
    struct stat status{};
    if (::lstat(at.c_str(), &status) != 0 && errno != ENOENT)
      return failure(path, "looking at it");
    if (!S_ISLNK(status.st_mode))
      return Destination{at, std::nullopt};
    if (const std::optional<int> descriptor = descriptorOf(at))
      return Destination{at, descriptor};
    std::error_code error;
    const fs::path target = fs::read_symlink(at, error);
    if (error)
      return failed(purpose, path.string(), "following its link: " + error.message());
    at = target.is_absolute() ? target : at.parent_path() / target;
  }
  return unusable(purpose, path.string(), "it is a link in a circle of links",
                  "remove the link, or name a file");
}

static Status writeAll(int descriptor, std::string_view bytes, const fs::path &path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR)
      continue;
    if (written < 0 && errno == EPIPE)
      return {};
    if (written < 0)
      return failure(path, "writing");
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return {};
}

/// Into a device or a FIFO.
static Status writeThrough(const fs::path &path, std::string_view bytes) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_NOCTTY | O_CLOEXEC);
  if (descriptor < 0)
    return failure(path, "opening");
  Status status = writeAll(descriptor, bytes, path);
  if (::close(descriptor) != 0 && status)
    return failure(path, "closing");
  return status;
}

Status writeOutput(const fs::path &path, std::string_view bytes) {
  KF_TRY(Destination to, follow(path));
  if (to.descriptor)
    return writeAll(*to.descriptor, bytes, path);
  struct stat status{};
  if (::stat(to.path.c_str(), &status) != 0) {
    if (errno != ENOENT)
      return failure(path, "looking at it");
    return writeFileAtomically(to.path, bytes);
  }
  if (S_ISREG(status.st_mode))
    return replaceFileAtomically(to.path, bytes);
  if (S_ISDIR(status.st_mode))
    return unusable(purpose, path.string(), "it is a folder", "name a file in it");
  if (S_ISSOCK(status.st_mode))
    return unusable(purpose, path.string(), "it is a socket", "name a file");
  return writeThrough(to.path, bytes);
}

bool isReplaceable(const fs::path &path) {
  const Expected<Destination> to = follow(path);
  struct stat status{};
  return to && !to->descriptor &&
         (::stat(to->path.c_str(), &status) != 0 || S_ISREG(status.st_mode));
}

Status writeStandardOutput(std::string_view bytes) {
  return writeAll(STDOUT_FILENO, bytes, "standard output");
}

} // namespace kernelforge
