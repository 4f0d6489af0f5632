// run: a program from a file, on the device that is here: runs, verifies and times it.
#include "Commands.h"
#include "FunctionCommand.h"
#include "NumberOptions.h"
#include "TensorFiles.h"

#include "kernelforge/measure/Timing.h"
#include "kernelforge/problem/ProgramRun.h"
#include "kernelforge/problem/Verification.h"
#include "kernelforge/support/MappedFile.h"

#include <fmt/format.h>

#include <algorithm>

using namespace kernelforge;
using namespace kernelforge::cli;

namespace {

struct RunProgramOptions {
  std::string file;
  ArrayOptions arrays;
  bool verify = true, bench = false;
};

} // namespace

static Expected<ProgramFile> readFileOf(const std::string &path) {
  KF_TRY(const MappedFile mapped, MappedFile::open(path, "program file is not usable"));
  const std::span<const std::byte> bytes = mapped.bytes();
  return readProgramFile({reinterpret_cast<const char *>(bytes.data()), bytes.size()}, path);
}

/// Kernels that the program launches, in the order of its artifacts.
static std::vector<KernelRow> listKernels(const Program &program) {
  std::vector<KernelRow> rows;
  for (size_t i = 0; i < program.artifacts.size(); ++i) {
    const auto launches =
        std::ranges::count(program.launches, static_cast<int>(i), &Launch::artifact);
    if (launches > 0)
      rows.push_back({"", &program.artifacts[i], static_cast<int>(launches), {}});
  }
  return rows;
}

/// Nanoseconds of whole runs by the device's clock, for half a second.
static Expected<std::vector<double>> timeRuns(ProgramRun &run) {
  std::vector<double> samples;
  KF_CHECK(untilHalfASecond([&]() -> Status {
    if (*interruptFlag())
      return makeError(ErrorKind::Interrupted, "interrupted", "run", "stopped by user");
    KF_TRY(const std::vector<double> more, run.time(1));
    samples.insert(samples.end(), more.begin(), more.end());
    return {};
  }));
  return samples;
}

static Expected<int> runProgram(const RunProgramOptions &options, const Context &context) {
  KF_TRY(ProgramFile file, readFileOf(options.file));
  DeviceOptions device = context.device;
  device.threads = context.threads;
  device.poison = !options.bench;
  KF_TRY(const std::unique_ptr<ProgramRun> run, ProgramRun::create(std::move(file), device));
  const FunctionSignature &signature = run->signature();
  FunctionData data;
  if (options.arrays.inputs.empty()) {
    KF_TRY(data, dataOf(run->file(), signature));
  } else {
    KF_TRY(data, dataFromFiles(signature, {}, options.arrays.inputs));
  }
  // What the file expects is of the inputs that it has.
  const bool isOwn = options.arrays.inputs.empty() && options.arrays.expected.empty();
  const bool verifies = options.verify && (isOwn || !options.arrays.expected.empty());
  std::vector<TensorData> expected;
  std::vector<double> tolerances;
  if (verifies && isOwn) {
    tolerances = run->file().tolerances;
    KF_TRY(expected, expectedOf(run->file(), signature, data));
  }
  KF_CHECK(run->bind(std::move(data)));
  KF_CHECK(run->run(interruptFlag()));
  std::vector<TensorComparison> comparisons;
  if (verifies) {
    KF_TRY(comparisons, verify(options.arrays, signature, run->data(), expected, tolerances));
  }
  KF_CHECK(writeOutputs(options.arrays, signature, run->data()));

  std::vector<KernelRow> rows = listKernels(run->program());
  std::vector<double> samples;
  if (options.bench) {
    KF_CHECK(timeKernels(run->program(), rows, [&] { return run->runTimed(interruptFlag()); }));
    KF_TRY(samples, timeRuns(*run));
  }

  const DeviceInfo &info = run->device();
  const char *against = isOwn ? "f64" : "expected";
  const auto passes = [](const TensorComparison &c) { return c.accuracy.pass; };
  if (context.json) {
    Json answer = {{"function", signature.name},
                   {"target", targetText(run->file().target)},
                   {"device", {{"name", info.name}, {"driver", info.driver}}},
                   {"made_by", run->file().madeBy},
                   {"sizes", run->data().sizes},
                   {"pass", verifies ? Json(std::ranges::all_of(comparisons, passes)) : Json()},
                   {"arena_bytes", run->program().arenaBytes},
                   {"kernels", kernelsJson(rows)},
                   {"accuracy", comparisonsJson(comparisons, against)}};
    if (!samples.empty()) {
      answer["run"] = {{"median_ns", median(samples)},
                       {"mad_ns", medianAbsoluteDeviation(samples)},
                       {"samples", samples.size()}};
      answer["software"] = info.software;
    }
    printJson(answer);
  } else {
    // A file's words are a stranger's.
    print(
        escapeControls(fmt::format("@{} for {} on {}, written by {}", signature.name,
                                   targetText(run->file().target), info.name, run->file().madeBy)) +
        "\n");
    printKernels(rows);
    printComparisons(comparisons, against);
    if (!verifies)
      print("not verified\n");
    if (!samples.empty()) {
      print(fmt::format("a whole run: {:.1f} us +- {:.1f}\n", median(samples) / 1e3,
                        medianAbsoluteDeviation(samples) / 1e3));
      if (info.software)
        print("not for timing: " + escapeControls(info.name) + " is emulated by the processor\n");
    }
  }
  return verdictOf(comparisons, signature.name, against);
}

void cli::addRun(CLI::App &app, Context &context) {
  auto options = std::make_shared<RunProgramOptions>();
  CLI::App &command =
      addCommand(app, context,
                 {"run", "run a program that `compile --emit program` wrote, and verify it",
                  "run decode.kfp --bench"},
                 [options, &context] { return runProgram(*options, context); });
  command
      .add_option("file", options->file,
                  "the program: code that runs as yours, so run those that you trust")
      ->required();
  addDeviceOptions(command, context);
  addThreadsOption(command, context);
  addArrayOptions(command, options->arrays);
  command.add_flag("--verify,!--no-verify", options->verify,
                   "compare with what the file expects, or with --expect (default)");
  command.add_flag("--bench", options->bench, "time each kernel, and whole runs");
}
