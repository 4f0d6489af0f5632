// A program bound to memory of a GPU, and its executable.
#pragma once

#include "kernelforge/backend/Device.h"
#include "kernelforge/backend/cuda/Modules.h"
#include "kernelforge/backend/cuda/Queue.h"

#include <deque>
#include <memory>
#include <vector>

namespace kernelforge::cuda {

class LoadedProgram final : public Executable {
public:
  LoadedProgram(std::shared_ptr<Context> context, std::shared_ptr<Queue> queue,
                std::shared_ptr<const Program> program, std::vector<Kernel> kernels)
      : context(std::move(context)), queue(std::move(queue)), source(std::move(program)),
        kernels(std::move(kernels)) {}

  const Program &program() const override { return *source; }
  std::vector<KernelResources> resources() const override;
  Expected<std::unique_ptr<BoundProgram>> bind(ProgramBuffers buffers) override;

private:
  std::shared_ptr<Context> context;
  std::shared_ptr<Queue> queue;
  std::shared_ptr<const Program> source;
  std::vector<Kernel> kernels;
};

/// Parameters and tensor maps are made once. A run is recorded as a graph the second time that it
/// has the same sizes: then it is one call, whatever is in its buffers.
class CudaBoundProgram final : public BoundProgram {
public:
  static Expected<std::unique_ptr<CudaBoundProgram>> make(std::shared_ptr<Context> context,
                                                          std::shared_ptr<Queue> queue,
                                                          std::shared_ptr<const Program> program,
                                                          const std::vector<Kernel> &kernels,
                                                          ProgramBuffers buffers);
  ~CudaBoundProgram() override;

  Expected<Ticket> submit(std::span<const int64_t> sizes, const SubmitOptions &options) override;
  Expected<std::vector<int64_t>> runTimed(std::span<const int64_t> sizes,
                                          const SubmitOptions &options) override;

  /// Submits a run between two events, which may be null.
  Expected<Ticket> submitBetween(std::span<const int64_t> sizes, CUevent begin, CUevent end);

  /// Puts a run into a stream that records a graph.
  Status record(std::span<const int64_t> sizes, CUstream stream);

  const Context *owner() const { return context.get(); }
  const Program *source() const { return program.get(); }

private:
  /// One phase of one launch, ready but for sizes and grid.
  struct Call {
    int launch = 0;
    const Phase *phase = nullptr;
    Function function;
    std::vector<uint64_t> words; ///< what its parameters are, but for maps
    std::vector<CUtensorMap> maps;
    std::vector<void *> parameters; ///< into the two
    uint64_t blocks = 0;            ///< at the sizes of the last run
  };
  /// What is kept of runs with the same sizes.
  struct Recorded {
    std::vector<int64_t> sizes;
    CUgraphExec graph = nullptr;
    uint64_t lastUse = 0;
  };

  CudaBoundProgram(std::shared_ptr<Context> context, std::shared_ptr<Queue> queue,
                   std::shared_ptr<const Program> program, ProgramBuffers buffers)
      : context(std::move(context)), queue(std::move(queue)), program(std::move(program)),
        given(std::move(buffers)) {}

  // Binding.cpp
  Status resolve();
  Status makeWorkspaces();
  Status makeCalls(const std::vector<Kernel> &kernels);
  Status addParameter(Call &call, const Launch &launch, const Parameter &parameter);
  Expected<CUtensorMap> makeMap(const Launch &launch, const Parameter &parameter) const;

  // BoundProgram.cpp
  Status checkCancelled(const SubmitOptions &options) const;
  Status prepare(std::span<const int64_t> sizes);
  Status launch(Call &call, CUstream stream) const;
  Status launchAll(std::span<const int64_t> sizes, const SubmitOptions &options, CUstream stream);
  Status copyResults(std::span<const int64_t> sizes, CUstream stream) const;
  /// The graph of a run with these sizes, if there is to be one by now.
  Expected<CUgraphExec> graphFor(std::span<const int64_t> sizes, bool isRepeated);

  // RunTiming.cpp
  bool isRepeatable(int launch) const;
  Status launchOne(int launch, int times, CUstream stream);
  Status timeOne(int launch, int times, CUevent begin, CUevent end);

  std::shared_ptr<Context> context;
  std::shared_ptr<Queue> queue;
  std::shared_ptr<const Program> program;
  ProgramBuffers given;                       ///< kept, so that their memory stays
  std::vector<CUdeviceptr> addresses;         ///< by buffer of the program
  std::vector<int64_t> capacities;            ///< bytes from there on, likewise
  std::vector<std::vector<BufferRef>> zeroed; ///< by artifact and workspace
  std::deque<Call> calls;
  std::vector<int64_t> lastSizes;
  bool isPrepared = false; ///< for `lastSizes`
  std::vector<Recorded> recorded;
  uint64_t uses = 0;
};

} // namespace kernelforge::cuda
