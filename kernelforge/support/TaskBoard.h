// Tasks that the members of a team take.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <optional>

namespace kernelforge {

/// The tasks of one step, on one cache line. Of a small team each member has neighbouring ones, the
/// same in every run: it reads memory as one long stream, and what it touched is in its core's
/// caches. Who has done its own takes those of others. Of a large team, or where there are hardly
/// more tasks than members, whoever comes takes the next: many that look for one of their own are
/// in each other's way, and tasks that take longer than others would all be one member's. One
/// change of the line both takes a task and tells whether it was free; whoever has one may read
/// what was written before it was posted.
class TaskBoard {
public:
  static constexpr int most = 384;

  explicit TaskBoard(int members) : members(members) {
    for (std::atomic<uint64_t> &word : taken)
      word.store(all);
  }

  /// Puts up tasks 0 to count - 1, up to `most`. When all tasks before are taken.
  void post(int count) {
    posted.store(count, std::memory_order_relaxed);
    if (members > largestOfOwners || count < leastOwned * members) {
      const uint64_t number = (ticket.load(std::memory_order_relaxed) >> countBits) + 1;
      ticket.store((number << countBits) | (noneLeft - static_cast<uint64_t>(count)));
      return;
    }
    for (int w = words - 1; w >= 0; --w)
      taken[size_t(w)].store(~below(count - w * bits), std::memory_order_release);
    std::atomic_thread_fence(std::memory_order_seq_cst); // who looks for sleepers next sees them
  }

  bool isEmpty() const {
    return (ticket.load() & noneLeft) &&
           std::ranges::all_of(taken, [](const auto &word) { return word.load() == all; });
  }

  /// A task for a member; nothing where none is left.
  std::optional<int> take(int member) {
    uint64_t next = ticket.load(std::memory_order_relaxed);
    if (!(next & noneLeft))
      next = ticket.fetch_add(1, std::memory_order_acquire);
    if (!(next & noneLeft))
      return posted.load(std::memory_order_relaxed) - int(noneLeft - (next & countMask));
    const int count = posted.load(std::memory_order_relaxed); // of a step that ended, perhaps
    const int first = count * member / members, end = count * (member + 1) / members;
    for (int w = first / bits; w * bits < end; ++w)
      if (auto task = takeOf(w, below(end - w * bits) & ~below(first - w * bits)))
        return task;
    for (int w = words - 1; w >= 0; --w)
      if (auto task = takeOf(w, all))
        return task;
    return std::nullopt;
  }

private:
  static constexpr int largestOfOwners = 4, leastOwned = 2;
  static constexpr int bits = 64, words = most / bits;
  static constexpr uint64_t all = ~uint64_t(0);
  /// A ticket's upper bits are the number of the step; the lower ones count up to `noneLeft`.
  static constexpr int countBits = 40;
  static constexpr uint64_t noneLeft = uint64_t(1) << (countBits - 1);
  static constexpr uint64_t countMask = (uint64_t(1) << countBits) - 1;

  /// The lowest `count` bits.
  static constexpr uint64_t below(int count) {
    return count <= 0 ? 0 : count >= bits ? all : (uint64_t(1) << count) - 1;
  }

  /// The lowest of the free tasks that are `wanted`.
  std::optional<int> takeOf(int w, uint64_t wanted) {
    std::atomic<uint64_t> &word = taken[size_t(w)];
    uint64_t free = ~word.load(std::memory_order_relaxed) & wanted;
    while (free != 0) {
      const int bit = std::countr_zero(free);
      const uint64_t before = word.fetch_or(uint64_t(1) << bit, std::memory_order_acquire);
      if (!(before >> bit & 1))
        return w * bits + bit;
      free = ~before & wanted;
    }
    return std::nullopt;
  }

  alignas(64) std::atomic<uint64_t> ticket{noneLeft};
  std::array<std::atomic<uint64_t>, words> taken;
  std::atomic<int> posted{0};
  const int members;
};
static_assert(sizeof(TaskBoard) == 64);

} // namespace kernelforge
