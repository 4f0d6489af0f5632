// How a bound program runs. How it is bound is in Binding.cpp, how it is timed in RunTiming.cpp.
#include "kernelforge/backend/webgpu/BoundProgram.h"

#include <algorithm>
#include <fmt/format.h>

namespace kernelforge::webgpu {

namespace {

/// How many dispatches are submitted together: the first time few, so that an idle device has work
/// soon, then twice as many each time, up to what hides the cost of a submit and lets a run be
/// stopped. One that is at work gets a whole step of a decoder at once: it does not wait for it.
constexpr size_t firstDispatches = 8;
constexpr size_t mostDispatches = 64;
constexpr size_t dispatchesAtWork = 256;

} // namespace

Status WebGpuBoundProgram::cancelled(const SubmitOptions &options) const {
  if (options.cancel && *options.cancel)
    return makeError(ErrorKind::Interrupted, "run was interrupted", program->function,
                     "stopped by user");
  return {};
}

Status WebGpuBoundProgram::checkSizes(std::span<const int64_t> sizes) const {
  auto refuse = [&](std::string why) {
    return unusable("run is refused", program->function, std::move(why));
  };
  if (sizes.size() != program->sizes.size())
    return refuse(
        fmt::format("{} sizes are given where {} are needed", sizes.size(), program->sizes.size()));
  for (size_t i = 0; i < sizes.size(); ++i) {
    const ProgramSize &size = program->sizes[i];
    if (sizes[i] < size.min || sizes[i] > size.max)
      return refuse(fmt::format("size '{}' is {}, out of the range {} to {} that it was compiled "
                                "for",
                                size.name, sizes[i], size.min, size.max));
    if (sizes[i] > UINT32_MAX)
      return refuse(fmt::format("size '{}' is {}, which 32 bits do not hold", size.name, sizes[i]));
  }
  for (const std::vector<int> *list : {&program->arguments, &program->results})
    for (int index : *list) {
      const Buffer &buffer = program->buffers[index];
      const auto needed = checkedExtent(buffer.bytes, sizes);
      if (!needed || *needed > uint64_t(buffers[index].bytes))
        return refuse(fmt::format("buffer '{}' has {} bytes where {} are needed", buffer.name,
                                  buffers[index].bytes, needed.value_or(INT64_MAX)));
    }
  return {};
}

Status WebGpuBoundProgram::prepare(std::span<const int64_t> sizes) {
  KF_CHECK(context->alive());
  const bool isSame = std::equal(sizes.begin(), sizes.end(), lastSizes.begin(), lastSizes.end());
  if (isSame && uniformsWritten)
    return {};
  KF_CHECK(checkSizes(sizes));
  uniformsWritten = false;
  std::vector<uint32_t> words((uniformBytesInAll + 3) / 4);
  std::vector<int64_t> own;
  for (Dispatch &dispatch : dispatches) {
    own.clear();
    for (int size : program->launches[dispatch.launch].sizes)
      own.push_back(sizes[size]);
    const auto tasks = checkedExtent(dispatch.phase->grid, own);
    const auto grid =
        tasks ? foldGrid(*tasks, context->info().limits.blocksPerDimension) : std::nullopt;
    if (!grid)
      return unusable("run is refused",
                      fmt::format("{}, {}", program->function, dispatch.phase->entry),
                      fmt::format("its grid has {} blocks, more than the device can launch",
                                  tasks.value_or(INT64_MAX)));
    dispatch.grid = *grid;
    writeUniform(*dispatch.phase, own, *grid, words.data() + dispatch.slot / 4);
  }
  if (!words.empty())
    context->api().wgpuQueueWriteBuffer(context->queue(), uniforms.get(), 0, words.data(),
                                        words.size() * 4);
  lastSizes.assign(sizes.begin(), sizes.end());
  uniformsWritten = true;
  return {};
}

void WebGpuBoundProgram::encode(WGPUComputePassEncoder pass, size_t first, size_t last) const {
  const Api &api = context->api();
  for (size_t i = first; i < last; ++i) {
    const Dispatch &dispatch = dispatches[i];
    if (dispatch.grid.tasks == 0)
      continue;
    api.wgpuComputePassEncoderSetPipeline(pass, dispatch.pipeline);
    api.wgpuComputePassEncoderSetBindGroup(pass, 0, dispatch.group.get(), 0, nullptr);
    api.wgpuComputePassEncoderDispatchWorkgroups(pass, dispatch.grid.width, dispatch.grid.height,
                                                 1);
  }
}

Status WebGpuBoundProgram::record(size_t first, size_t last) {
  const Api &api = context->api();
  Handle<WGPUCommandBuffer> commands;
  auto recordAll = [&] {
    const Handle<WGPUCommandEncoder> encoder = {
        api.wgpuDeviceCreateCommandEncoder(context->device(), nullptr),
        api.wgpuCommandEncoderRelease};
    // All that a pass dispatches is in order.
    const Handle<WGPUComputePassEncoder> pass = {
        api.wgpuCommandEncoderBeginComputePass(encoder.get(), nullptr),
        api.wgpuComputePassEncoderRelease};
    encode(pass.get(), first, last);
    api.wgpuComputePassEncoderEnd(pass.get());
    commands = {api.wgpuCommandEncoderFinish(encoder.get(), nullptr), api.wgpuCommandBufferRelease};
  };
  // What was right once is so again, and error scopes cost as much as some dispatches.
  if (wasRight && context->reportsLater())
    recordAll();
  else
    KF_CHECK(context->checked("WebGPU work cannot be recorded", program->function, recordAll));
  context->submit(commands.get());
  return {};
}

Status WebGpuBoundProgram::runRange(size_t first, size_t last, const SubmitOptions &options) {
  const bool isAtWork = transfers->areUnderWay();
  size_t count = isAtWork ? dispatchesAtWork : firstDispatches;
  for (size_t begin = first; begin < last; begin += count) {
    KF_CHECK(cancelled(options));
    if (begin > first && !isAtWork)
      count = std::min(2 * count, mostDispatches);
    KF_CHECK(record(begin, std::min(last, begin + count)));
  }
  wasRight |= first == 0 && last == dispatches.size();
  return {};
}

Status WebGpuBoundProgram::copyResults(std::span<const int64_t> sizes) {
  for (const ResultCopy &copy : program->copies) {
    const auto bytes = checkedExtent(copy.bytes, sizes);
    const BufferRef &from = buffers[copy.from], &to = buffers[copy.to];
    if (!bytes || *bytes > uint64_t(from.bytes) || *bytes > uint64_t(to.bytes))
      return unusable("run is refused", program->function,
                      fmt::format("result '{}' of {} bytes cannot be copied from '{}'",
                                  program->buffers[copy.to].name, to.bytes,
                                  program->buffers[copy.from].name));
    if (*bytes > 0)
      KF_CHECK(transfers->copy(from, to, *bytes));
  }
  return {};
}

Expected<Ticket> WebGpuBoundProgram::submit(std::span<const int64_t> sizes,
                                            const SubmitOptions &options) {
  const auto guard = context->lock();
  KF_CHECK(prepare(sizes));
  KF_CHECK(cancelled(options));
  KF_CHECK(runRange(0, dispatches.size(), options));
  KF_CHECK(copyResults(sizes));
  return transfers->issue();
}

size_t WebGpuBoundProgram::dispatchOf(int launch) const {
  return std::partition_point(dispatches.begin(), dispatches.end(),
                              [&](const Dispatch &one) { return one.launch < launch; }) -
         dispatches.begin();
}

} // namespace kernelforge::webgpu
