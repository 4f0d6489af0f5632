#include "kernelforge/backend/webgpu/Transfers.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

namespace kernelforge::webgpu {

namespace {

/// How much is written at once, and how much may be under way before it is waited for.
constexpr size_t pieceBytes = 8 << 20;
constexpr size_t underWayBytes = 64 << 20;
/// Copies of fewer bytes, of which each step of a decoder has some, are not worth error scopes.
constexpr size_t leastChecked = 1 << 20;
/// Buffers that downloads went through stay for the next ones up to so many bytes.
constexpr uint64_t idleBytes = 64 << 20;

constexpr uint64_t roundedDown(uint64_t value, uint64_t to) { return value / to * to; }
constexpr uint64_t roundedUp(uint64_t value, uint64_t to) {
  return roundedDown(value + to - 1, to);
}

const char *nameOf(MemoryUse use) {
  switch (use) {
  case MemoryUse::Weights:
    return "weights";
  case MemoryUse::Cache:
    return "cache";
  case MemoryUse::Arena:
    return "arena";
  case MemoryUse::Transfer:
    return "inputs and results";
  }
  return "memory";
}

} // namespace

BufferMemory::~BufferMemory() {
  const auto guard = context->lock();
  handle.reset();
}

uint64_t BufferMemory::wholeBytes() const { return std::max<uint64_t>(16, roundedUp(size, 16)); }

Expected<BufferMemory *> memoryOf(const Context &context, const BufferRef &ref,
                                  std::string_view where) {
  auto *memory = dynamic_cast<BufferMemory *>(ref.memory.get());
  if (!memory || memory->owner() != &context)
    return unusable("buffer cannot be used", std::string(where),
                    ref.memory ? "its memory is of another device" : "it has no memory");
  if (ref.offset < 0 || ref.bytes < 0 || ref.offset > memory->bytes() ||
      ref.bytes > memory->bytes() - ref.offset)
    return unusable("buffer cannot be used", std::string(where),
                    fmt::format("bytes {} to {} are not in a memory of {} bytes", ref.offset,
                                ref.offset + ref.bytes, memory->bytes()));
  return memory;
}

Expected<std::unique_ptr<Transfers>> Transfers::make(const std::shared_ptr<Context> &context) {
  std::unique_ptr<Transfers> transfers(new Transfers(context));
  KF_TRY(transfers->merge, WordMerge::make(context));
  return transfers;
}

Transfers::~Transfers() {
  const auto guard = context->lock();
  downloads.clear();
  idle.clear();
  merge.reset();
}

Expected<BufferRef> Transfers::allocate(int64_t bytes, MemoryUse use) {
  const uint64_t most =
      roundedDown(std::min<uint64_t>(context->limits().maxBufferSize, INT64_MAX), 16);
  if (bytes < 0 || uint64_t(bytes) > most)
    return unusable("memory cannot be allocated", fmt::format("{}, {} bytes", nameOf(use), bytes),
                    fmt::format("a buffer of {} has 0 to {} bytes", context->info().name, most));
  const auto guard = context->lock();
  KF_TRY(Handle<WGPUBuffer> buffer,
         context->makeBuffer(std::max<uint64_t>(16, roundedUp(bytes, 16)),
                             WGPUBufferUsage_Storage | WGPUBufferUsage_CopySrc |
                                 WGPUBufferUsage_CopyDst,
                             nameOf(use)));
  return BufferRef{std::make_shared<BufferMemory>(context, std::move(buffer), bytes), 0, bytes};
}

Expected<Ticket> Transfers::upload(std::span<const std::byte> from, const BufferRef &to) {
  KF_TRY(BufferMemory *const memory, memoryOf(*context, to, "upload"));
  if (from.size() != uint64_t(to.bytes))
    return unusable("buffer cannot be used", "upload",
                    fmt::format("{} bytes are given for {}", from.size(), to.bytes));
  const Api &api = context->api();
  const uint64_t begin = to.offset, end = begin + from.size();
  // Words that only partly belong to the buffer are merged; those between are written.
  const uint64_t firstWhole = std::min(roundedUp(begin, 4), end);
  const uint64_t lastWhole = std::max(roundedDown(end, 4), firstWhole);
  auto guard = context->lock();
  KF_CHECK(context->alive());
  size_t underWay = 0;
  for (uint64_t at = firstWhole; at < lastWhole;) {
    const size_t count = std::min<uint64_t>(pieceBytes, lastWhole - at);
    auto write = [&] {
      api.wgpuQueueWriteBuffer(context->queue(), memory->buffer(), at, from.data() + (at - begin),
                               count);
    };
    // That nothing is wrong with a write was checked above; a large one may find no memory, and
    // wgpu-native tells nowhere else that the device is lost.
    if (count < leastChecked && context->reportsLater())
      write();
    else
      KF_CHECK(context->checked("WebGPU memory cannot be written", "upload", write));
    at += count;
    underWay += count;
    // What is written is held until something is submitted.
    if (at < lastWhole || from.size() >= pieceBytes)
      api.wgpuQueueSubmit(context->queue(), 0, nullptr);
    if (underWay >= underWayBytes) {
      guard.unlock();
      KF_CHECK(context->waitForQueue());
      guard.lock();
      underWay = 0;
    }
  }
  std::vector<MergedWord> words;
  auto mergeBytes = [&](uint64_t first, uint64_t last) {
    if (first == last)
      return;
    MergedWord word;
    word.to = memory->buffer();
    word.toOffset = roundedDown(first, 4);
    word.mask = byteMask(int(first % 4), int(last - word.toOffset));
    std::memcpy(reinterpret_cast<std::byte *>(&word.value) + first % 4,
                from.data() + (first - begin), last - first);
    words.push_back(word);
  };
  // Within one word there is no whole one between.
  if (firstWhole > begin && roundedDown(begin, 4) == roundedDown(end, 4)) {
    mergeBytes(begin, end);
  } else {
    mergeBytes(begin, firstWhole);
    mergeBytes(lastWhole, end);
  }
  KF_CHECK(merge->submit(words));
  return issue();
}

Expected<Transfers::Staging> Transfers::stagingFor(uint64_t bytes) {
  // One that is far too large is left for others.
  const auto fitting = std::ranges::find_if(idle, [&](const Staging &one) {
    return one.bytes >= bytes && one.bytes / 4 <= std::max<uint64_t>(bytes, 4096);
  });
  if (fitting != idle.end()) {
    Staging found = std::move(*fitting);
    idle.erase(fitting);
    return found;
  }
  Staging made;
  made.bytes = std::max<uint64_t>(bytes, 4096);
  KF_TRY(made.buffer,
         context->makeBuffer(made.bytes, WGPUBufferUsage_MapRead | WGPUBufferUsage_CopyDst,
                             "download"));
  return made;
}

Expected<Ticket> Transfers::download(const BufferRef &from, std::span<std::byte> to) {
  KF_TRY(BufferMemory *const memory, memoryOf(*context, from, "download"));
  if (to.size() != uint64_t(from.bytes))
    return unusable("buffer cannot be used", "download",
                    fmt::format("{} bytes are given for {}", to.size(), from.bytes));
  const Api &api = context->api();
  const uint64_t begin = roundedDown(from.offset, 4);
  const uint64_t bytes = roundedUp(from.offset + to.size(), 4) - begin;
  const auto guard = context->lock();
  KF_CHECK(context->alive());
  if (to.empty())
    return issue();
  auto download = std::make_shared<Download>();
  download->to = to;
  download->bytes = bytes;
  download->skip = from.offset - begin;
  KF_TRY(download->staging, stagingFor(bytes));
  Handle<WGPUCommandBuffer> commands;
  auto record = [&] {
    const Handle<WGPUCommandEncoder> encoder = {
        api.wgpuDeviceCreateCommandEncoder(context->device(), nullptr),
        api.wgpuCommandEncoderRelease};
    api.wgpuCommandEncoderCopyBufferToBuffer(encoder.get(), memory->buffer(), begin,
                                             download->staging.buffer.get(), 0, bytes);
    commands = {api.wgpuCommandEncoderFinish(encoder.get(), nullptr), api.wgpuCommandBufferRelease};
  };
  if (bytes < leastChecked && context->reportsLater())
    record();
  else
    KF_CHECK(context->checked("WebGPU work cannot be recorded", "download", record));
  download->submission = context->submit(commands.get());
  using Status = std::shared_ptr<std::atomic<int>>;
  WGPUBufferMapCallbackInfo info = WGPU_BUFFER_MAP_CALLBACK_INFO_INIT;
  info.mode = WGPUCallbackMode_AllowProcessEvents;
  info.callback = [](WGPUMapAsyncStatus status, WGPUStringView, void *userdata, void *) {
    const std::unique_ptr<Status> shared(static_cast<Status *>(userdata));
    **shared = status;
  };
  info.userdata1 = std::make_unique<Status>(download->status).release();
  // What is wrong comes with the callback.
  api.wgpuBufferMapAsync(download->staging.buffer.get(), WGPUMapMode_Read, 0, bytes, info);
  download->ticket = issue();
  downloads.push_back(download);
  return download->ticket;
}

Status Transfers::finish(Download &download) {
  KF_CHECK(context->waitUntil([&] { return *download.status != 0; }, download.submission));
  const auto guard = context->lock();
  const Api &api = context->api();
  KF_CHECK(context->probe());
  if (*download.status != WGPUMapAsyncStatus_Success)
    return failed("WebGPU memory cannot be read", fmt::format("{} bytes", download.to.size()),
                  "the library cannot map it");
  const void *mapped =
      api.wgpuBufferGetConstMappedRange(download.staging.buffer.get(), 0, download.bytes);
  if (!mapped)
    return failed("WebGPU memory cannot be read", fmt::format("{} bytes", download.to.size()),
                  "the library maps nothing");
  std::memcpy(download.to.data(), static_cast<const std::byte *>(mapped) + download.skip,
              download.to.size());
  api.wgpuBufferUnmap(download.staging.buffer.get());
  idle.push_back(std::move(download.staging));
  uint64_t all = 0;
  for (const Staging &staging : idle)
    all += staging.bytes;
  for (; all > idleBytes; idle.pop_front())
    all -= idle.front().bytes;
  return {};
}

Status Transfers::wait(Ticket ticket) {
  Ticket all;
  bool isDownload = false;
  {
    const auto guard = context->lock();
    if (ticket <= completed)
      return context->alive();
    isDownload =
        std::ranges::any_of(downloads, [&](const auto &one) { return one->ticket == ticket; });
    all = isDownload ? ticket : issued;
  }
  if (!isDownload)
    KF_CHECK(context->waitForQueue());
  const std::lock_guard finisher(finishing);
  for (;;) {
    std::shared_ptr<Download> next;
    {
      const auto guard = context->lock();
      if (downloads.empty() || downloads.front()->ticket > all)
        break;
      next = downloads.front();
      downloads.pop_front();
    }
    KF_CHECK(finish(*next));
  }
  if (isDownload)
    KF_CHECK(context->reported());
  const auto guard = context->lock();
  completed = std::max(completed, all);
  return {};
}

Status Transfers::copy(const BufferRef &from, const BufferRef &to, uint64_t bytes) {
  KF_TRY(BufferMemory *const source, memoryOf(*context, from, "copy"));
  KF_TRY(BufferMemory *const target, memoryOf(*context, to, "copy"));
  const Api &api = context->api();
  const uint64_t whole = roundedDown(bytes, 4);
  if (whole > 0) {
    // The API copies from one buffer to another only.
    Handle<WGPUBuffer> between;
    if (source == target) {
      KF_TRY(between, context->makeBuffer(whole, WGPUBufferUsage_CopySrc | WGPUBufferUsage_CopyDst,
                                          "copied result"));
    }
    Handle<WGPUCommandBuffer> commands;
    KF_CHECK(context->checked("WebGPU work cannot be recorded", "copy of a result", [&] {
      const Handle<WGPUCommandEncoder> encoder = {
          api.wgpuDeviceCreateCommandEncoder(context->device(), nullptr),
          api.wgpuCommandEncoderRelease};
      if (between)
        api.wgpuCommandEncoderCopyBufferToBuffer(encoder.get(), source->buffer(), from.offset,
                                                 between.get(), 0, whole);
      api.wgpuCommandEncoderCopyBufferToBuffer(
          encoder.get(), between ? between.get() : source->buffer(), between ? 0 : from.offset,
          target->buffer(), to.offset, whole);
      commands = {api.wgpuCommandEncoderFinish(encoder.get(), nullptr),
                  api.wgpuCommandBufferRelease};
    }));
    context->submit(commands.get());
  }
  if (whole == bytes)
    return {};
  MergedWord word;
  word.to = target->buffer();
  word.toOffset = to.offset + whole;
  word.mask = byteMask(0, int(bytes - whole));
  word.from = source->buffer();
  word.fromOffset = from.offset + whole;
  return merge->submit({word});
}

} // namespace kernelforge::webgpu
