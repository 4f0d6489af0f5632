#include "kernelforge/backend/cpu/CpuDevice.h"
#include "kernelforge/backend/HostMemory.h"
#include "kernelforge/backend/cpu/LoadedCode.h"
#include "kernelforge/codegen/ObjectFile.h"
#include "kernelforge/kernels/LibraryMatmul.h"
#include "kernelforge/support/Host.h"
#include "kernelforge/support/PageMemory.h"
#include "kernelforge/support/Team.h"

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

/// Kernels load and store by the alignment of their elements or less: any address will do.
constexpr int64_t deviceAlignment = 1;

void fillPoison(void *buffer, int64_t bytes) {
  if (bytes > 0)
    std::memset(buffer, poisonByte, bytes);
}

/// What all programs of a device share. Growing is under the lock that a run holds too.
struct Workers {
  Workers(int threads, bool poison) : threads(threads), poison(poison) {}

  const int threads;
  const bool poison;
  std::mutex lock;
  PageMemory scratch; ///< `threads` pieces of `scratchStride` bytes
  int64_t scratchStride = 0;
};

/// One phase of one launch, or all of a launch of a library call.
struct Step {
  KernelEntry entry;
  LibraryMatmul *library = nullptr;
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
    known &= !cost.byteTerms.empty() && cost.isWhole;
    if (known) {
      flops += cost.flops(sizes);
      bytes += cost.bytes(sizes);
    }
  }

  /// Whether one thread does it in the microseconds that gathering a team takes.
  bool isSmall() const { return known && flops <= 0x1p17 && bytes <= 0x1p14; }

private:
  bool known = true;
  double flops = 0, bytes = 0;
};

/// A program's code, as what is bound shares it.
struct LoadedProgram {
  std::shared_ptr<const Program> program;
  std::unique_ptr<LoadedCode> code;
  std::vector<KernelResources> resources;                ///< by artifact
  std::vector<std::shared_ptr<LibraryMatmul>> libraries; ///< by artifact; null where it is code
  bool makesWay = false; ///< a library's threads need the team's cores
};

/// What runs the library calls of programs that are loaded together: equal ones share what is made
/// of a weight.
class Libraries {
public:
  /// Null where the artifact is code.
  Expected<std::shared_ptr<LibraryMatmul>> find(const Artifact &artifact) {
    if (!artifact.library)
      return std::shared_ptr<LibraryMatmul>();
    for (const auto &[other, matmul] : known)
      if (other->library == artifact.library && other->variant == artifact.variant &&
          other->schedule == artifact.schedule)
        return matmul;
    auto made = LibraryMatmul::create(*artifact.library, artifact.variant, artifact.schedule);
    if (!made) {
      Error error = made.error();
      error.where = fmt::format("kernel '{}', {}", artifact.kernel, error.where);
      return tl::unexpected(std::move(error));
    }
    return known.emplace_back(&artifact, std::move(*made)).second;
  }

private:
  std::vector<std::pair<const Artifact *, std::shared_ptr<LibraryMatmul>>> known;
};

class CpuBoundProgram final : public BoundProgram {
public:
  CpuBoundProgram(std::shared_ptr<const LoadedProgram> loaded, ProgramBuffers given,
                  std::shared_ptr<Workers> workers)
      : loaded(std::move(loaded)), source(*this->loaded->program), buffers(std::move(given)),
        workers(std::move(workers)), pointers(source.buffers.size()) {
    size_t argCount = 0, sizeCount = 0;
    for (const Launch &launch : source.launches) {
      argCount += launch.buffers.size();
      sizeCount += launch.sizes.size();
    }
    args.resize(argCount);
    sizes.resize(sizeCount);
    for (size_t i = 0; i < source.buffers.size(); ++i)
      if (source.buffers[i].kind == BufferKind::Intermediate)
        pointers[i] = buffers.arena.hostAddress() + source.buffers[i].offset;
    holders.resize(this->loaded->makesWay ? source.buffers.size() : 0);
    for (size_t i = 0; i < source.arguments.size(); ++i) {
      pointers[source.arguments[i]] = buffers.arguments[i].hostAddress();
      if (!holders.empty())
        holders[source.arguments[i]] = buffers.arguments[i].memory;
    }
    for (size_t i = 0; i < source.results.size(); ++i)
      pointers[source.results[i]] = buffers.results[i].hostAddress();
    void **arg = args.data();
    for (const Launch &launch : source.launches)
      for (int buffer : launch.buffers)
        *arg++ = pointers[buffer];
  }

  Expected<Ticket> submit(std::span<const int64_t> sizes, const SubmitOptions &options) override {
    KF_CHECK(run(sizes, options, nullptr));
    return Ticket(0);
  }

  Expected<std::vector<int64_t>> runTimed(std::span<const int64_t> sizes,
                                          const SubmitOptions &options) override {
    std::vector<int64_t> nanoseconds;
    KF_CHECK(run(sizes, options, &nanoseconds));
    return nanoseconds;
  }

private:
  class Stretch;

  Status run(std::span<const int64_t> given, const SubmitOptions &options,
             std::vector<int64_t> *nanoseconds);
  void prepareSteps();
  void poisonBuffers();
  void copyResults() const;
  void runStretch(size_t begin, size_t end, const SubmitOptions &options);
  Status runLibrary(size_t index, const SubmitOptions &options);
  static bool cancelAsked(const SubmitOptions &options) {
    return options.cancel && options.cancel->load(std::memory_order_relaxed);
  }
  void runTask(const Step &step, int64_t task, std::byte *scratch) const {
    if (workers->poison)
      fillPoison(scratch, step.scratchBytes);
    step.entry(step.args, step.sizes, step.phase, task, scratch);
  }

  const std::shared_ptr<const LoadedProgram> loaded;
  const Program &source;
  const ProgramBuffers buffers;
  const std::shared_ptr<Workers> workers;
  std::vector<void *> pointers;               ///< by buffer
  std::vector<void *> args;                   ///< of all launches, one after the other
  std::vector<LibraryMatmul::Holder> holders; ///< by buffer, where libraries want them

  // Of the sizes of the last run; where the next one's are the same there is nothing to prepare.
  std::vector<int64_t> preparedSizes;
  bool prepared = false;
  bool alone = false;         ///< there is no work that a second worker is worth gathering for
  std::vector<int64_t> sizes; ///< of all launches
  std::vector<Step> steps;
  /// Of each step, where times are wanted; it began when the one before it ended, or later.
  std::vector<Clock::time_point> ends, begins;

  bool cancelled = false; ///< written between steps only
};

void CpuBoundProgram::prepareSteps() {
  steps.clear();
  KnownWork work;
  void *const *arg = args.data();
  int64_t *size = sizes.data();
  for (size_t index = 0; index < source.launches.size(); ++index) {
    const Launch &launch = source.launches[index];
    const Artifact &artifact = source.artifacts[launch.artifact];
    Step step;
    step.entry = loaded->code->entry(launch.artifact);
    step.args = arg;
    step.sizes = size;
    step.launch = int(index);
    arg += launch.buffers.size();
    for (int which : launch.sizes)
      *size++ = preparedSizes[which];
    if (artifact.library) {
      step.library = loaded->libraries[launch.artifact].get();
      steps.push_back(step);
      continue;
    }
    work.add(artifact.cost, step.sizes);
    const std::vector<Phase> &phases = artifact.launching.phases;
    for (size_t phase = 0; phase < phases.size(); ++phase) {
      step.phase = int64_t(phase);
      step.scratchBytes = phases[phase].scratchBytes;
      step.tasks = phases[phase].grid.evaluate(step.sizes);
      if (step.tasks > 0)
        steps.push_back(step);
    }
  }
  alone = work.isSmall() ||
          std::ranges::all_of(steps, [](const Step &step) { return step.tasks <= 1; });
}

void CpuBoundProgram::poisonBuffers() {
  fillPoison(buffers.arena.hostAddress(), source.arenaBytes);
  for (int result : source.results)
    fillPoison(pointers[result], source.buffers[result].bytes.evaluate(preparedSizes.data()));
}

/// Results that are arguments or other results.
void CpuBoundProgram::copyResults() const {
  for (const ResultCopy &copy : source.copies) {
    const uint64_t bytes = *checkedExtent(copy.bytes, preparedSizes);
    if (bytes > 0)
      std::memmove(pointers[copy.to], pointers[copy.from], bytes);
  }
}

/// Steps between two library calls, as the team does them.
class CpuBoundProgram::Stretch final : public SteppedWork {
public:
  Stretch(CpuBoundProgram &run, size_t begin, size_t end, const SubmitOptions &options)
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
  CpuBoundProgram &run_;
  const size_t begin, end;
  const SubmitOptions &options;
};

void CpuBoundProgram::runStretch(size_t begin, size_t end, const SubmitOptions &options) {
  if (!begins.empty())
    begins[begin] = Clock::now();
  Stretch stretch(*this, begin, end, options);
  runSteps(alone ? 1 : workers->threads, stretch);
}

/// A library has threads of its own, which need the cores that the team has.
Status CpuBoundProgram::runLibrary(size_t index, const SubmitOptions &options) {
  const Step &step = steps[index];
  const Launch &launch = source.launches[step.launch];
  if (!ends.empty())
    begins[index] = Clock::now();
  const LibraryCall &call = *source.artifacts[launch.artifact].library;
  KF_CHECK(step.library->run({step.args, launch.buffers.size()}, {step.sizes, launch.sizes.size()},
                             workers->threads,
                             holders[launch.buffers[call.bufferOf(call.weight)]]));
  if (!ends.empty())
    ends[index] = Clock::now();
  cancelled = cancelAsked(options);
  return {};
}

Status CpuBoundProgram::run(std::span<const int64_t> given, const SubmitOptions &options,
                            std::vector<int64_t> *nanoseconds) {
  const std::lock_guard guard(workers->lock);
  if (!prepared || !std::ranges::equal(given, preparedSizes)) {
    KF_CHECK(checkRun(source, buffers, given));
    prepared = false;
    preparedSizes.assign(given.begin(), given.end());
    prepareSteps();
    prepared = true;
  }
  if (workers->poison)
    poisonBuffers();
  cancelled = cancelAsked(options);
  // Only where asked for: on some virtual machines reading the clock takes longer than a small
  // kernel.
  if (nanoseconds || !ends.empty()) {
    ends.assign(nanoseconds ? steps.size() : 0, Clock::time_point());
    begins = ends;
  }

  std::optional<ShortSpinning> shortly;
  if (loaded->makesWay)
    shortly.emplace(0);
  for (size_t begin = 0, end; begin < steps.size() && !cancelled; begin = end) {
    end = begin + 1;
    if (steps[begin].library) {
      KF_CHECK(runLibrary(begin, options));
      continue;
    }
    while (end < steps.size() && !steps[end].library)
      ++end;
    runStretch(begin, end, options);
  }
  if (cancelled)
    return makeError(ErrorKind::Interrupted, "run was interrupted", source.function,
                     "it was asked to stop");
  copyResults();
  if (nanoseconds) {
    nanoseconds->assign(source.launches.size(), 0);
    for (size_t i = 0; i < steps.size(); ++i) {
      const Clock::time_point begin = i > 0 ? std::max(begins[i], ends[i - 1]) : begins[i];
      (*nanoseconds)[steps[i].launch] +=
          std::chrono::duration_cast<std::chrono::nanoseconds>(ends[i] - begin).count();
    }
  }
  return {};
}

class CpuExecutable final : public Executable {
public:
  CpuExecutable(std::shared_ptr<const LoadedProgram> loaded, std::shared_ptr<Workers> workers)
      : loaded(std::move(loaded)), workers(std::move(workers)) {}

  const Program &program() const override { return *loaded->program; }

  std::vector<KernelResources> resources() const override { return loaded->resources; }

  int64_t scratchBytes() const override {
    const std::lock_guard guard(workers->lock);
    return int64_t(workers->scratch.size());
  }

  Expected<std::unique_ptr<BoundProgram>> bind(ProgramBuffers buffers) override {
    KF_CHECK(checkBuffers(program(), buffers, deviceAlignment));
    return std::make_unique<CpuBoundProgram>(loaded, std::move(buffers), workers);
  }

private:
  const std::shared_ptr<const LoadedProgram> loaded;
  const std::shared_ptr<Workers> workers;
};

class CpuDevice final : public HostMemoryDevice {
public:
  explicit CpuDevice(std::shared_ptr<Workers> workers) : workers(std::move(workers)) {
    self.kind = "cpu";
    self.name = host().cpuModel;
    self.limits.workers = this->workers->threads;
    self.limits.bufferAlignment = deviceAlignment;
    self.limits.memoryBytes = host().memoryBytes;
    self.sharesHostMemory = true;
    self.callsLibraries = true;
  }

  const DeviceInfo &info() const override { return self; }

  Expected<std::vector<std::unique_ptr<Executable>>>
  load(std::span<const std::shared_ptr<const Program>> programs) override {
    std::vector<std::unique_ptr<Executable>> executables;
    Libraries libraries;
    for (const std::shared_ptr<const Program> &program : programs) {
      KF_CHECK(checkProgram(*program));
      KF_CHECK(checkLaunchings(*program));
      auto loaded = std::make_shared<LoadedProgram>();
      loaded->program = program;
      KF_TRY(loaded->code, LoadedCode::load(program->artifacts));
      for (const Artifact &artifact : program->artifacts) {
        loaded->resources.emplace_back();
        if (!artifact.library) {
          KF_TRY(loaded->resources.back().spillBytes, stackBytes(artifact.code));
        }
        KF_TRY(loaded->libraries.emplace_back(), libraries.find(artifact));
        loaded->makesWay |= artifact.library.has_value();
      }
      KF_CHECK(reserveScratch(*program));
      executables.push_back(std::make_unique<CpuExecutable>(std::move(loaded), workers));
    }
    return executables;
  }

private:
  /// Makes the scratch large enough for one more program.
  Status reserveScratch(const Program &program) {
    const std::lock_guard guard(workers->lock);
    int64_t scratch = 0;
    for (const Artifact &artifact : program.artifacts)
      for (const Phase &phase : artifact.launching.phases)
        scratch = std::max(scratch, phase.scratchBytes);
    if (scratch > (int64_t(1) << 40))
      return unusable("program is inconsistent", program.function,
                      fmt::format("a kernel asks for {} bytes of scratch", scratch));
    const int64_t stride = (scratch + pageBytes - 1) / pageBytes * pageBytes;
    if (stride > workers->scratchStride) {
      KF_TRY(workers->scratch, PageMemory::allocate(uint64_t(stride) * workers->threads));
      workers->scratchStride = stride;
    }
    return {};
  }

  DeviceInfo self;
  std::shared_ptr<Workers> workers;
};

} // namespace

Expected<std::unique_ptr<Device>> createCpuDevice(const CpuOptions &options) {
  if (options.threads < 0 || options.threads > maxThreads)
    return unusable("number of threads is not usable", fmt::format("{}", options.threads),
                    fmt::format("it must be 1 to {}", maxThreads));
  int threads = options.threads ? options.threads : host().physicalCores;
  return std::make_unique<CpuDevice>(std::make_shared<Workers>(threads, options.poison));
}

} // namespace kernelforge
