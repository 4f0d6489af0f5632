#include "EmulatedCudaDevice.h"

#include "ptx/Ptx.h"

#include "kernelforge/backend/GpuLaunches.h"
#include "kernelforge/backend/HostMemory.h"
#include "kernelforge/codegen/cuda/Convention.h"

#include <cstring>
#include <list>
#include <map>

namespace kernelforge {

namespace {

using Entries = std::map<std::string, std::shared_ptr<const ptx::Entry>>;

struct LoadedProgram {
  std::shared_ptr<const Program> program;
  std::vector<Entries> entries; ///< by artifact
};

class EmulatedProgram final : public BoundProgram {
public:
  EmulatedProgram(std::shared_ptr<const LoadedProgram> loaded, ProgramBuffers given,
                  std::vector<std::vector<BufferRef>> kept)
      : loaded(std::move(loaded)), source(*this->loaded->program), buffers(std::move(given)),
        kept(std::move(kept)) {}

  Expected<Ticket> submit(std::span<const int64_t> sizes, const SubmitOptions &) override {
    KF_CHECK(checkRun(source, buffers, sizes));
    place(sizes);
    for (const Launch &launch : source.launches)
      for (const Phase &phase : source.artifacts[launch.artifact].launching.phases)
        KF_CHECK(run(launch, phase, sizes));
    for (const ResultCopy &copy : source.copies)
      if (const uint64_t bytes = *checkedExtent(copy.bytes, sizes); bytes > 0)
        std::memmove(reinterpret_cast<void *>(pieces[copy.to].begin),
                     reinterpret_cast<const void *>(pieces[copy.from].begin), bytes);
    return Ticket(0);
  }

  Expected<std::vector<int64_t>> runTimed(std::span<const int64_t> sizes,
                                          const SubmitOptions &options) override {
    KF_CHECK(submit(sizes, options));
    return std::vector<int64_t>(source.launches.size(), 1);
  }

private:
  /// Where each buffer lies and what it holds at these sizes, up to the end of its last word.
  void place(std::span<const int64_t> sizes) {
    pieces.assign(source.buffers.size(), {});
    auto bind = [&](int buffer, const std::byte *address, int64_t bytes) {
      pieces[buffer].begin = reinterpret_cast<uint64_t>(address);
      pieces[buffer].bytes = static_cast<uint64_t>((bytes + 3) / 4 * 4);
    };
    for (size_t i = 0; i < source.buffers.size(); ++i)
      if (source.buffers[i].kind == BufferKind::Intermediate)
        bind(int(i), buffers.arena.hostAddress() + source.buffers[i].offset,
             int64_t(*checkedExtent(source.buffers[i].bytes, sizes)));
    for (size_t i = 0; i < source.arguments.size(); ++i)
      bind(source.arguments[i], buffers.arguments[i].hostAddress(), buffers.arguments[i].bytes);
    for (size_t i = 0; i < source.results.size(); ++i)
      bind(source.results[i], buffers.results[i].hostAddress(), buffers.results[i].bytes);
  }

  Status run(const Launch &launch, const Phase &phase, std::span<const int64_t> sizes) {
    const Artifact &artifact = source.artifacts[launch.artifact];
    auto refuse = [&](std::string why) {
      return failed("kernel cannot be run", artifact.kernel, std::move(why));
    };
    const auto entry = loaded->entries[launch.artifact].find(phase.entry);
    if (entry == loaded->entries[launch.artifact].end())
      return refuse("its code has no entry " + phase.entry);
    if (entry->second->sharedBytes > static_cast<uint64_t>(phase.sharedBytes))
      return refuse("its code takes more shared memory than its launching says");
    std::list<ptx::TensorMap> maps;
    std::vector<uint64_t> values;
    std::vector<ptx::Piece> memory;
    std::vector<int64_t> ownSizes;
    for (int size : launch.sizes)
      ownSizes.push_back(sizes[size]);
    for (const Parameter &parameter : phase.parameters) {
      if (parameter.kind == Parameter::Kind::Size) {
        values.push_back(static_cast<uint64_t>(ownSizes[parameter.index]));
        continue;
      }
      const size_t own = launch.buffers.size() - artifact.launching.workspaces.size();
      const size_t first = parameter.kind == Parameter::Kind::Workspace ? own : 0;
      const int buffer = launch.buffers[first + static_cast<size_t>(parameter.index)];
      ptx::Piece piece;
      if (buffer < 0) {
        const BufferRef &memory = kept[launch.artifact][parameter.index];
        piece.begin = reinterpret_cast<uint64_t>(memory.hostAddress());
        piece.bytes = static_cast<uint64_t>(memory.bytes);
      } else {
        piece = pieces[buffer];
        piece.isConstant = source.buffers[buffer].kind == BufferKind::Weight;
      }
      if (piece.begin % cuda::bufferAlignment != 0)
        return refuse("a buffer is not aligned");
      piece.isWritable = parameter.access != Access::Read;
      memory.push_back(piece);
      if (parameter.kind == Parameter::Kind::Map) {
        KF_TRY(const ptx::TensorMap map, mapOf(*parameter.map, launch, piece));
        maps.push_back(map);
        continue;
      }
      values.push_back(piece.begin);
    }
    std::vector<void *> parameters;
    size_t value = 0;
    auto map = maps.begin();
    for (const Parameter &parameter : phase.parameters)
      if (parameter.kind == Parameter::Kind::Map)
        parameters.push_back(&*map++);
      else
        parameters.push_back(&values[value++]);
    ptx::Launch made;
    made.grid[0] = static_cast<unsigned>(phase.grid.evaluate(ownSizes.data()));
    for (size_t i = 0; i < 3; ++i)
      made.block[i] = static_cast<unsigned>(phase.block[i]);
    made.cluster = static_cast<unsigned>(phase.cluster);
    made.grid[0] = (made.grid[0] + made.cluster - 1) / made.cluster * made.cluster;
    made.dynamicSharedBytes = static_cast<unsigned>(phase.sharedBytes) - entry->second->sharedBytes;
    made.startsEarly = phase.startsEarly;
    made.parameters = parameters;
    made.memory = &memory;
    if (std::string why = ptx::run(*entry->second, made); !why.empty())
      return refuse(why);
    return {};
  }

  /// A map of two dimensions at the sizes' maxima, as a device makes it where a program is bound.
  Expected<ptx::TensorMap> mapOf(const TensorMap &map, const Launch &launch,
                                 const ptx::Piece &piece) const {
    auto refuse = [&](std::string why) {
      return failed("tensor map is refused", source.artifacts[launch.artifact].kernel,
                    std::move(why));
    };
    std::vector<int64_t> maxima;
    for (int size : launch.sizes)
      maxima.push_back(source.sizes[size].max);
    ptx::TensorMap made;
    if (map.shape.size() != 2)
      return refuse("it has not two dimensions");
    made.address = piece.begin;
    made.stride = static_cast<uint64_t>(map.strides[0]);
    made.elementBytes = map.element == TensorMap::Element::F32 ? 4 : 2;
    made.isSwizzled = map.swizzle == TensorMap::Swizzle::Bytes128 ? 1 : 0;
    for (size_t i = 0; i < 2; ++i) {
      made.shape[i] = static_cast<uint64_t>(map.shape[i].evaluate(maxima.data()));
      made.box[i] = static_cast<uint32_t>(map.box[i]);
      if (map.box[i] > 256)
        return refuse("its box is too large");
    }
    if (map.toEnd) {
      const uint64_t row = made.shape[0] * made.elementBytes;
      made.shape[1] = std::min(made.shape[1], (piece.bytes - row) / made.stride + 1);
    }
    if (made.stride % 16 != 0 || made.address % 16 != 0)
      return refuse("its rows are no multiples of 16 bytes");
    return made;
  }

  const std::shared_ptr<const LoadedProgram> loaded;
  const Program &source;
  const ProgramBuffers buffers;
  const std::vector<std::vector<BufferRef>> kept; ///< workspaces that stay
  std::vector<ptx::Piece> pieces;                 ///< by buffer
};

class EmulatedExecutable final : public Executable {
public:
  EmulatedExecutable(Device &device, std::shared_ptr<const LoadedProgram> loaded)
      : device(device), loaded(std::move(loaded)) {}

  const Program &program() const override { return *loaded->program; }
  std::vector<KernelResources> resources() const override {
    return std::vector<KernelResources>(program().artifacts.size());
  }
  Expected<std::unique_ptr<BoundProgram>> bind(ProgramBuffers buffers) override {
    KF_CHECK(checkBuffers(program(), buffers, cuda::bufferAlignment));
    KF_TRY(auto kept, makeKeptWorkspaces(program(), [&](int64_t bytes) {
             return device.allocate(bytes, MemoryUse::Arena);
           }));
    return std::make_unique<EmulatedProgram>(loaded, std::move(buffers), std::move(kept));
  }

private:
  Device &device;
  const std::shared_ptr<const LoadedProgram> loaded;
};

class EmulatedCudaDevice final : public HostMemoryDevice {
public:
  EmulatedCudaDevice() {
    self.kind = "cuda";
    self.name = "emulation of PTX";
    self.chip = "sm_90";
    self.limits.bufferAlignment = cuda::bufferAlignment;
    self.limits.threadsPerBlock = 1024;
    self.limits.sharedBytes = 227 * 1024;
    self.limits.subgroupMin = self.limits.subgroupMax = 32;
    self.software = self.sharesHostMemory = true;
  }

  const DeviceInfo &info() const override { return self; }

  Expected<std::vector<std::unique_ptr<Executable>>>
  load(std::span<const std::shared_ptr<const Program>> programs) override {
    std::vector<std::unique_ptr<Executable>> executables;
    for (const std::shared_ptr<const Program> &program : programs) {
      KF_CHECK(checkProgram(*program));
      auto loaded = std::make_shared<LoadedProgram>();
      loaded->program = program;
      for (const Artifact &artifact : program->artifacts) {
        std::string error;
        auto module = ptx::parse(artifact.code, error);
        if (!module)
          return failed("code cannot be loaded", artifact.kernel, error);
        loaded->entries.push_back(std::move(module->entries));
      }
      executables.push_back(std::make_unique<EmulatedExecutable>(*this, std::move(loaded)));
    }
    return executables;
  }

private:
  DeviceInfo self;
};

} // namespace

std::unique_ptr<Device> createEmulatedCudaDevice() {
  return std::make_unique<EmulatedCudaDevice>();
}

} // namespace kernelforge
