#include "kernelforge/support/PageMemory.h"
#include "kernelforge/support/CheckedArithmetic.h"

#include <cerrno>
#include <sys/mman.h>
#include <system_error>

#include <fmt/format.h>

namespace kernelforge {

namespace {
constexpr uint64_t hugePage = uint64_t(2) << 20;
} // namespace

PageMemory::~PageMemory() {
  if (mapping)
    ::munmap(mapping, mappingBytes);
}

Expected<PageMemory> PageMemory::allocate(uint64_t bytes) {
  PageMemory memory;
  if (bytes == 0)
    return memory;
  bool huge = bytes >= hugePage;
  auto total = huge ? checkedAdd(bytes, hugePage) : bytes; // room to align
  void *mapping = MAP_FAILED;
  if (total)
    mapping = ::mmap(nullptr, *total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED)
    return failed("out of memory", fmt::format("{} bytes", bytes),
                  total ? std::generic_category().message(errno) : "the size overflows");
  memory.mapping = mapping;
  memory.mappingBytes = *total;
  memory.bytes = bytes;
  auto address = reinterpret_cast<uintptr_t>(mapping);
  if (huge) {
    address = (address + hugePage - 1) / hugePage * hugePage;
    // Advice only: without huge pages the memory is slower, not wrong.
    (void)::madvise(reinterpret_cast<void *>(address), bytes, MADV_HUGEPAGE);
  }
  memory.begin = reinterpret_cast<std::byte *>(address);
  return memory;
}

} // namespace kernelforge
