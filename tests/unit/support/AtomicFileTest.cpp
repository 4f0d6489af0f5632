#include "kernelforge/support/AtomicFile.h"

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <sys/resource.h>
#include <sys/stat.h>

using namespace kernelforge;
namespace fs = std::filesystem;

namespace {

class AtomicFile : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "kernelforge-file-XXXXXX").string();
    ASSERT_TRUE(mkdtemp(pattern.data()));
    folder = pattern;
  }
  void TearDown() override { fs::remove_all(folder); }

  static std::string read(const fs::path &file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  size_t files() const {
    return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
  }

  fs::path folder;
};

TEST_F(AtomicFile, WritesAndReplaces) {
  std::string bytes("a\0b\n", 4);
  ASSERT_TRUE(writeFileAtomically(folder / "f", bytes));
  EXPECT_EQ(read(folder / "f"), bytes);
  ASSERT_TRUE(writeFileAtomically(folder / "f", "", 0600));
  EXPECT_EQ(read(folder / "f"), "");
  struct stat status;
  ASSERT_EQ(stat((folder / "f").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_EQ(files(), 1u);
}

TEST_F(AtomicFile, MissingFolderIsAnError) {
  Status status = writeFileAtomically(folder / "no" / "f", "x");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, ErrorKind::Failed);
  EXPECT_NE(status.error().line().find("No such file"), std::string::npos);
}

TEST_F(AtomicFile, FolderInThePlaceOfTheFileIsAnError) {
  fs::create_directory(folder / "f");
  EXPECT_FALSE(writeFileAtomically(folder / "f", "x"));
  EXPECT_EQ(files(), 1u) << "the temporary file is left";
}

TEST_F(AtomicFile, FailureHalfWayLeavesTheOldFile) {
  ASSERT_TRUE(writeFileAtomically(folder / "f", "old"));
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit tight{4096, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  Status status = writeFileAtomically(folder / "f", std::string(100000, 'x'));
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().why.find("writing"), std::string::npos);
  EXPECT_EQ(read(folder / "f"), "old");
  EXPECT_EQ(files(), 1u) << "the temporary file is left";
}

} // namespace
