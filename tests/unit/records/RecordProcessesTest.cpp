// One folder, many processes, some of them killed; limits of the system. Every child ends by _exit
// or a signal, never by returning into the test.
#include "Records.h"

#include "kernelforge/records/RecordStore.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <map>
#include <random>
#include <sched.h>
#include <set>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace kernelforge;
namespace fs = std::filesystem;

namespace {

using Processes = FolderTest;

/// Runs `body` in a child; its return value is the child's exit status.
template <typename Body> pid_t inChild(Body body) {
  const pid_t child = fork();
  if (child == 0)
    _exit(body());
  EXPECT_GT(child, 0);
  return child;
}

/// Exit status of a child; -1 where a signal ended it.
int waitFor(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR)
    ;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::multiset<int64_t> trials(const RecordLog &log) {
  std::multiset<int64_t> trials;
  for (const Record &record : log.records)
    trials.insert(record.trial);
  return trials;
}

constexpr int writers = 8, each = 200;

/// Appends records `writer * each` and up, and says after each on `done` how far it is.
int appendAll(const RecordStore &store, int writer, int done) {
  for (int i = 0; i < each; ++i) {
    if (!store.append(recordOf(writer * each + i)))
      return 1;
    const char byte = 1;
    if (write(done, &byte, 1) != 1)
      return 2;
  }
  return 0;
}

TEST_F(Processes, EightWritersOfWhichOneIsKilledAgainAndAgain) {
  const RecordStore store(folder / "records");
  // The victim is started anew after each kill, with numbers of its own.
  std::vector<pid_t> children;
  std::vector<std::pair<int, int>> pipes; // first record, reading end
  auto start = [&](int writer) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    const pid_t child = inChild([&] { return appendAll(store, writer, ends[1]); });
    close(ends[1]);
    pipes.emplace_back(writer * each, ends[0]);
    return child;
  };
  for (int writer = 0; writer + 1 < writers; ++writer)
    children.push_back(start(writer));
  std::mt19937 random(std::random_device{}());
  int killed = 0;
  for (int victim = writers - 1; victim < writers + 29; ++victim) {
    const pid_t child = start(victim);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 40'000));
    kill(child, SIGKILL);
    killed += waitFor(child) == -1;
  }
  for (pid_t child : children)
    EXPECT_EQ(waitFor(child), 0);
  EXPECT_GT(killed, 0);

  Expected<RecordLog> log = store.load();
  ASSERT_TRUE(log) << log.error().line();
  const std::multiset<int64_t> found = trials(*log);
  for (const auto &[first, end] : pipes) {
    // A pipe holds more than 200 bytes: what was said is all there.
    char bytes[each];
    ssize_t said = 0;
    for (ssize_t got = 0; (got = ::read(end, bytes + said, each - said)) > 0;)
      said += got;
    close(end);
    for (int i = 0; i < said; ++i)
      EXPECT_EQ(found.count(first + i), 1u) << "record " << first + i << " is lost";
    if (first < (writers - 1) * each) {
      EXPECT_EQ(said, each);
    }
    // The killed one may have got one more line out than it could say.
    for (int i = static_cast<int>(said) + 1; i < each; ++i)
      EXPECT_EQ(found.count(first + i), 0u);
  }
  EXPECT_LE(log->tornLines, static_cast<uint64_t>(killed));
  EXPECT_EQ(log->foreignLines, 0u);
}

TEST_F(Processes, PruneLosesNothingOfAppenders) {
  const RecordStore store(folder / "records");
  constexpr int appenders = 3, records = 150;
  std::vector<pid_t> children;
  for (int writer = 0; writer < appenders; ++writer)
    children.push_back(inChild([&] {
      for (int i = 0; i < records; ++i)
        if (!store.append(recordOf(writer * records + i)))
          return 1;
      return 0;
    }));
  // Removes every third record while more come; a reader looks on.
  std::atomic<bool> stop = false;
  int prunes = 0;
  uint64_t removed = 0;
  auto third = [](const Record &record) { return record.trial % 3 == 0; };
  std::thread pruner([&] {
    while (!stop) {
      Expected<PruneCounts> counts = store.prune(third);
      ASSERT_TRUE(counts) << counts.error().line();
      EXPECT_EQ(counts->damaged, 0u);
      removed += counts->removed;
      ++prunes;
      Expected<RecordLog> log = store.load();
      ASSERT_TRUE(log) << log.error().line();
    }
  });
  for (pid_t child : children)
    EXPECT_EQ(waitFor(child), 0);
  stop = true;
  pruner.join();
  EXPECT_GT(prunes, 1);
  Expected<PruneCounts> last = store.prune(third);
  ASSERT_TRUE(last) << last.error().line();
  EXPECT_EQ(removed + last->removed, appenders * records / 3u);

  const std::multiset<int64_t> found = trials(*store.load());
  for (int trial = 0; trial < appenders * records; ++trial)
    EXPECT_EQ(found.count(trial), trial % 3 == 0 ? 0u : 1u) << trial;
  EXPECT_EQ(store.load()->tornLines, 0u);
}

TEST_F(Processes, ThreadsOfOneProcessExcludeEachOther) {
  const RecordStore store(folder / "records");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 25; ++i)
        EXPECT_TRUE(store.append(recordOf(t * 25 + i)));
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(trials(*store.load()).size(), 100u);
  EXPECT_EQ(store.load()->tornLines, 0u);
}

TEST_F(Processes, LockGoesWithTheKilledProcess) {
  const RecordStore store(folder / "records");
  ASSERT_TRUE(store.append(recordOf(1)));
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = inChild([&] {
    // Never comes back from under the lock.
    return static_cast<int>(!store.prune([&](const Record &) {
      (void)!::write(ready[1], "x", 1);
      for (;;)
        pause();
      return true;
    }));
  });
  char byte;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  kill(child, SIGKILL);
  EXPECT_EQ(waitFor(child), -1);
  close(ready[0]);
  close(ready[1]);
  EXPECT_TRUE(store.append(recordOf(2)));
  EXPECT_EQ(trials(*store.load()), (std::multiset<int64_t>{1, 2}));
}

TEST_F(Processes, ChildForkedUnderTheLockDoesNotKeepIt) {
  const RecordStore store(folder / "records");
  ASSERT_TRUE(store.append(recordOf(1)));
  EXPECT_EQ(waitFor(inChild([&] {
              alarm(20); // instead of waiting for ever
              pid_t holder = -1;
              if (!store.prune([&](const Record &) {
                    holder = inChild([] {
                      alarm(30);
                      return pause();
                    });
                    return false;
                  }))
                return 1;
              const bool appended = store.append(recordOf(2)).has_value();
              kill(holder, SIGKILL);
              waitFor(holder);
              return appended ? 0 : 2;
            })),
            0);
}

TEST_F(Processes, ReadOnlyFolderIsAnErrorAndStillRead) {
  const RecordStore store(folder / "records");
  ASSERT_TRUE(store.append(recordOf(1)));
  ASSERT_EQ(chmod(folder.c_str(), 0755), 0);
  ASSERT_EQ(chmod(store.logFile().c_str(), 0444), 0);
  ASSERT_EQ(chmod((store.folder() / "records.lock").c_str(), 0444), 0);
  ASSERT_EQ(chmod(store.folder().c_str(), 0555), 0);
  const int code = waitFor(inChild([&] {
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) // root may write anywhere
      return 1;
    const RecordStore none(folder / "new");
    for (const Status &status :
         {store.append(recordOf(2)), store.writable(), none.append(recordOf(2)), none.writable()})
      if (status || status.error().kind != ErrorKind::Failed ||
          status.error().line().find("ermission denied") == std::string::npos)
        return 2;
    if (store.prune([](const Record &) { return true; }))
      return 3;
    Expected<RecordLog> log = store.load();
    if (!log || log->records.size() != 1)
      return 4;
    Expected<BestTable> best = store.best(); // cannot be published
    return best && best->size() == 1 ? 0 : 5;
  }));
  chmod(store.folder().c_str(), 0755);
  if (geteuid() != 0)
    chmod(folder.c_str(), 0755);
  EXPECT_EQ(code, 0);
}

TEST_F(Processes, LimitOfTheFileSizeTakesThePartialLineBack) {
  const RecordStore store(folder / "records");
  ASSERT_TRUE(store.append(recordOf(1)));
  const std::string before = read(store.logFile());
  const int code = waitFor(inChild([&] {
    signal(SIGXFSZ, SIG_IGN);
    // Room for half a line.
    const rlimit tight{before.size() * 3 / 2, before.size() * 3 / 2};
    if (setrlimit(RLIMIT_FSIZE, &tight) != 0)
      return 1;
    Status status = store.append(recordOf(2));
    return !status && status.error().kind == ErrorKind::Failed &&
                   status.error().why.find("writing") != std::string::npos
               ? 0
               : 2;
  }));
  EXPECT_EQ(code, 0);
  EXPECT_EQ(read(store.logFile()), before);
  ASSERT_TRUE(store.append(recordOf(3)));
  EXPECT_EQ(trials(*store.load()), (std::multiset<int64_t>{1, 3}));
}

TEST_F(Processes, FullDiskTakesThePartialLineBack) {
  constexpr int noMount = 77;
  const int code = waitFor(inChild([&] {
    // A file system of 32 KiB in a name space of our own: it goes with the child.
    if (unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", folder.c_str(), "tmpfs", 0, "size=32k") != 0)
      return noMount;
    const RecordStore store(folder / "records");
    int kept = 0;
    Status status;
    while (kept < 100 && (status = store.append(recordOf(kept))))
      ++kept;
    if (status || status.error().line().find("No space left") == std::string::npos)
      return 1;
    const auto whole = [&] {
      Expected<RecordLog> log = store.load();
      return log && static_cast<int>(log->records.size()) == kept && log->tornLines == 0;
    };
    if (kept < 5 || !whole() || !read(store.logFile()).ends_with("\n"))
      return 2;
    if (store.prune([](const Record &record) { return record.trial == 0; }) || !whole())
      return 3;        // no room for the copy: all is as before
    if (!store.best()) // not published, but found
      return 4;
    return 0;
  }));
  if (code == noMount)
    GTEST_SKIP() << "a file system of our own cannot be mounted here";
  EXPECT_EQ(code, 0);
}

TEST_F(Processes, TwentyThousandRecordsLoad) {
  const RecordStore store(folder / "records");
  ASSERT_TRUE(store.writable());
  std::string text;
  constexpr int count = 20'000;
  for (int i = 0; i < count; ++i) {
    Record record = recordOf(i);
    record.key.kernelHash = std::to_string(i % 500);
    record.schedule = "{\"mr\":" + std::to_string(i / 500) + "}";
    text += *recordLine(record) + "\n";
  }
  write(store.logFile(), text);
  auto seconds = [](auto call) {
    const auto start = std::chrono::steady_clock::now();
    call();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  RecordProperty("load_s", std::to_string(seconds(
                               [&] { EXPECT_EQ(store.load()->records.size(), size_t(count)); })));
  RecordProperty("derive_s",
                 std::to_string(seconds([&] { EXPECT_EQ(store.best()->size(), 500u); })));
  const double fresh = seconds([&] { EXPECT_EQ(store.best()->size(), 500u); });
  RecordProperty("table_s", std::to_string(fresh));
  RecordProperty("winners_s",
                 std::to_string(seconds([&] { EXPECT_EQ(store.best()->records().size(), 500u); })));
}

} // namespace
