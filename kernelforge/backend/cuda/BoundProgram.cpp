// How a bound program runs. How it is bound is in Binding.cpp.
#include "kernelforge/backend/cuda/BoundProgram.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace kernelforge::cuda {

namespace {

/// So many runs of different sizes are kept recorded: buckets of a batch and of cached lengths.
constexpr size_t mostRecorded = 32;

} // namespace

Status CudaBoundProgram::checkCancelled(const SubmitOptions &options) const {
  if (options.cancel && *options.cancel)
    return makeError(ErrorKind::Interrupted, "run was interrupted", program->function,
                     "stopped by user");
  return {};
}

CudaBoundProgram::~CudaBoundProgram() {
  const Context::Current current(*context);
  for (const Recorded &run : recorded)
    if (run.graph)
      context->api().cuGraphExecDestroy(run.graph);
}

Status CudaBoundProgram::prepare(std::span<const int64_t> sizes) {
  KF_CHECK(context->alive());
  if (isPrepared && std::ranges::equal(sizes, lastSizes))
    return {};
  KF_CHECK(checkRun(*program, given, sizes));
  isPrepared = false;
  std::vector<int64_t> own;
  for (Call &call : calls) {
    own.clear();
    for (int size : program->launches[call.launch].sizes)
      own.push_back(sizes[size]);
    auto refuse = [&](std::string why) {
      return unusable("run is refused", fmt::format("{}, {}", program->function, call.phase->entry),
                      std::move(why));
    };
    const uint64_t tasks = checkedExtent(call.phase->grid, own).value_or(UINT64_MAX);
    const auto cluster = uint64_t(call.phase->cluster);
    if (tasks > uint64_t(context->info().limits.blocksPerDimension) - cluster)
      return refuse(fmt::format("its grid has {} blocks, more than the GPU can launch", tasks));
    call.blocks = (tasks + cluster - 1) / cluster * cluster;
    size_t word = 0;
    for (const Parameter &parameter : call.phase->parameters) {
      if (parameter.kind == Parameter::Kind::Map)
        continue;
      uint64_t &value = call.words[word++];
      if (parameter.kind != Parameter::Kind::Size)
        continue;
      if (own[parameter.index] > int64_t(UINT32_MAX))
        return refuse(fmt::format("a size is {}, which 32 bits do not hold", own[parameter.index]));
      value = uint64_t(own[parameter.index]);
    }
  }
  lastSizes.assign(sizes.begin(), sizes.end());
  isPrepared = true;
  return {};
}

Status CudaBoundProgram::launch(Call &call, CUstream stream) const {
  if (call.blocks == 0)
    return {};
  const Phase &phase = *call.phase;
  std::array<CUlaunchAttribute, 3> attributes;
  CUlaunchConfig config;
  config.attrs = attributes.data();
  auto flag = [&](int id) {
    CUlaunchAttribute &attribute = attributes[config.numAttrs++];
    attribute.id = id;
    attribute.value.flag = 1;
  };
  if (phase.cluster > 1) {
    CUlaunchAttribute &attribute = attributes[config.numAttrs++];
    attribute.id = number::clusterDimension;
    attribute.value.clusterDim[0] = unsigned(phase.cluster);
    attribute.value.clusterDim[1] = attribute.value.clusterDim[2] = 1;
  }
  if (phase.coResident)
    flag(number::cooperative);
  if (phase.startsEarly)
    flag(number::programmaticStreamSerialization);
  config.gridDimX = unsigned(call.blocks);
  config.blockDimX = unsigned(phase.block[0]);
  config.blockDimY = unsigned(phase.block[1]);
  config.blockDimZ = unsigned(phase.block[2]);
  config.sharedMemBytes = call.function.dynamicSharedBytes;
  config.hStream = stream;
  return context->check(context->api().cuLaunchKernelEx(&config, call.function.handle,
                                                        call.parameters.data(), nullptr),
                        "kernel cannot be launched", phase.entry);
}

Status CudaBoundProgram::copyResults(std::span<const int64_t> sizes, CUstream stream) const {
  for (const ResultCopy &copy : program->copies)
    if (const uint64_t bytes = checkedExtent(copy.bytes, sizes).value_or(0); bytes > 0)
      KF_CHECK(context->check(
          context->api().cuMemcpyDtoDAsync(addresses[copy.to], addresses[copy.from], bytes, stream),
          "result cannot be copied", program->function));
  return {};
}

Status CudaBoundProgram::launchAll(std::span<const int64_t> sizes, const SubmitOptions &options,
                                   CUstream stream) {
  int before = -1;
  for (Call &call : calls) {
    if (call.launch != before)
      KF_CHECK(checkCancelled(options));
    before = call.launch;
    KF_CHECK(launch(call, stream));
  }
  return copyResults(sizes, stream);
}

Expected<CUgraphExec> CudaBoundProgram::graphFor(std::span<const int64_t> sizes, bool isRepeated) {
  auto found = std::ranges::find_if(
      recorded, [&](const Recorded &run) { return std::ranges::equal(run.sizes, sizes); });
  if (found == recorded.end()) {
    if (recorded.size() >= mostRecorded) {
      const auto oldest = std::ranges::min_element(recorded, {}, &Recorded::lastUse);
      // What is in flight of it is finished first: the driver sees to that.
      const Context::Current current(*context);
      if (oldest->graph)
        context->api().cuGraphExecDestroy(oldest->graph);
      recorded.erase(oldest);
    }
    recorded.push_back({.sizes = {sizes.begin(), sizes.end()}});
    found = std::prev(recorded.end());
  } else {
    isRepeated = true;
  }
  found->lastUse = ++uses;
  if (!found->graph && isRepeated) {
    KF_TRY(found->graph,
           queue->record([&](CUstream stream) { return launchAll(sizes, {}, stream); }));
  }
  return found->graph;
}

Expected<Ticket> CudaBoundProgram::submit(std::span<const int64_t> sizes,
                                          const SubmitOptions &options) {
  KF_CHECK(checkCancelled(options));
  KF_CHECK(prepare(sizes));
  KF_TRY(const CUgraphExec graph, graphFor(sizes, /*isRepeated=*/false));
  return queue->enqueue([&](CUstream stream) -> Status {
    if (!graph)
      return launchAll(sizes, options, stream);
    return context->check(context->api().cuGraphLaunch(graph, stream), "run cannot be submitted",
                          program->function);
  });
}

Expected<Ticket> CudaBoundProgram::submitBetween(std::span<const int64_t> sizes, CUevent begin,
                                                 CUevent end) {
  KF_CHECK(prepare(sizes));
  KF_TRY(const CUgraphExec graph, graphFor(sizes, /*isRepeated=*/true));
  const Api &api = context->api();
  return queue->enqueue([&](CUstream stream) -> Status {
    constexpr const char *what = "run cannot be timed";
    KF_CHECK(context->check(api.cuEventRecord(begin, stream), what, program->function));
    KF_CHECK(context->check(api.cuGraphLaunch(graph, stream), what, program->function));
    return context->check(api.cuEventRecord(end, stream), what, program->function);
  });
}

Status CudaBoundProgram::record(std::span<const int64_t> sizes, CUstream stream) {
  KF_CHECK(prepare(sizes));
  return launchAll(sizes, {}, stream);
}

} // namespace kernelforge::cuda
