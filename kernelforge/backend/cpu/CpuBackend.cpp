#include "kernelforge/backend/cpu/CpuBackend.h"
#include "kernelforge/backend/cpu/LoadedCode.h"
#include "kernelforge/backend/cpu/Team.h"
#include "kernelforge/support/Host.h"
#include "kernelforge/support/PageMemory.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <mutex>
#include <optional>

#include <fmt/format.h>

namespace kernelforge {

namespace {

using Clock = std::chrono::steady_clock;

/// All ones is a NaN in f32, f16 and bf16, and -1 as an integer.
constexpr int poisonByte = 0xff;

constexpr int64_t pageBytes = 4096;

void fillPoison(void *buffer, int64_t bytes) {
  if (bytes > 0)
    std::memset(buffer, poisonByte, bytes);
}

/// What all executables of a backend share. Growing is under the lock that a run holds too.
struct Workers {
  Workers(int threads, bool poison) : threads(threads), poison(poison) {}

  const int threads;
  const bool poison;
  std::mutex lock;
  PageMemory arena;
  PageMemory scratch; ///< `threads` pieces of `scratchStride` bytes
  int64_t scratchStride = 0;
};

/// One phase of one launch, or all of a launch of a host function.
struct Step {
  KernelEntry entry;
  HostKernel *host = nullptr;
  void *const *args = nullptr;
  const int64_t *sizes = nullptr;
  int64_t phase = 0;
  int64_t tasks = 0;
  int64_t scratchBytes = 0;
  int launch = 0;
};

/// What a run computes and moves, as far as its kernels tell.
class KnownWork {
public:
  void add(const KernelCost &cost, const int64_t *sizes) {
    known &= !cost.byteTerms.empty() && cost.bytesPerCached == 0;
    if (known) {
      flops += cost.flops(sizes, 0);
      bytes += cost.bytes(sizes, 0);
    }
  }

  /// Whether one thread does it in the microseconds that gathering a team takes.
  bool isSmall() const { return known && flops <= 0x1p17 && bytes <= 0x1p14; }

private:
  bool known = true;
  double flops = 0, bytes = 0;
};

class CpuExecutable : public Executable {
public:
  CpuExecutable(std::shared_ptr<const Program> program, std::unique_ptr<LoadedCode> code,
                std::shared_ptr<Workers> workers)
      : source(std::move(program)), code(std::move(code)), workers(std::move(workers)) {
    size_t argCount = 0, sizeCount = 0;
    for (const Launch &launch : source->launches) {
      argCount += launch.buffers.size();
      sizeCount += launch.sizes.size();
    }
    args.resize(argCount);
    sizes.resize(sizeCount);
    pointers.resize(source->buffers.size());
    makesWay = std::ranges::any_of(
        source->artifacts, [](const Artifact &artifact) { return artifact.host != nullptr; });
  }

  const Program &program() const override { return *source; }

  MemoryUse memory() const override {
    std::lock_guard<std::mutex> guard(workers->lock);
    return {int64_t(workers->arena.size()), int64_t(workers->scratch.size())};
  }

  Status run(const Bindings &bindings, const RunOptions &options) override;

private:
  class Stretch;

  bool isAsBefore(const Bindings &bindings) const;
  void bind(const Bindings &bindings);
  void prepareSteps(const Bindings &bindings);
  void poisonBuffers(const Bindings &bindings);
  void copyResults(const Bindings &bindings) const;
  void runStretch(size_t begin, size_t end, const RunOptions &options);
  Status runHost(size_t index, const RunOptions &options);
  static bool cancelAsked(const RunOptions &options) {
    return options.cancel && options.cancel->load(std::memory_order_relaxed);
  }
  void runTask(const Step &step, int64_t task, std::byte *scratch) const {
    if (workers->poison)
      fillPoison(scratch, step.scratchBytes);
    step.entry(step.args, step.sizes, step.phase, task, scratch);
  }

  std::shared_ptr<const Program> source;
  bool makesWay = false; ///< a host function's threads need the team's cores
  std::unique_ptr<LoadedCode> code;
  std::shared_ptr<Workers> workers;

  // Of the current run; kept to save allocations and, where the next one is on the same memory and
  // sizes, all preparation.
  std::vector<void *> boundArguments, boundResults;
  std::vector<int64_t> boundSizes;
  const std::byte *boundArena = nullptr;
  bool prepared = false;        ///< `steps` are those of what is bound
  bool alone = false;           ///< there is no work that a second worker is worth gathering for
  std::vector<void *> pointers; ///< by buffer
  std::vector<void *> args;     ///< of all launches, one after the other
  std::vector<int64_t> sizes;   ///< of all launches
  std::vector<Step> steps;
  /// Of each step, where times are wanted; it began when the one before it ended, or later.
  std::vector<Clock::time_point> ends, begins;

  bool cancelled = false; ///< written between steps only
};

bool CpuExecutable::isAsBefore(const Bindings &bindings) const {
  return prepared && boundArena == workers->arena.data() &&
         std::ranges::equal(bindings.sizes, boundSizes) &&
         std::ranges::equal(bindings.arguments, boundArguments) &&
         std::ranges::equal(bindings.results, boundResults);
}

void CpuExecutable::bind(const Bindings &bindings) {
  boundSizes.assign(bindings.sizes.begin(), bindings.sizes.end());
  boundArguments.assign(bindings.arguments.begin(), bindings.arguments.end());
  boundResults.assign(bindings.results.begin(), bindings.results.end());
  boundArena = workers->arena.data();
  for (size_t i = 0; i < source->buffers.size(); ++i)
    if (source->buffers[i].kind == BufferKind::Intermediate)
      pointers[i] = workers->arena.data() + source->buffers[i].offset;
  for (size_t i = 0; i < source->arguments.size(); ++i)
    pointers[source->arguments[i]] = bindings.arguments[i];
  for (size_t i = 0; i < source->results.size(); ++i)
    pointers[source->results[i]] = bindings.results[i];
}

void CpuExecutable::prepareSteps(const Bindings &bindings) {
  steps.clear();
  KnownWork work;
  void **arg = args.data();
  int64_t *size = sizes.data();
  for (size_t index = 0; index < source->launches.size(); ++index) {
    const Launch &launch = source->launches[index];
    const Artifact &artifact = source->artifacts[launch.artifact];
    Step step;
    step.entry = code->entry(launch.artifact);
    step.args = arg;
    step.sizes = size;
    step.launch = int(index);
    for (int buffer : launch.buffers)
      *arg++ = pointers[buffer];
    for (int which : launch.sizes)
      *size++ = bindings.sizes[which];
    if (artifact.host) {
      step.host = artifact.host.get();
      steps.push_back(step);
      continue;
    }
    work.add(artifact.cost, step.sizes);
    for (size_t phase = 0; phase < artifact.phases.size(); ++phase) {
      step.phase = int64_t(phase);
      step.scratchBytes = artifact.phases[phase].scratchBytes;
      step.tasks = 1;
      for (const Extent &extent : artifact.phases[phase].grid)
        step.tasks *= extent.evaluate(step.sizes);
      if (step.tasks > 0)
        steps.push_back(step);
    }
  }
  alone = work.isSmall() ||
          std::ranges::all_of(steps, [](const Step &step) { return step.tasks <= 1; });
  prepared = true;
}

void CpuExecutable::poisonBuffers(const Bindings &bindings) {
  fillPoison(workers->arena.data(), source->arenaBytes);
  for (size_t i = 0; i < source->results.size(); ++i)
    fillPoison(bindings.results[i],
               source->buffers[source->results[i]].bytes.evaluate(bindings.sizes.data()));
}

/// Results that are arguments or other results.
void CpuExecutable::copyResults(const Bindings &bindings) const {
  for (const ResultCopy &copy : source->copies) {
    const uint64_t bytes = *checkedProduct(copy.bytes, bindings.sizes);
    if (bytes > 0)
      std::memmove(pointers[copy.to], pointers[copy.from], bytes);
  }
}

/// Steps between two host functions, as the team does them.
class CpuExecutable::Stretch final : public SteppedWork {
public:
  Stretch(CpuExecutable &run, size_t begin, size_t end, const RunOptions &options)
      : run_(run), begin(begin), end(end), options(options) {}

  size_t steps() const override { return end - begin; }
  int64_t tasks(size_t step) const override { return run_.steps[begin + step].tasks; }
  void run(size_t step, int64_t task, int member) override {
    const Workers &workers = *run_.workers;
    run_.runTask(run_.steps[begin + step], task,
                 workers.scratch.data() + member * workers.scratchStride);
  }
  bool completed(size_t step) override {
    if (!run_.ends.empty())
      run_.ends[begin + step] = Clock::now();
    run_.cancelled = cancelAsked(options);
    return !run_.cancelled;
  }

private:
  CpuExecutable &run_;
  const size_t begin, end;
  const RunOptions &options;
};

void CpuExecutable::runStretch(size_t begin, size_t end, const RunOptions &options) {
  if (!begins.empty())
    begins[begin] = Clock::now();
  Stretch stretch(*this, begin, end, options);
  runSteps(alone ? 1 : workers->threads, stretch);
}

/// A host function has threads of its own, which need the cores that the team has.
Status CpuExecutable::runHost(size_t index, const RunOptions &options) {
  const Step &step = steps[index];
  const Launch &launch = source->launches[step.launch];
  if (!ends.empty())
    begins[index] = Clock::now();
  KF_CHECK(step.host->run({step.args, launch.buffers.size()}, {step.sizes, launch.sizes.size()},
                          workers->threads));
  if (!ends.empty())
    ends[index] = Clock::now();
  cancelled = cancelAsked(options);
  return {};
}

Status CpuExecutable::run(const Bindings &bindings, const RunOptions &options) {
  std::lock_guard<std::mutex> guard(workers->lock);
  if (!isAsBefore(bindings)) {
    KF_CHECK(checkBindings(*source, bindings));
    prepared = false;
    bind(bindings);
    prepareSteps(bindings);
  }
  if (workers->poison)
    poisonBuffers(bindings);
  cancelled = cancelAsked(options);
  // Only where asked for: on some virtual machines reading the clock takes longer than a small
  // kernel.
  ends.assign(options.launchNanoseconds ? steps.size() : 0, Clock::time_point());
  begins = ends;

  std::optional<ShortSpinning> shortly;
  if (makesWay)
    shortly.emplace(0);
  for (size_t begin = 0, end; begin < steps.size() && !cancelled; begin = end) {
    end = begin + 1;
    if (steps[begin].host) {
      KF_CHECK(runHost(begin, options));
      continue;
    }
    while (end < steps.size() && !steps[end].host)
      ++end;
    runStretch(begin, end, options);
  }
  if (cancelled)
    return makeError(ErrorKind::Interrupted, "run was interrupted", source->function,
                     "it was asked to stop");
  copyResults(bindings);
  if (options.launchNanoseconds) {
    std::vector<int64_t> &times = *options.launchNanoseconds;
    times.assign(source->launches.size(), 0);
    for (size_t i = 0; i < steps.size(); ++i) {
      const Clock::time_point begin = i > 0 ? std::max(begins[i], ends[i - 1]) : begins[i];
      times[steps[i].launch] +=
          std::chrono::duration_cast<std::chrono::nanoseconds>(ends[i] - begin).count();
    }
  }
  return {};
}

class CpuBackend : public Backend {
public:
  explicit CpuBackend(std::shared_ptr<Workers> workers) : workers(std::move(workers)) {}

  std::string_view name() const override { return "cpu"; }

  Expected<std::unique_ptr<Executable>> load(std::shared_ptr<const Program> program) override {
    KF_CHECK(checkProgram(*program));
    KF_TRY(auto code, LoadedCode::load(program->artifacts));
    KF_CHECK(reserve(*program));
    return std::make_unique<CpuExecutable>(std::move(program), std::move(code), workers);
  }

private:
  /// Makes the arena and the scratch large enough for one more program.
  Status reserve(const Program &program) {
    std::lock_guard<std::mutex> guard(workers->lock);
    if (program.arenaBytes > int64_t(workers->arena.size())) {
      KF_TRY(workers->arena, PageMemory::allocate(program.arenaBytes));
    }
    int64_t scratch = 0;
    for (const Artifact &artifact : program.artifacts)
      for (const Phase &phase : artifact.phases)
        scratch = std::max(scratch, phase.scratchBytes);
    if (scratch > (int64_t(1) << 40))
      return unusable("program is inconsistent", program.function,
                      fmt::format("a kernel asks for {} bytes of scratch", scratch));
    int64_t stride = (scratch + pageBytes - 1) / pageBytes * pageBytes;
    if (stride > workers->scratchStride) {
      KF_TRY(workers->scratch, PageMemory::allocate(uint64_t(stride) * workers->threads));
      workers->scratchStride = stride;
    }
    return {};
  }

  std::shared_ptr<Workers> workers;
};

} // namespace

Expected<std::unique_ptr<Backend>> createCpuBackend(const CpuOptions &options) {
  if (options.threads < 0 || options.threads > maxThreads)
    return unusable("number of threads is not usable", fmt::format("{}", options.threads),
                    fmt::format("it must be 1 to {}", maxThreads));
  int threads = options.threads ? options.threads : host().physicalCores;
  return std::make_unique<CpuBackend>(std::make_shared<Workers>(threads, options.poison));
}

} // namespace kernelforge
