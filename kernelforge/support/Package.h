// The relocatable archive of this program: it, programs beside it, and the libraries that they
// need, as this process has them loaded. Only the C library is the machine's own.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// One file of a package.
struct PackageFile {
  std::string name;           ///< in the package: "bin/kernelforge", "lib/libz3.so.4"
  std::filesystem::path from; ///< a regular file, or a link to one
};

/// This program and those of `programs` that lie beside it under bin, the libraries that this
/// process has loaded and `libraries` under lib, where the programs look for them; by name. Failed
/// where one of them cannot be found as a file.
Expected<std::vector<PackageFile>>
packageFiles(const std::vector<std::string> &programs,
             const std::vector<std::filesystem::path> &libraries);

/// The newest version of glibc that one of the files names, "2.36": an older one cannot load them.
Expected<std::string> leastGlibc(const std::vector<PackageFile> &files);

/// Bytes of all files together.
uint64_t bytesOf(const std::vector<PackageFile> &files);

/// Endings of archives' names that there are compressors for, from the best on.
std::vector<std::string_view> archiveEndings();

/// An archive of the files and a text README in one folder `name`, of the kind that the ending of
/// `path` says; the same files make the same bytes. Made by the programs tar and, by ending, xz,
/// zstd or gzip. Unusable where the ending is none of archiveEndings(), Missing where one of these
/// programs is not here, Failed with the program's message where it fails.
Expected<std::string> makeArchive(const std::string &path, const std::string &name,
                                  const std::vector<PackageFile> &files, std::string_view readme);

} // namespace kernelforge
