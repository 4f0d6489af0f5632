#include "kernelforge/support/MappedFile.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
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
};

Expected<OpenedFile> openRegular(const std::string &path, std::string_view what) {
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
  if (!S_ISREG(status.st_mode))
    return unusable(std::string(what), path, "is no regular file");
  return OpenedFile{std::move(file), static_cast<uint64_t>(status.st_size)};
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
  KF_TRY(OpenedFile opened, openRegular(path, what));
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
  KF_TRY(OpenedFile opened, openRegular(path, what));
  if (opened.size > maxBytes)
    return unusable(
        std::string(what), path,
        fmt::format("the file has {} bytes, at most {} are read", opened.size, maxBytes));
  std::string text(opened.size, '\0');
  size_t done = 0;
  while (done < text.size()) {
    ssize_t n = ::read(opened.descriptor.number, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return failed(std::string(what), path, systemMessage(errno));
    if (n == 0)
      return failed(std::string(what), path, "the file became shorter while it was read");
    done += static_cast<size_t>(n);
  }
  return text;
}

} // namespace kernelforge
