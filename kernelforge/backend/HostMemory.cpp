#include "kernelforge/backend/HostMemory.h"

#include "kernelforge/support/Host.h"
#include "kernelforge/support/PageMemory.h"

#include <chrono>
#include <cstring>

namespace kernelforge {

namespace {

using Clock = std::chrono::steady_clock;

/// So many different lengths at which caches reach their first huge page.
constexpr uint64_t cacheSteps = 64;

/// Memory of our own, or the host's as it was given to us.
class HostMemory final : public Memory {
public:
  explicit HostMemory(PageMemory pages) : pages(std::move(pages)), span(this->pages.span()) {}
  HostMemory(std::span<std::byte> given, std::shared_ptr<const void> owner)
      : span(given), owner(std::move(owner)) {}

  int64_t bytes() const override { return int64_t(span.size()); }
  std::byte *hostAddress() const override { return span.data(); }

private:
  PageMemory pages;
  std::span<std::byte> span;
  std::shared_ptr<const void> owner;
};

} // namespace

Status HostMemoryDevice::checkLaunchings(const Program &program) {
  for (const Artifact &artifact : program.artifacts) {
    auto refuse = [&](const char *why) {
      return unusable("program cannot be loaded", artifact.kernel, why,
                      "compile it for the device's own target");
    };
    for (const Workspace &workspace : artifact.launching.workspaces)
      if (workspace.contents == Workspace::Contents::ZeroedOnce)
        return refuse("it has a workspace that stays from run to run, and this device keeps none");
    for (const Phase &phase : artifact.launching.phases)
      for (const Parameter &parameter : phase.parameters)
        if (parameter.kind == Parameter::Kind::Map)
          return refuse("it takes a tensor map, and this device makes none");
  }
  return {};
}

Expected<BufferRef> HostMemoryDevice::allocate(int64_t bytes, MemoryUse use) {
  // A byte at least: what has no elements has an address, too.
  const uint64_t size = std::max<int64_t>(bytes, 1);
  // A cache's memory is taken as the sequence grows. Were all on huge pages from the start, the
  // first token would wait for one of each; so they begin with small ones, and reach their first
  // huge one at different lengths.
  uint64_t small = 0;
  if (use == MemoryUse::Cache)
    small = PageMemory::hugePage / cacheSteps * (1 + caches++ % (cacheSteps - 1));
  KF_TRY(PageMemory pages, PageMemory::allocate(size, small));
  if (use == MemoryUse::Weights) // any thread may take any task, and so read any of them
    pages.spreadOver(host().memoryNodes);
  return BufferRef{std::make_shared<HostMemory>(std::move(pages)), 0, bytes};
}

Expected<BufferRef> HostMemoryDevice::import(std::span<const std::byte> bytes, MemoryUse use,
                                             std::shared_ptr<const void> owner) {
  const std::span<std::byte> span(const_cast<std::byte *>(bytes.data()), bytes.size());
  return BufferRef{std::make_shared<HostMemory>(span, std::move(owner)), 0, int64_t(span.size())};
}

Expected<Ticket> HostMemoryDevice::upload(std::span<const std::byte> from, const BufferRef &to) {
  KF_CHECK(checkTransfer(from.size(), to));
  if (!from.empty())
    std::memcpy(to.hostAddress(), from.data(), from.size());
  return Ticket(0);
}

Expected<Ticket> HostMemoryDevice::download(const BufferRef &from, std::span<std::byte> to) {
  KF_CHECK(checkTransfer(to.size(), from));
  if (!to.empty())
    std::memcpy(to.data(), from.hostAddress(), to.size());
  return Ticket(0);
}

Expected<std::vector<std::vector<double>>>
HostMemoryDevice::time(std::span<BoundProgram *const> programs, std::span<const int64_t> sizes,
                       int rounds) {
  std::vector<std::vector<double>> seconds(programs.size());
  for (int round = 0; round < rounds; ++round)
    for (size_t i = 0; i < programs.size(); ++i) {
      const auto begin = Clock::now();
      KF_CHECK(programs[i]->submit(sizes));
      seconds[i].push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    }
  return seconds;
}

} // namespace kernelforge
