// The functions of webgpu.h that the device calls, as a table of pointers: the library is opened at
// run time, and nothing is linked with it.
#pragma once

#include "kernelforge/backend/webgpu/Dawn.h"

#include <webgpu.h>
#include <wgpu.h>

#include <utility>

/// Every function of the standard that is called. A library without one of them is no use.
#define KF_WEBGPU_FUNCTIONS(X)                                                                     \
  X(wgpuCreateInstance)                                                                            \
  X(wgpuInstanceRequestAdapter)                                                                    \
  X(wgpuInstanceProcessEvents)                                                                     \
  X(wgpuInstanceAddRef)                                                                            \
  X(wgpuInstanceRelease)                                                                           \
  X(wgpuAdapterGetInfo)                                                                            \
  X(wgpuAdapterInfoFreeMembers)                                                                    \
  X(wgpuAdapterGetLimits)                                                                          \
  X(wgpuAdapterHasFeature)                                                                         \
  X(wgpuAdapterRequestDevice)                                                                      \
  X(wgpuAdapterAddRef)                                                                             \
  X(wgpuAdapterRelease)                                                                            \
  X(wgpuDeviceGetQueue)                                                                            \
  X(wgpuDeviceDestroy)                                                                             \
  X(wgpuDeviceRelease)                                                                             \
  X(wgpuDevicePushErrorScope)                                                                      \
  X(wgpuDevicePopErrorScope)                                                                       \
  X(wgpuDeviceCreateBuffer)                                                                        \
  X(wgpuDeviceCreateShaderModule)                                                                  \
  X(wgpuDeviceCreateBindGroupLayout)                                                               \
  X(wgpuDeviceCreatePipelineLayout)                                                                \
  X(wgpuDeviceCreateComputePipeline)                                                               \
  X(wgpuDeviceCreateBindGroup)                                                                     \
  X(wgpuDeviceCreateQuerySet)                                                                      \
  X(wgpuDeviceCreateCommandEncoder)                                                                \
  X(wgpuQueueSubmit)                                                                               \
  X(wgpuQueueWriteBuffer)                                                                          \
  X(wgpuQueueOnSubmittedWorkDone)                                                                  \
  X(wgpuQueueRelease)                                                                              \
  X(wgpuCommandEncoderBeginComputePass)                                                            \
  X(wgpuCommandEncoderCopyBufferToBuffer)                                                          \
  X(wgpuCommandEncoderResolveQuerySet)                                                             \
  X(wgpuCommandEncoderFinish)                                                                      \
  X(wgpuCommandEncoderRelease)                                                                     \
  X(wgpuCommandBufferRelease)                                                                      \
  X(wgpuComputePassEncoderSetPipeline)                                                             \
  X(wgpuComputePassEncoderSetBindGroup)                                                            \
  X(wgpuComputePassEncoderDispatchWorkgroups)                                                      \
  X(wgpuComputePassEncoderEnd)                                                                     \
  X(wgpuComputePassEncoderRelease)                                                                 \
  X(wgpuBufferMapAsync)                                                                            \
  X(wgpuBufferGetConstMappedRange)                                                                 \
  X(wgpuBufferUnmap)                                                                               \
  X(wgpuBufferRelease)                                                                             \
  X(wgpuShaderModuleRelease)                                                                       \
  X(wgpuBindGroupLayoutRelease)                                                                    \
  X(wgpuPipelineLayoutRelease)                                                                     \
  X(wgpuComputePipelineRelease)                                                                    \
  X(wgpuBindGroupRelease)                                                                          \
  X(wgpuQuerySetRelease)

/// Functions that a library may do without. All but the last are wgpu-native's alone: there,
/// waiting for futures is not implemented, and polling takes its place. The last is the standard's,
/// and not implemented in wgpu-native, where it ends the program.
#define KF_WEBGPU_EXTRAS(X)                                                                        \
  X(wgpuDevicePoll)                                                                                \
  X(wgpuQueueSubmitForIndex)                                                                       \
  X(wgpuQueueGetTimestampPeriod)                                                                   \
  X(wgpuGetVersion)                                                                                \
  X(wgpuInstanceEnumerateAdapters)                                                                 \
  X(wgpuDeviceCreateShaderModuleTrusted)                                                           \
  X(wgpuDeviceCreateComputePipelineAsync)

namespace kernelforge::webgpu {

/// All functions, once a library is open.
struct Api {
#define KF_POINTER(function) decltype(&::function) function = nullptr;
  KF_WEBGPU_FUNCTIONS(KF_POINTER)
  KF_WEBGPU_EXTRAS(KF_POINTER)
#undef KF_POINTER
  /// Functions of Dawn alone.
  void (*dawnTick)(WGPUDevice) = nullptr;
  void (*dawnFreeMatrices)(DawnMatrices) = nullptr;

  /// Whether the library is wgpu-native: its calls may come from several threads at once, and its
  /// own extensions of structures are understood.
  bool isNative() const { return wgpuDevicePoll != nullptr; }
  /// Whether it is Dawn, which understands its own extensions of structures.
  bool isDawn() const { return dawnTick != nullptr; }
};

/// An object of the library, let go of with this.
template <typename Object> class Handle {
public:
  Handle() = default;
  Handle(Object object, void (*release)(Object)) : object(object), release(release) {}
  Handle(Handle &&other) noexcept
      : object(std::exchange(other.object, nullptr)), release(other.release) {}
  Handle &operator=(Handle &&other) noexcept {
    std::swap(object, other.object);
    std::swap(release, other.release);
    return *this;
  }
  Handle(const Handle &) = delete;
  Handle &operator=(const Handle &) = delete;
  ~Handle() { reset(); }

  void reset() {
    if (Object old = std::exchange(object, nullptr))
      release(old);
  }
  Object get() const { return object; }
  explicit operator bool() const { return object != nullptr; }

private:
  Object object = nullptr;
  void (*release)(Object) = nullptr;
};

} // namespace kernelforge::webgpu
