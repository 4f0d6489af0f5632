// How a program is bound: which memory each buffer is, bind groups, workspaces.
#include "kernelforge/backend/webgpu/BoundProgram.h"

#include "kernelforge/backend/GpuLaunches.h"
#include "kernelforge/codegen/webgpu/Pieces.h"

#include <algorithm>
#include <fmt/format.h>

namespace kernelforge::webgpu {

namespace {

constexpr const char *cannotBind = "program cannot be bound";

uint64_t roundedUp(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

std::vector<int64_t> maxima(const Program &program) {
  std::vector<int64_t> sizes;
  for (const ProgramSize &size : program.sizes)
    sizes.push_back(size.max);
  return sizes;
}

std::vector<int64_t> minima(const Program &program) {
  std::vector<int64_t> sizes;
  for (const ProgramSize &size : program.sizes)
    sizes.push_back(size.min);
  return sizes;
}

} // namespace

LoadedProgram::~LoadedProgram() {
  const auto guard = context->lock();
  kernels.clear();
}

Expected<std::unique_ptr<BoundProgram>> LoadedProgram::bind(ProgramBuffers buffers) {
  KF_TRY(std::unique_ptr<WebGpuBoundProgram> bound,
         WebGpuBoundProgram::make(context, transfers, source, kernels, buffers));
  return bound;
}

Expected<std::unique_ptr<WebGpuBoundProgram>>
WebGpuBoundProgram::make(const std::shared_ptr<Context> &context,
                         std::shared_ptr<Transfers> transfers,
                         std::shared_ptr<const Program> program, const std::vector<Kernel> &kernels,
                         const ProgramBuffers &buffers) {
  KF_CHECK(context->alive());
  std::unique_ptr<WebGpuBoundProgram> bound(
      new WebGpuBoundProgram(context, std::move(transfers), std::move(program)));
  const auto guard = context->lock();
  KF_CHECK(bound->resolve(buffers));
  KF_CHECK(bound->makeWorkspaces());
  KF_CHECK(bound->makeDispatches(kernels));
  return bound;
}

WebGpuBoundProgram::~WebGpuBoundProgram() {
  const auto guard = context->lock();
  dispatches.clear();
  uniforms.reset();
}

Status WebGpuBoundProgram::resolveList(const char *what, const std::vector<int> &list,
                                       const std::vector<BufferRef> &given) {
  auto refuse = [&](std::string where, std::string why) {
    return unusable(cannotBind, std::move(where), std::move(why));
  };
  if (given.size() != list.size())
    return refuse(program->function, fmt::format("{} {}s are given where {} are needed",
                                                 given.size(), what, list.size()));
  const std::vector<int64_t> least = minima(*program);
  for (size_t i = 0; i < list.size(); ++i) {
    const Buffer &buffer = program->buffers[list[i]];
    const std::string where =
        fmt::format("{}, {} {} ('{}')", program->function, what, i, buffer.name);
    const auto needed = checkedExtent(buffer.bytes, least);
    if (!given[i].memory && needed == 0U)
      continue;
    KF_CHECK(memoryOf(*context, given[i], where));
    if (!needed || *needed > uint64_t(given[i].bytes))
      return refuse(where, fmt::format("it has {} bytes where {} are needed", given[i].bytes,
                                       needed.value_or(INT64_MAX)));
    if (given[i].offset % context->info().limits.bufferAlignment != 0)
      return refuse(where, fmt::format("it begins at byte {}, which is no multiple of {}",
                                       given[i].offset, context->info().limits.bufferAlignment));
    buffers[list[i]] = given[i];
  }
  return {};
}

Status WebGpuBoundProgram::resolve(const ProgramBuffers &given) {
  buffers.assign(program->buffers.size(), {});
  KF_CHECK(resolveList("argument", program->arguments, given.arguments));
  KF_CHECK(resolveList("result", program->results, given.results));
  KF_TRY(nothing, transfers->allocate(16, MemoryUse::Arena));
  if (program->arenaBytes == 0 && !given.arena.memory)
    return {};
  const std::string where = program->function + ", arena";
  KF_CHECK(memoryOf(*context, given.arena, where));
  if (given.arena.bytes < program->arenaBytes)
    return unusable(
        cannotBind, where,
        fmt::format("it has {} bytes where {} are needed", given.arena.bytes, program->arenaBytes));
  const std::vector<int64_t> most = maxima(*program);
  for (size_t i = 0; i < buffers.size(); ++i) {
    const Buffer &buffer = program->buffers[i];
    if (buffer.kind != BufferKind::Intermediate)
      continue;
    const int64_t offset = given.arena.offset + buffer.offset;
    if (offset % context->info().limits.bufferAlignment != 0)
      return unusable(
          cannotBind, fmt::format("{}, '{}'", program->function, buffer.name),
          fmt::format("it begins at byte {} of the arena's memory, which is no multiple "
                      "of {}",
                      offset, context->info().limits.bufferAlignment));
    buffers[i] = {given.arena.memory, offset,
                  int64_t(checkedExtent(buffer.bytes, most).value_or(0))};
  }
  return {};
}

Status WebGpuBoundProgram::makeWorkspaces() {
  KF_TRY(zeroed, makeKeptWorkspaces(*program, [this](int64_t bytes) {
           return transfers->allocate(bytes, MemoryUse::Arena);
         }));
  return {};
}

Expected<BufferRef> WebGpuBoundProgram::bufferOf(const Launch &launch,
                                                 const Parameter &parameter) const {
  const std::vector<Workspace> &workspaces =
      program->artifacts[launch.artifact].launching.workspaces;
  int index = parameter.index;
  if (parameter.kind == Parameter::Kind::Workspace) {
    if (workspaces[index].contents == Workspace::Contents::ZeroedOnce)
      return zeroed[launch.artifact][index];
    index += int(launch.buffers.size() - workspaces.size());
  }
  return buffers[launch.buffers[index]];
}

Expected<int64_t> WebGpuBoundProgram::bytesInPieces(const Launch &launch,
                                                    const Parameter &parameter,
                                                    const std::string &where) const {
  const Buffer &buffer = program->buffers[launch.buffers[parameter.index]];
  const auto bytes = checkedExtent(buffer.bytes, maxima(*program));
  if (!bytes || !buffer.bytes.isConstant() || *bytes > UINT32_MAX)
    return unusable(cannotBind, where,
                    fmt::format("'{}' is bound in pieces, and its bytes follow a size, or are more "
                                "than 2^32",
                                buffer.name));
  return int64_t(*bytes);
}

Status WebGpuBoundProgram::makeGroup(Dispatch &dispatch, WGPUBindGroupLayout layout) {
  const Launch &launch = program->launches[dispatch.launch];
  const std::string where = fmt::format("{}, {}", program->function, dispatch.phase->entry);
  std::vector<WGPUBindGroupEntry> entries;
  auto add = [&](WGPUBuffer buffer, uint64_t offset, uint64_t bytes) {
    WGPUBindGroupEntry entry = WGPU_BIND_GROUP_ENTRY_INIT;
    entry.binding = uint32_t(entries.size());
    entry.buffer = buffer;
    entry.offset = offset;
    entry.size = bytes;
    entries.push_back(entry);
  };
  const std::vector<Parameter> parameters = buffersOf(*dispatch.phase);
  int64_t pieces = 1;
  for (size_t i = 0; i < parameters.size(); i += static_cast<size_t>(pieces)) {
    pieces = piecesAt(parameters, i);
    KF_TRY(BufferRef ref, bufferOf(launch, parameters[i]));
    if (!ref.memory || ref.bytes == 0)
      ref = nothing;
    KF_TRY(const BufferMemory *memory, memoryOf(*context, ref, where));
    uint64_t bytes =
        std::min<uint64_t>(roundedUp(ref.bytes, 16), memory->wholeBytes() - ref.offset);
    uint64_t piece = bytes;
    if (pieces > 1) {
      KF_TRY(const int64_t whole, bytesInPieces(launch, parameters[i], where));
      bytes = std::min(bytes, roundedUp(whole, 16));
      piece = uint64_t(pieceBytes(whole, pieces));
      if (piece * uint64_t(pieces - 1) >= bytes)
        return unusable(cannotBind, where,
                        fmt::format("buffer {} has {} bytes, too few for {} pieces of {}",
                                    entries.size(), bytes, pieces, piece));
    }
    for (int64_t k = 0; k < pieces; ++k) {
      const uint64_t begin = piece * uint64_t(k);
      const uint64_t count = k + 1 < pieces ? piece : bytes - begin;
      if (count > uint64_t(context->info().limits.bindingBytes))
        return unusable(cannotBind, where,
                        fmt::format("buffer {} has {} bytes where {} of one buffer are the most",
                                    entries.size(), count, context->info().limits.bindingBytes));
      add(memory->buffer(), ref.offset + begin, count);
    }
  }
  add(uniforms.get(), dispatch.slot, roundedUp(uniformBytes(*dispatch.phase), 16));
  WGPUBindGroupDescriptor descriptor = WGPU_BIND_GROUP_DESCRIPTOR_INIT;
  descriptor.label = view(dispatch.phase->entry);
  descriptor.layout = layout;
  descriptor.entryCount = entries.size();
  descriptor.entries = entries.data();
  const Api &api = context->api();
  return context->checked(cannotBind, where, [&] {
    dispatch.group = {api.wgpuDeviceCreateBindGroup(context->device(), &descriptor),
                      api.wgpuBindGroupRelease};
  });
}

Status WebGpuBoundProgram::makeDispatches(const std::vector<Kernel> &kernels) {
  const uint64_t alignment =
      std::max<uint64_t>(16, context->limits().minUniformBufferOffsetAlignment);
  std::vector<WGPUBindGroupLayout> layouts;
  for (size_t i = 0; i < program->launches.size(); ++i) {
    const int artifact = program->launches[i].artifact;
    const std::vector<Phase> &phases = program->artifacts[artifact].launching.phases;
    for (size_t p = 0; p < phases.size(); ++p) {
      Dispatch &dispatch = dispatches.emplace_back();
      dispatch.launch = int(i);
      dispatch.phase = &phases[p];
      dispatch.pipeline = kernels[artifact].phases[p].pipeline.get();
      dispatch.slot = uniformBytesInAll;
      uniformBytesInAll += roundedUp(uniformBytes(phases[p]), alignment);
      layouts.push_back(kernels[artifact].phases[p].layout.get());
    }
  }
  if (dispatches.empty())
    return {};
  KF_TRY(uniforms, context->makeBuffer(roundedUp(uniformBytesInAll, 16),
                                       WGPUBufferUsage_Uniform | WGPUBufferUsage_CopyDst,
                                       "sizes of launches"));
  for (size_t i = 0; i < dispatches.size(); ++i)
    KF_CHECK(makeGroup(dispatches[i], layouts[i]));
  return {};
}

} // namespace kernelforge::webgpu
