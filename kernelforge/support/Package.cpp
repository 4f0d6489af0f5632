#include "kernelforge/support/Package.h"

#include "kernelforge/support/AtomicFile.h"
#include "kernelforge/support/ChildProcess.h"
#include "kernelforge/support/MappedFile.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <link.h>

namespace kernelforge {
namespace fs = std::filesystem;

namespace {

constexpr const char *what = "package cannot be made";

/// Parts of glibc, which belong to the machine's kernel and to each other.
constexpr std::string_view ofTheMachine[] = {
    "ld-linux-x86-64.so.2", "libc.so.6",   "libm.so.6",       "libmvec.so.1",
    "libpthread.so.0",      "libdl.so.2",  "librt.so.1",      "libresolv.so.2",
    "libutil.so.1",         "libanl.so.1", "linux-vdso.so.1", "linux-gate.so.1"};

struct Compressor {
  std::string_view ending;
  std::string_view program; ///< empty: none
  std::string_view command; ///< as tar takes it
};

/// Machine code is packed by a tenth better where jumps are made absolute first (--x86); a
/// dictionary of 64 MB reaches from one library to the next.
constexpr Compressor compressors[] = {{".tar.xz", "xz", "xz -T0 --x86 --lzma2=preset=6,dict=64MiB"},
                                      {".tar.zst", "zstd", "zstd -q -T0 -12"},
                                      {".tar.gz", "gzip", "gzip -n"},
                                      {".tar", "", ""}};

/// Paths of the objects that this process has loaded, but itself.
std::vector<fs::path> loadedObjects() {
  std::vector<fs::path> paths;
  dl_iterate_phdr(
      [](dl_phdr_info *object, size_t, void *list) -> int {
        if (object->dlpi_name && *object->dlpi_name)
          static_cast<std::vector<fs::path> *>(list)->emplace_back(object->dlpi_name);
        return 0;
      },
      &paths);
  return paths;
}

/// A folder that goes with the object.
class TemporaryFolder {
public:
  static Expected<TemporaryFolder> make() {
    std::error_code error;
    std::string pattern = (fs::temp_directory_path(error) / "kernelforge-package-XXXXXX").string();
    if (!error && ::mkdtemp(pattern.data()))
      return TemporaryFolder(pattern);
    return failed(what, pattern, "there is no temporary folder", "set TMPDIR to one that exists");
  }
  TemporaryFolder(TemporaryFolder &&other) noexcept { std::swap(path, other.path); }
  TemporaryFolder &operator=(TemporaryFolder &&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path.empty())
      fs::remove_all(path, ignored);
  }

  fs::path path;

private:
  explicit TemporaryFolder(fs::path path) : path(std::move(path)) {}
};

/// Runs a program that says something only where it fails.
Status call(const std::vector<std::string> &arguments, const fs::path &log) {
  Expected<ProcessEnd> end = runToEnd(arguments, log.string());
  if (!end) {
    end.error().what = what;
    return tl::unexpected(end.error());
  }
  if (end->code == 0 && end->signal == 0)
    return {};
  std::string said;
  if (const auto text = readFile(log.string(), what, 1 << 20); text && !text->empty())
    said = ": " + text->substr(0, text->find('\n'));
  return failed(what, arguments.front(), "it " + end->text() + said,
                "see that there is room in the folder for temporary files (TMPDIR)");
}

Status checkPrograms(const Compressor &compressor, const fs::path &log) {
  KF_CHECK(call({"tar", "--version"}, log));
  return compressor.program.empty() ? Status()
                                    : call({std::string(compressor.program), "--version"}, log);
}

/// Lays the package's folder out as links to where the files are.
Status linkFiles(const fs::path &folder, const std::vector<PackageFile> &files,
                 std::string_view readme) {
  std::error_code error;
  for (const PackageFile &file : files) {
    fs::create_directories((folder / file.name).parent_path(), error);
    if (!error)
      fs::create_symlink(fs::absolute(file.from), folder / file.name, error);
    if (error)
      return failed(what, (folder / file.name).string(), error.message());
  }
  return writeFileAtomically(folder / "README", readme, 0644);
}

} // namespace

Expected<std::vector<PackageFile>> packageFiles(const std::vector<std::string> &programs,
                                                const std::vector<fs::path> &libraries) {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (error)
    return failed(what, "/proc/self/exe", error.message());
  std::vector<PackageFile> files{{"bin/kernelforge", self}};
  for (const std::string &program : programs)
    if (fs::is_regular_file(self.parent_path() / program, error))
      files.push_back({"bin/" + program, self.parent_path() / program});
  std::vector<fs::path> all = loadedObjects();
  all.insert(all.end(), libraries.begin(), libraries.end());
  for (const fs::path &path : all) {
    const std::string name = path.filename().string();
    if (std::ranges::find(ofTheMachine, name) != std::end(ofTheMachine))
      continue;
    if (!fs::is_regular_file(path, error))
      return failed(what, path.string(), "a library of this process is no file any more");
    files.push_back({"lib/" + name, path});
  }
  std::ranges::sort(files, {}, &PackageFile::name);
  const auto twice = std::ranges::unique(files, {}, &PackageFile::name);
  files.erase(twice.begin(), twice.end());
  return files;
}

Expected<std::string> leastGlibc(const std::vector<PackageFile> &files) {
  constexpr std::string_view prefix = "GLIBC_2.";
  int newest = 0;
  for (const PackageFile &file : files) {
    KF_TRY(const MappedFile mapped, MappedFile::open(file.from.string(), what));
    const std::string_view bytes(reinterpret_cast<const char *>(mapped.bytes().data()),
                                 mapped.bytes().size());
    for (size_t at = bytes.find(prefix); at != bytes.npos; at = bytes.find(prefix, at + 1)) {
      int minor = 0;
      const char *begin = bytes.data() + at + prefix.size(), *end = bytes.data() + bytes.size();
      const auto [stop, error] = std::from_chars(begin, end, minor);
      // Names of versions end where their text does.
      if (error == std::errc() && stop < end && (*stop == '\0' || *stop == '.') && minor < 100)
        newest = std::max(newest, minor);
    }
  }
  return fmt::format("2.{}", newest);
}

uint64_t bytesOf(const std::vector<PackageFile> &files) {
  uint64_t bytes = 0;
  std::error_code error;
  for (const PackageFile &file : files)
    if (const uintmax_t size = fs::file_size(file.from, error); !error)
      bytes += size;
  return bytes;
}

std::vector<std::string_view> archiveEndings() {
  std::vector<std::string_view> endings;
  for (const Compressor &compressor : compressors)
    endings.push_back(compressor.ending);
  return endings;
}

Expected<std::string> makeArchive(const std::string &path, const std::string &name,
                                  const std::vector<PackageFile> &files, std::string_view readme) {
  const auto compressor = std::ranges::find_if(
      compressors, [&](const Compressor &each) { return path.ends_with(each.ending); });
  if (compressor == std::end(compressors))
    return unusable(what, path, "its ending says no kind of archive",
                    fmt::format("end it with {}", fmt::join(archiveEndings(), ", ")));
  KF_TRY(const TemporaryFolder folder, TemporaryFolder::make());
  const fs::path log = folder.path / "log", archive = folder.path / "archive";
  KF_CHECK(checkPrograms(*compressor, log));
  KF_CHECK(linkFiles(folder.path / name, files, readme));
  std::vector<std::string> arguments{
      "tar",       "--create",     "--dereference",   "--sort=name", "--owner=0",
      "--group=0", "--format=gnu", "--numeric-owner", "--mtime=@0",  "--mode=u+w,go-w,a+rX"};
  if (!compressor->command.empty())
    arguments.push_back(fmt::format("--use-compress-program={}", compressor->command));
  arguments.insert(arguments.end(),
                   {"--file", archive.string(), "--directory", folder.path.string(), name});
  KF_CHECK(call(arguments, log));
  return readFile(archive.string(), what, UINT64_C(4) << 30);
}

} // namespace kernelforge
