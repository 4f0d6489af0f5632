// A program bound to memory of a WebGPU device, and its executable.
#pragma once

#include "kernelforge/backend/Device.h"
#include "kernelforge/backend/webgpu/Convention.h"
#include "kernelforge/backend/webgpu/Pipelines.h"
#include "kernelforge/backend/webgpu/Transfers.h"

#include <memory>
#include <vector>

namespace kernelforge::webgpu {

class LoadedProgram : public Executable {
public:
  LoadedProgram(std::shared_ptr<Context> context, std::shared_ptr<Transfers> transfers,
                std::shared_ptr<const Program> program, std::vector<Kernel> kernels)
      : context(std::move(context)), transfers(std::move(transfers)), source(std::move(program)),
        kernels(std::move(kernels)) {}
  ~LoadedProgram() override;

  const Program &program() const override { return *source; }
  /// WebGPU says nothing of them.
  std::vector<KernelResources> resources() const override {
    return std::vector<KernelResources>(source->artifacts.size());
  }
  Expected<std::unique_ptr<BoundProgram>> bind(ProgramBuffers buffers) override;

private:
  std::shared_ptr<Context> context;
  std::shared_ptr<Transfers> transfers;
  std::shared_ptr<const Program> source;
  std::vector<Kernel> kernels;
};

/// Bind groups and uniforms are made once; uniforms are written again when sizes change.
class WebGpuBoundProgram : public BoundProgram {
public:
  static Expected<std::unique_ptr<WebGpuBoundProgram>> make(const std::shared_ptr<Context> &context,
                                                            std::shared_ptr<Transfers> transfers,
                                                            std::shared_ptr<const Program> program,
                                                            const std::vector<Kernel> &kernels,
                                                            const ProgramBuffers &buffers);
  ~WebGpuBoundProgram() override;

  Expected<Ticket> submit(std::span<const int64_t> sizes, const SubmitOptions &options) override;
  Expected<std::vector<int64_t>> runTimed(std::span<const int64_t> sizes,
                                          const SubmitOptions &options) override;

  /// Runs to the end. Seconds by the device's clock, from before its first launch to behind its
  /// last copy.
  Expected<double> timeWhole(std::span<const int64_t> sizes);

  /// How many runs of it timeTogether() takes at most: 0 where it copies results, or the device has
  /// no clock.
  size_t mostTogether() const;

  /// Seconds by the device's clock of runs, one of each of `programs` (all of one device, and of
  /// none of which mostTogether() is 0), in one pass: what a submit costs is no part of it.
  static Expected<double> timeTogether(std::span<WebGpuBoundProgram *const> programs,
                                       std::span<const int64_t> sizes);

  const Context *owner() const { return context.get(); }

private:
  /// One phase of one launch.
  struct Dispatch {
    int launch = 0;
    const Phase *phase = nullptr;
    WGPUComputePipeline pipeline = nullptr;
    Handle<WGPUBindGroup> group;
    uint64_t slot = 0; ///< byte offset of its uniform
    FoldedGrid grid;   ///< at the sizes of the last run
  };
  WebGpuBoundProgram(std::shared_ptr<Context> context, std::shared_ptr<Transfers> transfers,
                     std::shared_ptr<const Program> program)
      : context(std::move(context)), transfers(std::move(transfers)), program(std::move(program)) {}

  Status resolve(const ProgramBuffers &given);
  Status resolveList(const char *what, const std::vector<int> &list,
                     const std::vector<BufferRef> &given);
  Status makeWorkspaces();
  Status makeDispatches(const std::vector<Kernel> &kernels);
  Expected<BufferRef> bufferOf(const Launch &launch, const Parameter &parameter) const;
  /// Bytes of a buffer that is bound in pieces.
  Expected<int64_t> bytesInPieces(const Launch &launch, const Parameter &parameter,
                                  const std::string &where) const;
  Status makeGroup(Dispatch &dispatch, WGPUBindGroupLayout layout);

  Status prepare(std::span<const int64_t> sizes);
  Status checkSizes(std::span<const int64_t> sizes) const;
  Status record(size_t first, size_t last);
  /// Whether a launch that runs again right behind itself does the same: it reads nothing that it
  /// writes but workspaces, and none of those stays.
  Expected<bool> isRepeatable(int launch) const;
  /// Records launches with timestamps around passes of each.
  Status recordTimed(int first, int last, WGPUQuerySet queries);
  /// What a launch takes, by its timestamps.
  int64_t nanosecondsOf(std::span<const uint64_t> stamps) const;
  void encode(WGPUComputePassEncoder pass, size_t first, size_t last) const;
  Status runRange(size_t first, size_t last, const SubmitOptions &options);
  Status copyResults(std::span<const int64_t> sizes);
  Status stampAlone(WGPUQuerySet queries, uint32_t index, bool atBegin);
  Expected<std::vector<uint64_t>> readStamps(Handle<WGPUQuerySet> queries, uint32_t count);
  Expected<double> secondsBetween(uint64_t begin, uint64_t end) const;
  Expected<Handle<WGPUQuerySet>> makeQueries(uint32_t count);
  Expected<std::vector<int64_t>> runByHostClock(std::span<const int64_t> sizes,
                                                const SubmitOptions &options);
  Status cancelled(const SubmitOptions &options) const;
  Status finishQueue();
  /// The first dispatch of a launch, or of the next that has one.
  size_t dispatchOf(int launch) const;

  std::shared_ptr<Context> context;
  std::shared_ptr<Transfers> transfers;
  std::shared_ptr<const Program> program;
  std::vector<BufferRef> buffers;             ///< by index in the program
  BufferRef nothing;                          ///< bound where a buffer has no bytes
  std::vector<std::vector<BufferRef>> zeroed; ///< by artifact and workspace
  std::vector<Dispatch> dispatches;
  Handle<WGPUBuffer> uniforms;
  uint64_t uniformBytesInAll = 0;
  std::vector<int64_t> lastSizes;
  bool uniformsWritten = false; ///< for `lastSizes`
  bool wasRight = false;        ///< all of it was recorded once without an error
};

} // namespace kernelforge::webgpu
