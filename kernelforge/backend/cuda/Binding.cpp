// How a program is bound: addresses, workspaces, parameters, tensor maps.
#include "kernelforge/backend/cuda/BoundProgram.h"

#include "kernelforge/backend/GpuLaunches.h"
#include "kernelforge/codegen/cuda/Convention.h"

#include <fmt/format.h>

#include <algorithm>

namespace kernelforge::cuda {

namespace {

std::vector<int64_t> maximaOf(const Program &program, const Launch &launch) {
  std::vector<int64_t> sizes;
  for (int size : launch.sizes)
    sizes.push_back(program.sizes[size].max);
  return sizes;
}

int64_t bytesOf(TensorMap::Element element) {
  switch (element) {
  case TensorMap::Element::U8:
    return 1;
  case TensorMap::Element::F16:
  case TensorMap::Element::BF16:
    return 2;
  case TensorMap::Element::I32:
  case TensorMap::Element::F32:
    return 4;
  }
  return 4;
}

int numberOf(TensorMap::Element element) {
  switch (element) {
  case TensorMap::Element::U8:
    return number::mapU8;
  case TensorMap::Element::I32:
    return number::mapI32;
  case TensorMap::Element::F16:
    return number::mapF16;
  case TensorMap::Element::F32:
    return number::mapF32;
  case TensorMap::Element::BF16:
    return number::mapBF16;
  }
  return number::mapU8;
}

} // namespace

std::vector<KernelResources> LoadedProgram::resources() const {
  std::vector<KernelResources> all;
  for (const Kernel &kernel : kernels)
    all.push_back(kernel.resources);
  return all;
}

Expected<std::unique_ptr<BoundProgram>> LoadedProgram::bind(ProgramBuffers buffers) {
  KF_TRY(std::unique_ptr<CudaBoundProgram> bound,
         CudaBoundProgram::make(context, queue, source, kernels, std::move(buffers)));
  return bound;
}

Expected<std::unique_ptr<CudaBoundProgram>>
CudaBoundProgram::make(std::shared_ptr<Context> context, std::shared_ptr<Queue> queue,
                       std::shared_ptr<const Program> program, const std::vector<Kernel> &kernels,
                       ProgramBuffers buffers) {
  KF_CHECK(context->alive());
  KF_CHECK(checkBuffers(*program, buffers, bufferAlignment));
  std::unique_ptr<CudaBoundProgram> bound(new CudaBoundProgram(
      std::move(context), std::move(queue), std::move(program), std::move(buffers)));
  KF_CHECK(bound->resolve());
  KF_CHECK(bound->makeWorkspaces());
  KF_CHECK(bound->makeCalls(kernels));
  return bound;
}

Status CudaBoundProgram::resolve() {
  addresses.assign(program->buffers.size(), 0);
  capacities.assign(program->buffers.size(), 0);
  auto resolveList = [&](const std::vector<int> &indices,
                         const std::vector<BufferRef> &bound) -> Status {
    for (size_t i = 0; i < indices.size(); ++i)
      if (bound[i].memory) {
        KF_TRY(addresses[indices[i]],
               addressOf(*context, bound[i], program->buffers[indices[i]].name));
        capacities[indices[i]] = bound[i].bytes;
      }
    return {};
  };
  KF_CHECK(resolveList(program->arguments, given.arguments));
  KF_CHECK(resolveList(program->results, given.results));
  if (program->arenaBytes == 0)
    return {};
  KF_TRY(const CUdeviceptr arena, addressOf(*context, given.arena, "arena"));
  for (size_t i = 0; i < addresses.size(); ++i)
    if (program->buffers[i].kind == BufferKind::Intermediate) {
      addresses[i] = arena + CUdeviceptr(program->buffers[i].offset);
      capacities[i] = program->arenaBytes - program->buffers[i].offset;
    }
  return {};
}

Status CudaBoundProgram::makeWorkspaces() {
  KF_TRY(zeroed, makeKeptWorkspaces(*program, [this](int64_t bytes) {
           return queue->allocate(bytes, MemoryUse::Arena);
         }));
  return {};
}

Expected<CUtensorMap> CudaBoundProgram::makeMap(const Launch &launch,
                                                const Parameter &parameter) const {
  const TensorMap &map = *parameter.map;
  const int buffer = launch.buffers[parameter.index]; // workspaces stand behind the kernel's own
  const std::string &kernel = program->artifacts[launch.artifact].kernel;
  if (buffer < 0)
    return unusable("tensor map is refused", kernel, "it is of a workspace that is kept");
  auto refuse = [&](std::string why) {
    return unusable("tensor map is refused",
                    fmt::format("{}, buffer '{}'", kernel, program->buffers[buffer].name),
                    std::move(why));
  };
  const std::vector<int64_t> sizes = maximaOf(*program, launch);
  const size_t rank = map.shape.size();
  std::vector<uint64_t> shape, strides(map.strides.begin(), map.strides.end());
  std::vector<uint32_t> box, ones(rank, 1);
  uint64_t end = bytesOf(map.element);
  for (size_t i = 0; i < rank; ++i) {
    const auto length = checkedExtent(map.shape[i], sizes);
    if (!length || *length == 0 || *length > uint64_t(1) << 32)
      return refuse(fmt::format("dimension {} has {} elements", i, length.value_or(UINT64_MAX)));
    const uint64_t stride = i == 0 ? bytesOf(map.element) : strides[i - 1];
    if (stride > uint64_t(1) << 40)
      return refuse(fmt::format("dimension {} has strides of {} bytes", i, stride));
    constexpr int64_t mostOfBox = 256;
    if (map.box[i] > mostOfBox)
      return refuse(fmt::format("a copy moves {} elements of dimension {} where {} are the most",
                                map.box[i], i, mostOfBox));
    shape.push_back(*length);
    // A buffer need not hold as many rows as there may be at most, only those of its runs.
    const auto room = uint64_t(capacities[buffer]);
    const bool isCut = map.toEnd || !map.shape[i].isConstant();
    if (i > 0 && i + 1 == rank && isCut && room >= end)
      shape.back() = std::min(*length, (room - end) / std::max<uint64_t>(stride, 1) + 1);
    box.push_back(uint32_t(map.box[i]));
    // At most 2^32 x 2^40 of each of five dimensions.
    const unsigned __int128 further = static_cast<unsigned __int128>(shape.back() - 1) * stride;
    if (further > uint64_t(INT64_MAX) - end)
      return refuse("it reaches beyond what memory can be");
    end += uint64_t(further);
  }
  // A tile is cut off at the map's end, not at that of a smaller buffer.
  if (end > uint64_t(capacities[buffer]))
    return refuse(fmt::format("it covers {} bytes of {}", end, capacities[buffer]));
  constexpr int64_t unit = 16; // of what the copies move
  if (map.box[0] * bytesOf(map.element) % unit != 0 ||
      std::ranges::any_of(strides, [&](uint64_t stride) { return stride % unit != 0; }))
    return refuse(fmt::format("its rows are no multiples of {} bytes", unit));
  CUtensorMap made{};
  KF_CHECK(context->check(context->api().cuTensorMapEncodeTiled(
                              &made, numberOf(map.element), uint32_t(rank),
                              reinterpret_cast<void *>(addresses[buffer]), shape.data(),
                              strides.data(), box.data(), ones.data(), /*interleave=*/0,
                              int(map.swizzle), number::promote256Bytes, /*fill=*/0),
                          "tensor map cannot be made", kernel));
  return made;
}

Status CudaBoundProgram::addParameter(Call &call, const Launch &launch,
                                      const Parameter &parameter) {
  const size_t buffers =
      launch.buffers.size() - program->artifacts[launch.artifact].launching.workspaces.size();
  switch (parameter.kind) {
  case Parameter::Kind::Buffer:
    call.words.push_back(addresses[launch.buffers[parameter.index]]);
    break;
  case Parameter::Kind::Workspace: {
    const int buffer = launch.buffers[buffers + parameter.index];
    CUdeviceptr address = 0;
    if (buffer >= 0) {
      address = addresses[buffer];
    } else {
      KF_TRY(address, addressOf(*context, zeroed[launch.artifact][parameter.index], "workspace"));
    }
    call.words.push_back(address);
    break;
  }
  case Parameter::Kind::Size:
    call.words.push_back(0);
    break;
  case Parameter::Kind::Map: {
    KF_TRY(const CUtensorMap map, makeMap(launch, parameter));
    call.maps.push_back(map);
    break;
  }
  }
  return {};
}

Status CudaBoundProgram::makeCalls(const std::vector<Kernel> &kernels) {
  const Context::Current current(*context);
  for (size_t i = 0; i < program->launches.size(); ++i) {
    const Launch &launch = program->launches[i];
    const std::vector<Phase> &phases = program->artifacts[launch.artifact].launching.phases;
    for (size_t p = 0; p < phases.size(); ++p) {
      Call &call = calls.emplace_back();
      call.launch = int(i);
      call.phase = &phases[p];
      call.function = kernels[launch.artifact].phases[p];
      for (const Parameter &parameter : phases[p].parameters)
        KF_CHECK(addParameter(call, launch, parameter));
      // Only now do words and maps stay where they are.
      size_t word = 0, map = 0;
      for (const Parameter &parameter : phases[p].parameters)
        if (parameter.kind == Parameter::Kind::Map)
          call.parameters.push_back(&call.maps[map++]);
        else
          call.parameters.push_back(&call.words[word++]);
    }
  }
  return {};
}

} // namespace kernelforge::cuda
