#include "kernelforge/support/MappedFile.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace kernelforge {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class MappedFileTest : public testing::Test {
protected:
  MappedFileTest()
      : folder(fs::temp_directory_path() / ("kernelforge-mapped-" + std::to_string(::getpid()))) {
    fs::create_directories(folder);
  }
  ~MappedFileTest() override { fs::remove_all(folder); }

  std::string write(const std::string &name, std::string_view text) {
    const std::string path = (folder / name).string();
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

  /// Both ways to read must refuse the path alike.
  void expectRefused(const std::string &path, const std::string &why) {
    auto mapped = MappedFile::open(path, "file is not usable");
    ASSERT_FALSE(mapped);
    EXPECT_EQ(mapped.error().kind, ErrorKind::Unusable);
    EXPECT_THAT(mapped.error().line(), HasSubstr(why));
    auto text = readFile(path, "file is not usable", 1000);
    ASSERT_FALSE(text);
    EXPECT_EQ(text.error().line(), mapped.error().line());
  }

  fs::path folder;
};

std::string textOf(const MappedFile &file) {
  return std::string(reinterpret_cast<const char *>(file.bytes().data()), file.bytes().size());
}

TEST_F(MappedFileTest, MapsAndReads) {
  const std::string path = write("a", std::string("one\0two", 7));
  auto file = MappedFile::open(path, "x");
  ASSERT_TRUE(file);
  EXPECT_EQ(textOf(*file), std::string("one\0two", 7));
  EXPECT_EQ(file->path(), path);
  EXPECT_TRUE(file->checkSize());
  EXPECT_EQ(*readFile(path, "x", 7), std::string("one\0two", 7));
}

TEST_F(MappedFileTest, SurvivesMovesAndRemoval) {
  const std::string path = write("a", "text");
  MappedFile kept;
  {
    auto file = MappedFile::open(path, "x");
    ASSERT_TRUE(file);
    MappedFile moved = std::move(*file);
    kept = std::move(moved);
  }
  fs::remove(path);
  EXPECT_EQ(textOf(kept), "text");
}

TEST_F(MappedFileTest, RefusesWhatIsNoReadableFile) {
  expectRefused((folder / "absent").string(), "absent): there is no such file");
  expectRefused((write("a", "x") + "/b"), "there is no such file");
  expectRefused(folder.string(), "is a directory");
  expectRefused("", "the file name is empty");
  expectRefused(std::string("a\0b", 3), "NUL byte");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  expectRefused((folder / "pipe").string(), "is no regular file");
  fs::create_symlink("loop", folder / "loop");
  expectRefused((folder / "loop").string(), "symbolic links");
}

TEST_F(MappedFileTest, RefusesWithoutPermission) {
  if (::geteuid() == 0)
    GTEST_SKIP() << "root may read everything";
  const std::string path = write("secret", "x");
  fs::permissions(path, fs::perms::none);
  expectRefused(path, "permission denied");
}

TEST_F(MappedFileTest, EmptyFileIsAnEmptyTextButNoMapping) {
  const std::string path = write("empty", "");
  auto mapped = MappedFile::open(path, "file is not usable");
  ASSERT_FALSE(mapped);
  EXPECT_THAT(mapped.error().line(), HasSubstr("the file is empty"));
  EXPECT_EQ(*readFile(path, "x", 0), "");
}

TEST_F(MappedFileTest, ReadFileKeepsToItsLimit) {
  auto text = readFile(write("long", "12345"), "file is not usable", 4);
  ASSERT_FALSE(text);
  EXPECT_THAT(text.error().line(), HasSubstr("has 5 bytes, at most 4"));
}

TEST_F(MappedFileTest, ATextMayComeThroughAPipe) {
  const std::string pipe = (folder / "pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::signal(SIGPIPE, SIG_IGN);        // of who writes when the reader has had enough
  const std::string half(100'000, 'x'); // more than a pipe holds
  for (uint64_t most : {2 * half.size(), 2 * half.size() - 1}) {
    std::jthread writer([&] {
      std::ofstream out(pipe, std::ios::binary);
      out << half << std::flush << half;
    });
    auto text = readText(pipe, "text is not usable", most);
    if (most == 2 * half.size()) {
      ASSERT_TRUE(text) << text.error().line();
      EXPECT_EQ(*text, half + half);
    } else {
      ASSERT_FALSE(text);
      EXPECT_EQ(text.error().kind, ErrorKind::Unusable);
      EXPECT_THAT(text.error().line(), HasSubstr("it has more bytes, at most 199999 are read"));
    }
  }
}

TEST_F(MappedFileTest, ATextMayComeFromADevice) {
  EXPECT_EQ(*readText("/dev/null", "x", 10), "");
  auto endless = readText("/dev/zero", "text is not usable", 1 << 20);
  ASSERT_FALSE(endless);
  EXPECT_EQ(endless.error().kind, ErrorKind::Unusable);
  EXPECT_EQ(*readText(write("a", "text"), "x", 4), "text");
  EXPECT_FALSE(readText(folder.string(), "x", 4));
  EXPECT_FALSE(readText((folder / "absent").string(), "x", 4));
}

TEST_F(MappedFileTest, NoticesAChangedSize) {
  const std::string path = write("a", "12345");
  auto file = MappedFile::open(path, "file is not usable");
  ASSERT_TRUE(file);
  fs::resize_file(path, 3);
  auto status = file->checkSize();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, ErrorKind::Failed);
  EXPECT_THAT(status.error().line(), HasSubstr("5 bytes were mapped, it has 3"));
}

} // namespace
} // namespace kernelforge
