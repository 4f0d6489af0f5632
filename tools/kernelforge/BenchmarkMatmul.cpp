// benchmark-matmul: one matmul by one or all of its variants, each verified, timed beside the
// others and verified again; a measurement row for each.
#include "BlockOption.h"
#include "Commands.h"
#include "MatmulRows.h"
#include "MatmulRun.h"
#include "NumberOptions.h"
#include "NumericsOption.h"
#include "ScheduleOption.h"
#include "Usage.h"

#include "kernelforge/compiler/Targets.h"
#include "kernelforge/measure/CacheEviction.h"
#include "kernelforge/problem/DeviceCeilings.h"
#include "kernelforge/problem/MatmulChoice.h"
#include "kernelforge/support/OutputFile.h"
#include "kernelforge/support/Team.h"

#include <fmt/format.h>

#include <algorithm>

using namespace kernelforge;
using namespace kernelforge::cli;

namespace {

struct BenchmarkOptions {
  MatmulProblem problem;
  std::string dtype = "f32", weights = "f32", epilogue, variant = "generated", schedule, profile;
  std::string mode = "performance", cache = "warm", format = "table", numerics = "exact";
  TimingOptions timing;
};

/// One run of the command.
class Benchmark {
public:
  Benchmark(BenchmarkOptions options, const Context &context)
      : options(std::move(options)), context(context) {}
  Expected<int> run();

private:
  struct Entry {
    const MatmulKernel *kernel = nullptr;
    std::string schedule;
    std::unique_ptr<PreparedMatmul> prepared;
  };

  bool isAll() const { return options.variant == "all"; }
  Status readOptions();
  Status chooseVariants();
  void addVariant(const MatmulKernel *kernel, MatmulMeasurement measurement,
                  std::string schedule = "");
  Status prepareAll();
  Status prepare(size_t index);
  Status verify(size_t index);
  Status prepareDevice();
  Status time();
  Expected<KernelCeilings> ceilingsNow(int64_t bytes) const;
  Expected<int> answer() const;

  BenchmarkOptions options;
  const Context &context;
  Target target;
  MatmulRegistry variants;
  std::unique_ptr<MatmulRun> data;
  std::optional<RecordKey> key; ///< where records are to be written
  std::vector<Entry> entries;
  std::vector<MatmulMeasurement> measured; ///< of the entries
  MatmulConditions conditions;
  std::unique_ptr<DeviceCeilings> device; ///< where it has a clock of its own
};

} // namespace

Status Benchmark::readOptions() {
  MatmulProblem &problem = options.problem;
  KF_TRY(problem.weights, parseWeightType(options.weights));
  KF_TRY(problem.epilogue, parseEpilogue(options.epilogue));
  KF_TRY(const ChosenNumerics numerics, requestedNumerics(options.numerics, context));
  problem.numerics = numerics.of(problem.product());
  KF_CHECK(checkProblem(problem));
  if (!options.schedule.empty()) {
    KF_TRY(const KnobValues knobs, readSchedule("--schedule", options.schedule));
    options.schedule = knobsText(knobs);
  }
  if (!options.schedule.empty() && (isAll() || options.variant == "auto"))
    return unusable("wrong usage", "--schedule",
                    "a schedule is for one variant, not for " + options.variant,
                    "name the variant");
  if (!options.profile.empty() && options.mode != "performance")
    return unusable("wrong usage", "--profile", "a record has times, and none are taken",
                    "take --mode performance");
  if (context.json)
    options.format = "jsonl";
  return {};
}

void Benchmark::addVariant(const MatmulKernel *kernel, MatmulMeasurement measurement,
                           std::string schedule) {
  entries.push_back({kernel, std::move(schedule), nullptr});
  measured.push_back(std::move(measurement));
}

Status Benchmark::chooseVariants() {
  const int threads = requestedThreads(context);
  if (isAll()) {
    for (const auto &kernel : variants.all())
      addVariant(kernel.get(), {.variant = std::string(kernel->name())});
  } else if (options.variant == "auto") {
    KF_TRY(MatmulChoice chosen,
           chooseMatmul(options.problem, target, threads, requestedRecords(context)));
    KF_TRY(const MatmulKernel *kernel, variants.find(chosen.variant));
    addVariant(kernel, {.variant = "auto", .chosen = chosen.variant, .why = chosen.why},
               chosen.schedule);
  } else {
    Expected<const MatmulKernel *> kernel = variants.find(options.variant);
    if (!kernel) {
      Error error = kernel.error();
      error.hint += ", all, auto";
      return tl::unexpected(std::move(error));
    }
    addVariant(*kernel, {.variant = options.variant}, options.schedule);
  }
  if (options.profile.empty())
    return {};
  KF_TRY(key, matmulKey(options.problem, target, threads));
  // Records of different runs are compared by what was measured beside them.
  KF_TRY(const MatmulKernel *generated, variants.find("generated"));
  if (entries.size() == 1 && entries.front().kernel != generated &&
      generated->supports(options.problem))
    addVariant(generated, {.variant = "generated", .beside = true});
  return {};
}

/// Brings one variant up and runs it once. What it cannot do is for its row to say.
Status Benchmark::prepare(size_t index) {
  MatmulMeasurement &m = measured[index];
  Entry &entry = entries[index];
  KF_TRY(entry.prepared, data->prepare(*entry.kernel, entry.schedule));
  m.details = entry.prepared->details;
  KF_CHECK(verify(index));
  if (m.status != RecordStatus::Ok || options.mode != "bitwise")
    return {};
  KF_TRY(bool same, data->repeats(*entry.prepared));
  if (!same) {
    m.status = RecordStatus::WrongResult;
    m.error = "two runs differ in a bit";
  }
  return {};
}

Status Benchmark::verify(size_t index) {
  MatmulMeasurement &m = measured[index];
  KF_TRY(m.accuracy, data->verify(*entries[index].prepared));
  if (!m.accuracy->pass) {
    m.status = RecordStatus::WrongResult;
    m.error =
        fmt::format("the result differs from the reference: {}, of which {} were not written; "
                    "the largest error is {:.3g} of {:.3g}",
                    notNumbersText(*m.accuracy), m.accuracy->poisonedLeft, m.accuracy->maxAbs,
                    m.accuracy->maxReference);
  }
  return {};
}

/// The row's status for a variant that did not come up.
static RecordStatus statusOf(const Error &error) {
  return error.kind == ErrorKind::Missing    ? RecordStatus::Unavailable
         : error.kind == ErrorKind::Unusable ? RecordStatus::Unsupported
                                             : RecordStatus::CompileError;
}

Status Benchmark::prepareAll() {
  const MatmulProblem &p = options.problem;
  const bool large = double(p.m) * double(p.n) * double(p.k) > 0x1p31;
  for (size_t i = 0; i < entries.size(); ++i) {
    MatmulMeasurement &m = measured[i];
    if (!isAll() && !m.beside) {
      KF_CHECK(prepare(i));
      continue;
    }
    const MatmulSupport support = entries[i].kernel->supports(p);
    if (!support) {
      m.status = support.kind == MatmulSupport::Kind::Unavailable ? RecordStatus::Unavailable
                                                                  : RecordStatus::Unsupported;
      m.error = support.why;
    } else if (large && m.variant == "reference") {
      m.status = RecordStatus::Unsupported;
      m.error = "takes too long at this size, unless it is asked for alone";
    } else if (Status status = prepare(i); !status) {
      if (status.error().kind == ErrorKind::Interrupted)
        return status;
      m.status = statusOf(status.error());
      m.error = status.error().line();
    }
  }
  return {};
}

/// What a kernel that moves so many bytes can reach now.
Expected<KernelCeilings> Benchmark::ceilingsNow(int64_t bytes) const {
  return kernelCeilings(device.get(), bytes, conditions.threads, interruptFlag(),
                        conditions.problem.numerics);
}

/// What the target's device is, as far as times depend on it.
Status Benchmark::prepareDevice() {
  KF_TRY(auto opened, createDevice(target.kind, context.device));
  const DeviceInfo &info = opened->info();
  conditions.software = info.software;
  if (info.software)
    conditions.whyNotTimed = info.name + " is emulated by the processor";
  if (!info.hasOwnClock())
    return {};
  KF_TRY(SessionOptions session, requestedSession(context));
  KF_TRY(device, DeviceCeilings::create(std::move(session)));
  return {};
}

Status Benchmark::time() {
  std::vector<size_t> right;
  std::vector<TimedCalls> calls;
  for (size_t i = 0; i < entries.size(); ++i)
    if (measured[i].status == RecordStatus::Ok) {
      right.push_back(i);
      calls.push_back(data->timed(*entries[i].prepared));
    }
  if (right.empty())
    return {};
  std::optional<ShortSpinning> spinning;
  TimingOptions timing = options.timing;
  timing.cancel = interruptFlag();
  if (calls.size() > 1) {
    // Rounds cost idle time: as many as asked for, with batches that fill the time.
    timing.batchSeconds = std::clamp(timing.minSeconds / timing.rounds, 0.002, 0.1);
    timing.mostSeconds = std::max(2.0, 4 * timing.minSeconds);
    if (conditions.threads > 1) {
      timing.settleSeconds = 0.03;
      spinning.emplace(5);
    }
  }
  std::optional<CacheEviction> eviction;
  auto workingSet = static_cast<int64_t>(options.problem.bytes());
  if (options.cache == "cold" && device) {
    KF_TRY(workingSet, device->uncached());
    timing.evict = [this, workingSet] { (void)device->copy(workingSet, 0); };
  } else if (options.cache == "cold") {
    KF_TRY(eviction, CacheEviction::create(conditions.threads, runTeam));
    timing.evict = std::ref(*eviction);
    workingSet = uncachedBytes();
  }
  KF_TRY(conditions.before, ceilingsNow(workingSet));
  KF_TRY(std::vector<Timing> timings, measureInRounds(calls, timing));
  KF_TRY(conditions.after, ceilingsNow(workingSet));
  for (size_t i = 0; i < right.size(); ++i) {
    measured[right[i]].timing = std::move(timings[i]);
    // A kernel may be right only once: look again.
    KF_CHECK(verify(right[i]));
  }
  compareWithVendors(measured);
  return {};
}

Expected<int> Benchmark::answer() const {
  if (key) {
    KF_TRY(std::string lines, recordLines(conditions, *key, measured));
    KF_CHECK(writeOutput(options.profile, lines));
  }
  printMatmuls(conditions, measured, options.format);
  for (const MatmulMeasurement &m : measured)
    if (m.status == RecordStatus::WrongResult || m.status == RecordStatus::CompileError)
      return report(Error{ErrorKind::No, "verification failed",
                          options.problem.name() + ", " + m.variant, m.error, ""},
                    false);
  return 0;
}

Expected<int> Benchmark::run() {
  KF_CHECK(readOptions());
  KF_TRY(target, requestedTarget(context));
  KF_TRY(target, targetHere(std::move(target), context.device));
  KF_TRY(variants, matmulVariants(context));
  KF_CHECK(chooseVariants());
  KF_TRY(data, MatmulRun::create(options.problem, context.seed, requestedThreads(context)));
  conditions = {.problem = options.problem,
                .target = targetText(target),
                .mode = options.cache,
                .threads = data->threads(),
                .seed = context.seed,
                .comparedRows = data->comparedRows(),
                .before = {},
                .after = {},
                .device = target.device};
  KF_CHECK(prepareAll());
  if (options.mode == "performance") {
    KF_CHECK(prepareDevice());
    KF_CHECK(time());
  }
  return answer();
}

static void addMeasuringOptions(CLI::App &command, BenchmarkOptions &options) {
  command.add_option("--mode", options.mode, "correctness, bitwise or performance")
      ->check(oneOf({"correctness", "bitwise", "performance"}))
      ->capture_default_str();
  addNumber(command, "--min-time", options.timing.minSeconds, "measure at least so many seconds", 0,
            3600)
      ->capture_default_str();
  addInteger(command, "--rounds", options.timing.rounds, "take at least so many samples", 1,
             static_cast<int>(maxSamples))
      ->capture_default_str();
  addInteger(command, "--warmup", options.timing.warmup, "calls before the first sample", 0,
             1'000'000)
      ->capture_default_str();
  command
      .add_option("--cache", options.cache,
                  "warm, or cold: a sample is one call after the caches were emptied")
      ->check(oneOf({"warm", "cold"}))
      ->capture_default_str();
}

void cli::addBenchmarkMatmul(CLI::App &app, Context &context) {
  auto options = std::make_shared<BenchmarkOptions>();
  CLI::App &command =
      addCommand(app, context,
                 {"benchmark-matmul", "verify and time one matmul, by any or all of its variants",
                  "benchmark-matmul -m 512 -n 1536 -k 576 --weights q4_1 --variant all"},
                 [options, &app, &context]() -> Expected<int> {
                   const CLI::App &self = *app.get_subcommand("benchmark-matmul");
                   for (const char *name : {"--min-time", "--rounds", "--warmup", "--cache"})
                     if (options->mode != "performance" && self.get_option(name)->count() > 0)
                       return unusable("wrong usage", name,
                                       "it is of use with --mode performance only", "leave it out");
                   return Benchmark(*options, context).run();
                 });
  addTargetOptions(command, context);
  addSeedOption(command, context);
  addProblemSizes(command, options->problem);
  for (const char *size : {"-m", "-n", "-k"})
    command.get_option(size)->required();
  command.add_option("--dtype", options->dtype, "type of input and result")
      ->check(oneOf({"f32"}))
      ->capture_default_str();
  command.add_option("--weights", options->weights, "type of the weight")->capture_default_str();
  addNumericsOption(command, options->numerics, "a row of the input");
  command.add_flag("--transpose", options->problem.transpose, "the weight is [k, n]");
  command.add_option("--epilogue", options->epilogue,
                     "steps after the product, in order: bias, relu, silu, gelu, gelu_tanh, "
                     "residual (bias,gelu)");
  command
      .add_option("--variant", options->variant,
                  "reference, blocked, parallel, generated, vendor:openblas, vendor:mkl, "
                  "vendor:onednn; all of them; or auto: the fastest on record, else generated")
      ->capture_default_str();
  command.add_option("--schedule", options->schedule,
                     "a schedule for the variant, as JSON or @FILE");
  command.add_option("--profile", options->profile,
                     "write tuning records of what was measured, for 'records import'");
  addMeasuringOptions(command, *options);
  addFormatOption(command, options->format);
}
