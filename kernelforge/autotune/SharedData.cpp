#include "kernelforge/autotune/SharedData.h"

#include "kernelforge/support/CheckedArithmetic.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace kernelforge;

namespace {

constexpr uint64_t pageBytes = 4096, alignment = 64;
constexpr std::byte guardPattern{0xa5}, poisonPattern{0xff};

tl::unexpected<Error> memoryError(uint64_t bytes) {
  return makeError(ErrorKind::Failed, "memory cannot be had", fmt::format("{} bytes", bytes),
                   std::strerror(errno), "use a smaller problem");
}

} // namespace

SharedData::~SharedData() {
  if (begin)
    ::munmap(begin, bytes);
  if (file >= 0)
    ::close(file);
}

Expected<SharedData> SharedData::create(uint64_t bytes) {
  SharedData data;
  data.bytes = std::max<uint64_t>(bytes, pageBytes);
  data.file = ::memfd_create("kernelforge-problem", MFD_CLOEXEC);
  if (data.file < 0 || ::ftruncate(data.file, static_cast<off_t>(data.bytes)) != 0)
    return memoryError(bytes);
  void *mapped = ::mmap(nullptr, data.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, data.file, 0);
  if (mapped == MAP_FAILED)
    return memoryError(bytes);
  data.begin = static_cast<std::byte *>(mapped);
  return data;
}

Expected<SharedData> SharedData::open(int descriptor) {
  SharedData data;
  data.file = descriptor;
  struct stat status{};
  if (::fstat(descriptor, &status) != 0)
    return memoryError(0);
  data.bytes = static_cast<uint64_t>(status.st_size);
  void *mapped = ::mmap(nullptr, data.bytes, PROT_READ, MAP_SHARED, descriptor, 0);
  if (mapped == MAP_FAILED)
    return memoryError(data.bytes);
  data.begin = static_cast<std::byte *>(mapped);
  return data;
}

GuardedBuffer::~GuardedBuffer() {
  if (mapping)
    ::munmap(mapping, mappingBytes);
}

Expected<GuardedBuffer> GuardedBuffer::create(uint64_t bytes) {
  GuardedBuffer buffer;
  const auto padded = checkedAdd(bytes, 3 * pageBytes);
  if (!padded)
    return memoryError(bytes);
  // A page that cannot be touched, at least a cache line of pattern, the buffer, less than a cache
  // line of pattern, a page that cannot be touched.
  const uint64_t inside = (bytes + alignment + pageBytes - 1) / pageBytes * pageBytes;
  buffer.bytes = bytes;
  buffer.mappingBytes = inside + 2 * pageBytes;
  void *mapped = ::mmap(nullptr, buffer.mappingBytes, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED)
    return memoryError(bytes);
  buffer.mapping = static_cast<std::byte *>(mapped);
  if (::mprotect(buffer.mapping + pageBytes, inside, PROT_READ | PROT_WRITE) != 0)
    return memoryError(bytes);
  buffer.begin = buffer.mapping + pageBytes + (inside - bytes) / alignment * alignment;
  buffer.poison();
  return buffer;
}

void GuardedBuffer::poison() {
  std::byte *first = mapping + pageBytes, *end = mapping + mappingBytes - pageBytes;
  std::fill(first, begin, guardPattern);
  std::fill(begin, begin + bytes, poisonPattern);
  std::fill(begin + bytes, end, guardPattern);
}

bool GuardedBuffer::guardsAreIntact() const {
  const std::byte *first = mapping + pageBytes, *end = mapping + mappingBytes - pageBytes;
  const auto intact = [](std::byte value) { return value == guardPattern; };
  return std::all_of(first, static_cast<const std::byte *>(begin), intact) &&
         std::all_of(static_cast<const std::byte *>(begin) + bytes, end, intact);
}
