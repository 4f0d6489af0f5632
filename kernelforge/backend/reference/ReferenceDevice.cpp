#include "kernelforge/backend/reference/ReferenceDevice.h"

#include "kernelforge/backend/HostMemory.h"
#include "kernelforge/backend/interpreter/Interpreter.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/Host.h"

#include "mlir/Parser/Parser.h"

#include <chrono>
#include <cstring>

using namespace mlir;
using namespace kernelforge;

namespace {

using Clock = std::chrono::steady_clock;

/// A program's modules and who interprets their functions, by artifact.
struct LoadedProgram {
  std::shared_ptr<const Program> program;
  std::unique_ptr<MLIRContext> context;
  std::vector<OwningOpRef<ModuleOp>> modules;
  std::vector<Interpreter> kernels;
};

class ReferenceBoundProgram final : public BoundProgram {
public:
  ReferenceBoundProgram(std::shared_ptr<const LoadedProgram> loaded, ProgramBuffers given)
      : loaded(std::move(loaded)), source(*this->loaded->program), buffers(std::move(given)),
        pointers(source.buffers.size()) {
    for (size_t i = 0; i < source.buffers.size(); ++i)
      if (source.buffers[i].kind == BufferKind::Intermediate)
        pointers[i] = buffers.arena.hostAddress() + source.buffers[i].offset;
    for (size_t i = 0; i < source.arguments.size(); ++i)
      pointers[source.arguments[i]] = buffers.arguments[i].hostAddress();
    for (size_t i = 0; i < source.results.size(); ++i)
      pointers[source.results[i]] = buffers.results[i].hostAddress();
  }

  Expected<Ticket> submit(std::span<const int64_t> sizes, const SubmitOptions &options) override {
    KF_TRY(auto times, runTimed(sizes, options));
    return Ticket(0);
  }

  Expected<std::vector<int64_t>> runTimed(std::span<const int64_t> sizes,
                                          const SubmitOptions &options) override {
    KF_CHECK(checkRun(source, buffers, sizes));
    std::vector<int64_t> nanoseconds;
    for (const Launch &launch : source.launches) {
      if (options.cancel && options.cancel->load())
        return makeError(ErrorKind::Interrupted, "run was interrupted", source.function,
                         "it was asked to stop");
      const auto begin = Clock::now();
      KF_CHECK(run(launch, sizes, options));
      nanoseconds.push_back(
          std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - begin).count());
    }
    for (const ResultCopy &copy : source.copies)
      if (const uint64_t bytes = *checkedExtent(copy.bytes, sizes); bytes > 0)
        std::memmove(pointers[copy.to], pointers[copy.from], bytes);
    return nanoseconds;
  }

private:
  Status run(const Launch &launch, std::span<const int64_t> sizes, const SubmitOptions &options) {
    std::vector<int64_t> own;
    for (int size : launch.sizes)
      own.push_back(sizes[size]);
    const Artifact &artifact = source.artifacts[launch.artifact];
    std::vector<void *> arguments, results;
    // A kernel writes its results and nothing else but caches, which are arguments of it, too.
    for (const Parameter &parameter : artifact.launching.phases.front().parameters)
      if (parameter.kind == Parameter::Kind::Buffer) {
        void *pointer = pointers[launch.buffers[parameter.index]];
        (parameter.access == Access::Write ? results : arguments).push_back(pointer);
      }
    return loaded->kernels[launch.artifact].run({own, arguments, results},
                                                {.cancel = options.cancel});
  }

  const std::shared_ptr<const LoadedProgram> loaded;
  const Program &source;
  const ProgramBuffers buffers;
  std::vector<void *> pointers; ///< by buffer
};

class ReferenceExecutable final : public Executable {
public:
  explicit ReferenceExecutable(std::shared_ptr<const LoadedProgram> loaded)
      : loaded(std::move(loaded)) {}

  const Program &program() const override { return *loaded->program; }
  std::vector<KernelResources> resources() const override {
    return std::vector<KernelResources>(program().artifacts.size());
  }
  Expected<std::unique_ptr<BoundProgram>> bind(ProgramBuffers buffers) override {
    KF_CHECK(checkBuffers(program(), buffers, 1));
    return std::make_unique<ReferenceBoundProgram>(loaded, std::move(buffers));
  }

private:
  const std::shared_ptr<const LoadedProgram> loaded;
};

class ReferenceDevice final : public HostMemoryDevice {
public:
  ReferenceDevice() {
    self.kind = "reference";
    self.name = "reference semantics on " + host().cpu;
    self.limits.workers = 1;
    self.limits.memoryBytes = host().memoryBytes;
    self.sharesHostMemory = true;
  }

  const DeviceInfo &info() const override { return self; }

  Expected<std::vector<std::unique_ptr<Executable>>>
  load(std::span<const std::shared_ptr<const Program>> programs) override {
    std::vector<std::unique_ptr<Executable>> executables;
    for (const std::shared_ptr<const Program> &program : programs) {
      KF_CHECK(checkProgram(*program));
      KF_CHECK(checkLaunchings(*program));
      KF_TRY(auto loaded, loadOne(program));
      executables.push_back(std::make_unique<ReferenceExecutable>(std::move(loaded)));
    }
    return executables;
  }

private:
  static Expected<std::shared_ptr<const LoadedProgram>>
  loadOne(const std::shared_ptr<const Program> &program) {
    auto loaded = std::make_shared<LoadedProgram>();
    loaded->program = program;
    loaded->context = std::make_unique<MLIRContext>(MLIRContext::Threading::DISABLED);
    loaded->context->loadDialect<transformer::TransformerDialect, func::FuncDialect>();
    // Said in one line below.
    ScopedDiagnosticHandler quiet(loaded->context.get(), [](Diagnostic &) { return success(); });
    for (const Artifact &artifact : program->artifacts) {
      auto module = artifact.library
                        ? OwningOpRef<ModuleOp>()
                        : parseSourceString<ModuleOp>(artifact.code, loaded->context.get());
      if (!module || artifact.launching.phases.empty())
        return failed("code cannot be loaded", artifact.kernel,
                      "it is no module for the reference device",
                      "compile it for the target reference");
      KF_TRY(Interpreter kernel,
             Interpreter::create(*module, artifact.launching.phases.front().entry));
      loaded->kernels.push_back(std::move(kernel));
      loaded->modules.push_back(std::move(module));
    }
    return loaded;
  }

  DeviceInfo self;
};

} // namespace

std::unique_ptr<Device> kernelforge::createReferenceDevice() {
  return std::make_unique<ReferenceDevice>();
}
