// package: the relocatable archive of the tools with the libraries that they need.
#include "Commands.h"

#include "kernelforge/compiler/TargetFacts.h"
#include "kernelforge/support/OutputFile.h"
#include "kernelforge/support/Package.h"
#include "kernelforge/support/Version.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>

using namespace kernelforge;
using namespace kernelforge::cli;

/// What whoever unpacks it should know.
static std::string readmeOf(const std::string &name, const std::string &glibc,
                            const std::vector<PackageFile> &files) {
  std::vector<std::string> libraries;
  for (const PackageFile &file : files)
    if (file.name.starts_with("lib/"))
      libraries.push_back(file.name.substr(4));
  return fmt::format(
      R"({} ({}): a compiler for transformer kernels, with the libraries that it needs.

bin/kernelforge --help lists what it does; bin/kernelforge diagnose says what this machine has.

The folder can lie anywhere and needs nothing installed but Linux on x86-64 with AVX2, FMA and F16C
and glibc {} or newer. A GPU's driver and the Vulkan loader (libvulkan.so.1) are the machine's.

The libraries in lib come from the distribution that built them, each under its own licence:
{}.
)",
      name, version().gitCommit, glibc, fmt::join(libraries, ", "));
}

static Expected<int> package(const std::string &path, const Context &context) {
  // Compressing takes minutes, which are not to be spent on what has no place.
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::absolute(path).parent_path();
  if (!std::filesystem::is_directory(folder, error))
    return failed("file cannot be written", path, "there is no folder " + folder.string(),
                  "name a file in a folder that exists");
  const std::vector<std::string> devices = deviceLibraries();
  KF_TRY(const std::vector<PackageFile> files,
         packageFiles({"kernelforge-opt"}, {devices.begin(), devices.end()}));
  KF_TRY(const std::string glibc, leastGlibc(files));
  const std::string name = fmt::format("kernelforge-{}-x86_64", version().number);
  interruptFlag(); // Ctrl-C also ends tar; what lies in the temporary folder is removed then
  Expected<std::string> bytes = makeArchive(path, name, files, readmeOf(name, glibc, files));
  if (*interruptFlag())
    return makeError(ErrorKind::Interrupted, "interrupted", "package", "stopped by user");
  if (!bytes)
    return tl::unexpected(bytes.error());
  KF_CHECK(writeOutput(path, *bytes));
  if (context.json) {
    Json list = Json::array();
    for (const PackageFile &file : files)
      list.push_back(file.name);
    printJson({{"file", path},
               {"name", name},
               {"bytes", bytes->size()},
               {"unpacked_bytes", bytesOf(files)},
               {"glibc", glibc},
               {"files", list}});
  } else {
    print(fmt::format("{}: {:.1f} MB, unpacked {:.1f} MB in {} files; needs glibc {} or newer\n",
                      path, static_cast<double>(bytes->size()) / 1e6,
                      static_cast<double>(bytesOf(files)) / 1e6, files.size(), glibc));
  }
  return 0;
}

void cli::addPackage(CLI::App &app, Context &context) {
  auto path = std::make_shared<std::string>();
  CLI::App &command =
      addCommand(app, context,
                 {"package", "write one archive of the tools with the libraries that they need",
                  "package -o kernelforge.tar.xz"},
                 [path, &context] { return package(*path, context); });
  command
      .add_option("-o", *path,
                  fmt::format("the archive; its ending says how it is compressed: {}",
                              fmt::join(archiveEndings(), ", ")))
      ->required();
}
