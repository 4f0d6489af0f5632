// Files from outside: a read-only mapping for large ones, a bounded plain read for small ones.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace kernelforge {

/// A regular file mapped read-only for as long as the object lives. Moving it does not move the
/// bytes. A file that another process shortens while it is mapped raises SIGBUS when read: that is
/// the price of a mapping; checkSize() finds it out before long work.
class MappedFile {
public:
  MappedFile() = default;
  MappedFile(MappedFile &&other) noexcept { swap(other); }
  MappedFile &operator=(MappedFile &&other) noexcept {
    swap(other);
    return *this;
  }
  ~MappedFile();

  /// Maps the file at `path`. `what` begins the error line ("model file is not usable"). A missing
  /// file, a directory, a pipe, an empty file and a lack of permission are Unusable: the path was
  /// named by someone.
  static Expected<MappedFile> open(const std::string &path, std::string_view what);

  std::span<const std::byte> bytes() const { return {data, size}; }
  const std::string &path() const { return filePath; }

  /// Looks at the file again: an error where its size is no longer what was mapped.
  Status checkSize() const;

private:
  void swap(MappedFile &other) noexcept;

  const std::byte *data = nullptr;
  size_t size = 0;
  int descriptor = -1;
  std::string filePath;
  std::string purpose;
};

/// Reads a whole file of at most `maxBytes` bytes; an empty file is an empty string. Errors as for
/// MappedFile::open, and a file over the limit is Unusable.
Expected<std::string> readFile(const std::string &path, std::string_view what, uint64_t maxBytes);

/// The same for a text that the user names, which need not be a regular file: a FIFO, a device and,
/// for
/// "-", standard input are read to their end, which may have to be waited for.
Expected<std::string> readText(const std::string &path, std::string_view what, uint64_t maxBytes);

} // namespace kernelforge
