#include "kernelforge/support/Paths.h"

#include <cstdlib>
#include <pwd.h>
#include <string>
#include <system_error>
#include <unistd.h>
#include <vector>

namespace kernelforge {
namespace fs = std::filesystem;

namespace {

/// Value of an environment variable; empty where it is not set.
std::string environment(const char *name) {
  const char *value = std::getenv(name);
  return value ? value : "";
}

std::string userHome() {
  if (std::string home = environment("HOME"); !home.empty())
    return home;
  std::vector<char> buffer(16384);
  passwd entry{}, *found = nullptr;
  if (getpwuid_r(geteuid(), &entry, buffer.data(), buffer.size(), &found) == 0 && found)
    return found->pw_dir;
  return "";
}

Expected<fs::path> folder(const char *name) {
  KF_TRY(fs::path home, homeDirectory());
  return home / name;
}

} // namespace

Expected<fs::path> homeDirectory() {
  if (std::string home = environment("KERNELFORGE_HOME"); !home.empty()) {
    std::error_code error;
    fs::path path = fs::absolute(home, error);
    if (error)
      return failed("home directory cannot be made absolute", home, error.message());
    return path.lexically_normal();
  }
  // The base directory specification has relative paths ignored.
  if (fs::path cache = environment("XDG_CACHE_HOME"); cache.is_absolute())
    return cache / "kernelforge";
  if (fs::path home = userHome(); home.is_absolute())
    return home / ".cache" / "kernelforge";
  return missing("no home directory", "environment",
                 "KERNELFORGE_HOME, XDG_CACHE_HOME and HOME are not set and the user has no entry",
                 "set KERNELFORGE_HOME to a folder that you own");
}

Expected<fs::path> modelsDirectory() { return folder("models"); }
Expected<fs::path> recordsDirectory() { return folder("records"); }
Expected<fs::path> objectsDirectory() { return folder("objects"); }

} // namespace kernelforge
