#include "kernelforge/support/CacheSlot.h"

#include "kernelforge/support/CheckedArithmetic.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace kernelforge {

static constexpr uint64_t wordBytes = 4;

std::optional<uint64_t> CacheSlot::checkedBytes(uint64_t slots) const {
  const auto block = static_cast<uint64_t>(info(type).blockElements);
  if (static_cast<uint64_t>(dim) % block != 0)
    return std::nullopt;
  const auto count = checkedMul(static_cast<uint64_t>(heads), static_cast<uint64_t>(dim));
  auto bytes = count ? checkedMul(*count, static_cast<uint64_t>(elementBytes())) : std::nullopt;
  if (bytes && isQuantized()) {
    const auto scales = checkedRoundUp(*count / block * scaleBytes, wordBytes);
    bytes = scales ? checkedAdd(*bytes, *scales) : std::nullopt;
  }
  return bytes ? checkedMul(*bytes, slots) : std::nullopt;
}

int64_t CacheSlot::bytes() const {
  return static_cast<int64_t>(std::min<uint64_t>(checkedBytes(1).value_or(UINT64_MAX), INT64_MAX));
}

namespace {
/// A block as quantizeRow() and dequantizeRow() have it.
using Block = std::array<std::byte, 64>;
} // namespace

void CacheSlot::write(const float *values, std::byte *slot) const {
  if (!isQuantized())
    return quantizeRow(type, values, static_cast<uint64_t>(elements()), slot);
  const ElementTypeInfo &t = info(type);
  std::memset(slot, 0, static_cast<size_t>(bytes()));
  for (int64_t first = 0; first < elements(); first += t.blockElements) {
    Block block;
    quantizeRow(type, values + first, static_cast<uint64_t>(t.blockElements), block.data());
    std::memcpy(slot + first, block.data() + t.quantsOffset, static_cast<size_t>(t.blockElements));
    std::memcpy(slot + scalesBegin() + first / t.blockElements * scaleBytes,
                block.data() + t.scaleOffset, scaleBytes);
  }
}

void CacheSlot::read(const std::byte *slot, int64_t head, float *values) const {
  if (!isQuantized())
    return dequantizeRow(type, slot + head * headBytes(), static_cast<uint64_t>(dim), values);
  const ElementTypeInfo &t = info(type);
  for (int64_t i = 0; i < dim; i += t.blockElements) {
    const int64_t first = head * dim + i;
    Block block;
    std::memcpy(block.data() + t.quantsOffset, slot + first, static_cast<size_t>(t.blockElements));
    std::memcpy(block.data() + t.scaleOffset,
                slot + scalesBegin() + first / t.blockElements * scaleBytes, scaleBytes);
    dequantizeRow(type, block.data(), static_cast<uint64_t>(t.blockElements), values + i);
  }
}

} // namespace kernelforge
