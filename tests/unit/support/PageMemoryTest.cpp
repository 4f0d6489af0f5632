#include "kernelforge/support/PageMemory.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

using namespace kernelforge;

namespace {

TEST(PageMemory, IsZeroedAlignedAndWritable) {
  for (uint64_t bytes : {uint64_t(1), uint64_t(4096), (uint64_t(2) << 20) + 12345}) {
    auto memory = PageMemory::allocate(bytes);
    ASSERT_TRUE(memory);
    EXPECT_EQ(memory->size(), bytes);
    auto address = reinterpret_cast<uintptr_t>(memory->data());
    EXPECT_EQ(address % (bytes >= (2u << 20) ? 2u << 20 : 4096u), 0u);
    auto all = memory->span();
    EXPECT_TRUE(std::all_of(all.begin(), all.end(), [](std::byte b) { return b == std::byte(0); }));
    std::fill(all.begin(), all.end(), std::byte(0xff));
  }
}

TEST(PageMemory, BeginsWithSmallPagesWhereAsked) {
  constexpr uint64_t huge = PageMemory::hugePage, page = 4096;
  for (uint64_t small : {uint64_t(1), 5 * page, 100 * page + 7, huge - page}) {
    auto memory = PageMemory::allocate(3 * huge, small);
    ASSERT_TRUE(memory);
    std::byte *data = memory->data();
    const uint64_t before = (small + page - 1) / page * page;
    EXPECT_EQ((reinterpret_cast<uintptr_t>(data) + before) % huge, 0u);
    // What is touched first brings no more with it than the part on small pages.
    *data = std::byte(1);
    std::vector<unsigned char> resident(3 * huge / page);
    ASSERT_EQ(::mincore(data, 3 * huge, resident.data()), 0);
    for (uint64_t i = before / page; i < resident.size(); ++i)
      ASSERT_EQ(resident[i] & 1, 0) << "page " << i << " of " << small << " bytes";
    EXPECT_EQ(resident[0] & 1, 1);
    auto all = memory->span();
    EXPECT_TRUE(
        std::all_of(all.begin() + 1, all.end(), [](std::byte b) { return b == std::byte(0); }));
    std::fill(all.begin(), all.end(), std::byte(0xff));
  }
}

// As the system itself has it: which nodes it would take pages from.
TEST(PageMemory, IsSpreadOverNodes) {
  constexpr uint64_t bytes = 8 * PageMemory::hugePage;
  auto memory = PageMemory::allocate(bytes);
  ASSERT_TRUE(memory);
  memory->spreadOver(std::vector{0}); // one is no choice
  auto policyOf = [&](unsigned long *nodes) {
    int policy = -1;
    EXPECT_EQ(::syscall(SYS_get_mempolicy, &policy, nodes, 1024, memory->data(), MPOL_F_ADDR), 0);
    return policy;
  };
  unsigned long nodes[1024 / (8 * sizeof(unsigned long))] = {};
  if (::syscall(SYS_get_mempolicy, nullptr, nullptr, 0, nullptr, 0) != 0)
    GTEST_SKIP() << "this system tells nothing of nodes";
  EXPECT_EQ(policyOf(nodes), MPOL_DEFAULT);
  // Node 1 may not be there: the system leaves out what is not, and refuses where nothing is left.
  memory->spreadOver(std::vector{0, 1, -1, 5000});
  EXPECT_EQ(policyOf(nodes), MPOL_INTERLEAVE);
  EXPECT_EQ(nodes[0] & 1, 1u);
  std::fill(memory->span().begin(), memory->span().end(), std::byte(1));
}

TEST(PageMemory, MovesAndHoldsNothing) {
  auto memory = PageMemory::allocate(100);
  ASSERT_TRUE(memory);
  std::byte *data = memory->data();
  PageMemory other = std::move(*memory);
  EXPECT_EQ(other.data(), data);
  EXPECT_EQ(memory->data(), nullptr);
  auto none = PageMemory::allocate(0);
  ASSERT_TRUE(none);
  EXPECT_EQ(none->data(), nullptr);
}

TEST(PageMemory, TooMuchIsAnError) {
  for (uint64_t bytes : {UINT64_MAX, UINT64_MAX - 4096, uint64_t(1) << 62}) {
    auto memory = PageMemory::allocate(bytes);
    ASSERT_FALSE(memory);
    EXPECT_EQ(memory.error().kind, ErrorKind::Failed);
  }
}

} // namespace
