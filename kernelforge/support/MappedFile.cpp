#include "kernelforge/support/MappedFile.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace kernelforge {

namespace {

std::string systemMessage(int code) { return std::generic_category().message(code); }

/// A descriptor that is closed on every way out, unless release() has handed it on.
struct Descriptor {
  int number = -1;
  Descriptor(int number) : number(number) {}
  Descriptor(Descriptor &&other) noexcept : number(other.release()) {}
  ~Descriptor() {
    if (number >= 0)
      ::close(number);
  }
  int release() { return std::exchange(number, -1); }
};

struct OpenedFile {
  Descriptor descriptor;
  uint64_t size;
  bool regular; ///< a FIFO or device has no size and ends when it ends
};

Expected<OpenedFile> openFile(const std::string &path, std::string_view what) {
  if (path.empty() || path.find('\0') != std::string::npos)
    return unusable(std::string(what), path, "the file name is empty or has a NUL byte in it");
  // O_NONBLOCK: opening a pipe that nobody writes to must not hang.
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.number < 0) {
    const int code = errno;
    if (code == ENOENT || code == ENOTDIR)
      return unusable(std::string(what), path, "there is no such file", "check the path");
    if (code == EACCES || code == EPERM)
      return unusable(std::string(what), path, "permission denied", "make the file readable");
    const bool ours = code == EMFILE || code == ENFILE || code == ENOMEM || code == EIO;
    return makeError(ours ? ErrorKind::Failed : ErrorKind::Unusable, std::string(what), path,
                     systemMessage(code));
  }
  struct stat status;
  if (::fstat(file.number, &status) != 0)
    return failed(std::string(what), path, systemMessage(errno));
  if (S_ISDIR(status.st_mode))
    return unusable(std::string(what), path, "is a directory, not a file");
  return OpenedFile{std::move(file), static_cast<uint64_t>(status.st_size),
                    S_ISREG(status.st_mode)};
}

tl::unexpected<Error> tooLong(const std::string &path, std::string_view what, std::string_view has,
                              uint64_t maxBytes) {
  return unusable(std::string(what), path,
                  fmt::format("{} bytes, at most {} are read", has, maxBytes));
}

/// Reads up to `bytes` more; false at the end. Waits for who writes: the descriptor need not block.
Expected<bool> readMore(int descriptor, std::string &text, size_t bytes, const std::string &path,
                        std::string_view what) {
  const size_t before = text.size();
  text.resize(before + bytes);
  for (;;) {
    // Asked first: reading a FIFO that nobody has opened for writing yet looks like its end.
    pollfd ready{descriptor, POLLIN, 0};
    ssize_t n = ::poll(&ready, 1, -1);
    if (n > 0)
      n = ::read(descriptor, text.data() + before, bytes);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
      continue;
    if (n < 0)
      return failed(std::string(what), path, systemMessage(errno));
    text.resize(before + static_cast<size_t>(n));
    return n > 0;
  }
}

/// All that comes, of at most `maxBytes` bytes: memory grows with what has come.
Expected<std::string> readStream(int descriptor, const std::string &path, std::string_view what,
                                 uint64_t maxBytes) {
  std::string text;
  for (;;) {
    KF_TRY(bool more, readMore(descriptor, text, size_t(1) << 16, path, what));
    if (!more)
      return text;
    if (text.size() > maxBytes)
      return tooLong(path, what, "it has more", maxBytes);
  }
}

} // namespace

MappedFile::~MappedFile() {
  if (data)
    ::munmap(const_cast<std::byte *>(data), size);
  if (descriptor >= 0)
    ::close(descriptor);
}

void MappedFile::swap(MappedFile &other) noexcept {
  std::swap(data, other.data);
  std::swap(size, other.size);
  std::swap(descriptor, other.descriptor);
  std::swap(filePath, other.filePath);
  std::swap(purpose, other.purpose);
}

Expected<MappedFile> MappedFile::open(const std::string &path, std::string_view what) {
  KF_TRY(OpenedFile opened, openFile(path, what));
  if (!opened.regular)
    return unusable(std::string(what), path, "is no regular file");
  if (opened.size == 0)
    return unusable(std::string(what), path, "the file is empty");
  void *mapping = ::mmap(nullptr, opened.size, PROT_READ, MAP_PRIVATE, opened.descriptor.number, 0);
  if (mapping == MAP_FAILED)
    return failed(std::string(what), path,
                  fmt::format("cannot map {} bytes: {}", opened.size, systemMessage(errno)));
  MappedFile file;
  file.data = static_cast<const std::byte *>(mapping);
  file.size = opened.size;
  file.descriptor = opened.descriptor.release();
  file.filePath = path;
  file.purpose = what;
  KF_CHECK(file.checkSize()); // it may have shrunk between the two calls
  return file;
}

Status MappedFile::checkSize() const {
  struct stat status;
  if (::fstat(descriptor, &status) != 0)
    return failed(purpose, filePath, systemMessage(errno));
  if (static_cast<uint64_t>(status.st_size) != size)
    return failed(purpose, filePath,
                  fmt::format("the file changed while it was read: {} bytes were mapped, it has {} "
                              "now",
                              size, status.st_size));
  return {};
}

Expected<std::string> readFile(const std::string &path, std::string_view what, uint64_t maxBytes) {
  KF_TRY(OpenedFile opened, openFile(path, what));
  if (!opened.regular)
    return unusable(std::string(what), path, "is no regular file");
  if (opened.size > maxBytes)
    return tooLong(path, what, fmt::format("the file has {}", opened.size), maxBytes);
  std::string text;
  while (text.size() < opened.size) {
    KF_TRY(bool more,
           readMore(opened.descriptor.number, text, opened.size - text.size(), path, what));
    if (!more)
      return failed(std::string(what), path, "the file became shorter while it was read");
  }
  return text;
}

Expected<std::string> readText(const std::string &path, std::string_view what, uint64_t maxBytes) {
  if (path == "-")
    return readStream(STDIN_FILENO, "standard input", what, maxBytes);
  KF_TRY(OpenedFile opened, openFile(path, what));
  return opened.regular ? readFile(path, what, maxBytes)
                        : readStream(opened.descriptor.number, path, what, maxBytes);
}

} // namespace kernelforge
