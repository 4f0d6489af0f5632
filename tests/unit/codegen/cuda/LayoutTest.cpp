// Layouts of shared memory, shares of a product and orders of tiles, held to their definitions.
#include "kernelforge/codegen/cuda/Accumulators.h"

#include <gtest/gtest.h>
#include <set>

using namespace kernelforge;
using namespace kernelforge::cuda;

namespace {

/// Where matrix units find an element: from a descriptor's fields on, and then with the bits of an
/// address that they swap.
int64_t addressByDescriptor(const OperandTile &tile, int64_t along, int64_t deep) {
  const uint64_t bits = tile.descriptorBits();
  const auto leading = int64_t(bits >> 16 & 0x3fff) * 16,
             stride = int64_t(bits >> 32 & 0x3fff) * 16;
  const int64_t product = deep / MatrixShape::depth, k = deep % MatrixShape::depth;
  int64_t at = product * tile.descriptorStep() * OperandTile::descriptorUnit;
  if (tile.depthIsContiguous)
    at += along / 8 * stride + along % 8 * 128 + k * 2;
  else
    at += along / 64 * leading + k / 8 * stride + k % 8 * 128 + along % 64 * 2;
  return at ^ (at / 128 % 8 * 16);
}

} // namespace

TEST(CudaLayout, MatrixUnitsFindWhatCopiesPut) {
  for (const bool depthIsContiguous : {true, false})
    for (const int64_t length : {64, 128, 192, 256}) {
      const OperandTile tile(length, depthIsContiguous);
      std::set<int64_t> all;
      for (int64_t along = 0; along < length; ++along)
        for (int64_t deep = 0; deep < OperandTile::depth; ++deep) {
          ASSERT_EQ(tile.offsetOf(along, deep), addressByDescriptor(tile, along, deep))
              << length << ": " << along << ", " << deep;
          all.insert(tile.offsetOf(along, deep));
        }
      EXPECT_EQ(int64_t(all.size()) * 2, tile.bytes());
      EXPECT_EQ(*all.rbegin() + 2, tile.bytes());
      EXPECT_EQ(tile.panels() * tile.panel().bytes(), tile.bytes());
      EXPECT_EQ(tile.descriptorBits() >> 62, 1U);
    }
}

TEST(CudaLayout, MatrixUnitsFindHeadsAlongAndAcross) {
  for (const int64_t rows : {64, 128, 176})
    for (const int64_t dim : {16, 64, 80, 128, 256}) {
      const HeadTile tile(rows, dim);
      const auto along = tile.stepsAlong(), across = tile.stepsAcross();
      ASSERT_EQ(int64_t(along.size()), dim / 16);
      ASSERT_EQ(int64_t(across.size()), rows / 16);
      const auto leading = int64_t(tile.acrossBits() >> 16 & 0x3fff) * 16;
      auto swapped = [](int64_t at) { return at ^ (at / 128 % 8 * 16); };
      std::set<int64_t> all;
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t number = 0; number < dim; ++number) {
          const int64_t at = tile.offsetOf(row, number);
          // As the depth goes along a head, and as it goes from row to row.
          ASSERT_EQ(at, swapped(along[size_t(number / 16)] * 16 + row / 8 * 1024 + row % 8 * 128 +
                                number % 16 * 2));
          ASSERT_EQ(at, swapped(across[size_t(row / 16)] * 16 + number / 64 * leading +
                                row % 16 / 8 * 1024 + row % 8 * 128 + number % 64 * 2));
          all.insert(at);
        }
      EXPECT_EQ(int64_t(all.size()), rows * dim);
      EXPECT_LT(*all.rbegin(), tile.bytes());
    }
  const TensorMap map = HeadTile(128, 80).map(ElementType::BF16, 1000, 240, 16);
  EXPECT_EQ(map.box, (std::vector<int64_t>{64, 16}));
  EXPECT_EQ(map.strides, (std::vector<int64_t>{480}));
}

TEST(CudaLayout, ABoxOfAMapIsAPanel) {
  const TensorMap map = OperandTile(192, true).map(ElementType::F16, Extent(1, 0), 1000, 1008);
  EXPECT_EQ(map.element, TensorMap::Element::F16);
  EXPECT_EQ(map.box, (std::vector<int64_t>{64, 192}));
  EXPECT_EQ(map.strides, (std::vector<int64_t>{2016}));
  EXPECT_EQ(map.shape[0], Extent(1000));
  EXPECT_EQ(map.swizzle, TensorMap::Swizzle::Bytes128);
  EXPECT_EQ(OperandTile(192, false).map(ElementType::BF16, 64, 192, 192).box,
            (std::vector<int64_t>{64, 64}));
  EXPECT_EQ(ResultPanels::map(ElementType::F32, 64, 40).box, (std::vector<int64_t>{32, 64}));
  EXPECT_EQ(ResultPanels::map(ElementType::BF16, 64, 40).strides, (std::vector<int64_t>{80}));
}

TEST(CudaLayout, AWarpgroupHasEachSumOnce) {
  const MatrixShape shape{ElementType::BF16, 192};
  std::set<std::pair<int64_t, int64_t>> places;
  std::set<int64_t> numbers;
  for (int64_t thread = 0; thread < warpgroup; ++thread)
    for (int64_t block = 0; block < shape.columns / Accumulators::blockColumns; ++block)
      for (int64_t lower : {0, 1})
        for (int64_t second : {0, 1}) {
          places.emplace(Accumulators::rowOf(thread, lower),
                         block * Accumulators::blockColumns + Accumulators::firstColumnOf(thread) +
                             second);
          numbers.insert(Accumulators::numberOf(block, lower, second));
        }
  EXPECT_EQ(int64_t(places.size()), MatrixShape::rows * shape.columns);
  EXPECT_EQ(places.rbegin()->first, MatrixShape::rows - 1);
  EXPECT_EQ(int64_t(numbers.size()), shape.sums());
  EXPECT_EQ(*numbers.rbegin(), shape.sums() - 1);
}

TEST(CudaLayout, TilesAreEachTakenOnce) {
  for (const auto &[rows, columns, group] :
       {std::array<int64_t, 3>{1, 1, 16}, {17, 5, 16}, {16, 3, 8}, {7, 9, 1}, {3, 4, 256}}) {
    std::set<std::pair<int64_t, int64_t>> tiles;
    for (int64_t number = 0; number < rows * columns; ++number)
      tiles.insert(TileSchedule::place(number, rows, columns, group));
    EXPECT_EQ(int64_t(tiles.size()), rows * columns);
    EXPECT_EQ(tiles.begin()->first, 0);
    EXPECT_EQ(tiles.rbegin()->first, rows - 1);
  }
  // Neighbours share a column.
  EXPECT_EQ(TileSchedule::place(15, 32, 4, 16), (std::pair<int64_t, int64_t>(15, 0)));
  EXPECT_EQ(TileSchedule::place(16, 32, 4, 16), (std::pair<int64_t, int64_t>(0, 1)));
  EXPECT_EQ(TileSchedule::place(64, 32, 4, 16), (std::pair<int64_t, int64_t>(16, 0)));
}

TEST(CudaLayout, RegistersOfABlockFit) {
  for (int64_t consumers : {1, 2, 3})
    for (int64_t blocks : {1, 2, 3}) {
      const int64_t started = Roles::registers(consumers, blocks);
      EXPECT_LE(started * Roles::threadsOf(consumers) * blocks, 65536);
      const int64_t consumer = Roles::registersOfConsumers(consumers, blocks);
      const int64_t producer = consumer == started ? started
                               : blocks > 1        ? 24
                               : consumers > 2     ? 32
                                                   : 40;
      EXPECT_LE((consumer * consumers + producer) * warpgroup * blocks, 65536);
    }
  EXPECT_EQ(Roles::registers(2, 1), 168);
  EXPECT_EQ(Roles::registersOfConsumers(2, 1), 232);
  EXPECT_EQ(Roles::registersOfConsumers(2, 2), 104);
}
