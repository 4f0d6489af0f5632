// What devices with memory of their own share: copies go through a queue, and code is checked
// before all of it is made ready at once.
#pragma once

#include "kernelforge/backend/Device.h"

#include <memory>
#include <utility>
#include <vector>

namespace kernelforge {

/// `Queue` allocates, copies and waits as Device says. `Loaded` is the executable, made of context,
/// queue, a program and its kernels. Beside `Context` stand checkKernels(context, program) and
/// loadKernels(context, programs), the kernels by program and artifact.
template <typename Context, typename Queue, typename Loaded> class GpuDevice : public Device {
public:
  GpuDevice(std::shared_ptr<Context> context, std::shared_ptr<Queue> queue)
      : context(std::move(context)), queue(std::move(queue)) {}

  const DeviceInfo &info() const override { return context->info(); }

  Expected<BufferRef> allocate(int64_t bytes, MemoryUse use) override {
    return queue->allocate(bytes, use);
  }

  Expected<BufferRef> import(std::span<const std::byte> bytes, MemoryUse use,
                             std::shared_ptr<const void> owner) override {
    KF_TRY(BufferRef ref, queue->allocate(int64_t(bytes.size()), use));
    KF_CHECK(queue->upload(bytes, ref));
    return ref;
  }

  Expected<Ticket> upload(std::span<const std::byte> from, const BufferRef &to) override {
    return queue->upload(from, to);
  }
  Expected<Ticket> download(const BufferRef &from, std::span<std::byte> to) override {
    return queue->download(from, to);
  }
  Status wait(Ticket ticket) override { return queue->wait(ticket); }

  Expected<std::vector<std::unique_ptr<Executable>>>
  load(std::span<const std::shared_ptr<const Program>> programs) override {
    for (const auto &program : programs) {
      KF_CHECK(checkProgram(*program));
      KF_CHECK(checkKernels(*context, *program));
    }
    KF_TRY(auto kernels, loadKernels(context, programs));
    std::vector<std::unique_ptr<Executable>> executables;
    for (size_t i = 0; i < programs.size(); ++i)
      executables.push_back(
          std::make_unique<Loaded>(context, queue, programs[i], std::move(kernels[i])));
    return executables;
  }

protected:
  /// `programs` as what this device bound them to. Unusable where one is of another device.
  template <typename Bound>
  Expected<std::vector<Bound *>> boundHere(std::span<BoundProgram *const> programs) const {
    std::vector<Bound *> bound;
    for (BoundProgram *each : programs) {
      bound.push_back(dynamic_cast<Bound *>(each));
      if (!bound.back() || bound.back()->owner() != context.get())
        return unusable("program cannot be timed", info().name, "it is bound on another device");
    }
    return bound;
  }

  const std::shared_ptr<Context> context;
  const std::shared_ptr<Queue> queue;
};

} // namespace kernelforge
