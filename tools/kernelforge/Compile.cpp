// compile: runs the compiler on a textual module; prints its kernels, runs, verifies and times it.
#include "Commands.h"
#include "FunctionCommand.h"
#include "ModuleText.h"
#include "NumericsOption.h"
#include "TensorFiles.h"
#include "Usage.h"

#include "kernelforge/backend/Device.h"
#include "kernelforge/compiler/KernelCompiler.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/ProgramBuilder.h"
#include "kernelforge/ir/Numerics.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/measure/Statistics.h"
#include "kernelforge/problem/DeviceCeilings.h"
#include "kernelforge/problem/FunctionRun.h"
#include "kernelforge/problem/ProgramFile.h"
#include "kernelforge/support/MappedFile.h"
#include "kernelforge/support/OutputFile.h"
#include "kernelforge/support/Paths.h"

#include <fmt/format.h>

#include <algorithm>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cli;
using namespace kernelforge::transformer;

namespace {

struct CompileOptions {
  std::string file, function, dumpFolder, emit, emitTo, numerics = "exact";
  ArrayOptions arrays;
  std::vector<std::string> sizes;
  bool run = false, bench = false, noFuse = false;

  bool runs() const { return run || bench || arrays.any() || !sizes.empty(); }
};

} // namespace

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

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

/// Sizes that the user did not give: what a run took is not to be guessed.
static void printChosenSizes(const FunctionSignature &signature, const SizeValues &given,
                             const SizeValues &taken) {
  for (const ProgramSize &size : signature.sizes)
    if (!given.count(size.name))
      print(fmt::format("size {} = {}, chosen from {} to {} (--size {}=N)\n", size.name,
                        taken.at(size.name), size.min, size.max, size.name));
}

/// A schedule that the module has is kept, whatever it once came from.
static void pinSchedules(ModuleOp module) {
  for (auto kernel : module.getOps<KernelOp>())
    if (kernel.getScheduleSource()) {
      kernel.setScheduleSource("pinned");
      kernel.setScheduleReason("written in the module");
    }
}

/// Unusable where a run of the function would show nothing.
static Status checkGives(const FunctionSignature &signature) {
  if (!signature.results.empty() ||
      llvm::any_of(signature.arguments, [](const FunctionArgument &a) { return a.written; }))
    return {};
  return unusable("function cannot be run", "@" + signature.name,
                  "it gives no result and writes no cache", "return what it computes");
}

/// Gives operations that do not say what they multiply in what the user asked for.
static Status applyNumerics(ModuleOp module, const CompileOptions &options,
                            const Context &context) {
  KF_TRY(const ChosenNumerics numerics, requestedNumerics(options.numerics, context));
  return setNumerics(module, numerics);
}

/// What the function is run on: the user's arrays, or random values.
static Expected<FunctionData> requestedData(const CompileOptions &options,
                                            const FunctionSignature &signature,
                                            const SizeValues &given, uint64_t seed) {
  if (!options.arrays.inputs.empty())
    return dataFromFiles(signature, given, options.arrays.inputs);
  KF_TRY(const SizeValues sizes, chooseSizes(signature, given));
  return randomData(signature, sizes, seed);
}

/// The share of the roofline that a kernel demands.
static std::optional<double> demandedRoofline(ModuleOp module, const Artifact &artifact) {
  const DemandsAttr demands = module.lookupSymbol<KernelOp>(artifact.kernel).getDemandsAttr();
  return demands ? demands.minRoofline() : std::nullopt;
}

/// Times each kernel within runs of the whole function.
static Status benchKernels(FunctionRun &run, const Program &program, std::vector<KernelRow> &rows) {
  return timeKernels(program, rows, [&]() -> Expected<std::vector<int64_t>> {
    std::vector<int64_t> nanoseconds;
    RunOptions options;
    options.launchNanoseconds = &nanoseconds;
    options.cancel = interruptFlag();
    KF_CHECK(run.run(options));
    return nanoseconds;
  });
}

/// The least time that the launches of an artifact can take together, in seconds, and the bytes
/// that one of them moves at most. `sizes` are the function's. Unusable where nobody knows what a
/// launch computes.
static Expected<double> leastSeconds(const Program &program, const Artifact &artifact,
                                     std::span<const int64_t> sizes,
                                     const std::function<Expected<KernelCeilings>(int64_t)> &now) {
  if (!artifact.cost.isWhole)
    return unusable("demand cannot be judged", "@" + artifact.kernel + ", min_roofline",
                    "its work depends on lengths that no size bounds",
                    "name a size that bounds them: cached = \"...\"");
  std::map<std::vector<int64_t>, double> known; // the ceilings belong to what is moved
  double sum = 0;
  for (const Launch &launch : program.launches) {
    if (&program.artifacts[launch.artifact] != &artifact)
      continue;
    std::vector<int64_t> own;
    for (int size : launch.sizes)
      own.push_back(sizes[size]);
    auto found = known.find(own);
    if (found == known.end()) {
      const double bytes = artifact.cost.bytes(own.data());
      KF_TRY(const KernelCeilings ceilings, now(static_cast<int64_t>(bytes)));
      if (!ceilings.areKnown())
        return missing("demand cannot be judged", "@" + artifact.kernel + ", min_roofline",
                       "the device's ceilings are not known");
      found =
          known.emplace(own, ceilings.leastSeconds(artifact.cost.flops(own.data()), bytes)).first;
    }
    sum += found->second;
  }
  return sum;
}

/// Sets the share of the roofline that timed kernels reach which demand one. Missing where the
/// device is not for timing.
static Status measureRooflines(const Context &context, Session &session, const Program &program,
                               std::span<const int64_t> sizes, std::vector<KernelRow> &rows) {
  std::unique_ptr<DeviceCeilings> device;
  for (KernelRow &row : rows) {
    const std::optional<double> demanded = demandedRoofline(session.module(), *row.artifact);
    if (!demanded || row.nanoseconds.empty())
      continue;
    const DeviceInfo &info = session.device().info();
    if (info.software)
      return missing("demand cannot be judged", "@" + row.artifact->kernel + ", min_roofline",
                     info.name + " is emulated by the processor");
    if (info.hasOwnClock() && !device) {
      KF_TRY(SessionOptions options, requestedSession(context));
      KF_TRY(device, DeviceCeilings::create(std::move(options)));
    }
    KF_TRY(const double least, leastSeconds(program, *row.artifact, sizes, [&](int64_t bytes) {
             return kernelCeilings(device.get(), bytes, requestedThreads(context), interruptFlag(),
                                   row.artifact->cost.numerics);
           }));
    const double each = median(row.nanoseconds) * 1e-9;
    row.roofline = least / (each * row.launches);
  }
  return {};
}

/// The answer of a run: 0 where every timed kernel reaches the share of the roofline that it
/// demands, else the exit code of the failure, which is said on standard error.
static int rooflineVerdict(ModuleOp module, const std::vector<KernelRow> &rows) {
  for (const KernelRow &row : rows)
    if (const std::optional<double> demanded = demandedRoofline(module, *row.artifact);
        demanded && row.roofline && *row.roofline < *demanded)
      return report(
          Error{ErrorKind::No, "kernel does not keep to its demands",
                "@" + row.artifact->kernel + ", min_roofline",
                fmt::format("a launch takes {:.3g} us, {:.1f} % of what the roofline allows, and "
                            "{:.1f} % are demanded",
                            median(row.nanoseconds) / 1e3, *row.roofline * 100, *demanded * 100),
                "tune it, or demand less"},
          false);
  return 0;
}

/// Compiles, runs, verifies; adds to `answer` and prints.
static Expected<int> compileAndRun(const CompileOptions &options, const Context &context) {
  KF_TRY(SessionOptions sessionOptions, requestedSession(context));
  sessionOptions.fuse = !options.noFuse;
  sessionOptions.dumpFolder = options.dumpFolder;
  sessionOptions.poison = !options.bench;
  KF_TRY(std::unique_ptr<Session> session, Session::create(sessionOptions));
  KF_TRY(OwningOpRef<ModuleOp> module, parseRunnableModule(&session->context(), options.file));
  pinSchedules(*module);
  KF_CHECK(applyNumerics(*module, options, context));
  KF_TRY(func::FuncOp function, findFunction(*module, options.function));
  KF_TRY(FunctionSignature signature, readSignature(function));
  KF_CHECK(checkGives(signature));
  KF_TRY(const SizeValues given, parseSizes(options.sizes));
  KF_TRY(FunctionData data, requestedData(options, signature, given, context.seed));
  OwningOpRef<ModuleOp> original = module->clone();
  KF_CHECK(session->compile(std::move(module)));
  std::vector<TensorData> reference;
  std::vector<double> tolerances;
  if (options.arrays.expected.empty()) {
    KF_TRY(reference, runReference(*original, signature, data));
    KF_TRY(tolerances, tolerancesOf(*original, signature, data, reference));
  }
  KF_TRY(FunctionRun run, FunctionRun::create(*session, signature, data));
  run.poisonResults();
  KF_CHECK(run.run());
  KF_TRY(std::vector<TensorComparison> comparisons,
         verify(options.arrays, signature, data, reference, tolerances));
  KF_CHECK(writeOutputs(options.arrays, signature, data));
  const Program &program = *session->program(signature.name);
  auto compiled = session->module().lookupSymbol<func::FuncOp>(signature.name);
  std::vector<KernelRow> rows = listKernels(session->module(), program.artifacts, compiled);
  if (options.bench) {
    KF_CHECK(benchKernels(run, program, rows));
    KF_CHECK(measureRooflines(context, *session, program,
                              data.sizeList(signature, data.longest(signature)), rows));
  }

  const DeviceInfo &device = session->device().info();
  const char *against = options.arrays.expected.empty() ? "f64" : "expected";
  const auto passes = [](const TensorComparison &c) { return c.accuracy.pass; };
  if (context.json) {
    Json answer = {{"function", signature.name},
                   {"sizes", data.sizes},
                   {"pass", std::ranges::all_of(comparisons, passes)},
                   {"arena_bytes", program.arenaBytes},
                   {"kernels", kernelsJson(rows)},
                   {"accuracy", comparisonsJson(comparisons, against)}};
    if (options.bench)
      answer["software"] = device.software;
    printJson(answer);
  } else {
    printKernels(rows);
    if (options.bench && device.software)
      print("not for timing: " + escapeControls(device.name) + " is emulated by the processor\n");
    if (options.arrays.inputs.empty())
      printChosenSizes(signature, given, data.sizes);
    printComparisons(comparisons, against);
  }
  const int verdict = verdictOf(comparisons, signature.name, against);
  return verdict != 0 ? verdict : rooflineVerdict(session->module(), rows);
}

/// Compilation without a session: for any target that code can be generated for.
static Expected<PipelineOptions> requestedPipeline(const CompileOptions &options,
                                                   const Context &context) {
  PipelineOptions pipeline;
  KF_TRY(pipeline.target, requestedTarget(context));
  pipeline.threads = requestedThreads(context);
  pipeline.fuse = !options.noFuse;
  pipeline.dumpFolder = options.dumpFolder;
  pipeline.records = requestedRecords(context);
  return pipeline;
}

/// Brings `module` to stage Scheduled; the artifacts of its kernels.
static Expected<std::vector<Artifact>>
compileModule(ModuleOp module, const PipelineOptions &pipeline, const Context &context) {
  pinSchedules(module);
  KernelAnalyses analyses;
  KF_CHECK(runToStage(module, Stage::Scheduled, pipeline, analyses));
  ObjectCache cache = ObjectCache::disabled();
  if (!context.noCache) {
    KF_TRY(std::filesystem::path folder, objectsDirectory());
    cache = ObjectCache::open(folder);
  }
  return compileKernels(module, pipeline.target, cache, analyses);
}

/// Compiles one function and writes it with what it runs on and what must come out. The target's
/// device need not be here.
static Expected<int> emitProgram(const CompileOptions &options, const Context &context) {
  KF_TRY(const PipelineOptions pipeline, requestedPipeline(options, context));
  DialectRegistry registry;
  registerAllStages(registry);
  MLIRContext mlirContext(registry);
  mlirContext.loadAllAvailableDialects();
  KF_TRY(std::string text, readText(options.file, "module is not usable", maxModuleBytes));
  const std::string where = options.file == "-" ? "standard input" : options.file;
  KF_TRY(OwningOpRef<ModuleOp> module, parseRunnableText(&mlirContext, text, where));
  KF_CHECK(applyNumerics(*module, options, context));
  KF_TRY(func::FuncOp function, findFunction(*module, options.function));
  KF_TRY(const FunctionSignature signature, readSignature(function));
  KF_CHECK(checkGives(signature));
  KF_TRY(const SizeValues given, parseSizes(options.sizes));
  KF_TRY(const FunctionData data, requestedData(options, signature, given, context.seed));
  KF_TRY(const std::vector<TensorData> reference, runReference(*module, signature, data));
  KF_TRY(std::vector<double> tolerances, tolerancesOf(*module, signature, data, reference));

  KF_TRY(const std::vector<Artifact> artifacts, compileModule(*module, pipeline, context));
  const auto seed = options.arrays.inputs.empty() ? std::optional(context.seed) : std::nullopt;
  KF_TRY(ProgramFile file,
         makeProgramFile(*module, signature, artifacts, pipeline.target, data, seed, reference));
  file.module = std::move(text);
  file.tolerances = std::move(tolerances);
  const std::string bytes = writeProgramFile(file);
  KF_CHECK(writeOutput(options.emitTo, bytes));

  const std::vector<KernelRow> rows = listKernels(
      *module, file.program.artifacts, module->lookupSymbol<func::FuncOp>(signature.name));
  if (context.json) {
    printJson({{"function", signature.name},
               {"target", targetText(pipeline.target)},
               {"sizes", data.sizes},
               {"file", options.emitTo},
               {"bytes", bytes.size()},
               {"kernels", kernelsJson(rows)}});
  } else {
    printKernels(rows);
    if (options.arrays.inputs.empty())
      printChosenSizes(signature, given, data.sizes);
    print(fmt::format("wrote @{} for {} to {}: {} bytes; run it with `kernelforge run {}`\n",
                      signature.name, targetText(pipeline.target), options.emitTo, bytes.size(),
                      options.emitTo));
  }
  return 0;
}

/// Compiles without running.
static Expected<int> compileOnly(const CompileOptions &options, const Context &context) {
  KF_TRY(const PipelineOptions pipeline, requestedPipeline(options, context));
  DialectRegistry registry;
  registerAllStages(registry);
  MLIRContext mlirContext(registry);
  mlirContext.loadAllAvailableDialects();
  KF_TRY(OwningOpRef<ModuleOp> module, parseRunnableModule(&mlirContext, options.file));
  KF_CHECK(applyNumerics(*module, options, context));
  KF_TRY(std::vector<Artifact> artifacts, compileModule(*module, pipeline, context));
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
    printJson({{"target", targetText(pipeline.target)}, {"kernels", kernelsJson(rows)}});
  } else {
    printKernels(rows);
  }
  return 0;
}

/// Unusable where --emit and -o do not belong to what else is asked for.
static Status checkEmit(const CompileOptions &options) {
  if (options.emit.empty() != options.emitTo.empty())
    return unusable("wrong usage", options.emit.empty() ? "-o" : "--emit",
                    "--emit and -o belong together", "write --emit program -o FILE");
  if (!options.emit.empty() && (options.run || options.bench || !options.arrays.outputs.empty() ||
                                !options.arrays.expected.empty()))
    return unusable("wrong usage", "--emit",
                    "a program is written with what the reference expects, and not run",
                    "leave --run, --bench, --output and --expect to `kernelforge run`");
  return {};
}

void cli::addCompile(CLI::App &app, Context &context) {
  auto options = std::make_shared<CompileOptions>();
  CLI::App &command = addCommand(
      app, context,
      {"compile", "compile a textual module, run it and verify it",
       "compile block.mlir --function decode --run --size context=128\n"
       "  kernelforge compile block.mlir --function decode --emit program -o decode.kfp"},
      [options, &app, &context]() -> Expected<int> {
        const CLI::App &self = *app.get_subcommand("compile");
        const bool emits = !options->emit.empty();
        KF_CHECK(checkEmit(*options));
        if (self.get_option("--seed")->count() > 0 &&
            ((!options->runs() && !emits) || !options->arrays.inputs.empty()))
          return unusable("wrong usage", "--seed", "it is of use with a run on random input only",
                          "leave it out");
        return emits             ? emitProgram(*options, context)
               : options->runs() ? compileAndRun(*options, context)
                                 : compileOnly(*options, context);
      });
  addTargetOptions(command, context);
  addSeedOption(command, context);
  command.add_option("file", options->file, "a module at any stage (- reads standard input)")
      ->required();
  command.add_option("--function", options->function, "the function to compile or run");
  command.add_flag("--run", options->run,
                   "run on random input and verify the results (options that need a run imply it)");
  addArrayOptions(command, options->arrays);
  command.add_option("--size", options->sizes, "value of a dynamic size: NAME=N")
      ->allow_extra_args(false);
  command.add_flag("--bench", options->bench, "time each kernel");
  command.add_option("--emit", options->emit, "program: for `kernelforge run`, on any machine")
      ->check(oneOf({"program"}));
  command.add_option("-o", options->emitTo, "where to write it");
  addNumericsOption(command, options->numerics, "a row that does not say it by itself");
  command.add_flag("--no-fuse", options->noFuse, "every operation is a kernel of its own");
  command.add_option("--dump-passes", options->dumpFolder,
                     "write the module after each pass that changed it into this folder");
}
