#include "kernelforge/support/Paths.h"

#include <cstdlib>
#include <gtest/gtest.h>
#include <optional>
#include <string>

using namespace kernelforge;
namespace fs = std::filesystem;

namespace {

/// Sets or removes an environment variable for the length of a test.
class Environment {
public:
  Environment(const char *name, const char *value) : name(name) {
    if (const char *was = std::getenv(name))
      before = was;
    set(value);
  }
  ~Environment() { set(before ? before->c_str() : nullptr); }

private:
  void set(const char *value) { value ? setenv(name, value, 1) : unsetenv(name); }
  const char *name;
  std::optional<std::string> before;
};

TEST(Paths, OwnVariableComesFirst) {
  Environment home("HOME", "/h"), xdg("XDG_CACHE_HOME", "/x"), own("KERNELFORGE_HOME", "/k");
  EXPECT_EQ(homeDirectory().value(), fs::path("/k"));
  EXPECT_EQ(modelsDirectory().value(), fs::path("/k/models"));
  EXPECT_EQ(recordsDirectory().value(), fs::path("/k/records"));
  EXPECT_EQ(objectsDirectory().value(), fs::path("/k/objects"));
}

TEST(Paths, RelativeOwnVariableIsOfTheCurrentFolder) {
  Environment own("KERNELFORGE_HOME", "some/where");
  EXPECT_EQ(homeDirectory().value(), fs::current_path() / "some/where");
}

TEST(Paths, ThenTheCacheDirectory) {
  Environment home("HOME", "/h"), xdg("XDG_CACHE_HOME", "/x"), own("KERNELFORGE_HOME", "");
  EXPECT_EQ(homeDirectory().value(), fs::path("/x/kernelforge"));
}

TEST(Paths, RelativeCacheDirectoryIsIgnored) {
  Environment home("HOME", "/h"), xdg("XDG_CACHE_HOME", "x"), own("KERNELFORGE_HOME", nullptr);
  EXPECT_EQ(homeDirectory().value(), fs::path("/h/.cache/kernelforge"));
}

} // namespace
