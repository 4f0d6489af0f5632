#include "kernelforge/backend/cuda/Context.h"

#include "kernelforge/codegen/cuda/Convention.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <utility>

using namespace kernelforge;
using namespace kernelforge::cuda;

/// Results after which every call of the context fails.
static bool isLoss(CUresult result) {
  using namespace number;
  static constexpr CUresult losses[] = {deinitialized,      eccError,          nvlinkError,
                                        contained,          illegalAddress,    launchTimeout,
                                        assertion,          contextDestroyed,  stackError,
                                        illegalInstruction, misalignedAddress, invalidAddressSpace,
                                        invalidPc,          launchFailed,      unknown};
  return std::ranges::find(losses, result) != std::end(losses);
}

Context::Current::Current(const Context &context) : api(context.api()) {
  api.cuCtxPushCurrent(context.handle);
}

Context::Current::~Current() {
  CUcontext popped = nullptr;
  api.cuCtxPopCurrent(&popped);
}

std::string Context::wordsOf(CUresult result) const {
  const char *name = nullptr, *text = nullptr;
  if (api().cuGetErrorName(result, &name) != number::success || !name)
    return fmt::format("the driver gave result {}", result);
  if (api().cuGetErrorString(result, &text) != number::success || !text)
    return name;
  return fmt::format("{} ({})", text, name);
}

Status Context::alive() const {
  const std::lock_guard guard(mutex);
  if (whyLost.empty())
    return {};
  return makeError(ErrorKind::Lost, "GPU was lost", description.name, whyLost);
}

Status Context::check(CUresult result, std::string_view what, std::string_view where) const {
  if (result == number::success)
    return {};
  std::string why = wordsOf(result);
  if (isLoss(result)) {
    {
      const std::lock_guard guard(mutex);
      if (whyLost.empty())
        whyLost = where.empty() ? why : fmt::format("{}: {}", where, why);
    }
    return alive();
  }
  return failed(
      std::string(what), where.empty() ? description.name : std::string(where), std::move(why),
      result == number::outOfMemory ? "free memory of the GPU, or use a smaller context" : "");
}

Expected<int64_t> Context::freeBytes() const {
  const Current current(*this);
  size_t free = 0, all = 0;
  KF_CHECK(check(api().cuMemGetInfo(&free, &all), "GPU says no free memory"));
  return int64_t(free);
}

Status Context::describe(CUdevice device) {
  char name[256] = {};
  KF_CHECK(check(api().cuDeviceGetName(name, sizeof(name), device), "GPU says no name"));
  description.kind = "cuda";
  description.name = name;
  Status status;
  auto attribute = [&](int which) -> int64_t {
    int value = 0;
    if (status)
      status = check(api().cuDeviceGetAttribute(&value, which, device), "GPU says no attribute");
    return value;
  };
  using namespace number;
  // Not two arguments of one call, whose order is nobody's.
  const int64_t major = attribute(capabilityMajor), minor = attribute(capabilityMinor);
  description.chip = fmt::format("sm_{}{}", major, minor);
  Limits &limits = description.limits;
  limits.workers = attribute(multiprocessors);
  limits.sharedBytes = attribute(maxSharedBytesOptIn);
  limits.registers = std::min<int64_t>(255, attribute(maxRegistersPerBlock));
  limits.threadsPerBlock = attribute(maxThreadsPerBlock);
  limits.subgroupMin = limits.subgroupMax = attribute(warpSize);
  limits.blocksPerDimension = attribute(maxGridDimX);
  limits.bufferAlignment = bufferAlignment;
  KF_CHECK(status);
  size_t bytes = 0;
  KF_CHECK(check(api().cuDeviceTotalMem(&bytes, device), "GPU says no memory"));
  limits.memoryBytes = int64_t(bytes);
  int version = 0;
  KF_CHECK(check(api().cuDriverGetVersion(&version), "driver says no version"));
  description.driver = fmt::format("CUDA {}.{}", version / 1000, version % 1000 / 10);
  return {};
}

Expected<std::shared_ptr<Context>> Context::make(std::shared_ptr<const Library> library,
                                                 int ordinal) {
  std::shared_ptr<Context> context(new Context(std::move(library)));
  const Api &api = context->api();
  auto none = [&](std::string why) {
    return missing("no NVIDIA GPU can be used", fmt::format("GPU {}", ordinal), std::move(why),
                   "use another target, or look at what nvidia-smi says");
  };
  static std::atomic<bool> hadContext = false;
  if (const CUresult result = api.cuInit(0); hadContext && isLoss(result))
    // Seen with driver 580: whatever contexts there were, all calls of the process fail from then
    // on.
    return failed("GPU was lost", fmt::format("GPU {}", ordinal), context->wordsOf(result),
                  "start the program again: the driver gives this process no GPU any more");
  else if (result != number::success)
    return none(context->wordsOf(result));
  int count = 0;
  if (const CUresult result = api.cuDeviceGetCount(&count); result != number::success)
    return none(context->wordsOf(result));
  if (ordinal < 0 || ordinal >= count)
    return none(fmt::format("the driver sees {} GPU{}", count, count == 1 ? "" : "s"));
  CUdevice device = 0;
  if (const CUresult result = api.cuDeviceGet(&device, ordinal); result != number::success)
    return none(context->wordsOf(result));
  KF_CHECK(context->describe(device));
  if (const CUresult result = api.cuCtxCreate(&context->handle, 0, device);
      result != number::success)
    return none(context->wordsOf(result));
  hadContext = true;
  // It is made current for this thread, which is to have what it had.
  CUcontext popped = nullptr;
  api.cuCtxPopCurrent(&popped);
  return context;
}

Context::~Context() {
  if (handle)
    api().cuCtxDestroy(handle);
}
