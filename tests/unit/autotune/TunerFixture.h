// A small kernel, a store of its own, and tuning it in real workers.
#pragma once

#include "kernelforge/autotune/Tuner.h"
#include "kernelforge/codegen/cpu/Target.h"

#include "kernelforge/codegen/LowerToLLVM.h"
#include "kernelforge/codegen/cpu/ObjectEmitter.h"
#include "kernelforge/compiler/MatmulModule.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/ir/Hash.h"
#include "kernelforge/support/Log.h"

#include "mlir/Parser/Parser.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/ostream_sink.h>

namespace kernelforge {

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

/// The processes that this one started.
inline std::vector<pid_t> children() {
  std::vector<pid_t> found;
  for (const std::filesystem::directory_entry &entry :
       std::filesystem::directory_iterator("/proc")) {
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

class TunerFixture : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "kernelforge-tuner-XXXXXX").string();
    ASSERT_TRUE(mkdtemp(pattern.data()));
    folder = pattern;
    DialectRegistry registry;
    registerAllStages(registry);
    context = std::make_unique<mlir::MLIRContext>(registry, mlir::MLIRContext::Threading::DISABLED);
    context->loadAllAvailableDialects();
    options.worker.executable = KERNELFORGE_PROGRAM;
    options.worker.answerSeconds = 3;
    options.trials = 5;
    usualLogger = setLogger(std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log)));
  }
  void TearDown() override {
    setLogger(usualLogger);
    EXPECT_TRUE(children().empty()) << "a worker was left behind";
    std::filesystem::remove_all(folder);
  }

  using DialectRegistry = mlir::DialectRegistry;

  /// A matmul by itself.
  std::unique_ptr<KernelProblem> problemOf(int64_t m, int64_t n, int64_t k,
                                           int64_t streamBytes = 0) {
    Target target = parseTarget("native", "").value();
    auto module = buildMatmulModule(context.get(), {m, n, k});
    EXPECT_TRUE(module) << module.error().line();
    Status fused = runToStage(**module, Stage::Fused, {target, 1, true, {}, {}});
    EXPECT_TRUE(fused) << fused.error().line();
    ProblemOptions problemOptions;
    problemOptions.target = target;
    problemOptions.streamBytes = streamBytes;
    auto kernel = *(*module)->getOps<transformer::KernelOp>().begin();
    auto created = KernelProblem::create(kernel, problemOptions);
    EXPECT_TRUE(created) << created.error().line();
    return std::move(*created);
  }

  void make(int64_t m, int64_t n, int64_t k) {
    problem = problemOf(m, n, k);
    elements = m * n;
  }

  /// Leaves records of another matmul in a store.
  void tuneAnother(const RecordStore &store, int64_t m) {
    const std::unique_ptr<KernelProblem> other = problemOf(m, 48, 64);
    TuneOptions few;
    few.worker = options.worker;
    few.strategy = "random";
    few.trials = 4;
    const auto result = tuneKernel(*other, store, few);
    EXPECT_TRUE(result) << result.error().line();
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

  /// The program with a launch more, of the function @added in `text`, on the buffers of the first;
  /// or with nothing else. As it was where that cannot be compiled, a failure of the test.
  std::shared_ptr<const Program> withKernel(std::shared_ptr<const Program> program,
                                            const std::string &text, bool alone) {
    auto module = mlir::parseSourceString<mlir::ModuleOp>(text, context.get());
    EXPECT_TRUE(module);
    Status lowered = lowerToLLVM(*module);
    EXPECT_TRUE(lowered) << lowered.error().line();
    auto object = emitObject(*module, parseTarget("native", "").value(), "added");
    if (!object) {
      ADD_FAILURE() << text << object.error().line();
      return program;
    }
    auto changed = std::make_shared<Program>(*program);
    Artifact artifact;
    artifact.kernel = artifact.entry = "added";
    artifact.code = *object;
    artifact.launching.phases = {{.entry = "added"}};
    changed->artifacts.front().codeHash =
        sha256Hex(changed->artifacts.front().code + artifact.code);
    artifact.codeHash = sha256Hex(artifact.code);
    std::vector<int> buffers = changed->launches.front().buffers;
    buffers.resize(3);
    if (alone)
      changed->launches.clear();
    changed->launches.push_back({static_cast<int>(changed->artifacts.size()), buffers, {}, -1});
    changed->artifacts.push_back(std::move(artifact));
    return changed;
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
  std::filesystem::path folder;
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

} // namespace kernelforge
