// How long runs and launches take by the device's clock; by the host's where it has none.
#include "kernelforge/backend/webgpu/BoundProgram.h"
#include "kernelforge/backend/webgpu/WarmUp.h"

#include <algorithm>
#include <chrono>

namespace kernelforge::webgpu {

namespace {

using Clock = std::chrono::steady_clock;

/// Timestamps of a launch: around one pass of it, and around one in which it runs again and again.
constexpr int stampsALaunch = 4;
/// How often more the second runs it: what a pass costs by itself, which is more than many a launch
/// takes, is the same in both, and goes with their difference.
constexpr int again = 8;
/// A set has at most 4096 of them.
constexpr int launchesAQuerySet = 4096 / stampsALaunch;

bool overlap(const BufferRef &a, const BufferRef &b) {
  return a.memory && a.memory == b.memory && a.offset < b.offset + b.bytes &&
         b.offset < a.offset + a.bytes;
}

double secondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

} // namespace

Expected<Handle<WGPUQuerySet>> WebGpuBoundProgram::makeQueries(uint32_t count) {
  WGPUQuerySetDescriptor descriptor = WGPU_QUERY_SET_DESCRIPTOR_INIT;
  descriptor.type = WGPUQueryType_Timestamp;
  descriptor.count = count;
  const Api &api = context->api();
  Handle<WGPUQuerySet> queries;
  KF_CHECK(context->checked("WebGPU run cannot be timed", program->function, [&] {
    queries = {api.wgpuDeviceCreateQuerySet(context->device(), &descriptor),
               api.wgpuQuerySetRelease};
  }));
  return queries;
}

Status WebGpuBoundProgram::stampAlone(WGPUQuerySet queries, uint32_t index, bool atBegin) {
  const Api &api = context->api();
  Handle<WGPUCommandBuffer> commands;
  KF_CHECK(context->checked("WebGPU run cannot be timed", program->function, [&] {
    const Handle<WGPUCommandEncoder> encoder = {
        api.wgpuDeviceCreateCommandEncoder(context->device(), nullptr),
        api.wgpuCommandEncoderRelease};
    WGPUPassTimestampWrites writes = WGPU_PASS_TIMESTAMP_WRITES_INIT;
    writes.querySet = queries;
    (atBegin ? writes.beginningOfPassWriteIndex : writes.endOfPassWriteIndex) = index;
    WGPUComputePassDescriptor descriptor = WGPU_COMPUTE_PASS_DESCRIPTOR_INIT;
    descriptor.timestampWrites = &writes;
    const Handle<WGPUComputePassEncoder> pass = {
        api.wgpuCommandEncoderBeginComputePass(encoder.get(), &descriptor),
        api.wgpuComputePassEncoderRelease};
    api.wgpuComputePassEncoderEnd(pass.get());
    commands = {api.wgpuCommandEncoderFinish(encoder.get(), nullptr), api.wgpuCommandBufferRelease};
  }));
  context->submit(commands.get());
  return {};
}

Expected<std::vector<uint64_t>> WebGpuBoundProgram::readStamps(Handle<WGPUQuerySet> queries,
                                                               uint32_t count) {
  const Api &api = context->api();
  std::vector<uint64_t> stamps(count);
  const auto bytes = int64_t(count * sizeof(uint64_t));
  Ticket ticket = 0;
  {
    const auto guard = context->lock();
    KF_TRY(const BufferRef ref, transfers->allocate(bytes, MemoryUse::Transfer));
    KF_TRY(const BufferMemory *const memory, memoryOf(*context, ref, "timestamps"));
    KF_TRY(const Handle<WGPUBuffer> resolved,
           context->makeBuffer(bytes, WGPUBufferUsage_QueryResolve | WGPUBufferUsage_CopySrc,
                               "timestamps"));
    Handle<WGPUCommandBuffer> commands;
    KF_CHECK(context->checked("WebGPU run cannot be timed", program->function, [&] {
      const Handle<WGPUCommandEncoder> encoder = {
          api.wgpuDeviceCreateCommandEncoder(context->device(), nullptr),
          api.wgpuCommandEncoderRelease};
      api.wgpuCommandEncoderResolveQuerySet(encoder.get(), queries.get(), 0, count, resolved.get(),
                                            0);
      api.wgpuCommandEncoderCopyBufferToBuffer(encoder.get(), resolved.get(), 0, memory->buffer(),
                                               0, bytes);
      commands = {api.wgpuCommandEncoderFinish(encoder.get(), nullptr),
                  api.wgpuCommandBufferRelease};
    }));
    context->submit(commands.get());
    queries.reset();
    KF_TRY(ticket, transfers->download(ref, std::as_writable_bytes(std::span(stamps))));
  }
  KF_CHECK(transfers->wait(ticket));
  return stamps;
}

Status WebGpuBoundProgram::finishQueue() {
  Ticket ticket = 0;
  {
    const auto guard = context->lock();
    ticket = transfers->issue();
  }
  return transfers->wait(ticket);
}

Expected<std::vector<int64_t>> WebGpuBoundProgram::runByHostClock(std::span<const int64_t> sizes,
                                                                  const SubmitOptions &options) {
  std::vector<int64_t> nanoseconds;
  KF_CHECK(finishQueue());
  for (int launch = 0; launch < int(program->launches.size()); ++launch) {
    const auto begin = Clock::now();
    {
      const auto guard = context->lock();
      KF_CHECK(runRange(dispatchOf(launch), dispatchOf(launch + 1), options));
    }
    KF_CHECK(finishQueue());
    nanoseconds.push_back(int64_t(secondsSince(begin) * 1e9));
  }
  return nanoseconds;
}

Expected<bool> WebGpuBoundProgram::isRepeatable(int launch) const {
  std::vector<BufferRef> read, written;
  const Launch &one = program->launches[launch];
  const Artifact &artifact = program->artifacts[one.artifact];
  for (size_t i = dispatchOf(launch), end = dispatchOf(launch + 1); i < end; ++i)
    for (const Parameter &parameter : dispatches[i].phase->parameters) {
      if (parameter.kind == Parameter::Kind::Workspace &&
          artifact.launching.workspaces[parameter.index].contents ==
              Workspace::Contents::ZeroedOnce)
        return false;
      if (parameter.kind != Parameter::Kind::Buffer)
        continue;
      KF_TRY(BufferRef ref, bufferOf(one, parameter));
      if (parameter.access != Access::Write)
        read.push_back(ref);
      if (parameter.access != Access::Read)
        written.push_back(std::move(ref));
    }
  return std::none_of(written.begin(), written.end(), [&](const BufferRef &to) {
    return std::any_of(read.begin(), read.end(),
                       [&](const BufferRef &from) { return overlap(from, to); });
  });
}

Status WebGpuBoundProgram::recordTimed(int first, int last, WGPUQuerySet queries) {
  const Api &api = context->api();
  Handle<WGPUCommandBuffer> commands;
  std::vector<int> times;
  for (int launch = first; launch < last; ++launch) {
    KF_TRY(const bool repeatable, isRepeatable(launch));
    times.push_back(repeatable ? 1 + again : 0);
  }
  KF_CHECK(context->checked("WebGPU run cannot be timed", program->function, [&] {
    const Handle<WGPUCommandEncoder> encoder = {
        api.wgpuDeviceCreateCommandEncoder(context->device(), nullptr),
        api.wgpuCommandEncoderRelease};
    for (int launch = first; launch < last; ++launch)
      for (int half = 0; half < 2; ++half) {
        WGPUPassTimestampWrites writes = WGPU_PASS_TIMESTAMP_WRITES_INIT;
        writes.querySet = queries;
        writes.beginningOfPassWriteIndex = uint32_t(stampsALaunch * (launch - first) + 2 * half);
        writes.endOfPassWriteIndex = writes.beginningOfPassWriteIndex + 1;
        WGPUComputePassDescriptor descriptor = WGPU_COMPUTE_PASS_DESCRIPTOR_INIT;
        descriptor.timestampWrites = &writes;
        const Handle<WGPUComputePassEncoder> pass = {
            api.wgpuCommandEncoderBeginComputePass(encoder.get(), &descriptor),
            api.wgpuComputePassEncoderRelease};
        for (int time = half == 0 ? 1 : times[launch - first]; time > 0; --time)
          encode(pass.get(), dispatchOf(launch), dispatchOf(launch + 1));
        api.wgpuComputePassEncoderEnd(pass.get());
      }
    commands = {api.wgpuCommandEncoderFinish(encoder.get(), nullptr), api.wgpuCommandBufferRelease};
  }));
  context->submit(commands.get());
  return {};
}

int64_t WebGpuBoundProgram::nanosecondsOf(std::span<const uint64_t> stamps) const {
  const auto between = [&](uint64_t begin, uint64_t end) {
    return end > begin ? double(end - begin) * context->timestampPeriod() : 0;
  };
  const double once = between(stamps[0], stamps[1]), often = between(stamps[2], stamps[3]);
  return int64_t(often > once ? (often - once) / again : once);
}

Expected<std::vector<int64_t>> WebGpuBoundProgram::runTimed(std::span<const int64_t> sizes,
                                                            const SubmitOptions &options) {
  std::vector<int64_t> nanoseconds;
  KF_CHECK(context->warmUp().run(*context));
  {
    const auto guard = context->lock();
    KF_CHECK(prepare(sizes));
  }
  if (!context->hasTimestamps()) {
    KF_TRY(nanoseconds, runByHostClock(sizes, options));
  } else {
    const int launches = int(program->launches.size());
    for (int first = 0; first < launches; first += launchesAQuerySet) {
      const int last = std::min(launches, first + launchesAQuerySet);
      const auto count = uint32_t(stampsALaunch * (last - first));
      Handle<WGPUQuerySet> queries;
      {
        const auto guard = context->lock();
        KF_CHECK(cancelled(options));
        KF_TRY(queries, makeQueries(count));
        KF_CHECK(recordTimed(first, last, queries.get()));
      }
      KF_TRY(const std::vector<uint64_t> stamps, readStamps(std::move(queries), count));
      for (int i = 0; i < last - first; ++i)
        nanoseconds.push_back(
            nanosecondsOf(std::span(stamps).subspan(size_t(stampsALaunch) * size_t(i), stampsALaunch)));
    }
  }
  {
    const auto guard = context->lock();
    KF_CHECK(copyResults(sizes));
  }
  KF_CHECK(finishQueue());
  context->warmUp().note();
  return nanoseconds;
}

size_t WebGpuBoundProgram::mostTogether() const {
  constexpr size_t dispatchesTogether = 256;
  if (!context->hasTimestamps() || !program->copies.empty() || dispatches.empty())
    return 0;
  return std::max<size_t>(1, dispatchesTogether / dispatches.size());
}

Expected<double> WebGpuBoundProgram::timeTogether(std::span<WebGpuBoundProgram *const> programs,
                                                  std::span<const int64_t> sizes) {
  WebGpuBoundProgram &first = *programs.front();
  const Context &context = *first.context;
  const Api &api = context.api();
  Handle<WGPUQuerySet> queries;
  {
    const auto guard = context.lock();
    for (WebGpuBoundProgram *one : programs)
      KF_CHECK(one->prepare(sizes));
    KF_TRY(queries, first.makeQueries(2));
    Handle<WGPUCommandBuffer> commands;
    KF_CHECK(context.checked("WebGPU run cannot be timed", first.program->function, [&] {
      const Handle<WGPUCommandEncoder> encoder = {
          api.wgpuDeviceCreateCommandEncoder(context.device(), nullptr),
          api.wgpuCommandEncoderRelease};
      WGPUPassTimestampWrites writes = WGPU_PASS_TIMESTAMP_WRITES_INIT;
      writes.querySet = queries.get();
      writes.beginningOfPassWriteIndex = 0;
      writes.endOfPassWriteIndex = 1;
      WGPUComputePassDescriptor descriptor = WGPU_COMPUTE_PASS_DESCRIPTOR_INIT;
      descriptor.timestampWrites = &writes;
      const Handle<WGPUComputePassEncoder> pass = {
          api.wgpuCommandEncoderBeginComputePass(encoder.get(), &descriptor),
          api.wgpuComputePassEncoderRelease};
      for (const WebGpuBoundProgram *one : programs)
        one->encode(pass.get(), 0, one->dispatches.size());
      api.wgpuComputePassEncoderEnd(pass.get());
      commands = {api.wgpuCommandEncoderFinish(encoder.get(), nullptr),
                  api.wgpuCommandBufferRelease};
    }));
    context.submit(commands.get());
  }
  KF_TRY(const std::vector<uint64_t> stamps, first.readStamps(std::move(queries), 2));
  return first.secondsBetween(stamps[0], stamps[1]);
}

Expected<double> WebGpuBoundProgram::secondsBetween(uint64_t begin, uint64_t end) const {
  if (end <= begin)
    return failed("run cannot be timed", context->info().name,
                  "its clock does not tell how long a run takes");
  return double(end - begin) * context->timestampPeriod() * 1e-9;
}

Expected<double> WebGpuBoundProgram::timeWhole(std::span<const int64_t> sizes) {
  KF_CHECK(finishQueue());
  Handle<WGPUQuerySet> queries;
  const auto begin = Clock::now();
  {
    const auto guard = context->lock();
    KF_CHECK(prepare(sizes));
    if (context->hasTimestamps()) {
      KF_TRY(queries, makeQueries(2));
      KF_CHECK(stampAlone(queries.get(), 0, true));
    }
    KF_CHECK(runRange(0, dispatches.size(), {}));
    KF_CHECK(copyResults(sizes));
    if (queries)
      KF_CHECK(stampAlone(queries.get(), 1, false));
  }
  if (!queries) {
    KF_CHECK(finishQueue());
    return secondsSince(begin);
  }
  KF_TRY(const std::vector<uint64_t> stamps, readStamps(std::move(queries), 2));
  return secondsBetween(stamps[0], stamps[1]);
}

} // namespace kernelforge::webgpu
