#include "kernelforge/support/WeightLayout.h"

#include "kernelforge/support/CheckedArithmetic.h"

#include <algorithm>
#include <cassert>

namespace kernelforge {

static constexpr std::array<std::string_view, 3> names = {"row_major", "interleaved", "planes"};

/// What has a plane of its own, in order. A minimum lies beside its scale, so that both are a word,
/// and so do sub-scales that are no whole words.
static constexpr std::array<BlockPart, 4> planeParts = {BlockPart::Quants, BlockPart::Highs,
                                                        BlockPart::SubScales, BlockPart::Scale};

std::string_view nameOf(WeightLayout layout) { return names[static_cast<size_t>(layout)]; }

std::optional<WeightLayout> weightLayoutByName(std::string_view name) {
  const auto *found = std::ranges::find(names, name);
  return found == names.end() ? std::nullopt
                              : std::optional(static_cast<WeightLayout>(found - names.begin()));
}

std::optional<uint64_t> layoutBytes(WeightLayout layout, ElementType type, uint64_t rows,
                                    uint64_t width) {
  const auto row = rowBytes(type, width);
  if (layout == WeightLayout::Interleaved) {
    const auto whole = checkedRoundUp(rows, uint64_t(interleavedRows));
    return row && whole ? checkedMul(*whole, *row) : std::nullopt;
  }
  const auto content = row ? checkedMul(rows, *row) : std::nullopt;
  if (layout == WeightLayout::RowMajor || !content)
    return content;
  if (*content > uint64_t(INT64_MAX) - planeParts.size() * planeAlignment)
    return std::nullopt;
  return static_cast<uint64_t>(
      Planes(type, static_cast<int64_t>(rows), static_cast<int64_t>(width)).bytes());
}

Planes::Planes(ElementType type, int64_t rows, int64_t width) {
  const ElementTypeInfo &t = info(type);
  assert(t.isQuantized() && "plain numbers have no parts");
  assert((!t.hasMin() || t.minOffset == t.scaleOffset + 2) && "scale and minimum are one word");
  subScalesBesideScale = t.bytes(BlockPart::SubScales) % 4 != 0;
  assert((!subScalesBesideScale || t.subScalesOffset == t.scaleOffset + 2) &&
         "they stand behind the scale");
  const int64_t blocks = rows * (width / t.blockElements);
  for (BlockPart part : planeParts) {
    int64_t bytes = t.bytes(part);
    if (part == BlockPart::Scale)
      bytes += t.bytes(BlockPart::Min) + (subScalesBesideScale ? t.bytes(BlockPart::SubScales) : 0);
    if (bytes == 0 || (part == BlockPart::SubScales && subScalesBesideScale))
      continue;
    planes[count++] = {part, t.offset(part), bytes, end, blocks * bytes};
    end += (blocks * bytes + planeAlignment - 1) / planeAlignment * planeAlignment;
  }
}

const Plane &Planes::of(BlockPart part) const {
  const bool isBesideScale =
      part == BlockPart::Min || (part == BlockPart::SubScales && subScalesBesideScale);
  const BlockPart wanted = isBesideScale ? BlockPart::Scale : part;
  const auto *found = std::find_if(planes.begin(), planes.begin() + count,
                                   [&](const Plane &plane) { return plane.part == wanted; });
  assert(found != planes.begin() + count && "the type has no such part");
  return *found;
}

} // namespace kernelforge
