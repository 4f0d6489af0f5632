// A driver without a GPU: memory is the host's, the PTX of kernels is emulated, and nothing of a
// stream is done before somebody waits for it. So it shows who does not wait, and whose memory is
// used again too soon. What it was asked for stands in a log.
//
// What GPU and driver it is of, and what goes wrong, a process says with FAKE_DRIVER, numbers by
// name: "version=11080 capability=70 memory=1000000 fault=3". The kernel that runs after so many
// others as `fault` says fails.
#include "ptx/Ptx.h"

#include "kernelforge/backend/cuda/Api.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fmt/format.h>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

using namespace kernelforge::cuda;

namespace {

namespace ptx = kernelforge::ptx;
using Clock = std::chrono::steady_clock;
using Work = std::function<CUresult()>;

/// A number of FAKE_DRIVER.
int64_t setting(const std::string &name, int64_t usual) {
  const char *text = std::getenv("FAKE_DRIVER");
  const std::string words = text ? fmt::format(" {}", text) : "";
  const size_t at = words.find(fmt::format(" {}=", name));
  return at == std::string::npos ? usual : std::atoll(words.c_str() + at + name.size() + 2);
}
int64_t untilFault = setting("fault", -1);
const auto memoryBytes = size_t(setting("memory", int64_t(256) << 20));

std::recursive_mutex mutex;
std::string logText;
CUresult initResult = number::success;
size_t memoryUsed = 0;
std::map<CUdeviceptr, std::vector<std::byte>> memories;
std::map<void *, size_t> pinned;

struct FakeContext {
  CUresult lost = number::success;
};
thread_local std::vector<FakeContext *> currents;

struct FakeStream {
  FakeContext *context = nullptr;
  std::deque<Work> work;
  bool isCapturing = false;
};
std::vector<FakeStream *> streams;

struct FakeEvent {
  Clock::time_point time;
  FakeStream *stream = nullptr; ///< that is yet to pass it
};

struct FakeGraph {
  std::vector<Work> work;
};

using Entry = std::shared_ptr<const ptx::Entry>;

template <typename... T> void log(fmt::format_string<T...> format, T &&...values) {
  logText += fmt::format(format, std::forward<T>(values)...) + '\n';
}

void flush(FakeStream &stream) {
  while (!stream.work.empty()) {
    const Work work = std::move(stream.work.front());
    stream.work.pop_front();
    if (stream.context->lost == number::success)
      stream.context->lost = work();
  }
}

/// Runs a kernel. What emulation finds wrong is an error of the launch, as on a GPU, and said.
CUresult run(const ptx::Entry &entry, ptx::Launch launch,
             const std::vector<std::vector<std::byte>> &values) {
  if (untilFault >= 0 && untilFault-- == 0)
    return number::launchFailed;
  std::vector<ptx::Piece> pieces;
  for (const auto &[address, bytes] : memories)
    pieces.push_back({address, bytes.size(), /*isWritable=*/true});
  launch.memory = &pieces;
  std::vector<void *> pointers;
  for (const std::vector<std::byte> &value : values)
    pointers.push_back(const_cast<std::byte *>(value.data()));
  launch.parameters = pointers;
  const std::string wrong = ptx::run(entry, launch);
  if (wrong.empty())
    return number::success;
  log("{}: {}", entry.name, wrong);
  std::fprintf(stderr, "emulated kernel %s: %s\n", entry.name.c_str(), wrong.c_str());
  return number::launchFailed;
}

CUresult lostNow() {
  return currents.empty() ? 201 /* no context is current */ : currents.back()->lost;
}

CUresult add(CUstream handle, Work work) {
  auto *stream = reinterpret_cast<FakeStream *>(handle);
  if (stream->context->lost != number::success)
    return stream->context->lost;
  stream->work.push_back(std::move(work));
  return number::success;
}

bool isPinned(const void *address) {
  const auto after = pinned.upper_bound(const_cast<void *>(address));
  if (after == pinned.begin())
    return false;
  const auto &[start, bytes] = *std::prev(after);
  return static_cast<const char *>(address) < static_cast<char *>(start) + bytes;
}

} // namespace

#define KF_DRIVER(name)                                                                            \
  __attribute__((visibility("default"))) CUresult name // NOLINT(bugprone-macro-parentheses)
#define KF_GUARDED                                                                                 \
  const std::lock_guard guard(mutex);                                                              \
  if (const CUresult lost = lostNow(); lost != number::success)                                    \
  return lost

extern "C" {

/// What was asked for since the last call.
__attribute__((visibility("default"))) const char *fakeDriverLog() {
  static std::string given;
  const std::lock_guard guard(mutex);
  given = std::exchange(logText, {});
  return given.c_str();
}

/// The kernel that runs after so many others fails.
__attribute__((visibility("default"))) void fakeDriverFault(int64_t launches) {
  const std::lock_guard guard(mutex);
  untilFault = launches;
}

/// Bytes of the host's memory that are held for copies.
__attribute__((visibility("default"))) size_t fakeDriverPinned() {
  const std::lock_guard guard(mutex);
  size_t bytes = 0;
  for (const auto &[address, size] : pinned)
    bytes += size;
  return bytes;
}

/// What cuInit() gives back from now on.
__attribute__((visibility("default"))) void fakeDriverInit(CUresult result) { initResult = result; }

KF_DRIVER(cuInit)(unsigned) { return initResult; }
KF_DRIVER(cuDriverGetVersion)(int *version) {
  *version = int(setting("version", 12080));
  return number::success;
}
KF_DRIVER(cuGetErrorName)(CUresult result, const char **name) {
  *name = result == number::launchFailed  ? "CUDA_ERROR_LAUNCH_FAILED"
          : result == number::outOfMemory ? "CUDA_ERROR_OUT_OF_MEMORY"
          : result == 218                 ? "CUDA_ERROR_INVALID_PTX"
                                          : "CUDA_ERROR_OTHER";
  return number::success;
}
KF_DRIVER(cuGetErrorString)(CUresult result, const char **text) {
  *text = result == number::launchFailed ? "unspecified launch failure" : "it cannot be done";
  return number::success;
}
KF_DRIVER(cuDeviceGetCount)(int *count) {
  *count = 1;
  return number::success;
}
KF_DRIVER(cuDeviceGet)(CUdevice *device, int) {
  *device = 0;
  return number::success;
}
KF_DRIVER(cuDeviceGetName)(char *name, int bytes, CUdevice) {
  std::strncpy(name, "made-up GPU", size_t(bytes));
  return number::success;
}
KF_DRIVER(cuDeviceGetAttribute)(int *value, int attribute, CUdevice) {
  const auto capability = int(setting("capability", 90));
  const std::map<int, int> values = {{number::maxThreadsPerBlock, 1024},
                                     {number::maxGridDimX, 0x7fffffff},
                                     {number::warpSize, 32},
                                     {number::maxRegistersPerBlock, 65536},
                                     {number::multiprocessors, 8},
                                     {number::capabilityMajor, capability / 10},
                                     {number::capabilityMinor, capability % 10},
                                     {number::maxSharedBytesOptIn, 232448}};
  *value = values.at(attribute);
  return number::success;
}
KF_DRIVER(cuDeviceTotalMem_v2)(size_t *bytes, CUdevice) {
  *bytes = memoryBytes;
  return number::success;
}
KF_DRIVER(cuMemGetInfo_v2)(size_t *free, size_t *all) {
  KF_GUARDED;
  *free = memoryBytes - memoryUsed;
  *all = memoryBytes;
  return number::success;
}
KF_DRIVER(cuCtxCreate_v2)(CUcontext *context, unsigned, CUdevice) {
  auto *made = new FakeContext;
  currents.push_back(made);
  *context = reinterpret_cast<CUcontext>(made);
  return number::success;
}
KF_DRIVER(cuCtxDestroy_v2)(CUcontext context) {
  delete reinterpret_cast<FakeContext *>(context);
  return number::success;
}
KF_DRIVER(cuCtxPushCurrent_v2)(CUcontext context) {
  currents.push_back(reinterpret_cast<FakeContext *>(context));
  return number::success;
}
KF_DRIVER(cuCtxPopCurrent_v2)(CUcontext *context) {
  *context = reinterpret_cast<CUcontext>(currents.back());
  currents.pop_back();
  return number::success;
}
KF_DRIVER(cuStreamCreate)(CUstream *stream, unsigned) {
  KF_GUARDED;
  auto *made = new FakeStream{currents.back(), {}, false};
  streams.push_back(made);
  *stream = reinterpret_cast<CUstream>(made);
  return number::success;
}
KF_DRIVER(cuStreamDestroy_v2)(CUstream stream) {
  const std::lock_guard guard(mutex);
  std::erase(streams, reinterpret_cast<FakeStream *>(stream));
  delete reinterpret_cast<FakeStream *>(stream);
  return number::success;
}
KF_DRIVER(cuStreamSynchronize)(CUstream stream) {
  KF_GUARDED;
  flush(*reinterpret_cast<FakeStream *>(stream));
  return lostNow();
}
KF_DRIVER(cuStreamBeginCapture_v2)(CUstream stream, int) {
  KF_GUARDED;
  reinterpret_cast<FakeStream *>(stream)->isCapturing = true;
  return number::success;
}
KF_DRIVER(cuStreamEndCapture)(CUstream stream, CUgraph *graph) {
  KF_GUARDED;
  auto *from = reinterpret_cast<FakeStream *>(stream);
  from->isCapturing = false;
  auto *made = new FakeGraph{{from->work.begin(), from->work.end()}};
  from->work.clear();
  log("record {}", made->work.size());
  *graph = reinterpret_cast<CUgraph>(made);
  return number::success;
}
KF_DRIVER(cuGraphInstantiateWithFlags)(CUgraphExec *exec, CUgraph graph, unsigned long long) {
  KF_GUARDED;
  *exec = reinterpret_cast<CUgraphExec>(new FakeGraph(*reinterpret_cast<FakeGraph *>(graph)));
  return number::success;
}
KF_DRIVER(cuGraphDestroy)(CUgraph graph) {
  delete reinterpret_cast<FakeGraph *>(graph);
  return number::success;
}
KF_DRIVER(cuGraphExecDestroy)(CUgraphExec exec) {
  const std::lock_guard guard(mutex);
  for (FakeStream *stream : streams)
    flush(*stream);
  delete reinterpret_cast<FakeGraph *>(exec);
  return number::success;
}
KF_DRIVER(cuGraphLaunch)(CUgraphExec exec, CUstream stream) {
  KF_GUARDED;
  log("replay");
  return add(stream, [exec] {
    for (const Work &work : reinterpret_cast<FakeGraph *>(exec)->work)
      if (const CUresult result = work(); result != number::success)
        return result;
    return number::success;
  });
}
KF_DRIVER(cuEventCreate)(CUevent *event, unsigned) {
  KF_GUARDED;
  *event = reinterpret_cast<CUevent>(new FakeEvent);
  return number::success;
}
KF_DRIVER(cuEventDestroy_v2)(CUevent event) {
  delete reinterpret_cast<FakeEvent *>(event);
  return number::success;
}
KF_DRIVER(cuEventRecord)(CUevent event, CUstream stream) {
  KF_GUARDED;
  auto *recorded = reinterpret_cast<FakeEvent *>(event);
  recorded->stream = reinterpret_cast<FakeStream *>(stream);
  return add(stream, [recorded] {
    recorded->time = Clock::now();
    return number::success;
  });
}
KF_DRIVER(cuEventSynchronize)(CUevent event) {
  KF_GUARDED;
  // One that was never recorded is over.
  if (FakeStream *stream = reinterpret_cast<FakeEvent *>(event)->stream)
    flush(*stream);
  return lostNow();
}
KF_DRIVER(cuEventElapsedTime)(float *milliseconds, CUevent begin, CUevent end) {
  KF_GUARDED;
  *milliseconds =
      std::chrono::duration<float, std::milli>(reinterpret_cast<FakeEvent *>(end)->time -
                                               reinterpret_cast<FakeEvent *>(begin)->time)
          .count();
  return number::success;
}
KF_DRIVER(cuMemAlloc_v2)(CUdeviceptr *address, size_t bytes) {
  KF_GUARDED;
  if (bytes > memoryBytes - memoryUsed)
    return number::outOfMemory;
  memoryUsed += bytes;
  // What was not zeroed shows.
  std::vector<std::byte> memory(bytes, std::byte(0xa5));
  *address = reinterpret_cast<CUdeviceptr>(memory.data());
  memories.emplace(*address, std::move(memory));
  return number::success;
}
KF_DRIVER(cuMemFree_v2)(CUdeviceptr address) {
  const std::lock_guard guard(mutex);
  for (FakeStream *stream : streams)
    flush(*stream);
  memoryUsed -= memories.at(address).size();
  memories.erase(address);
  return number::success;
}
KF_DRIVER(cuMemHostAlloc)(void **address, size_t bytes, unsigned) {
  KF_GUARDED;
  *address = std::malloc(bytes);
  pinned[*address] = bytes;
  return number::success;
}
KF_DRIVER(cuMemFreeHost)(void *address) {
  const std::lock_guard guard(mutex);
  pinned.erase(address);
  std::free(address);
  return number::success;
}
KF_DRIVER(cuMemsetD8Async)(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream) {
  KF_GUARDED;
  return add(stream, [=] {
    std::memset(reinterpret_cast<void *>(to), value, bytes);
    return number::success;
  });
}
KF_DRIVER(cuMemcpyHtoDAsync_v2)(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  KF_GUARDED;
  std::vector<std::byte> taken;
  if (!isPinned(from))
    taken.assign(static_cast<const std::byte *>(from),
                 static_cast<const std::byte *>(from) + bytes);
  return add(stream, [=] {
    std::memcpy(reinterpret_cast<void *>(to), taken.empty() ? from : taken.data(), bytes);
    return number::success;
  });
}
KF_DRIVER(cuMemcpyDtoHAsync_v2)(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  KF_GUARDED;
  if (const CUresult added = add(stream,
                                 [=] {
                                   std::memcpy(to, reinterpret_cast<void *>(from), bytes);
                                   return number::success;
                                 });
      added != number::success || isPinned(to))
    return added;
  flush(*reinterpret_cast<FakeStream *>(stream));
  return lostNow();
}
KF_DRIVER(cuMemcpyDtoDAsync_v2)(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  KF_GUARDED;
  return add(stream, [=] {
    std::memmove(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), bytes);
    return number::success;
  });
}
KF_DRIVER(cuModuleLoadDataEx)(CUmodule *module, const void *image, unsigned count, int *options,
                              void **values) {
  KF_GUARDED;
  const std::string text = static_cast<const char *>(image);
  std::string error;
  std::unique_ptr<ptx::Module> made = ptx::parse(text, error);
  const std::string slow = "info    : 0 bytes gmem\nwarning : (C7510) Potential Performance Loss: "
                           "wgmma.mma_async instructions are serialized\n";
  for (unsigned i = 0; i < count; ++i) {
    if (options[i] == number::errorLog && !made)
      std::strcpy(static_cast<char *>(values[i]), ('\n' + error + '\n').c_str());
    if (options[i] == number::infoLog && text.find("// slow") != std::string::npos)
      std::strcpy(static_cast<char *>(values[i]), slow.c_str());
  }
  if (!made)
    return 218;
  *module = reinterpret_cast<CUmodule>(made.release());
  return number::success;
}
KF_DRIVER(cuModuleUnload)(CUmodule module) {
  delete reinterpret_cast<ptx::Module *>(module);
  return number::success;
}
KF_DRIVER(cuModuleGetFunction)(CUfunction *function, CUmodule module, const char *name) {
  KF_GUARDED;
  auto &entries = reinterpret_cast<ptx::Module *>(module)->entries;
  const auto found = entries.find(name);
  if (found == entries.end())
    return 500;
  *function = reinterpret_cast<CUfunction>(&found->second);
  return number::success;
}
KF_DRIVER(cuFuncGetAttribute)(int *value, int attribute, CUfunction function) {
  KF_GUARDED;
  const Entry &entry = *reinterpret_cast<Entry *>(function);
  *value = attribute == number::staticSharedBytes ? int(entry->sharedBytes)
           : attribute == number::registers       ? 40
                                                  : 16;
  return number::success;
}
KF_DRIVER(cuFuncSetAttribute)(CUfunction, int attribute, int value) {
  KF_GUARDED;
  log("dynamic {}", attribute == number::maxDynamicSharedBytes ? value : -1);
  return number::success;
}
KF_DRIVER(cuLaunchKernelEx)(const CUlaunchConfig *config, CUfunction function, void **parameters,
                            void **) {
  KF_GUARDED;
  const Entry entry = *reinterpret_cast<Entry *>(function);
  std::string attributes;
  for (unsigned i = 0; i < config->numAttrs; ++i)
    attributes += fmt::format(" {}:{}", config->attrs[i].id, config->attrs[i].value.flag);
  log("launch {} {} of {} threads, {} bytes{}", entry->name, config->gridDimX,
      config->blockDimX * config->blockDimY * config->blockDimZ, config->sharedMemBytes,
      attributes);
  ptx::Launch launch;
  launch.grid = {config->gridDimX, config->gridDimY, config->gridDimZ};
  launch.block = {config->blockDimX, config->blockDimY, config->blockDimZ};
  for (unsigned i = 0; i < config->numAttrs; ++i)
    if (config->attrs[i].id == number::clusterDimension)
      launch.cluster = config->attrs[i].value.clusterDim[0];
  launch.dynamicSharedBytes = config->sharedMemBytes;
  // Parameters are the driver's own from now on.
  std::vector<std::vector<std::byte>> values;
  for (size_t i = 0; i < entry->parameterBytes.size(); ++i) {
    const auto *from = static_cast<const std::byte *>(parameters[i]);
    values.emplace_back(from, from + entry->parameterBytes[i]);
  }
  return add(config->hStream, [=] { return run(*entry, launch, values); });
}
KF_DRIVER(cuTensorMapEncodeTiled)(CUtensorMap *map, int element, uint32_t rank, void *address,
                                  const uint64_t *shape, const uint64_t *strides,
                                  const uint32_t *box, const uint32_t *elementStrides, int,
                                  int swizzle, int promotion, int) {
  KF_GUARDED;
  std::string text = fmt::format("map {} swizzle {} promotion {}", element, swizzle, promotion);
  for (uint32_t i = 0; i < rank; ++i)
    text += fmt::format(" {}/{}/{}", shape[i], box[i], elementStrides[i]);
  for (uint32_t i = 0; i + 1 < rank; ++i)
    text += fmt::format(" {}", strides[i]);
  log("{}", text);
  if (rank != 2)
    return 801; // not emulated
  ptx::TensorMap made;
  made.address = reinterpret_cast<uint64_t>(address);
  made.stride = strides[0];
  made.shape = {shape[0], shape[1]};
  made.box = {box[0], box[1]};
  made.elementBytes = element == number::mapF32 || element == number::mapI32 ? 4
                      : element == number::mapU8                             ? 1
                                                                             : 2;
  made.isSwizzled = swizzle == 3 ? 1 : 0;
  std::memcpy(map, &made, sizeof(made));
  return number::success;
}

} // extern "C"
