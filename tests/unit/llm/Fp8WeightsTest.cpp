#include "ModelWriters.h"

#include "kernelforge/llm/Fp8Weights.h"

#include <cmath>
#include <random>

namespace kernelforge {
namespace {

using namespace test;
using testing::HasSubstr;

/// A matrix of every code and its scales, as a file has them.
struct Matrix {
  Matrix(int64_t rows, int64_t columns, std::vector<int64_t> ofScales, const char *suffix)
      : numbers(static_cast<size_t>(rows * columns)) {
    std::mt19937 random(3);
    for (std::byte &code : numbers)
      code = static_cast<std::byte>(random());
    size_t count = 1;
    for (int64_t length : ofScales)
      count *= static_cast<size_t>(length);
    for (size_t i = 0; i < count; ++i)
      scales.push_back(0.5f + static_cast<float>(i));
    tensors.add({"w.weight", "F8_E4M3", std::nullopt, {rows, columns}, numbers});
    tensors.add({std::string("w.weight") + suffix, "F32", ElementType::F32, std::move(ofScales),
                 std::as_bytes(std::span(scales))});
  }
  const StoredTensor &matrix() const { return *tensors.find("w.weight"); }

  std::vector<std::byte> numbers;
  std::vector<float> scales;
  NamedList<StoredTensor> tensors;
};

/// Each number times its scale, which `numberOf` says by row and column.
void expectJoined(const Matrix &given, int64_t first, int64_t count,
                  const std::function<size_t(int64_t, int64_t)> &numberOf) {
  const StoredTensor &matrix = given.matrix();
  ASSERT_TRUE(isFp8(matrix));
  auto scales = findFp8Scales(matrix, given.tensors, "f");
  ASSERT_TRUE(scales) << line(scales);
  const int64_t columns = matrix.shape[1];
  const uint64_t row = *rowBytes(ElementType::F8_E4M3, static_cast<uint64_t>(columns));
  std::vector<std::byte> blocks(static_cast<uint64_t>(count) * row);
  joinFp8(matrix, *scales, first, count, blocks.data());
  std::vector<float> values(static_cast<size_t>(columns));
  for (int64_t r = 0; r < count; ++r) {
    dequantizeRow(ElementType::F8_E4M3, blocks.data() + static_cast<uint64_t>(r) * row,
                  values.size(), values.data());
    for (int64_t c = 0; c < columns; ++c) {
      const auto at = static_cast<size_t>((first + r) * columns + c);
      const float number = e4m3ToFloat(std::to_integer<uint8_t>(given.numbers[at]));
      const float expected = number * given.scales[numberOf(first + r, c)];
      if (std::isnan(number))
        ASSERT_TRUE(std::isnan(values[static_cast<size_t>(c)])) << r << " " << c;
      else
        ASSERT_EQ(values[static_cast<size_t>(c)], expected) << r << " " << c;
    }
  }
}

TEST(Fp8Weights, AreJoinedWithScalesOfBlocksRowsAndAll) {
  // The last blocks of rows are shorter.
  expectJoined(Matrix(200, 384, {2, 3}, "_scale_inv"), 0, 200,
               [](int64_t r, int64_t c) { return static_cast<size_t>(r / 128 * 3 + c / 128); });
  expectJoined(Matrix(200, 384, {2, 3}, "_scale"), 100, 60,
               [](int64_t r, int64_t c) { return static_cast<size_t>(r / 128 * 3 + c / 128); });
  for (std::vector<int64_t> shape : {std::vector<int64_t>{7}, {7, 1}})
    expectJoined(Matrix(7, 256, shape, "_scale"), 0, 7,
                 [](int64_t r, int64_t) { return static_cast<size_t>(r); });
  for (std::vector<int64_t> shape : {std::vector<int64_t>{}, {1}, {1, 1}})
    expectJoined(Matrix(300, 256, shape, "_scale_inv"), 299, 1,
                 [](int64_t, int64_t) { return size_t(0); });
}

TEST(Fp8Weights, RefuseWhatDoesNotMatch) {
  auto refusal = [](int64_t rows, int64_t columns, std::vector<int64_t> scales,
                    const char *suffix = "_scale") {
    const Matrix matrix(rows, columns, std::move(scales), suffix);
    return line(findFp8Scales(matrix.matrix(), matrix.tensors, "f.safetensors"));
  };
  EXPECT_THAT(refusal(4, 192, {1, 2}), HasSubstr("rows of 192 elements are no whole number"));
  EXPECT_THAT(refusal(4, 128, {1, 1}, "_zero"), HasSubstr("no w.weight_scale_inv"));
  EXPECT_THAT(refusal(256, 256, {4, 4}),
              HasSubstr("has shape [4, 4], scales of [256, 256] are [2, 2], [256, 1] or [1]"));
  EXPECT_THAT(refusal(256, 256, {1, 256}), HasSubstr("w.weight_scale): has shape [1, 256]"));
}

} // namespace
} // namespace kernelforge
