// What a step ends with: tokens are chosen, and the integer state moves on.
#include "kernelforge/kernels/Reference.h"

#include "kernelforge/support/Sampling.h"

#include <algorithm>

namespace kernelforge {

void reference::sample(const SampleInputs &in, std::span<int32_t> ids) {
  TokenSampler sampler;
  for (int64_t r = 0; r < in.logits.rows; ++r) {
    const float *s = in.settings.row(r);
    const std::span<const int32_t> drawn = in.draws.subspan(static_cast<size_t>(3 * r), 3);
    const uint64_t seed =
        static_cast<uint32_t>(drawn[1]) | uint64_t(static_cast<uint32_t>(drawn[2])) << 32;
    const uint32_t position = static_cast<uint32_t>(in.positions[r]) + 1;
    const auto window = static_cast<size_t>(in.window);
    ids[r] = sampler.choose(
        std::span(in.logits.row(r), static_cast<size_t>(in.logits.width)),
        {s[0], s[1], s[2], s[3], s[4]}, {drawn[0], seed, position},
        in.recent.empty() ? in.recent : in.recent.subspan(static_cast<size_t>(r) * window, window));
  }
}

int32_t reference::StepState::nextSlot(size_t row) const {
  if (slots[row] < 0 || ids[row] < 0)
    return -1;
  const int32_t sequence = sequences[row];
  const int64_t position = int64_t(positions[row]) + 1;
  if (position >= limits[sequence])
    return -1;
  if (page == 0) {
    const int64_t slot = table[sequence] + position;
    return slot < 0 ? -1 : static_cast<int32_t>(slot);
  }
  const int64_t column = position / page;
  if (column >= tableWidth)
    return -1;
  const int32_t entry = table[sequence * tableWidth + column];
  return entry < 0 ? -1 : static_cast<int32_t>(entry * page + position % page);
}

void reference::advance(const StepState &state, const NextStep &next) {
  std::copy(state.lengths.begin(), state.lengths.end(), next.lengths.begin());
  const auto window = static_cast<size_t>(state.window);
  for (size_t r = 0; r < state.ids.size(); ++r) {
    const int32_t slot = state.nextSlot(r);
    const bool lives = slot >= 0;
    next.ids[r] = std::max(state.ids[r], 0);
    next.positions[r] = state.positions[r] + (lives ? 1 : 0);
    next.slots[r] = slot;
    if (lives)
      ++next.lengths[state.sequences[r]];
    if (window == 0)
      continue;
    const auto old = state.recent.subspan(r * window, window);
    const auto fresh = next.recent.subspan(r * window, window);
    std::copy(old.begin() + (lives ? 1 : 0), old.end(), fresh.begin());
    if (lives)
      fresh.back() = state.ids[r];
  }
}

} // namespace kernelforge
