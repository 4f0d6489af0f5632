#include "kernelforge/llm/Fp8Weights.h"

#include <cstring>
#include <fmt/format.h>

namespace kernelforge {

bool isFp8(const StoredTensor &tensor) { return tensor.typeName == "F8_E4M3"; }

Expected<Fp8Scales> findFp8Scales(const StoredTensor &matrix,
                                  const NamedList<StoredTensor> &tensors,
                                  const std::string &where) {
  auto error = [&](const StoredTensor &tensor, std::string why, std::string hint = "") {
    return unusable(std::string(modelFileError), fmt::format("{}, tensor {}", where, tensor.name),
                    std::move(why), std::move(hint));
  };
  const int64_t rows = matrix.shape[0], columns = matrix.shape[1];
  const ElementTypeInfo &type = info(ElementType::F8_E4M3);
  if (columns % type.blockElements != 0)
    return error(matrix, fmt::format("rows of {} elements are no whole number of {}'s blocks of {}",
                                     columns, type.name, type.blockElements));
  const StoredTensor *scales = nullptr;
  for (const char *suffix : {"_scale_inv", "_scale"})
    if (scales = tensors.find(matrix.name + suffix); scales)
      break;
  if (!scales)
    return error(matrix,
                 fmt::format("its numbers are F8_E4M3, and there is no {}_scale_inv "
                             "and no {}_scale",
                             matrix.name, matrix.name),
                 "FP8 weights come with a tensor of scales");
  if (!scales->type || (scales->type != ElementType::F32 && scales->type != ElementType::BF16 &&
                        scales->type != ElementType::F16))
    return error(*scales, fmt::format("type {} is not supported for scales", scales->typeName),
                 "supported are F32, BF16 and F16");
  const std::vector<int64_t> &shape = scales->shape;
  const std::vector<int64_t> ofBlocks = {(rows + fp8Block - 1) / fp8Block,
                                         (columns + fp8Block - 1) / fp8Block};
  if (shape == ofBlocks)
    return Fp8Scales{scales, fp8Block, fp8Block};
  if (shape == std::vector<int64_t>{rows} || shape == std::vector<int64_t>{rows, 1})
    return Fp8Scales{scales, 1, columns};
  if (shape.empty() || shape == std::vector<int64_t>{1} || shape == std::vector<int64_t>{1, 1})
    return Fp8Scales{scales, rows, columns};
  return error(*scales,
               fmt::format("has shape {}, scales of {} are {}, {} or [1]", printShape(shape),
                           printShape(matrix.shape), printShape(ofBlocks),
                           printShape(std::vector<int64_t>{rows, 1})),
               fmt::format("one for {0} x {0} numbers, for a row, or for all", fp8Block));
}

void joinFp8(const StoredTensor &matrix, const Fp8Scales &scales, int64_t first, int64_t count,
             std::byte *out) {
  const ElementTypeInfo &type = info(ElementType::F8_E4M3);
  const int64_t columns = matrix.shape[1], blocks = columns / type.blockElements;
  const int64_t ofRow = columns / scales.columns; // a divisor: blocks of columns are whole
  const auto scaleBytes = info(*scales.tensor->type).blockBytes;
  for (int64_t row = first; row < first + count; ++row)
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t column = block * type.blockElements;
      const int64_t number = row / scales.rows * ofRow + column / scales.columns;
      float scale;
      dequantizeRow(*scales.tensor->type, scales.tensor->bytes.data() + number * scaleBytes, 1,
                    &scale);
      std::byte *to = out + ((row - first) * blocks + block) * type.blockBytes;
      std::memcpy(to + type.scaleOffset, &scale, sizeof(scale));
      std::memcpy(to + type.quantsOffset, matrix.bytes.data() + row * columns + column,
                  static_cast<size_t>(type.blockElements));
    }
}

} // namespace kernelforge
