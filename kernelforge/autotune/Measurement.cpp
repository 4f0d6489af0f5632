#include "kernelforge/autotune/Measurement.h"

#include "kernelforge/backend/ProgramJson.h"
#include "kernelforge/compiler/RecordKeys.h"
#include "kernelforge/measure/Timing.h"
#include "kernelforge/records/LogFile.h"
#include "kernelforge/support/Log.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include <fmt/format.h>

using namespace kernelforge;

namespace {

constexpr double sampleSeconds = 0.002;
constexpr int firstRounds = 3;

/// How often a candidate is measured again, or a worker started, after something killed the worker.
constexpr int mostAttempts = 3;

/// Samples are taken under a lock of the whole machine, so that tuners do not measure each other.
std::optional<FileLock> lockMachine() {
  auto lock = FileLock::acquire("/tmp/kernelforge-measure.lock");
  if (!lock) {
    logger().debug("measuring without the machine's lock: {}", lock.error().line());
    return std::nullopt;
  }
  return std::move(*lock);
}

} // namespace

Expected<std::unique_ptr<Measurement>> Measurement::create(const KernelProblem &problem,
                                                           const TuneOptions &options) {
  std::unique_ptr<Measurement> measurement(new Measurement(problem, options));
  Measurement &m = *measurement;
  KF_TRY(m.shared, WorkerProblem::create(problem));
  m.worker = std::make_unique<WorkerProcess>(m.shared, options.worker);
  m.baselineKnobs = options.start.value_or(problem.space().analytic);
  KF_TRY(m.baselineProgram, problem.compile(m.baselineKnobs));
  KF_CHECK(m.startWorker());
  Record record;
  if (!m.verify(0, 0, record))
    return makeError(ErrorKind::Failed, "kernel cannot be tuned", problem.name(),
                     "its default schedule fails: " + record.error, "report this as a bug");
  KF_CHECK(m.raiseCeilings());
  return measurement;
}

/// Measures them, and keeps the better of then and now: what disturbs a measurement makes it
/// slower.
Status Measurement::raiseCeilings() {
  if (ownClock)
    return {};
  const std::optional<FileLock> lock = lockMachine();
  const CeilingOptions shortly{problem.options().threads, 0.01, options.cancel};
  KF_TRY(KernelCeilings now,
         measureKernelCeilings(static_cast<int64_t>(problem.bytes()), shortly, problem.numerics()));
  now.fma = std::max(ceilings.fma, now.fma);
  now.read = std::max(ceilings.read, now.read);
  ceilings = now;
  return {};
}

std::string Measurement::baselineText() const { return baselineOf(knobsText(baselineKnobs)); }

/// Starts the worker where it is gone, with the baseline in slot 0.
Status Measurement::startWorker() {
  if (worker->running())
    return {};
  WorkerAnswer answer;
  for (int i = 0; i < mostAttempts; ++i) {
    KF_CHECK(worker->start());
    answer = load(0, *baselineProgram);
    if (answer.outcome != WorkerOutcome::Killed)
      break;
  }
  if (answer.outcome == WorkerOutcome::Answered) {
    ownClock = answer.json["own_clock"];
    software = answer.json["software"].get<bool>() ? answer.json["device"] : Json("");
    return {};
  }
  worker->stop();
  return makeError(ErrorKind::Failed, "kernel cannot be tuned", problem.name(), answer.why, "");
}

WorkerAnswer Measurement::load(int slot, const Program &program) {
  std::string code;
  Json command = programJson(program, code);
  command["command"] = "load";
  command["slot"] = slot;
  return worker->call(command, 20 + options.worker.answerSeconds, code);
}

Expected<Measurement::Compiled> Measurement::compile(const KnobValues &schedule) {
  if (lastCompiled.program && lastSchedule == schedule)
    return lastCompiled;
  const auto start = std::chrono::steady_clock::now();
  Compiled compiled;
  KF_TRY(compiled.program, problem.compile(schedule));
  if (options.tamper)
    compiled.program = options.tamper(schedule, compiled.program);
  compiled.milliseconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() * 1e3;
  lastSchedule = schedule;
  lastCompiled = compiled;
  return compiled;
}

std::optional<std::string> Measurement::codeHash(const KnobValues &schedule) {
  auto compiled = compile(schedule);
  if (!compiled)
    return std::nullopt;
  return compiled->program->artifacts.front().codeHash;
}

/// Whether a command succeeded; what became of the candidate otherwise goes into the record.
bool Measurement::answered(const WorkerAnswer &answer, Record &record) {
  killed = answer.outcome == WorkerOutcome::Killed;
  switch (answer.outcome) {
  case WorkerOutcome::Answered:
    return true;
  case WorkerOutcome::TimedOut:
    record.status = RecordStatus::Timeout;
    break;
  case WorkerOutcome::Refused: // memory, threads, the linker: the code itself did nothing
  case WorkerOutcome::Killed:
    record.status = RecordStatus::Unavailable;
    break;
  case WorkerOutcome::Crashed:
    record.status = RecordStatus::Crash;
    break;
  }
  record.error = answer.why;
  return false;
}

bool Measurement::verify(int slot, int set, Record &record) {
  // A candidate may be far slower than the baseline; verifying also fills and compares memory.
  const double seconds = options.worker.answerSeconds + 200 * baselineSeconds;
  const WorkerAnswer answer =
      worker->call({{"command", "verify"}, {"slot", slot}, {"set", set}}, seconds);
  if (!answered(answer, record))
    return false;
  const Json &accuracy = answer.json["accuracy"];
  record.accuracy = RecordAccuracy{"f64",
                                   accuracy["max_abs"],
                                   accuracy["max_rel"],
                                   accuracy["l2_rel"],
                                   accuracy["cosine_diff"],
                                   accuracy["nan"],
                                   accuracy["poisoned_left"],
                                   accuracy["tolerance"],
                                   answer.json["pass"]};
  if (set == 0)
    lastBits = answer.json["bits"];
  if (record.accuracy->pass)
    return true;
  record.status = RecordStatus::WrongResult;
  record.error = answer.json["why"];
  return false;
}

/// Adds rounds of samples of the candidate (slot 1) beside the baseline (slot 0).
bool Measurement::time(int rounds, Record &record) {
  const double expected = 2 * sampleSeconds * (rounds + 2) + 40 * baselineSeconds * rounds;
  const std::optional<FileLock> lock = lockMachine();
  const WorkerAnswer answer = worker->call({{"command", "time"},
                                            {"slots", {0, 1}},
                                            {"rounds", rounds},
                                            {"sample_seconds", sampleSeconds}},
                                           options.worker.answerSeconds + 20 * expected);
  if (!answered(answer, record))
    return false;
  const Json &samples = answer.json["samples_ns"];
  for (const Json &sample : samples[0])
    record.baselineNs.push_back(sample);
  for (const Json &sample : samples[1])
    record.samplesNs.push_back(sample);
  record.ratio = ratioOf(record.samplesNs, record.baselineNs).median;
  baselineSeconds = median(record.baselineNs) / 1e9;
  return true;
}

/// What says that samples of the baseline, whose code does not change, differ as only a preempted
/// or throttled machine makes them differ: then ratios to them mean nothing. Empty where nothing
/// does.
static std::string disturbance(const std::vector<double> &baseline) {
  const double middle = median(baseline);
  const auto [least, most] = std::ranges::minmax(baseline);
  if (middle <= 1.5 * least && medianAbsoluteDeviation(baseline) <= 0.25 * middle)
    return "";
  return fmt::format("samples of the baseline beside it are {:.1f} to {:.1f} us", least / 1e3,
                     most / 1e3);
}

void Measurement::summarize(Record &record) const {
  record.software = !software.empty();
  record.whyUntrusted =
      record.software ? software + " is emulated by the processor" : disturbance(record.baselineNs);
  record.trusted = record.whyUntrusted.empty();
  record.medianNs = median(record.samplesNs);
  record.madNs = medianAbsoluteDeviation(record.samplesNs);
  if (*record.medianNs <= 0)
    return;
  const double flops = problem.flops(), bytes = problem.bytes();
  record.gflops = flops / *record.medianNs;
  record.gbPerS = bytes / *record.medianNs;
  if (!ceilings.areKnown())
    return;
  record.pctOfCeiling = 100 * ceilings.leastSeconds(flops, bytes) / (*record.medianNs * 1e-9);
  record.bound = ceilings.isComputeBound(flops, bytes) ? "compute" : "memory";
}

/// What all records of this problem have in common.
Record Measurement::newRecord() const {
  Record record;
  record.key = problem.key();
  record.name = problem.name();
  record.baseline = baselineText();
  record.mode = mode();
  record.inputs = "uniform[-1,1)";
  return record;
}

Expected<Record> Measurement::measure(const MatmulKernel &variant, double limit, int rounds) {
  Record record = newRecord();
  record.variant = variant.name();
  const std::optional<ScheduleSpace> space =
      variant.scheduleSpace(problem.library()->problem, problem.options().threads);
  if (space)
    record.schedule = knobsText(space->analytic);
  KF_TRY(std::shared_ptr<const Program> program, problem.compile(variant));
  KF_CHECK(attempt(*program, limit, rounds, record));
  return record;
}

Expected<Record> Measurement::measure(const KnobValues &schedule, double limit, int rounds) {
  Record record = newRecord();
  record.schedule = knobsText(schedule);
  record.scheduleSource = schedule == problem.space().analytic ? "analytic" : "";
  record.kernel = problem.text();
  record.run = problem.runText();
  record.orderClass = problem.space().orderClass(schedule);
  if (const double predicted = problem.space().predict(schedule); predicted > 0)
    record.predictedNs = predicted * 1e9;
  auto compiled = compile(schedule);
  if (!compiled) {
    record.status = RecordStatus::CompileError;
    record.error = compiled.error().line();
    return record;
  }
  const Artifact &artifact = compiled->program->artifacts.front();
  record.codeHash = artifact.codeHash;
  record.resources = recordResources(artifact, {});
  record.compileMs = compiled->milliseconds;

  KF_CHECK(attempt(*compiled->program, limit, rounds, record));
  return record;
}

/// Tries a candidate until nothing from outside kills the worker.
Status Measurement::attempt(const Program &candidate, double limit, int rounds, Record &record) {
  const Record blank = record;
  for (int i = 0; i < mostAttempts; ++i) {
    record = blank;
    KF_TRY(bool ok, attemptOnce(candidate, limit, rounds, record));
    if (ok || !killed)
      break;
  }
  // Code that wrote the wrong thing may have damaged the worker, too.
  if (record.status == RecordStatus::WrongResult)
    worker->stop();
  return {};
}

/// Runs a candidate through verification and timing; false where it fails, or the worker does.
Expected<bool> Measurement::attemptOnce(const Program &candidate, double limit, int rounds,
                                        Record &record) {
  killed = false;
  KF_CHECK(startWorker());
  const int sets = static_cast<int>(problem.data().size());
  const WorkerAnswer loaded = load(1, candidate);
  if (!answered(loaded, record))
    return false;
  const Json &resources = loaded.json["resources"]; // the finished code's, which a device knows
  record.resources.registers = resources["registers"];
  record.resources.spillBytes = resources["spill_bytes"];
  record.resources.sharedBytes = resources["shared_bytes"];
  if (!verify(1, 0, record))
    return false;
  if (!time(std::min(firstRounds, rounds), record))
    return false;
  if (rounds > firstRounds && *record.ratio <= limit && !time(rounds - firstRounds, record))
    return false;
  if (!disturbance(record.baselineNs).empty()) { // once more, it may have been a moment
    record.baselineNs.clear();
    record.samplesNs.clear();
    if (!time(rounds, record))
      return false;
  }
  // A candidate may be right only once, or only on one input: look again.
  for (int set = sets - 1; set >= 0; --set)
    if (!verify(1, set, record))
      return false;
  record.outputBits = lastBits;
  summarize(record);
  if (record.pctOfCeiling && *record.pctOfCeiling > 100) { // the ceiling was disturbed
    KF_CHECK(raiseCeilings());
    summarize(record);
  }
  return true;
}
