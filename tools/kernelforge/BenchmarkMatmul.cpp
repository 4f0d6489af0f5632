// benchmark-matmul: one matmul compiled, verified, timed, verified again; one measurement row.
#include "BlockOption.h"
#include "Commands.h"
#include "MatmulRun.h"

#include "kernelforge/measure/Timing.h"
#include "kernelforge/support/MappedFile.h"

#include <fmt/format.h>

#include <cstring>

using namespace kernelforge;
using namespace kernelforge::cli;

namespace {

struct BenchmarkOptions {
  MatmulProblem problem;
  std::string dtype = "f32", weights = "f32", variant = "generated", schedule, mode = "performance";
  TimingOptions timing;
};

} // namespace

/// --schedule: JSON, or @FILE.
static Expected<std::string> scheduleText(const std::string &option) {
  if (option.empty() || option[0] != '@')
    return option;
  return readFile(option.substr(1), "schedule is not usable", 64 << 10);
}

/// Runs once into a poisoned result and compares.
static Expected<Accuracy> verifyOnce(MatmulRun &run, const std::function<Status()> &call) {
  run.poison();
  KF_CHECK(call());
  return run.compare();
}

/// Whether runs into poisoned results give the same bits every time.
static Expected<bool> bitwiseEqual(MatmulRun &run, const std::function<Status()> &call) {
  const std::vector<float> first = run.result();
  for (int i = 0; i < 3; ++i) {
    run.poison();
    KF_CHECK(call());
    const std::vector<float> again = run.result();
    if (std::memcmp(first.data(), again.data(), first.size() * sizeof(float)) != 0)
      return false;
  }
  return true;
}

static Json accuracyJson(const Accuracy &a) {
  return {{"reference", "f64"},
          {"max_abs", a.maxAbs},
          {"max_rel", a.maxRel},
          {"l2_rel", a.l2Rel},
          {"cosine_diff", a.cosineDiff},
          {"nan", a.nan},
          {"poisoned_left", a.poisonedLeft},
          {"tolerance", a.tolerance},
          {"pass", a.pass}};
}

static Json rowJson(const BenchmarkOptions &options, const MatmulRun &run) {
  const MatmulProblem &p = options.problem;
  Json row = {{"name", p.name()},
              {"family", "matmul"},
              {"problem",
               {{"m", p.m},
                {"n", p.n},
                {"k", p.k},
                {"dtype", options.dtype},
                {"weights", info(p.weights).name},
                {"transpose", p.transpose}}},
              {"target", targetText(run.compiled().options().target)},
              {"variant", options.variant},
              {"mode", "warm"}};
  if (options.variant == "generated") {
    const Artifact &artifact = run.artifact();
    row.update({{"schedule", Json::parse(artifact.schedule)},
                {"schedule_source", artifact.scheduleSource},
                {"resources", {{"code_bytes", artifact.code.size()}}},
                {"code_hash", artifact.codeHash},
                {"from_cache", artifact.fromCache},
                {"compile_ms", artifact.compileSeconds * 1e3}});
  }
  return row;
}

static Expected<int> benchmark(BenchmarkOptions options, const Context &context) {
  KF_TRY(options.problem.weights, parseWeightType(options.weights));
  KF_TRY(std::string schedule, scheduleText(options.schedule));
  if (!schedule.empty() && options.variant != "generated")
    return unusable("wrong usage", "--schedule", "only the generated variant has a schedule");
  options.timing.cancel = interruptFlag();
  KF_TRY(std::unique_ptr<MatmulRun> run, MatmulRun::create(options.problem, schedule, context));
  const std::function<Status()> call = [&]() -> Status {
    if (options.variant == "generated")
      return run->runGenerated();
    run->runReferenceKernel();
    return {};
  };

  Json row = rowJson(options, *run);
  KF_TRY(Accuracy accuracy, verifyOnce(*run, call));
  bool right = accuracy.pass;
  std::string why = "the result differs from the reference";
  if (right && options.mode == "bitwise") {
    KF_TRY(right, bitwiseEqual(*run, call));
    why = "two runs differ in a bit";
  }
  if (right && options.mode == "performance") {
    KF_TRY(Timing timing, measureTime(call, options.timing));
    row.update({{"samples_ns", timing.samples},
                {"batch", timing.batch},
                {"median_ns", timing.median},
                {"mad_ns", timing.mad},
                {"gflops", options.problem.flops() / timing.median},
                {"gb_per_s", options.problem.bytes() / timing.median}});
    // A kernel may be right only once: look again.
    KF_TRY(accuracy, verifyOnce(*run, call));
    right = accuracy.pass;
  }
  row["accuracy"] = accuracyJson(accuracy);
  row["status"] = right ? "ok" : "wrong_result";
  if (context.json) {
    printJson(row);
  } else {
    print(fmt::format("{} {}: {}, max error {:.3g} of {:.3g}\n", options.problem.name(),
                      options.variant, right ? "ok" : "WRONG", accuracy.maxAbs,
                      accuracy.maxReference));
    if (row.contains("median_ns"))
      print(fmt::format("{:.1f} us +- {:.1f}, {:.1f} GFLOP/s, {:.1f} GB/s\n",
                        row["median_ns"].get<double>() / 1e3, row["mad_ns"].get<double>() / 1e3,
                        row["gflops"].get<double>(), row["gb_per_s"].get<double>()));
    if (row.contains("schedule"))
      print("schedule (" + row["schedule_source"].get<std::string>() + ") " +
            row["schedule"].dump() + "\n");
  }
  return right
             ? 0
             : report(Error{ErrorKind::No, "verification failed", options.problem.name(), why, ""},
                      false);
}

void cli::addBenchmarkMatmul(CLI::App &app, Context &context) {
  auto options = std::make_shared<BenchmarkOptions>();
  CLI::App &command = addCommand(app, context,
                                 {"benchmark-matmul", "compile, verify and time one matmul",
                                  "benchmark-matmul -m 512 -n 1536 -k 576 --weights q4_1 --json"},
                                 [options, &context] { return benchmark(*options, context); });
  addTargetOptions(command, context);
  addSeedOption(command, context);
  const auto dimension = CLI::Range(int64_t(1), int64_t(1) << 24);
  command.add_option("-m", options->problem.m, "rows of the input")->required()->check(dimension);
  command.add_option("-n", options->problem.n, "columns of the result")
      ->required()
      ->check(dimension);
  command.add_option("-k", options->problem.k, "columns of the input")
      ->required()
      ->check(dimension);
  command.add_option("--dtype", options->dtype, "type of input and result")
      ->check(CLI::IsMember({"f32"}))
      ->capture_default_str();
  command.add_option("--weights", options->weights, "type of the weight")->capture_default_str();
  command.add_flag("--transpose", options->problem.transpose, "the weight is [k, n]");
  command.add_option("--variant", options->variant, "generated or reference")
      ->check(CLI::IsMember({"generated", "reference"}))
      ->capture_default_str();
  command.add_option("--schedule", options->schedule, "a schedule as JSON, or @FILE");
  command.add_option("--mode", options->mode, "correctness, bitwise or performance")
      ->check(CLI::IsMember({"correctness", "bitwise", "performance"}))
      ->capture_default_str();
  command.add_option("--min-time", options->timing.minSeconds, "measure at least so many seconds")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  command.add_option("--rounds", options->timing.rounds, "take at least so many samples")
      ->check(CLI::Range(1, static_cast<int>(maxSamples)))
      ->capture_default_str();
  command.add_option("--warmup", options->timing.warmup, "calls before the first sample")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
}
