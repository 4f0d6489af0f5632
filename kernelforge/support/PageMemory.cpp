#include "kernelforge/support/PageMemory.h"
#include "kernelforge/support/CheckedArithmetic.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>

namespace kernelforge {

PageMemory::~PageMemory() {
  if (mapping)
    ::munmap(mapping, mappingBytes);
}

Expected<PageMemory> PageMemory::allocate(uint64_t bytes, uint64_t small) {
  constexpr uint64_t smallPage = 4096;
  PageMemory memory;
  if (bytes == 0)
    return memory;
  const bool huge = bytes >= hugePage;
  auto total = huge ? checkedAdd(bytes, 2 * hugePage) : bytes; // room to align
  void *mapping = MAP_FAILED;
  if (total)
    mapping = ::mmap(nullptr, *total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED)
    return failed("out of memory", fmt::format("{} bytes", bytes),
                  total ? std::generic_category().message(errno) : "the size overflows");
  memory.mapping = mapping;
  memory.mappingBytes = *total;
  memory.bytes = bytes;
  memory.begin = static_cast<std::byte *>(mapping);
  if (huge) {
    const uint64_t before = std::min((small + smallPage - 1) / smallPage * smallPage, hugePage);
    const auto address = reinterpret_cast<uintptr_t>(mapping);
    const uintptr_t aligned = (address + before + hugePage - 1) / hugePage * hugePage;
    memory.begin += aligned - before - address;
    // Advice only: on other pages the memory is slower, not wrong.
    if (before > 0)
      (void)::madvise(mapping, aligned - address, MADV_NOHUGEPAGE);
    (void)::madvise(memory.begin + before, bytes - before, MADV_HUGEPAGE);
  }
  return memory;
}

void PageMemory::spreadOver(std::span<const int> nodes) {
  constexpr size_t mostNodes = 1024, bitsOfWord = 64;
  std::array<uint64_t, mostNodes / bitsOfWord> mask{};
  int count = 0;
  for (const int node : nodes)
    if (node >= 0 && size_t(node) < mostNodes) {
      mask[size_t(node) / bitsOfWord] |= uint64_t(1) << (size_t(node) % bitsOfWord);
      ++count;
    }
  if (count < 2 || !mapping)
    return;
  (void)::syscall(SYS_mbind, mapping, mappingBytes, MPOL_INTERLEAVE, mask.data(), mostNodes, 0);
}

} // namespace kernelforge
