// Tuning a small kernel in real workers, with candidates that are broken on purpose.
#include "kernelforge/autotune/Tuner.h"

#include "kernelforge/codegen/cpu/LowerToLLVM.h"
#include "kernelforge/codegen/cpu/ObjectEmitter.h"
#include "kernelforge/compiler/GeneratedMatmul.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/ir/Hash.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <future>
#include <sched.h>
#include <sstream>
#include <sys/mount.h>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include "mlir/Parser/Parser.h"

using namespace kernelforge;
using testing::HasSubstr;
namespace fs = std::filesystem;

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
func.func @fault(%args: !llvm.ptr, %sizes: !llvm.ptr, %phase: i64, %task: i64, %s: !llvm.ptr) {
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

/// A strategy that proposes what it was given, in that order.
class ListStrategy : public Strategy {
public:
  explicit ListStrategy(std::vector<KnobValues> list) : list(std::move(list)) {}
  std::vector<KnobValues> ask(size_t) override {
    if (next == list.size())
      return {};
    return {list[next++]};
  }
  void tell(std::span<const Trial>) override {}

private:
  std::vector<KnobValues> list;
  size_t next = 0;
};

std::vector<pid_t> children() {
  std::vector<pid_t> found;
  for (const fs::directory_entry &entry : fs::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "stat");
    std::string line;
    const size_t end = std::getline(file, line) ? line.rfind(')') : std::string::npos;
    char state = 0;
    pid_t parent = 0;
    if (end != std::string::npos && std::istringstream(line.substr(end + 1)) >> state >> parent &&
        parent == getpid())
      found.push_back(std::stoi(entry.path().filename()));
  }
  return found;
}

class Tuner : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "kernelforge-tuner-XXXXXX").string();
    ASSERT_TRUE(mkdtemp(pattern.data()));
    folder = pattern;
    DialectRegistry registry;
    registerAllStages(registry);
    context = std::make_unique<mlir::MLIRContext>(registry, mlir::MLIRContext::Threading::DISABLED);
    context->loadAllAvailableDialects();
    options.worker.executable = KERNELFORGE_PROGRAM;
    options.worker.answerSeconds = 3;
    options.trials = 5;
    usualLogger = spdlog::default_logger();
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log)));
  }
  void TearDown() override {
    spdlog::set_default_logger(usualLogger);
    EXPECT_TRUE(children().empty()) << "a worker was left behind";
    fs::remove_all(folder);
  }

  using DialectRegistry = mlir::DialectRegistry;

  void make(int64_t m, int64_t n, int64_t k) {
    CpuTarget target = parseTarget("native", "").value();
    auto module = buildMatmulModule(context.get(), {m, n, k});
    ASSERT_TRUE(module) << module.error().line();
    Status fused = runToStage(**module, Stage::Fused, {target, 1, true, {}, {}});
    ASSERT_TRUE(fused) << fused.error().line();
    ProblemOptions problemOptions;
    problemOptions.target = target;
    for (auto kernel : (*module)->getOps<transformer::KernelOp>()) {
      auto created = KernelProblem::create(kernel, problemOptions);
      ASSERT_TRUE(created) << created.error().line();
      problem = std::move(*created);
    }
    ASSERT_TRUE(problem);
    elements = m * n;
  }

  /// The program with a launch of the fault after its own; of a stale one, in its place. Null where
  /// the fault cannot be compiled.
  std::shared_ptr<const Program> broken(std::shared_ptr<const Program> program,
                                        const std::string &kind) {
    auto module = mlir::parseSourceString<mlir::ModuleOp>(faults(elements).at(kind), context.get());
    EXPECT_TRUE(module);
    Status lowered = lowerToLLVM(*module);
    EXPECT_TRUE(lowered) << lowered.error().line();
    auto object = emitObject(*module, parseTarget("native", "").value(), "fault");
    if (!object) {
      ADD_FAILURE() << kind << ": " << object.error().line();
      return program;
    }
    auto changed = std::make_shared<Program>(*program);
    Artifact artifact;
    artifact.kernel = artifact.entry = "fault";
    artifact.code = *object;
    artifact.phases = {Phase{{Extent{1}}}};
    changed->artifacts.front().codeHash =
        sha256Hex(changed->artifacts.front().code + artifact.code);
    artifact.codeHash = sha256Hex(artifact.code);
    std::vector<int> buffers = changed->launches.front().buffers;
    buffers.resize(3);
    if (kind == "stale")
      changed->launches.clear();
    changed->launches.push_back({static_cast<int>(changed->artifacts.size()), buffers, {}, -1});
    changed->artifacts.push_back(std::move(artifact));
    return changed;
  }

  /// Schedules other than the analytic one, spread over the space.
  std::vector<KnobValues> others(size_t count) {
    std::vector<KnobValues> all = problem->space().legal(count + 1);
    std::erase(all, problem->space().analytic);
    all.resize(std::min(all.size(), count));
    EXPECT_EQ(all.size(), count);
    return all;
  }

  void propose(std::vector<KnobValues> list) {
    options.trials = static_cast<int>(list.size());
    options.strategies.add("list", [list](const ScheduleSpace &, const StrategyOptions &) {
      return std::make_unique<ListStrategy>(list);
    });
    options.strategy = "list";
  }

  TuneResult tune(const RecordStore &store) {
    auto result = tuneKernel(*problem, store, options);
    if (!result) {
      ADD_FAILURE() << result.error().line();
      return {};
    }
    return std::move(*result);
  }
  TuneResult tune() { return tune(RecordStore(folder / "records")); }

  std::vector<Record> records() { return RecordStore(folder / "records").load()->records; }

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

  fs::path folder;
  std::unique_ptr<mlir::MLIRContext> context;
  std::unique_ptr<KernelProblem> problem;
  int64_t elements = 0;
  TuneOptions options;
  std::ostringstream log;
  std::shared_ptr<spdlog::logger> usualLogger;
};

MATCHER_P(HasStatus, status, "") {
  *result_listener << statusName(arg.status) << ": " << arg.error;
  return arg.status == status;
}

TEST_F(Tuner, BrokenCandidatesBecomeRecordsAndNeverWin) {
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

TEST_F(Tuner, AStorePastAWholeNumberOfCacheLinesCrashes) {
  make(4, 32, 64); // 512 bytes: they end at a page that cannot be touched
  auto record = tuneBroken({"past the end", "before the begin", "tail"});
  EXPECT_THAT(record["past the end"], HasStatus(RecordStatus::Crash));
  EXPECT_THAT(record["before the begin"], HasStatus(RecordStatus::WrongResult));
  EXPECT_THAT(record["tail"], HasStatus(RecordStatus::WrongResult));
}

TEST_F(Tuner, AKilledWorkerIsReplacedAndItsCandidateMeasuredAgain) {
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

TEST_F(Tuner, AWorkerKilledAtWorkSaysNothingAgainstTheCandidate) {
  make(5, 40, 64);
  propose(others(3));
  options.worker.answerSeconds = 20;
  const std::string victim = knobsText(others(3)[1]);
  std::future<void> killer;
  options.tamper = [&](const KnobValues &knobs, std::shared_ptr<const Program> program) {
    if (knobsText(knobs) != victim)
      return program;
    killer = std::async(std::launch::async, [] {
      for (int i = 0; i < 3; ++i) { // as often as it is tried
        std::this_thread::sleep_for(std::chrono::seconds(1));
        for (pid_t child : children())
          kill(child, SIGTERM);
      }
    });
    return broken(program, "endless");
  };
  const TuneResult result = tune();
  killer.wait();
  EXPECT_EQ(result.failed, 1);
  for (const Record &record : records())
    EXPECT_THAT(record, HasStatus(record.schedule == victim ? RecordStatus::Unavailable
                                                            : RecordStatus::Ok));
}

TEST_F(Tuner, AnInterruptOfTheTerminalDoesNotReachTheWorker) {
  make(5, 40, 64);
  propose(others(3));
  options.tamper = [](const KnobValues &, std::shared_ptr<const Program> program) {
    for (pid_t child : children())
      kill(child, SIGINT);
    return program;
  };
  EXPECT_EQ(tune().failed, 0);
}

TEST_F(Tuner, TheMemoryOfAWorkerCanBeLimited) {
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

TEST_F(Tuner, AWorkerThatCannotBeStartedIsAnError) {
  make(5, 40, 64);
  for (const char *program : {"/nonexistent/kernelforge", "/bin/false", "/"}) {
    options.worker.executable = program;
    const auto result = tuneKernel(*problem, RecordStore(folder / "records"), options);
    ASSERT_FALSE(result);
    EXPECT_THAT(result.error().line(), HasSubstr("worker cannot be started"));
  }
}

TEST_F(Tuner, TheSameRecordsGiveTheSameProposalsAndChoice) {
  make(5, 40, 64);
  options.trials = 8;
  options.seed = 3;
  for (const std::string &strategy : defaultStrategies().names()) {
    options.strategy = strategy;
    const RecordStore store(folder / strategy);
    const TuneResult first = tune(store), second = tune(store);
    EXPECT_GE(first.measured, 8) << strategy;
    EXPECT_EQ(second.measured, 0) << strategy;
    EXPECT_EQ(second.trials, first.trials);
    EXPECT_EQ(second.proposals, first.proposals) << strategy;
    EXPECT_EQ(second.choice.record.schedule, first.choice.record.schedule) << strategy;
    EXPECT_EQ(second.choice.reason, first.choice.reason) << strategy;
    EXPECT_EQ(second.choice.record.created, first.choice.record.created) << strategy;
  }
}

TEST_F(Tuner, AnInterruptedSearchGoesOnWhereItWas) {
  make(5, 40, 64);
  options.trials = 8;
  options.seed = 5;
  options.strategy = "random";
  const TuneResult whole = tune(RecordStore(folder / "whole"));

  std::atomic<bool> stop = false;
  options.cancel = &stop;
  options.progress = [&](const TuneProgress &progress) { stop = progress.trial == 4; };
  const auto interrupted = tuneKernel(*problem, RecordStore(folder / "records"), options);
  ASSERT_FALSE(interrupted);
  EXPECT_EQ(interrupted.error().kind, ErrorKind::Interrupted);
  const size_t kept = records().size();
  EXPECT_GE(kept, 4u);

  stop = false;
  options.progress = nullptr;
  const TuneResult rest = tune();
  EXPECT_EQ(rest.proposals, whole.proposals);
  EXPECT_EQ(rest.measured + static_cast<int>(kept), whole.measured);
  const TuneResult again = tune();
  EXPECT_EQ(again.measured, 0);
  EXPECT_EQ(again.proposals, whole.proposals);
  EXPECT_EQ(again.choice.record.schedule, rest.choice.record.schedule);
}

TEST_F(Tuner, AnInterruptDuringTheFinaleIsOne) {
  make(5, 40, 64);
  std::atomic<bool> stop = false;
  options.cancel = &stop;
  options.progress = [&](const TuneProgress &p) { stop = p.trial == p.trials; };
  const auto interrupted = tuneKernel(*problem, RecordStore(folder / "records"), options);
  ASSERT_FALSE(interrupted);
  EXPECT_EQ(interrupted.error().kind, ErrorKind::Interrupted);
  const size_t kept = records().size();

  stop = false;
  options.progress = nullptr;
  EXPECT_EQ(tune().measured, 0);
  const size_t finalists = records().size() - kept;
  EXPECT_GE(finalists, 1u) << "the finale is made up for";
  tune();
  EXPECT_EQ(records().size(), kept + finalists) << "and only once";
}

TEST_F(Tuner, OtherVariantsAreMeasuredOnce) {
  make(5, 40, 64);
  options.trials = 2;
  options.otherVariants = true;
  const TuneResult result = tune();
  std::map<std::string, int> counts;
  bool vendor = false;
  for (const Record &record : records()) {
    ++counts[record.variant];
    EXPECT_THAT(record, HasStatus(RecordStatus::Ok));
    EXPECT_TRUE(record.accuracy && record.accuracy->pass) << record.variant;
    EXPECT_EQ(record.samplesNs.size(), record.baselineNs.size());
    EXPECT_EQ(record.key, problem->key());
    EXPECT_TRUE(record.baseline.starts_with("schedule {")) << record.baseline;
    vendor |= record.variant.starts_with("vendor:");
    EXPECT_TRUE(!vendor || record.vendorRatio || record.variant != "generated");
  }
  EXPECT_EQ(counts["reference"], 1);
  EXPECT_EQ(counts["blocked"], 1);
  EXPECT_EQ(counts["parallel"], 1);
  EXPECT_EQ(result.variants.size(), counts.size() - 1);
  EXPECT_EQ(result.choice.record.variant, "generated");

  const size_t kept = records().size();
  const TuneResult again = tune();
  EXPECT_EQ(records().size(), kept);
  EXPECT_EQ(again.variants.size(), result.variants.size());
}

TEST_F(Tuner, TimesOfOlderCodeDoNotCount) {
  make(5, 40, 64);
  propose(others(3));
  tune();
  // The same schedule, twice as fast by the code of an older compiler.
  const RecordStore old(folder / "old");
  for (Record record : records()) {
    record.codeHash = "older";
    record.created = "2020-01-01T00:00:00Z";
    for (double &sample : record.samplesNs)
      sample /= 2;
    record.ratio = *record.ratio / 2;
    ASSERT_TRUE(old.append(record));
  }
  const TuneResult result = tune(old);
  EXPECT_EQ(result.measured, 4) << "three and the baseline";
  EXPECT_NE(result.choice.record.codeHash, "older");
  EXPECT_EQ(tune(old).choice.record.codeHash, result.choice.record.codeHash);
}

TEST_F(Tuner, ABaselineThatOnceFailedIsTriedAgain) {
  make(5, 40, 64);
  propose(others(1));
  tune();
  const RecordStore busy(folder / "busy");
  for (Record record : records())
    if (record.schedule == knobsText(problem->space().analytic)) {
      record.status = RecordStatus::Timeout;
      ASSERT_TRUE(busy.append(record));
    }
  tune(busy);
}

TEST_F(Tuner, ADamagedStoreIsAWarning) {
  make(5, 40, 64);
  propose(others(3));
  tune();
  const fs::path file = folder / "records" / "records.jsonl";
  std::ifstream in(file, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(in), {});
  in.close();
  std::ofstream(file, std::ios::binary) << "garbage\n{}\n\xff\xfe\0\n"
                                        << text.substr(0, text.size() - 200);
  const TuneResult result = tune();
  EXPECT_THAT(log.str(), HasSubstr("torn or damaged lines"));
  EXPECT_EQ(result.trials, 3);
  log.str("");
  EXPECT_EQ(tune().measured, 0);
}

TEST_F(Tuner, AStoreThatCannotBeWrittenIsAWarning) {
  make(5, 40, 64);
  std::ofstream(folder / "file") << "x";
  const TuneResult result = tune(RecordStore(folder / "file" / "records"));
  EXPECT_EQ(result.trials, 5);
  EXPECT_FALSE(result.choice.record.schedule.empty());
  EXPECT_THAT(log.str(), HasSubstr("records cannot be"));
}

TEST_F(Tuner, FullAndReadOnlyDisksAreAWarning) {
  make(5, 40, 64);
  const fs::path disk = folder / "disk";
  fs::create_directory(disk);
  // In a name space of this thread's own.
  if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("none", disk.c_str(), "tmpfs", 0, "size=8k") != 0)
    GTEST_SKIP() << "a file system of our own cannot be mounted here";
  TuneResult result = tune(RecordStore(disk / "records"));
  EXPECT_EQ(result.trials, 5);
  EXPECT_THAT(log.str(), HasSubstr("No space left"));
  log.str("");
  EXPECT_EQ(mount("none", disk.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, "size=8k"), 0);
  result = tune(RecordStore(disk / "records"));
  EXPECT_EQ(result.trials, 5);
  EXPECT_THAT(log.str(), HasSubstr("Read-only file system"));
  EXPECT_EQ(umount(disk.c_str()), 0);
}

} // namespace
