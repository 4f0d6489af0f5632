#include "kernelforge/compiler/ObjectCache.h"
#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/compiler/BuildId.h"
#include "kernelforge/ir/Hash.h"
#include "kernelforge/support/Log.h"

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <iterator>
#include <sstream>
#include <sys/resource.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include <spdlog/logger.h>
#include <spdlog/sinks/ostream_sink.h>

using namespace kernelforge;
using testing::HasSubstr;
namespace fs = std::filesystem;

namespace {

ObjectKey someKey() {
  return {"hash", R"({"mr":4})", "packed<4>", "cpu x86_64 znver4 +a,-b", "build", "19.1.7"};
}

Artifact someArtifact() {
  Artifact artifact;
  artifact.kernel = "qkv";
  artifact.entry = "k_0123";
  artifact.code = std::string("\x7f"
                              "ELF\0\n\xff code",
                              11);
  artifact.codeHash = sha256Hex(artifact.code);
  artifact.schedule = R"({"mr":4})";
  artifact.scheduleSource = "analytic";
  artifact.sizeNames = {"tokens", "length"};
  artifact.launching.workspaces = {{.bytes = {256, 1, 16}}};
  artifact.launching.phases = {{.entry = "k_0123", .grid = {3, 0, 4}, .scratchBytes = 4096},
                               {.entry = "k_0123"}};
  return artifact;
}

class Cache : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "kernelforge-cache-XXXXXX").string();
    ASSERT_TRUE(mkdtemp(pattern.data()));
    root = pattern;
    auto logger = std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log));
    logger->set_pattern("%l: %v");
    before = setLogger(logger);
  }
  void TearDown() override {
    setLogger(before);
    fs::remove_all(root);
  }

  int warnings() const {
    std::string text = log.str();
    int count = 0;
    for (size_t at = text.find("warning: "); at != std::string::npos;
         at = text.find("warning: ", at + 1))
      ++count;
    return count;
  }
  static std::string read(const fs::path &file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static void write(const fs::path &file, const std::string &bytes) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
  }

  fs::path root;
  std::ostringstream log;
  std::shared_ptr<spdlog::logger> before;
};

TEST_F(Cache, GivesBackWhatWasStored) {
  ObjectCache cache = ObjectCache::open(root / "a" / "objects");
  ASSERT_TRUE(cache.enabled());
  EXPECT_FALSE(cache.find(someKey()));
  cache.store(someKey(), someArtifact());
  auto found = ObjectCache::open(root / "a" / "objects").find(someKey());
  ASSERT_TRUE(found) << log.str();
  Artifact expected = someArtifact();
  EXPECT_EQ(found->code, expected.code);
  EXPECT_EQ(found->codeHash, expected.codeHash);
  EXPECT_EQ(found->entry, expected.entry);
  EXPECT_EQ(found->schedule, expected.schedule);
  EXPECT_EQ(found->sizeNames, expected.sizeNames);
  EXPECT_EQ(found->launching, expected.launching);
  EXPECT_TRUE(found->fromCache);
  EXPECT_EQ(warnings(), 0) << log.str();
  struct stat status;
  ASSERT_EQ(stat((root / "a" / "objects").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
}

TEST_F(Cache, ALibraryCallIsAnArtifactLikeAnyOther) {
  Artifact call = someArtifact();
  call.variant = "blocked";
  call.code = call.codeHash = "";
  call.launching = {};
  call.library = LibraryCall{.problem = {.m = 8, .n = 16, .k = 32},
                             .rowsSize = 0,
                             .input = 2,
                             .weight = 3,
                             .sizes = 2,
                             .arguments = 4};
  const ObjectCache cache = ObjectCache::open(root / "objects");
  cache.store(someKey(), call);
  const auto found = cache.find(someKey());
  ASSERT_TRUE(found) << log.str();
  EXPECT_EQ(found->library, call.library);
  EXPECT_EQ(found->variant, call.variant);
}

TEST_F(Cache, EveryFieldOfTheKeyCounts) {
  ObjectCache cache = ObjectCache::open(root / "objects");
  cache.store(someKey(), someArtifact());
  std::string ObjectKey::*fields[] = {
      &ObjectKey::kernelHash, &ObjectKey::schedule,  &ObjectKey::layouts, &ObjectKey::target,
      &ObjectKey::buildId,    &ObjectKey::llvmBuild, &ObjectKey::driver};
  for (auto field : fields) {
    ObjectKey other = someKey();
    other.*field += "x";
    EXPECT_FALSE(cache.find(other)) << other.text();
    // Even where the name of the file says otherwise, the key in it is what counts.
    fs::copy_file(cache.entryPath(someKey()), cache.entryPath(other));
    EXPECT_FALSE(cache.find(other)) << other.text();
    EXPECT_THAT(log.str(), HasSubstr("its key differs in "));
  }
  ObjectKey moved = someKey(); // what one field loses, its neighbour has
  moved.layouts = "packed<4>\ntarget 26 cpu x86_64 znver4 +a,-b";
  EXPECT_NE(moved.text(), someKey().text());
}

TEST_F(Cache, StaleBuildIsAMissThatSaysSo) {
  ObjectCache cache = ObjectCache::open(root / "objects");
  cache.store(someKey(), someArtifact());
  ObjectKey newer = someKey();
  newer.buildId = "newer";
  fs::rename(cache.entryPath(someKey()), cache.entryPath(newer));
  EXPECT_FALSE(cache.find(newer));
  EXPECT_THAT(log.str(), HasSubstr("its key differs in build"));
}

TEST_F(Cache, AnyDamageIsAMiss) {
  ObjectCache cache = ObjectCache::open(root / "objects");
  cache.store(someKey(), someArtifact());
  fs::path file = cache.entryPath(someKey());
  std::string whole = read(file);
  ASSERT_TRUE(cache.find(someKey()));
  // Steps that meet every part of an entry, at all places of a word.
  for (size_t i = 0; i < whole.size(); i += 3) {
    std::string bad = whole;
    bad[i] ^= 1;
    write(file, bad);
    EXPECT_FALSE(cache.find(someKey())) << "byte " << i;
  }
  for (size_t length = 0; length < whole.size(); length += 3) {
    write(file, whole.substr(0, length));
    EXPECT_FALSE(cache.find(someKey())) << "cut to " << length;
  }
  write(file, whole + "x");
  EXPECT_FALSE(cache.find(someKey()));
  EXPECT_EQ(warnings(), 0);
  // A damaged entry is replaced by the next store.
  cache.store(someKey(), someArtifact());
  EXPECT_TRUE(cache.find(someKey()));
}

TEST_F(Cache, WrongFactsUnderARightChecksumAreAMiss) {
  ObjectCache cache = ObjectCache::open(root / "objects");
  cache.store(someKey(), someArtifact());
  fs::path file = cache.entryPath(someKey());
  std::string text = read(file);
  size_t begin = text.find("\nfacts ") + 1, line = text.find('\n', begin) + 1;
  size_t end = text.find("\ncode ", line);
  for (std::string facts : {"{}", "[]", "nonsense", R"({"entry":1})"}) {
    std::string bad = text.substr(0, begin) + "facts " + std::to_string(facts.size()) + " " +
                      sha256Hex(facts) + "\n" + facts + text.substr(end);
    write(file, bad);
    EXPECT_FALSE(cache.find(someKey())) << facts;
  }
}

TEST_F(Cache, EntriesThatAreNoFilesOfOursAreMisses) {
  ObjectCache cache = ObjectCache::open(root / "objects");
  cache.store(someKey(), someArtifact());
  fs::path file = cache.entryPath(someKey());
  ASSERT_EQ(chmod(file.c_str(), 0666), 0);
  EXPECT_FALSE(cache.find(someKey()));
  EXPECT_THAT(log.str(), HasSubstr("others may write"));
  ASSERT_EQ(chmod(file.c_str(), 0600), 0);
  EXPECT_TRUE(cache.find(someKey()));
  fs::rename(file, root / "elsewhere");
  fs::create_symlink(root / "elsewhere", file);
  EXPECT_FALSE(cache.find(someKey()));
  fs::remove(file);
  ASSERT_EQ(mkfifo(file.c_str(), 0600), 0);
  EXPECT_FALSE(cache.find(someKey())) << "and does not wait for a writer";
  fs::remove(file);
  fs::create_directory(file);
  EXPECT_FALSE(cache.find(someKey()));
}

TEST_F(Cache, FolderThatOthersMayWriteToIsIgnored) {
  fs::create_directory(root / "objects");
  for (mode_t mode : {0770, 0707, 0777}) {
    ASSERT_EQ(chmod((root / "objects").c_str(), mode), 0);
    ObjectCache cache = ObjectCache::open(root / "objects");
    EXPECT_FALSE(cache.enabled());
    cache.store(someKey(), someArtifact());
    EXPECT_FALSE(cache.find(someKey()));
    EXPECT_TRUE(fs::is_empty(root / "objects"));
  }
  EXPECT_EQ(warnings(), 3);
  if (geteuid() == 0) { // only root may give a folder away
    ASSERT_EQ(chmod((root / "objects").c_str(), 0700), 0);
    ASSERT_EQ(chown((root / "objects").c_str(), 12345, 12345), 0);
    EXPECT_FALSE(ObjectCache::open(root / "objects").enabled());
    EXPECT_THAT(log.str(), HasSubstr("another user"));
  }
}

TEST_F(Cache, FolderThatCannotBeMadeIsIgnored) {
  write(root / "file", "");
  EXPECT_FALSE(ObjectCache::open(root / "file").enabled());
  EXPECT_FALSE(ObjectCache::open(root / "file" / "objects").enabled());
  EXPECT_FALSE(ObjectCache::open("/proc/objects").enabled());
  EXPECT_EQ(warnings(), 3) << log.str();
}

TEST_F(Cache, FullDiskWarnsOnce) {
  ObjectCache cache = ObjectCache::open(root / "objects");
  Artifact large = someArtifact();
  large.code.resize(100000);
  rlimit usual;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &usual), 0);
  auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit tight{4096, usual.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  cache.store(someKey(), large);
  cache.store(someKey(), large);
  setrlimit(RLIMIT_FSIZE, &usual);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(warnings(), 1) << log.str();
  EXPECT_FALSE(cache.find(someKey()));
  EXPECT_TRUE(fs::is_empty(root / "objects"));
}

TEST_F(Cache, VanishedFolderWarnsOnce) {
  ObjectCache cache = ObjectCache::open(root / "objects");
  fs::remove_all(root / "objects");
  cache.store(someKey(), someArtifact());
  cache.store(someKey(), someArtifact());
  EXPECT_FALSE(cache.find(someKey()));
  EXPECT_EQ(warnings(), 1) << log.str();
}

TEST_F(Cache, DisabledHasNothingAndKeepsNothing) {
  ObjectCache cache = ObjectCache::disabled();
  cache.store(someKey(), someArtifact());
  EXPECT_FALSE(cache.find(someKey()));
  EXPECT_FALSE(cache.enabled());
  EXPECT_EQ(log.str(), "");
}

TEST_F(Cache, WritersOfOneEntryDoNotHurtEachOther) {
  ObjectCache cache = ObjectCache::open(root / "objects");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int repeat = 0; repeat < 10; ++repeat) {
        cache.store(someKey(), someArtifact());
        EXPECT_TRUE(cache.find(someKey()));
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(std::distance(fs::directory_iterator(root / "objects"), fs::directory_iterator()), 1);
}

TEST(BuildId, ThisProgramHasOne) {
  auto id = buildId();
  ASSERT_TRUE(id) << "linked without --build-id";
  EXPECT_GE(id->size(), 16u);
  EXPECT_EQ(id->find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_THAT(llvmBuild(), HasSubstr("19."));
  EXPECT_THAT(llvmBuild(), HasSubstr("libLLVM:"));
  EXPECT_THAT(llvmBuild(), testing::Not(HasSubstr(": ")));
}

TEST(ObjectKey, NamesTheRunningCompiler) {
  auto target = parseTarget("avx512", "+avx512vnni").value();
  auto key = makeObjectKey("h", "s", "l", target);
  ASSERT_TRUE(key);
  EXPECT_EQ(key->buildId, *buildId());
  EXPECT_THAT(key->text(), HasSubstr("+avx512vnni"));
}

TEST(ObjectKey, CodeThatADriverFinishesIsAnyDriversOfAnyDevice) {
  Target target;
  target.kind = "webgpu";
  const std::string before = makeObjectKey("h", "s", "l", target)->text();
  target.device = "some GPU, driver 1.2";
  const auto key = makeObjectKey("h", "s", "l", target);
  EXPECT_EQ(key->text(), before);
  EXPECT_EQ(key->driver, "");
}

TEST(Hash, IsSha256) {
  EXPECT_EQ(sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

} // namespace
