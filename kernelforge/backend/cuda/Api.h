// The functions of NVIDIA's driver that the device calls, by the driver's own names. Declared here,
// so that a build needs no toolkit: types and numbers are those of the driver's ABI, which stays
// from release to release (a function that changes gets another symbol).
#pragma once

#include <cstddef>
#include <cstdint>

namespace kernelforge::cuda {

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct OpaqueContext *;
using CUstream = struct OpaqueStream *;
using CUevent = struct OpaqueEvent *;
using CUmodule = struct OpaqueModule *;
using CUfunction = struct OpaqueFunction *;
using CUgraph = struct OpaqueGraph *;
using CUgraphExec = struct OpaqueGraphExec *;

/// What a kernel takes where it copies tiles of a tensor.
struct alignas(128) CUtensorMap {
  uint64_t opaque[16];
};

/// A property of a launch: four bytes of number, four of nothing, 64 of value.
struct CUlaunchAttribute {
  int id = 0;
  char padding[4] = {};
  union {
    char bytes[64];
    unsigned clusterDim[3];
    int flag;
  } value = {};
};

struct CUlaunchConfig {
  unsigned gridDimX = 1, gridDimY = 1, gridDimZ = 1;
  unsigned blockDimX = 1, blockDimY = 1, blockDimZ = 1;
  unsigned sharedMemBytes = 0; ///< besides what the code declares
  CUstream hStream = nullptr;
  CUlaunchAttribute *attrs = nullptr;
  unsigned numAttrs = 0;
};

/// Numbers of the driver's enumerations.
namespace number {
// Results.
constexpr CUresult success = 0, outOfMemory = 2, deinitialized = 4, eccError = 214,
                   nvlinkError = 220, contained = 226, illegalAddress = 700, launchTimeout = 702,
                   contextDestroyed = 709, assertion = 710, stackError = 714,
                   illegalInstruction = 715, misalignedAddress = 716, invalidAddressSpace = 717,
                   invalidPc = 718, launchFailed = 719, unknown = 999;
// Attributes of a device.
constexpr int maxThreadsPerBlock = 1, maxGridDimX = 5, warpSize = 10, maxRegistersPerBlock = 12,
              multiprocessors = 16, capabilityMajor = 75, capabilityMinor = 76,
              maxSharedBytesOptIn = 97;
// Attributes of a function.
constexpr int staticSharedBytes = 1, localBytes = 3, registers = 4, maxDynamicSharedBytes = 8;
// Attributes of a launch.
constexpr int cooperative = 2, clusterDimension = 4, programmaticStreamSerialization = 6;
// Options of the compiler of PTX.
constexpr int infoLog = 3, infoLogBytes = 4, errorLog = 5, errorLogBytes = 6, optimizationLevel = 7,
              logVerbose = 12;
// Flags.
constexpr unsigned streamNonBlocking = 1, eventDisableTiming = 2;
constexpr int captureThreadLocal = 1;
// Of tensor maps: element types, L2 promotion.
constexpr int mapU8 = 0, mapI32 = 3, mapF16 = 6, mapF32 = 7, mapBF16 = 9, promote256Bytes = 3;
} // namespace number

// X(name, symbol, parameters)
#define KF_CUDA_FUNCTIONS(X)                                                                       \
  X(cuInit, "cuInit", (unsigned flags))                                                            \
  X(cuDriverGetVersion, "cuDriverGetVersion", (int *version))                                      \
  X(cuGetErrorName, "cuGetErrorName", (CUresult result, const char **name))                        \
  X(cuGetErrorString, "cuGetErrorString", (CUresult result, const char **text))                    \
  X(cuDeviceGetCount, "cuDeviceGetCount", (int *count))                                            \
  X(cuDeviceGet, "cuDeviceGet", (CUdevice * device, int ordinal))                                  \
  X(cuDeviceGetName, "cuDeviceGetName", (char *name, int bytes, CUdevice device))                  \
  X(cuDeviceGetAttribute, "cuDeviceGetAttribute", (int *value, int attribute, CUdevice device))    \
  X(cuDeviceTotalMem, "cuDeviceTotalMem_v2", (size_t *bytes, CUdevice device))                     \
  X(cuCtxCreate, "cuCtxCreate_v2", (CUcontext * context, unsigned flags, CUdevice device))         \
  X(cuCtxDestroy, "cuCtxDestroy_v2", (CUcontext context))                                          \
  X(cuCtxPushCurrent, "cuCtxPushCurrent_v2", (CUcontext context))                                  \
  X(cuCtxPopCurrent, "cuCtxPopCurrent_v2", (CUcontext * context))                                  \
  X(cuStreamCreate, "cuStreamCreate", (CUstream * stream, unsigned flags))                         \
  X(cuStreamDestroy, "cuStreamDestroy_v2", (CUstream stream))                                      \
  X(cuStreamSynchronize, "cuStreamSynchronize", (CUstream stream))                                 \
  X(cuStreamBeginCapture, "cuStreamBeginCapture_v2", (CUstream stream, int mode))                  \
  X(cuStreamEndCapture, "cuStreamEndCapture", (CUstream stream, CUgraph * graph))                  \
  X(cuEventCreate, "cuEventCreate", (CUevent * event, unsigned flags))                             \
  X(cuEventDestroy, "cuEventDestroy_v2", (CUevent event))                                          \
  X(cuEventRecord, "cuEventRecord", (CUevent event, CUstream stream))                              \
  X(cuEventSynchronize, "cuEventSynchronize", (CUevent event))                                     \
  X(cuEventElapsedTime, "cuEventElapsedTime", (float *milliseconds, CUevent begin, CUevent end))   \
  X(cuMemGetInfo, "cuMemGetInfo_v2", (size_t *free, size_t *all))                                  \
  X(cuMemAlloc, "cuMemAlloc_v2", (CUdeviceptr * address, size_t bytes))                            \
  X(cuMemFree, "cuMemFree_v2", (CUdeviceptr address))                                              \
  X(cuMemHostAlloc, "cuMemHostAlloc", (void **address, size_t bytes, unsigned flags))              \
  X(cuMemFreeHost, "cuMemFreeHost", (void *address))                                               \
  X(cuMemsetD8Async, "cuMemsetD8Async",                                                            \
    (CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream))                          \
  X(cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2",                                                     \
    (CUdeviceptr to, const void *from, size_t bytes, CUstream stream))                             \
  X(cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2",                                                     \
    (void *to, CUdeviceptr from, size_t bytes, CUstream stream))                                   \
  X(cuMemcpyDtoDAsync, "cuMemcpyDtoDAsync_v2",                                                     \
    (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream))                             \
  X(cuModuleLoadDataEx, "cuModuleLoadDataEx",                                                      \
    (CUmodule * module, const void *image, unsigned count, int *options, void **values))           \
  X(cuModuleUnload, "cuModuleUnload", (CUmodule module))                                           \
  X(cuModuleGetFunction, "cuModuleGetFunction",                                                    \
    (CUfunction * function, CUmodule module, const char *name))                                    \
  X(cuFuncGetAttribute, "cuFuncGetAttribute", (int *value, int attribute, CUfunction function))    \
  X(cuFuncSetAttribute, "cuFuncSetAttribute", (CUfunction function, int attribute, int value))     \
  X(cuLaunchKernelEx, "cuLaunchKernelEx",                                                          \
    (const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra))          \
  X(cuGraphInstantiate, "cuGraphInstantiateWithFlags",                                             \
    (CUgraphExec * exec, CUgraph graph, unsigned long long flags))                                 \
  X(cuGraphDestroy, "cuGraphDestroy", (CUgraph graph))                                             \
  X(cuGraphLaunch, "cuGraphLaunch", (CUgraphExec exec, CUstream stream))                           \
  X(cuGraphExecDestroy, "cuGraphExecDestroy", (CUgraphExec exec))                                  \
  X(cuTensorMapEncodeTiled, "cuTensorMapEncodeTiled",                                              \
    (CUtensorMap * map, int element, uint32_t rank, void *address, const uint64_t *shape,          \
     const uint64_t *strides, const uint32_t *box, const uint32_t *elementStrides, int interleave, \
     int swizzle, int promotion, int fill))

struct Api {
#define KF_POINTER(name, symbol, parameters) CUresult(*name) parameters = nullptr;
  KF_CUDA_FUNCTIONS(KF_POINTER)
#undef KF_POINTER
};

} // namespace kernelforge::cuda
