// compile: runs the compiler on a textual module; prints its kernels, runs, verifies and times it.
#include "Commands.h"
#include "ModuleText.h"
#include "Rows.h"
#include "TensorFiles.h"

#include "kernelforge/backend/Device.h"
#include "kernelforge/compiler/FunctionRun.h"
#include "kernelforge/compiler/KernelCompiler.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/ProgramBuilder.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/measure/AccuracyJson.h"
#include "kernelforge/measure/Timing.h"
#include "kernelforge/support/MappedFile.h"
#include "kernelforge/support/Numbers.h"
#include "kernelforge/support/Paths.h"

#include <fmt/format.h>

#include <chrono>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cli;
using namespace kernelforge::transformer;

namespace {

struct CompileOptions {
  std::string file, function, dumpFolder;
  std::vector<std::string> inputs, outputs, expected, sizes;
  bool run = false, bench = false, noFuse = false;

  bool runs() const {
    return run || bench || !inputs.empty() || !outputs.empty() || !expected.empty() ||
           !sizes.empty();
  }
};

/// One compared tensor: a result, or a cache that was written.
struct TensorComparison {
  std::string name;
  Accuracy accuracy;
};

/// What is printed of one kernel.
struct KernelRow {
  std::string family;
  const Artifact *artifact = nullptr;
  int launches = 0;
  std::vector<double> nanoseconds; ///< one call, by --bench
};

} // namespace

/// --size NAME=N, as values.
static Expected<SizeValues> parseSizes(const std::vector<std::string> &texts) {
  SizeValues sizes;
  for (const std::string &text : texts) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0)
      return unusable("wrong usage", "--size " + text, "it is no NAME=N");
    const auto value = parseInteger<int64_t>(text.substr(equals + 1), 0, int64_t(1) << 40);
    if (!value)
      return unusable("wrong usage", "--size " + text, value.error());
    if (!sizes.emplace(text.substr(0, equals), *value).second)
      return unusable("wrong usage", "--size " + text, "that size is given twice");
  }
  return sizes;
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

/// Kernels in the order of the module: all, or those that `function` launches.
static std::vector<KernelRow> listKernels(ModuleOp module, const std::vector<Artifact> &artifacts,
                                          func::FuncOp only) {
  std::map<std::string, int> launches;
  auto count = [&](func::FuncOp function) {
    function.walk([&](LaunchOp launch) { ++launches[launch.getKernel().str()]; });
  };
  if (only)
    count(only);
  else
    for (auto function : module.getOps<func::FuncOp>())
      count(function);
  std::vector<KernelRow> rows;
  for (const Artifact &artifact : artifacts)
    if (!only || launches.count(artifact.kernel))
      rows.push_back({module.lookupSymbol<KernelOp>(artifact.kernel).getFamily().str(),
                      &artifact,
                      launches[artifact.kernel],
                      {}});
  return rows;
}

static Json kernelJson(const KernelRow &row) {
  const Artifact &artifact = *row.artifact;
  Json json = {{"name", artifact.kernel},
               {"family", row.family},
               {"launches", row.launches},
               {"variant", artifact.variant},
               {"schedule", Json::parse(artifact.schedule)},
               {"schedule_source", artifact.scheduleSource},
               {"phases", artifact.launching.phases.size()},
               {"from_cache", artifact.fromCache},
               {"compile_ms", artifact.compileSeconds * 1e3},
               {"code_hash", artifact.codeHash},
               {"resources", {{"code_bytes", artifact.code.size()}}}};
  if (!row.nanoseconds.empty())
    json.update({{"median_ns", median(row.nanoseconds)},
                 {"mad_ns", medianAbsoluteDeviation(row.nanoseconds)},
                 {"samples", row.nanoseconds.size()}});
  return json;
}

static void printKernels(const std::vector<KernelRow> &rows) {
  if (rows.empty())
    print("no kernels: nothing is computed\n");
  for (const KernelRow &row : rows) {
    std::string line =
        fmt::format("{:<28} {:<9} x{:<4} {:<11} {}", row.artifact->kernel, row.family, row.launches,
                    row.artifact->scheduleSource,
                    row.artifact->host ? row.artifact->variant : row.artifact->schedule);
    if (!row.nanoseconds.empty())
      line += fmt::format("  {:.1f} us +- {:.1f}", median(row.nanoseconds) / 1e3,
                          medianAbsoluteDeviation(row.nanoseconds) / 1e3);
    print(line + "\n");
  }
}

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

/// Times each kernel within runs of the whole function, until half a second is over.
static Status benchKernels(FunctionRun &run, const Program &program, std::vector<KernelRow> &rows) {
  std::vector<int64_t> nanoseconds;
  RunOptions options;
  options.launchNanoseconds = &nanoseconds;
  options.cancel = interruptFlag();
  KF_CHECK(run.run(options));
  const auto start = std::chrono::steady_clock::now();
  for (int round = 0; round < 1000; ++round) {
    const auto spent = std::chrono::steady_clock::now() - start;
    if (round >= 10 && spent > std::chrono::milliseconds(500))
      break;
    KF_CHECK(run.run(options));
    for (size_t i = 0; i < program.launches.size(); ++i)
      for (KernelRow &row : rows)
        if (row.artifact->kernel == program.artifacts[program.launches[i].artifact].kernel)
          row.nanoseconds.push_back(static_cast<double>(nanoseconds[i]));
  }
  return {};
}

static Json comparisonJson(const TensorComparison &comparison, const char *reference) {
  Json json = accuracyJson(comparison.accuracy, reference);
  json["name"] = comparison.name;
  return json;
}

/// Verifies against the reference semantics, or against the files that the user expects.
static Expected<std::vector<TensorComparison>> verify(const CompileOptions &options,
                                                      const FunctionSignature &signature,
                                                      const FunctionData &data,
                                                      const std::vector<TensorData> &reference) {
  const std::vector<const TensorData *> outputs = outputsOf(signature, data);
  if (!options.expected.empty() && options.expected.size() != outputs.size())
    return unusable("wrong usage", "--expect",
                    fmt::format("@{} gives {} arrays (results, then written caches), {} are given",
                                signature.name, outputs.size(), options.expected.size()));
  std::vector<TensorComparison> comparisons;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const bool cache = i >= data.results.size();
    std::vector<float> expected;
    if (options.expected.empty()) {
      expected = reference[i].toFloats();
    } else {
      KF_TRY(expected, readExpected(options.expected[i], *outputs[i], cache));
    }
    comparisons.push_back({outputs[i]->name, compareValues(outputs[i]->toFloats(), expected,
                                                           toleranceOf(outputs[i]->type))});
  }
  return comparisons;
}

static Status writeOutputs(const CompileOptions &options, const FunctionSignature &signature,
                           const FunctionData &data) {
  const std::vector<const TensorData *> outputs = outputsOf(signature, data);
  if (options.outputs.empty())
    return {};
  if (options.outputs.size() > outputs.size() || options.outputs.size() < data.results.size())
    return unusable("wrong usage", "--output",
                    fmt::format("@{} gives {} results and {} written caches, {} files are named",
                                signature.name, data.results.size(),
                                outputs.size() - data.results.size(), options.outputs.size()));
  for (size_t i = 0; i < options.outputs.size(); ++i)
    KF_CHECK(writeTensor(options.outputs[i], *outputs[i], i >= data.results.size()));
  return {};
}

/// Sizes that the user did not give: what a run took is not to be guessed.
static void printChosenSizes(const FunctionSignature &signature, const SizeValues &given,
                             const SizeValues &taken) {
  for (const ProgramSize &size : signature.sizes)
    if (!given.count(size.name))
      print(fmt::format("size {} = {}, chosen from {} to {} (--size {}=N)\n", size.name,
                        taken.at(size.name), size.min, size.max, size.name));
}

/// The module to compile. A schedule that it has is kept, whatever it once came from.
static Expected<OwningOpRef<ModuleOp>> openModule(MLIRContext *context, const std::string &file) {
  KF_TRY(OwningOpRef<ModuleOp> module, parseRunnableModule(context, file));
  for (auto kernel : module->getOps<KernelOp>())
    if (kernel.getScheduleSource()) {
      kernel.setScheduleSource("pinned");
      kernel.setScheduleReason("written in the module");
    }
  return module;
}

/// Compiles, runs, verifies; adds to `answer` and prints.
static Expected<int> compileAndRun(const CompileOptions &options, const Context &context) {
  KF_TRY(SessionOptions sessionOptions, requestedSession(context));
  sessionOptions.fuse = !options.noFuse;
  sessionOptions.dumpFolder = options.dumpFolder;
  sessionOptions.poison = !options.bench;
  KF_TRY(std::unique_ptr<Session> session, Session::create(sessionOptions));
  KF_TRY(OwningOpRef<ModuleOp> module, openModule(&session->context(), options.file));
  KF_TRY(func::FuncOp function, findFunction(*module, options.function));
  KF_TRY(FunctionSignature signature, readSignature(function));
  if (signature.results.empty() &&
      llvm::none_of(signature.arguments, [](const FunctionArgument &a) { return a.written; }))
    return unusable("function cannot be run", "@" + signature.name,
                    "it gives no result and writes no cache", "return what it computes");
  KF_TRY(const SizeValues given, parseSizes(options.sizes));
  FunctionData data;
  if (options.inputs.empty()) {
    KF_TRY(SizeValues sizes, chooseSizes(signature, given));
    KF_TRY(data, randomData(signature, sizes, context.seed));
  } else {
    KF_TRY(data, dataFromFiles(signature, given, options.inputs));
  }

  OwningOpRef<ModuleOp> original = module->clone();
  KF_CHECK(session->compile(std::move(module)));
  std::vector<TensorData> reference;
  if (options.expected.empty()) {
    KF_TRY(reference, runReference(*original, signature, data));
  }
  KF_TRY(FunctionRun run, FunctionRun::create(*session, signature, data));
  run.poisonResults();
  KF_CHECK(run.run());
  KF_TRY(std::vector<TensorComparison> comparisons, verify(options, signature, data, reference));
  KF_CHECK(writeOutputs(options, signature, data));
  bool pass = true;
  for (const TensorComparison &comparison : comparisons)
    pass &= comparison.accuracy.pass;

  const Program &program = *session->program(signature.name);
  auto compiled = session->module().lookupSymbol<func::FuncOp>(signature.name);
  std::vector<KernelRow> rows = listKernels(session->module(), program.artifacts, compiled);
  if (options.bench)
    KF_CHECK(benchKernels(run, program, rows));

  const DeviceInfo &device = session->device().info();
  const char *against = options.expected.empty() ? "f64" : "expected";
  if (context.json) {
    Json answer = {{"function", signature.name},
                   {"sizes", data.sizes},
                   {"pass", pass},
                   {"arena_bytes", program.arenaBytes},
                   {"kernels", Json::array()}};
    if (options.bench)
      answer["software"] = device.software;
    for (const KernelRow &row : rows)
      answer["kernels"].push_back(kernelJson(row));
    for (const TensorComparison &comparison : comparisons)
      answer["accuracy"].push_back(comparisonJson(comparison, against));
    printJson(answer);
  } else {
    printKernels(rows);
    if (options.bench && device.software)
      print("not for timing: " + escapeControls(device.name) + " is emulated by the processor\n");
    if (options.inputs.empty())
      printChosenSizes(signature, given, data.sizes);
    for (const TensorComparison &comparison : comparisons)
      print(fmt::format("{}: {} against {}: max error {:.3g} of {:.3g} (tolerance {:g}), {}\n",
                        comparison.name, comparison.accuracy.pass ? "ok" : "WRONG", against,
                        comparison.accuracy.maxAbs, comparison.accuracy.maxReference,
                        comparison.accuracy.tolerance, notNumbersText(comparison.accuracy)));
  }
  return pass ? 0
              : report(Error{ErrorKind::No, "verification failed", "@" + signature.name,
                             std::string("a result differs from ") + against, ""},
                       false);
}

/// Compiles without running: for any target that code can be generated for.
static Expected<int> compileOnly(const CompileOptions &options, const Context &context) {
  PipelineOptions pipeline;
  KF_TRY(pipeline.target, requestedTarget(context));
  pipeline.threads = requestedThreads(context);
  pipeline.fuse = !options.noFuse;
  pipeline.dumpFolder = options.dumpFolder;
  pipeline.records = requestedRecords(context);
  DialectRegistry registry;
  registerAllStages(registry);
  MLIRContext mlirContext(registry);
  mlirContext.loadAllAvailableDialects();
  KF_TRY(OwningOpRef<ModuleOp> module, openModule(&mlirContext, options.file));
  KF_CHECK(runToStage(*module, Stage::Scheduled, pipeline));
  ObjectCache cache = ObjectCache::disabled();
  if (!context.noCache) {
    KF_TRY(std::filesystem::path folder, objectsDirectory());
    cache = ObjectCache::open(folder);
  }
  KF_TRY(std::vector<Artifact> artifacts, compileKernels(*module, pipeline.target, cache));
  func::FuncOp only;
  if (!options.function.empty()) {
    KF_TRY(only, findFunction(*module, options.function));
  }
  // What a run would refuse is refused now.
  const std::vector<func::FuncOp> functions = programFunctions(*module);
  for (func::FuncOp function : functions) {
    KF_TRY(Program program, buildProgram(function, artifacts, pipeline.target.limits));
    KF_CHECK(checkProgram(program));
  }
  if (artifacts.empty() && functions.empty())
    return unusable("module cannot be compiled", "module",
                    "it has neither a kernel nor a function that gives a result or writes a cache",
                    "return what the function computes");
  std::vector<KernelRow> rows = listKernels(*module, artifacts, only);
  if (context.json) {
    Json answer = {{"target", targetText(pipeline.target)}, {"kernels", Json::array()}};
    for (const KernelRow &row : rows)
      answer["kernels"].push_back(kernelJson(row));
    printJson(answer);
  } else {
    printKernels(rows);
  }
  return 0;
}

void cli::addCompile(CLI::App &app, Context &context) {
  auto options = std::make_shared<CompileOptions>();
  CLI::App &command = addCommand(
      app, context,
      {"compile", "compile a textual module, run it and verify it",
       "compile block.mlir --function decode --run --size context=128"},
      [options, &app, &context]() -> Expected<int> {
        const CLI::App &self = *app.get_subcommand("compile");
        if (self.get_option("--seed")->count() > 0 &&
            (!options->runs() || !options->inputs.empty()))
          return unusable("wrong usage", "--seed", "it is of use with a run on random input only",
                          "leave it out");
        return options->runs() ? compileAndRun(*options, context) : compileOnly(*options, context);
      });
  addTargetOptions(command, context);
  addSeedOption(command, context);
  command.add_option("file", options->file, "a module at any stage (- reads standard input)")
      ->required();
  command.add_option("--function", options->function, "the function to compile or run");
  command.add_flag("--run", options->run,
                   "run on random input and verify the results (options that need a run imply it)");
  command
      .add_option("--input", options->inputs,
                  "a .npy file for each tensor or cache argument, in order")
      ->allow_extra_args(false);
  command
      .add_option("--output", options->outputs,
                  "write each result, then each written cache, to a .npy file")
      ->allow_extra_args(false);
  command
      .add_option("--expect", options->expected,
                  "check each result and written cache against a .npy file")
      ->allow_extra_args(false);
  command.add_option("--size", options->sizes, "value of a dynamic size: NAME=N")
      ->allow_extra_args(false);
  command.add_flag("--bench", options->bench, "time each kernel");
  command.add_flag("--no-fuse", options->noFuse, "every operation is a kernel of its own");
  command.add_option("--dump-passes", options->dumpFolder,
                     "write the module after each pass that changed it into this folder");
}
