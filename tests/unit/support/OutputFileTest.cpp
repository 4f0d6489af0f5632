#include "kernelforge/support/OutputFile.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <future>
#include <gtest/gtest.h>
#include <iterator>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

using namespace kernelforge;
namespace fs = std::filesystem;

namespace {

class OutputFile : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "kernelforge-output-XXXXXX").string();
    ASSERT_TRUE(mkdtemp(pattern.data()));
    folder = pattern;
    pipeHandler = std::signal(SIGPIPE, SIG_IGN);
  }
  void TearDown() override {
    std::signal(SIGPIPE, pipeHandler);
    fs::remove_all(folder);
  }

  static std::string read(const fs::path &file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static struct stat statusOf(const fs::path &file) {
    struct stat status{};
    EXPECT_EQ(::lstat(file.c_str(), &status), 0) << file;
    return status;
  }
  void put(const char *name, const std::string &text) const {
    std::ofstream(folder / name) << text;
  }
  size_t files() const {
    return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
  }

  fs::path folder;
  void (*pipeHandler)(int) = nullptr;
};

TEST_F(OutputFile, ANewFile) {
  ASSERT_TRUE(writeOutput(folder / "f", std::string("a\0b\n", 4)));
  EXPECT_EQ(read(folder / "f"), std::string("a\0b\n", 4));
  EXPECT_EQ(files(), 1u);
}

TEST_F(OutputFile, AFileThatIsReplacedKeepsItsPermissionsAndIsWholeAllTheTime) {
  put("f", "old");
  ASSERT_EQ(::chmod((folder / "f").c_str(), 0666), 0); // more than the umask leaves
  const struct stat before = statusOf(folder / "f");
  std::ifstream reader(folder / "f");
  ASSERT_TRUE(writeOutput(folder / "f", "new"));
  const struct stat after = statusOf(folder / "f");
  EXPECT_EQ(after.st_mode, before.st_mode);
  EXPECT_EQ(after.st_uid, before.st_uid);
  EXPECT_NE(after.st_ino, before.st_ino) << "it was written in place";
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(reader), {}), "old");
  EXPECT_EQ(read(folder / "f"), "new");
  EXPECT_EQ(files(), 1u);
}

TEST_F(OutputFile, TheOwnerStays) {
  if (::geteuid() != 0)
    GTEST_SKIP() << "only root can give files away";
  put("f", "old");
  ASSERT_EQ(::chown((folder / "f").c_str(), 12345, 12345), 0);
  ASSERT_EQ(::chmod((folder / "f").c_str(), 0640), 0);
  ASSERT_TRUE(writeOutput(folder / "f", "new"));
  EXPECT_EQ(statusOf(folder / "f").st_uid, 12345u);
  EXPECT_EQ(statusOf(folder / "f").st_gid, 12345u);
  EXPECT_EQ(statusOf(folder / "f").st_mode & 07777, 0640u);
}

TEST_F(OutputFile, LinksAreFollowedAndStay) {
  fs::create_directory(folder / "below");
  put("below/real", "old");
  fs::create_symlink("below/real", folder / "first"); // relative to where the link is
  fs::create_symlink(folder / "first", folder / "second");
  ASSERT_TRUE(writeOutput(folder / "second", "new"));
  EXPECT_TRUE(fs::is_symlink(folder / "second"));
  EXPECT_TRUE(fs::is_symlink(folder / "first"));
  EXPECT_FALSE(fs::is_symlink(folder / "below/real"));
  EXPECT_EQ(read(folder / "below/real"), "new");
}

TEST_F(OutputFile, ADanglingLinkCreatesItsTarget) {
  fs::create_symlink("target", folder / "link");
  ASSERT_TRUE(writeOutput(folder / "link", "new"));
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(read(folder / "target"), "new");
}

TEST_F(OutputFile, WhatCannotBeWrittenIsRefused) {
  fs::create_symlink("b", folder / "a");
  fs::create_symlink("a", folder / "b");
  fs::create_directory(folder / "below");
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (folder / "s").string().copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(::bind(socket, reinterpret_cast<sockaddr *>(&address), sizeof(address)), 0);
  for (auto [name, why] : {std::pair("a", "circle"), {"below", "folder"}, {"s", "socket"}}) {
    const Status status = writeOutput(folder / name, "x");
    ASSERT_FALSE(status) << name;
    EXPECT_EQ(status.error().kind, ErrorKind::Unusable);
    EXPECT_NE(status.error().line().find(why), std::string::npos) << status.error().line();
  }
  ::close(socket);
  const Status status = writeOutput(folder / "no" / "f", "x");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, ErrorKind::Failed);
  EXPECT_EQ(files(), 4u) << "something is left";
}

TEST_F(OutputFile, DevicesAreWrittenThrough) {
  ASSERT_TRUE(writeOutput("/dev/null", "x"));
  EXPECT_TRUE(S_ISCHR(statusOf("/dev/null").st_mode));
  const Status full = writeOutput("/dev/full", "x");
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().kind, ErrorKind::Failed);
  EXPECT_NE(full.error().why.find("No space left"), std::string::npos);
  if (::mknod((folder / "null").c_str(), S_IFCHR | 0666, makedev(1, 3)) != 0)
    GTEST_SKIP() << "only root can make devices";
  fs::create_symlink("null", folder / "link");
  ASSERT_TRUE(writeOutput(folder / "link", "x"));
  EXPECT_TRUE(S_ISCHR(statusOf(folder / "null").st_mode));
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
}

TEST_F(OutputFile, AFifoGetsTheBytesAndStays) {
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  const int pipe = ::open((folder / "pipe").c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(pipe, 0);
  const std::string bytes(1 << 20, 'x'); // more than it holds at once
  auto reader = std::async(std::launch::async, [&] {
    std::string got(bytes.size(), '\0');
    size_t count = 0;
    for (pollfd end{pipe, POLLIN, 0}; count < got.size() && ::poll(&end, 1, 10'000) == 1;)
      count += static_cast<size_t>(
          std::max<ssize_t>(::read(pipe, got.data() + count, got.size() - count), 0));
    return got.substr(0, count);
  });
  EXPECT_TRUE(writeOutput(folder / "pipe", bytes));
  EXPECT_TRUE(reader.get() == bytes);
  EXPECT_TRUE(S_ISFIFO(statusOf(folder / "pipe").st_mode));
  ::close(pipe);
}

TEST_F(OutputFile, AReaderThatHasGoneIsNoError) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  ::close(ends[0]);
  EXPECT_TRUE(writeOutput("/proc/self/fd/" + std::to_string(ends[1]), "x"));
  ::close(ends[1]);
}

TEST_F(OutputFile, ADescriptorOfAFileGoesOnWhereItIs) {
  put("f", "before ");
  const int file = ::open((folder / "f").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  ASSERT_GE(file, 0);
  const struct stat before = statusOf(folder / "f");
  ASSERT_TRUE(writeOutput("/dev/fd/" + std::to_string(file), "after"));
  ::close(file);
  EXPECT_EQ(statusOf(folder / "f").st_ino, before.st_ino);
  EXPECT_EQ(read(folder / "f"), "before after");
}

TEST_F(OutputFile, WhatIsReplaceable) {
  put("f", "x");
  fs::create_symlink("f", folder / "link");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_TRUE(isReplaceable(folder / "f"));
  EXPECT_TRUE(isReplaceable(folder / "link"));
  EXPECT_TRUE(isReplaceable(folder / "new"));
  EXPECT_FALSE(isReplaceable(folder / "pipe"));
  EXPECT_FALSE(isReplaceable("/dev/null"));
  EXPECT_FALSE(isReplaceable("/dev/stdout"));
}

} // namespace
