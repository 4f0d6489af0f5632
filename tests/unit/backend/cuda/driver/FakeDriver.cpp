// A driver without a GPU: memory is the host's, kernels are those of CudaFixture.cpp by their
// names, and nothing of a stream is done before somebody waits for it. So it shows who does not
// wait, and whose memory is used again too soon. What it was asked for stands in a log.
#include "kernelforge/backend/cuda/Api.h"

#include <chrono>
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

using Clock = std::chrono::steady_clock;
using Work = std::function<CUresult()>;

std::recursive_mutex mutex;
std::string logText;
CUresult initResult = number::success;
constexpr size_t memoryBytes = size_t(256) << 20;
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

/// What a kernel does, of its parameters.
struct FakeKernel {
  size_t parameters = 0;
  std::function<CUresult(void *const *parameters, unsigned blocks, unsigned threads)> run;
};

template <typename T> T parameter(void *const *parameters, size_t index) {
  T value;
  std::memcpy(&value, parameters[index], sizeof(T));
  return value;
}
template <typename T> T *pointer(void *const *parameters, size_t index) {
  return reinterpret_cast<T *>(parameter<CUdeviceptr>(parameters, index));
}

const std::map<std::string, FakeKernel> &kernels() {
  static const std::map<std::string, FakeKernel> all = {
      {"affine",
       {3,
        [](void *const *p, unsigned blocks, unsigned threads) {
          const auto *in = pointer<float>(p, 0);
          auto *out = pointer<float>(p, 1);
          for (uint32_t i = 0; i < blocks * threads && i < parameter<uint32_t>(p, 2); ++i)
            out[i] = in[i] * 2 + 1;
          return number::success;
        }}},
      {"number",
       {1,
        [](void *const *p, unsigned blocks, unsigned) {
          for (uint32_t i = 0; i < blocks; ++i)
            pointer<uint32_t>(p, 0)[i] += i * 3;
          return number::success;
        }}},
      {"sum_rows",
       {3,
        [](void *const *p, unsigned blocks, unsigned) {
          const auto n = parameter<uint32_t>(p, 2);
          for (uint32_t task = 0; task < blocks; ++task) {
            float total = 0;
            for (uint32_t i = task * 16; i < std::min(n, task * 16 + 16); ++i)
              total += pointer<float>(p, 0)[i];
            pointer<float>(p, 1)[task] = total;
          }
          return number::success;
        }}},
      {"sum_all",
       {4,
        [](void *const *p, unsigned, unsigned) {
          float total = 0;
          for (uint32_t i = 0; i < (parameter<uint32_t>(p, 3) + 15) / 16; ++i)
            total += pointer<float>(p, 0)[i];
          const uint32_t runs = ++*pointer<uint32_t>(p, 1);
          pointer<float>(p, 2)[0] = total;
          pointer<float>(p, 2)[1] = float(runs);
          return number::success;
        }}},
      {"lose", {0, [](void *const *, unsigned, unsigned) { return number::launchFailed; }}},
      // Takes a tensor map and a buffer, and gives back what the map was made of.
      {"mapped",
       {2,
        [](void *const *p, unsigned, unsigned) {
          std::memcpy(pointer<std::byte>(p, 1), p[0], sizeof(CUtensorMap));
          return number::success;
        }}},
  };
  return all;
}

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
  *version = 12080;
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
  static const std::map<int, int> values = {{number::maxThreadsPerBlock, 1024},
                                            {number::maxGridDimX, 0x7fffffff},
                                            {number::warpSize, 32},
                                            {number::maxRegistersPerBlock, 65536},
                                            {number::multiprocessors, 8},
                                            {number::capabilityMajor, 9},
                                            {number::capabilityMinor, 0},
                                            {number::maxSharedBytesOptIn, 232448}};
  *value = values.at(attribute);
  return number::success;
}
KF_DRIVER(cuDeviceTotalMem_v2)(size_t *bytes, CUdevice) {
  *bytes = memoryBytes;
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
  flush(*reinterpret_cast<FakeEvent *>(event)->stream);
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
  auto has = [&](const char *what) { return text.find(what) != std::string::npos; };
  if (!has(".version") || has("nonsense")) {
    for (unsigned i = 0; i < count; ++i)
      if (options[i] == number::errorLog)
        std::strcpy(static_cast<char *>(values[i]), "\nline 7; unknown symbol 'nonsense'\n");
    return 218;
  }
  for (unsigned i = 0; i < count; ++i)
    if (options[i] == number::infoLog && has("// slow"))
      std::strcpy(static_cast<char *>(values[i]),
                  "info    : 0 bytes gmem\nwarning : (C7510) Potential Performance Loss: "
                  "wgmma.mma_async instructions are serialized\n");
  *module = reinterpret_cast<CUmodule>(new std::string(text));
  return number::success;
}
KF_DRIVER(cuModuleUnload)(CUmodule module) {
  delete reinterpret_cast<std::string *>(module);
  return number::success;
}
KF_DRIVER(cuModuleGetFunction)(CUfunction *function, CUmodule module, const char *name) {
  KF_GUARDED;
  const auto found = kernels().find(name);
  if (found == kernels().end() || reinterpret_cast<std::string *>(module)->find(
                                      fmt::format(".entry {}(", name)) == std::string::npos)
    return 500;
  *function =
      reinterpret_cast<CUfunction>(const_cast<std::pair<const std::string, FakeKernel> *>(&*found));
  return number::success;
}
KF_DRIVER(cuFuncGetAttribute)(int *value, int attribute, CUfunction) {
  KF_GUARDED;
  static const std::map<int, int> values = {
      {number::staticSharedBytes, 256}, {number::localBytes, 16}, {number::registers, 40}};
  *value = values.at(attribute);
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
  const auto &[name, kernel] =
      *reinterpret_cast<std::pair<const std::string, FakeKernel> *>(function);
  std::string attributes;
  for (unsigned i = 0; i < config->numAttrs; ++i)
    attributes += fmt::format(" {}:{}", config->attrs[i].id, config->attrs[i].value.flag);
  log("launch {} {} of {} threads, {} bytes{}", name, config->gridDimX,
      config->blockDimX * config->blockDimY * config->blockDimZ, config->sharedMemBytes,
      attributes);
  // Parameters are the driver's own from now on.
  std::vector<CUtensorMap> copies(kernel.parameters);
  for (size_t i = 0; i < kernel.parameters; ++i)
    std::memcpy(&copies[i], parameters[i], name == "mapped" && i == 0 ? sizeof(CUtensorMap) : 8);
  return add(config->hStream, [&kernel = kernel, copies, blocks = config->gridDimX,
                               threads = config->blockDimX]() mutable {
    std::vector<void *> pointers;
    for (CUtensorMap &copy : copies)
      pointers.push_back(&copy);
    return kernel.run(pointers.data(), blocks, threads);
  });
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
  map->opaque[0] = reinterpret_cast<uint64_t>(address);
  return number::success;
}

} // extern "C"
