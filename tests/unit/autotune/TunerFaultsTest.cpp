// Candidates that are broken on purpose, and workers that are killed or cannot be started.
#include "TunerFixture.h"

#include <atomic>
#include <csignal>
#include <future>
#include <thread>

#include <fmt/format.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

/// Under AddressSanitizer a worker reports its fault and exits, instead of dying of a signal.
#if defined(__has_feature) && __has_feature(address_sanitizer)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

/// A kernel that runs after a candidate's own, on its buffers: %x, %w and %y (of `count` elements)
/// are the input, the weight and the result.
std::string faultText(const std::string &body, const std::string &globals = "") {
  return globals + R"(
func.func @added(%args: !llvm.ptr, %sizes: !llvm.ptr, %phase: i64, %task: i64, %s: !llvm.ptr) {
  %p2 = llvm.getelementptr %args[2] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
  %x = llvm.load %args : !llvm.ptr -> !llvm.ptr
  %y = llvm.load %p2 : !llvm.ptr -> !llvm.ptr
  %two = arith.constant 2.0 : f32
)" + body +
         "\n}\n";
}

std::string storeAt(int64_t element, const std::string &value = "%two") {
  return fmt::format("  %at = llvm.getelementptr %y[{}] : (!llvm.ptr) -> !llvm.ptr, f32\n"
                     "  llvm.store {}, %at : f32, !llvm.ptr\n",
                     element, value);
}

/// The kinds of broken code, for a result of `count` elements.
std::map<std::string, std::string> faults(int64_t count) {
  const std::string end = "  return";
  return {{"segfault", faultText(R"(
  %a = arith.constant 8 : i64
  %p = llvm.inttoptr %a : i64 to !llvm.ptr
  llvm.store volatile %two, %p : f32, !llvm.ptr
  return)")},
          {"endless", faultText(R"(
  cf.br ^again
^again:
  %v = llvm.load volatile %args : !llvm.ptr -> !llvm.ptr
  cf.br ^again)")},
          {"past the end", faultText(storeAt(count) + end)},
          {"before the begin", faultText(storeAt(-1) + end)},
          {"stale", faultText(end)},
          {"tail", faultText(storeAt(count - 1) + end)},
          {"nan", faultText("  %nan = arith.constant 0x7FC00000 : f32\n" +
                            storeAt(count / 2, "%nan") + end)},
          {"input", faultText("  llvm.store %two, %x : f32, !llvm.ptr\n" + end)},
          {"later", faultText(R"(
  %counter = llvm.mlir.addressof @counter : !llvm.ptr
  %before = llvm.load %counter : !llvm.ptr -> i32
  %one = arith.constant 1 : i32
  %after = arith.addi %before, %one : i32
  llvm.store %after, %counter : i32, !llvm.ptr
  %again = arith.cmpi sge, %before, %one : i32
  cf.cond_br %again, ^wrong, ^right
^wrong:
)" + storeAt(0) + R"(
  cf.br ^right
^right:
  return)",
                              "llvm.mlir.global internal @counter(0 : i32) : i32\n")}};
}

/// Kills each worker that is at work. A worker that only starts, or waits for work, uses less of
/// the processor than one that is within an endless kernel.
class KillerOfBusyWorkers {
public:
  /// Looks at all workers, and kills those that have used a second since they were first seen.
  void look() {
    for (pid_t child : children()) {
      const double used = processorSeconds(child);
      if (used - firstSeen.try_emplace(child, used).first->second > 1)
        kill(child, SIGTERM);
    }
  }

private:
  /// All threads of a process together; 0 where it is gone.
  static double processorSeconds(pid_t process) {
    std::ifstream file(fmt::format("/proc/{}/stat", process));
    std::string line, skipped;
    std::getline(file, line);
    std::istringstream fields(line.substr(std::min(line.rfind(')'), line.size())));
    for (int field = 2; field < 14; ++field) // the name's end to the last before `utime`
      fields >> skipped;
    double user = 0, system = 0;
    fields >> user >> system;
    return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
  }

  std::map<pid_t, double> firstSeen;
};

class TunerFaults : public TunerFixture {
protected:
  /// The program with a launch of the fault after its own; of a stale one, in its place.
  std::shared_ptr<const Program> broken(std::shared_ptr<const Program> program,
                                        const std::string &kind) {
    return withKernel(std::move(program), faults(elements).at(kind), kind == "stale");
  }

  /// Tunes one candidate of each kind between good ones; the records of the broken ones by kind.
  std::map<std::string, Record> tuneBroken(const std::vector<std::string> &kinds) {
    std::vector<KnobValues> schedules = others(2 * kinds.size() + 1), list;
    std::map<std::string, std::string> kindOf; // by schedule
    for (size_t i = 0; i < schedules.size(); ++i)
      if (i % 2 == 1)
        kindOf[knobsText(schedules[i])] = kinds[i / 2];
    propose(schedules);
    options.tamper = [this, kindOf](const KnobValues &knobs, std::shared_ptr<const Program> p) {
      auto kind = kindOf.find(knobsText(knobs));
      return kind == kindOf.end() ? p : broken(p, kind->second);
    };
    const TuneResult result = tune();
    EXPECT_EQ(result.trials, static_cast<int>(schedules.size()));
    EXPECT_EQ(result.failed, static_cast<int>(kinds.size()));
    EXPECT_FALSE(kindOf.contains(result.choice.record.schedule));
    std::map<std::string, Record> byKind;
    for (const Record &record : records())
      if (auto kind = kindOf.find(record.schedule); kind != kindOf.end())
        byKind[kind->second] = record;
      else
        EXPECT_EQ(record.status, RecordStatus::Ok) << record.schedule << ": " << record.error;
    EXPECT_EQ(byKind.size(), kinds.size());

    // The records alone say the same, and nothing broken runs again.
    const TuneResult again = tune();
    EXPECT_EQ(again.measured, 0);
    EXPECT_EQ(again.failed, result.failed);
    EXPECT_EQ(again.choice.record.schedule, result.choice.record.schedule);
    return byKind;
  }
};

TEST_F(TunerFaults, BrokenCandidatesBecomeRecordsAndNeverWin) {
  make(5, 40, 64); // 800 bytes: not a whole number of cache lines
  auto record = tuneBroken({"segfault", "endless", "past the end", "before the begin", "stale",
                            "tail", "nan", "input", "later"});
  EXPECT_THAT(record["segfault"], HasStatus(RecordStatus::Crash));
  EXPECT_THAT(record["segfault"].error, HasSubstr(sanitized ? "ended with code" : "signal 11"));
  EXPECT_THAT(record["endless"], HasStatus(RecordStatus::Timeout));
  EXPECT_THAT(record["past the end"], HasStatus(RecordStatus::WrongResult));
  EXPECT_EQ(record["past the end"].error, "bytes beside an output were written");
  EXPECT_THAT(record["before the begin"], HasStatus(RecordStatus::WrongResult));
  EXPECT_EQ(record["before the begin"].error, "bytes beside an output were written");
  EXPECT_THAT(record["stale"], HasStatus(RecordStatus::WrongResult));
  EXPECT_EQ(record["stale"].error, "outputs were left unwritten");
  EXPECT_THAT(record["tail"], HasStatus(RecordStatus::WrongResult));
  EXPECT_EQ(record["tail"].error, "the result differs from the reference");
  EXPECT_THAT(record["nan"], HasStatus(RecordStatus::WrongResult));
  EXPECT_EQ(record["nan"].error, "the result has NaN where the reference has none");
  EXPECT_THAT(record["input"], HasStatus(RecordStatus::Crash));
  EXPECT_THAT(record["later"], HasStatus(RecordStatus::WrongResult));
  EXPECT_FALSE(record["later"].samplesNs.empty()) << "it was right at first";
}

TEST_F(TunerFaults, AStorePastAWholeNumberOfCacheLinesCrashes) {
  make(4, 32, 64); // 512 bytes: they end at a page that cannot be touched
  auto record = tuneBroken({"past the end", "before the begin", "tail"});
  EXPECT_THAT(record["past the end"], HasStatus(RecordStatus::Crash));
  EXPECT_THAT(record["before the begin"], HasStatus(RecordStatus::WrongResult));
  EXPECT_THAT(record["tail"], HasStatus(RecordStatus::WrongResult));
}

TEST_F(TunerFaults, WorkersHaveAName) {
  make(5, 40, 64);
  propose(others(1));
  std::set<std::string> names;
  options.tamper = [&](const KnobValues &, std::shared_ptr<const Program> program) {
    for (pid_t child : children()) { // while it waits for work
      std::string name;
      std::ifstream file("/proc/" + std::to_string(child) + "/comm");
      if (std::getline(file, name))
        names.insert(name);
    }
    return program;
  };
  tune();
  EXPECT_EQ(names, std::set<std::string>{"kf-tune-worker"});
}

TEST_F(TunerFaults, AKilledWorkerIsReplacedAndItsCandidateMeasuredAgain) {
  make(5, 40, 64);
  propose(others(4));
  options.tamper = [](const KnobValues &, std::shared_ptr<const Program> program) {
    for (pid_t child : children()) // while it waits for work
      kill(child, SIGKILL);
    return program;
  };
  const TuneResult result = tune();
  EXPECT_EQ(result.failed, 0);
  for (const Record &record : records())
    EXPECT_THAT(record, HasStatus(RecordStatus::Ok));
}

TEST_F(TunerFaults, AWorkerKilledAtWorkSaysNothingAgainstTheCandidate) {
  make(5, 40, 64);
  propose(others(3));
  options.worker.answerSeconds = 60;
  const std::string victim = knobsText(others(3)[1]);
  std::future<void> killer;
  std::atomic<bool> over = false;
  options.tamper = [&](const KnobValues &knobs, std::shared_ptr<const Program> program) {
    if (knobsText(knobs) != victim)
      return program;
    killer = std::async(std::launch::async, [&over] {
      KillerOfBusyWorkers killer;
      while (!over) { // as often as it is tried
        killer.look();
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    });
    return broken(program, "endless");
  };
  const TuneResult result = tune();
  over = true;
  killer.wait();
  EXPECT_EQ(result.failed, 1);
  for (const Record &record : records())
    EXPECT_THAT(record, HasStatus(record.schedule == victim ? RecordStatus::Unavailable
                                                            : RecordStatus::Ok));
}

TEST_F(TunerFaults, AnInterruptOfTheTerminalDoesNotReachTheWorker) {
  make(5, 40, 64);
  propose(others(3));
  options.tamper = [](const KnobValues &, std::shared_ptr<const Program> program) {
    for (pid_t child : children())
      kill(child, SIGINT);
    return program;
  };
  EXPECT_EQ(tune().failed, 0);
}

TEST_F(TunerFaults, TheMemoryOfAWorkerCanBeLimited) {
  if (sanitized)
    GTEST_SKIP() << "the sanitizer needs terabytes of addresses";
  make(5, 40, 64);
  options.worker.memoryBytes = uint64_t(4) << 30;
  EXPECT_EQ(tune().failed, 0);
  options.worker.memoryBytes = 1 << 20;
  const auto result = tuneKernel(*problem, RecordStore(folder / "other"), options);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::Failed);
}

TEST_F(TunerFaults, AWorkerThatCannotBeStartedIsAnError) {
  make(5, 40, 64);
  for (const char *program : {"/nonexistent/kernelforge", "/bin/false", "/"}) {
    options.worker.executable = program;
    const auto result = tuneKernel(*problem, RecordStore(folder / "records"), options);
    ASSERT_FALSE(result);
    EXPECT_THAT(result.error().line(), HasSubstr("worker cannot be started"));
  }
}

} // namespace
