// Archives of files: what is in them, by which programs they are made, and what is said where that
// cannot be done.
#include "kernelforge/support/Package.h"

#include "kernelforge/support/ChildProcess.h"
#include "kernelforge/support/MappedFile.h"

#include <cstdlib>
#include <fstream>
#include <gmock/gmock.h>
#include <unistd.h>

using namespace kernelforge;
using testing::Contains;
using testing::HasSubstr;
namespace fs = std::filesystem;

namespace {

class Package : public testing::Test {
protected:
  void SetUp() override {
    folder = fs::temp_directory_path() / ("kernelforge-package-test-" + std::to_string(getpid()));
    fs::create_directories(folder);
    file("a", "first");
    static constexpr char versions[] = "\0GLIBC_2.17\0GLIBC_2.3.4\0GLIBC_2.31\0GLIBC_2.99x";
    file("b", std::string(versions, sizeof(versions) - 1));
    fs::create_symlink("a", folder / "link");
    files = {{"bin/a", folder / "link"}, {"lib/b", folder / "b"}};
  }
  void TearDown() override { fs::remove_all(folder); }

  void file(const std::string &name, const std::string &bytes) {
    std::ofstream(folder / name, std::ios::binary) << bytes;
  }

  /// What a program says, where it ends well.
  std::string said(const std::vector<std::string> &arguments) {
    const std::string log = folder / "log";
    const auto end = runToEnd(arguments, log);
    EXPECT_TRUE(end && end->code == 0 && end->signal == 0);
    return readFile(log, "log", 1 << 20).value_or("");
  }

  fs::path folder;
  std::vector<PackageFile> files;
};

TEST_F(Package, HoldsFilesUnderTheirNamesAndIsTheSameEachTime) {
  for (const std::string_view ending : archiveEndings()) {
    const std::string path = (folder / "out").string() + std::string(ending);
    const auto archive = makeArchive(path, "p-1", files, "read me\n");
    if (!archive && archive.error().kind == ErrorKind::Missing)
      continue; // its compressor is not here
    ASSERT_TRUE(archive) << archive.error().line();
    EXPECT_EQ(*archive, makeArchive(path, "p-1", files, "read me\n").value()) << path;
    file("out" + std::string(ending), *archive);
    EXPECT_EQ(said({"tar", "--list", "--auto-compress", "--file", path}),
              "p-1/\np-1/README\np-1/bin/\np-1/bin/a\np-1/lib/\np-1/lib/b\n");
    EXPECT_EQ(said({"tar", "--extract", "--to-stdout", "--auto-compress", "--file", path,
                    "p-1/bin/a", "p-1/README"}),
              "read me\nfirst");
  }
}

TEST_F(Package, WhatCannotBeMadeIsSaid) {
  const auto other = makeArchive("a.zip", "p", files, "");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().kind, ErrorKind::Unusable);
  EXPECT_THAT(other.error().hint, HasSubstr(".tar.xz, .tar.zst, .tar.gz, .tar"));
  files.push_back({"lib/gone", folder / "gone"});
  const auto gone = makeArchive("a.tar", "p", files, "");
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().kind, ErrorKind::Failed);
  EXPECT_THAT(gone.error().line(), HasSubstr("gone"));
}

TEST_F(Package, NothingIsLeftBehind) {
  ASSERT_EQ(::setenv("TMPDIR", folder.c_str(), 1), 0);
  const auto before = std::distance(fs::directory_iterator(folder), {});
  EXPECT_TRUE(makeArchive("a.tar", "p", files, ""));
  files.push_back({"lib/gone", folder / "gone"});
  EXPECT_FALSE(makeArchive("a.tar", "p", files, ""));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), before);
  ::unsetenv("TMPDIR");
}

TEST_F(Package, TheNewestVersionOfGlibcCounts) {
  EXPECT_EQ(leastGlibc(files).value(), "2.31");
  EXPECT_EQ(bytesOf(files), 5u + 46u);
}

TEST_F(Package, HoldsThisProgramAndItsLibrariesButNotGlibc) {
  const auto all = packageFiles({"absent-program"}, {folder / "b", folder / "b"});
  ASSERT_TRUE(all) << all.error().line();
  std::vector<std::string> names;
  for (const PackageFile &file : *all)
    names.push_back(file.name);
  EXPECT_THAT(names, Contains("bin/kernelforge"));
  EXPECT_THAT(names, Contains("lib/libstdc++.so.6"));
  EXPECT_EQ(std::ranges::count(names, "lib/b"), 1);
  for (const char *absent : {"bin/absent-program", "lib/libc.so.6", "lib/libm.so.6"})
    EXPECT_THAT(names, testing::Not(Contains(absent)));
}

TEST(RunToEnd, SaysHowAProgramEnded) {
  const std::string log = "/dev/null";
  EXPECT_EQ(runToEnd({"sh", "-c", "exit 3"}, log)->code, 3);
  EXPECT_EQ(runToEnd({"sh", "-c", "kill -9 $$"}, log)->signal, 9);
  EXPECT_EQ(runToEnd({"sh", "-c", "read x"}, log)->code, 1) << "there is no input";
  const auto absent = runToEnd({"no-such-program-here"}, log);
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().kind, ErrorKind::Missing);
  EXPECT_THAT(absent.error().line(), HasSubstr("no-such-program-here"));
}

} // namespace
