#include "FaultyDevice.h"

#include <cstring>
#include <deque>

namespace kernelforge {

namespace {

/// What all parts of one device share.
struct State {
  explicit State(Faults &faults) : faults(faults) {}

  Faults &faults;
  bool lost = false;
  Ticket last = 0, done = 0;
  std::deque<std::function<Status()>> queue; ///< what nobody has waited for

  Status check() const {
    if (!lost)
      return {};
    return makeError(ErrorKind::Lost, "device is lost", "faulty device", "it was told to go");
  }

  Ticket put(std::function<Status()> work) {
    queue.push_back(std::move(work));
    return ++last;
  }

  Status wait(Ticket ticket) {
    while (done < ticket && !queue.empty()) {
      KF_CHECK(check());
      std::function<Status()> work = std::move(queue.front());
      queue.pop_front();
      ++done;
      KF_CHECK(work());
    }
    return check();
  }
};

/// The host's address is hidden: only the device underneath knows it.
class HiddenMemory final : public Memory {
public:
  explicit HiddenMemory(BufferRef inner) : inner(std::move(inner)) {}
  int64_t bytes() const override { return inner.bytes; }

  const BufferRef inner;
};

BufferRef revealed(const BufferRef &buffer) {
  if (!buffer.memory)
    return {};
  const BufferRef &inner = static_cast<const HiddenMemory &>(*buffer.memory).inner;
  return {inner.memory, inner.offset + buffer.offset, buffer.bytes};
}

class FaultyBoundProgram final : public BoundProgram {
public:
  FaultyBoundProgram(std::shared_ptr<State> state, std::unique_ptr<BoundProgram> inner)
      : state(std::move(state)), inner(std::move(inner)) {}

  Expected<Ticket> submit(std::span<const int64_t> sizes, const SubmitOptions &options) override {
    KF_CHECK(state->check());
    return state->put([this, sizes = std::vector(sizes.begin(), sizes.end()), options]() -> Status {
      KF_CHECK(inner->submit(sizes, options));
      if (state->faults.submits++ == state->faults.losingSubmit)
        state->lost = true;
      return state->check();
    });
  }

  Expected<std::vector<int64_t>> runTimed(std::span<const int64_t> sizes,
                                          const SubmitOptions &options) override {
    KF_CHECK(state->wait(state->last));
    return inner->runTimed(sizes, options);
  }

private:
  const std::shared_ptr<State> state;
  const std::unique_ptr<BoundProgram> inner;
};

class FaultyExecutable final : public Executable {
public:
  FaultyExecutable(std::shared_ptr<State> state, std::unique_ptr<Executable> inner)
      : state(std::move(state)), inner(std::move(inner)) {}

  const Program &program() const override { return inner->program(); }
  std::vector<KernelResources> resources() const override { return inner->resources(); }

  Expected<std::unique_ptr<BoundProgram>> bind(ProgramBuffers buffers) override {
    KF_CHECK(state->check());
    for (auto *list : {&buffers.arguments, &buffers.results})
      for (BufferRef &buffer : *list)
        buffer = revealed(buffer);
    buffers.arena = revealed(buffers.arena);
    KF_TRY(auto bound, inner->bind(std::move(buffers)));
    return std::make_unique<FaultyBoundProgram>(state, std::move(bound));
  }

private:
  const std::shared_ptr<State> state;
  const std::unique_ptr<Executable> inner;
};

class FaultyDevice final : public Device {
public:
  FaultyDevice(Faults &faults, std::unique_ptr<Device> inner)
      : state(std::make_shared<State>(faults)), inner(std::move(inner)), self(this->inner->info()) {
    self.name = "faulty device";
    self.sharesHostMemory = false;
    self.limits.bindingBytes = faults.bindingBytes;
  }

  const DeviceInfo &info() const override { return self; }

  Expected<BufferRef> allocate(int64_t bytes, MemoryUse use) override {
    KF_CHECK(state->check());
    Faults &faults = state->faults;
    if (faults.allocations++ == faults.failingAllocation)
      return failed("memory cannot be had", self.name, "it was told to have none",
                    "free some of the device's memory");
    if (bytes > faults.bindingBytes)
      return unusable("memory cannot be bound", self.name,
                      "a buffer of " + std::to_string(bytes) + " bytes is beyond the limit of " +
                          std::to_string(faults.bindingBytes));
    KF_TRY(BufferRef memory, inner->allocate(bytes, use));
    std::memset(memory.hostAddress(), 0xff, bytes);
    return BufferRef{std::make_shared<HiddenMemory>(std::move(memory)), 0, bytes};
  }

  Expected<BufferRef> import(std::span<const std::byte> bytes, MemoryUse use,
                             std::shared_ptr<const void> owner) override {
    KF_TRY(BufferRef memory, allocate(int64_t(bytes.size()), use));
    if (!bytes.empty())
      std::memcpy(revealed(memory).hostAddress(), bytes.data(), bytes.size());
    return memory;
  }

  Expected<Ticket> upload(std::span<const std::byte> from, const BufferRef &to) override {
    KF_CHECK(state->check());
    KF_CHECK(checkTransfer(from.size(), to));
    return state->put([bytes = std::vector(from.begin(), from.end()), to]() -> Status {
      if (!bytes.empty())
        std::memcpy(revealed(to).hostAddress(), bytes.data(), bytes.size());
      return {};
    });
  }

  Expected<Ticket> download(const BufferRef &from, std::span<std::byte> to) override {
    KF_CHECK(state->check());
    KF_CHECK(checkTransfer(to.size(), from));
    return state->put([from, to]() -> Status {
      if (!to.empty())
        std::memcpy(to.data(), revealed(from).hostAddress(), to.size());
      return {};
    });
  }

  Expected<std::vector<std::unique_ptr<Executable>>>
  load(std::span<const std::shared_ptr<const Program>> programs) override {
    KF_CHECK(state->check());
    for (const auto &program : programs)
      for (const Artifact &artifact : program->artifacts)
        for (const Phase &phase : artifact.launching.phases)
          if (phase.coResident && state->faults.refusesBarriers)
            return unusable("program cannot be loaded", artifact.kernel,
                            "it needs all of its blocks at once, and " + self.name +
                                " does not promise that");
    KF_TRY(auto executables, inner->load(programs));
    std::vector<std::unique_ptr<Executable>> wrapped;
    for (auto &executable : executables)
      wrapped.push_back(std::make_unique<FaultyExecutable>(state, std::move(executable)));
    return wrapped;
  }

  Status wait(Ticket ticket) override { return state->wait(ticket); }

  Expected<std::vector<std::vector<double>>> time(std::span<BoundProgram *const> programs,
                                                  std::span<const int64_t> sizes,
                                                  int rounds) override {
    return std::vector<std::vector<double>>(programs.size());
  }

private:
  const std::shared_ptr<State> state;
  const std::unique_ptr<Device> inner;
  DeviceInfo self;
};

} // namespace

Expected<std::unique_ptr<Device>> createFaultyDevice(Faults &faults) {
  ++faults.devices;
  KF_TRY(auto inner, createCpuDevice({2, /*poison=*/true}));
  return std::make_unique<FaultyDevice>(faults, std::move(inner));
}

} // namespace kernelforge
