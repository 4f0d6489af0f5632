#include "kernelforge/llm/runtime/RopeTable.h"

#include <cmath>
#include <gmock/gmock.h>

using namespace kernelforge;
using testing::FloatNear;
using testing::Pointwise;

namespace {

// The numbers were made with numpy, where pair i of row p turns by the angle p / (theta^(2i / dim)
// * factor_i), frequency and angle rounded to f32 as transformers does:
//   f = np.float32(1 / (theta ** (2 * i / dim) * factor[i])); a = float(np.float32(p) * f)
//   np.float32(magnitude * math.cos(a)), np.float32(magnitude * math.sin(a))

std::vector<float> rowOf(const RopeDescription &rope, int64_t position) {
  const std::vector<float> table = makeRopeTable(rope, position + 1);
  EXPECT_EQ(table.size(), static_cast<size_t>((position + 1) * rope.rotaryDim));
  return {table.end() - rope.rotaryDim, table.end()};
}

/// Within a few units in the last place.
auto isRow(const std::vector<float> &expected) { return Pointwise(FloatNear(2e-7f), expected); }

RopeDescription ropeOf(double theta, int64_t dim) {
  RopeDescription rope;
  rope.theta = theta;
  rope.rotaryDim = dim;
  return rope;
}

TEST(RopeTable, CosinesThenSines) {
  const RopeDescription rope = ropeOf(10000, 8);
  EXPECT_THAT(rowOf(rope, 0), isRow({1, 1, 1, 1, 0, 0, 0, 0}));
  EXPECT_THAT(rowOf(rope, 1),
              isRow({0.540302277f, 0.995004177f, 0.999949992f, 0.999999523f, 0.841470957f,
                     0.0998334214f, 0.00999983307f, 0.000999999931f}));
  EXPECT_THAT(rowOf(rope, 2), isRow({-0.416146845f, 0.980066597f, 0.999800026f, 0.999997973f,
                                     0.909297407f, 0.198669329f, 0.0199986659f, 0.0019999987f}));
  // Far out, where rounding the angle shows.
  EXPECT_THAT(rowOf(rope, 1000), isRow({0.562379062f, 0.862318873f, -0.839071512f, 0.540302277f,
                                        0.826879561f, -0.506365657f, -0.54402113f, 0.841470957f}));
}

TEST(RopeTable, FactorsDivideFrequenciesAndTheMagnitudeScalesBoth) {
  RopeDescription rope = ropeOf(500000, 8);
  rope.frequencyFactors = {1, 2, 4, 8};
  rope.magnitude = 1.25;
  EXPECT_THAT(rowOf(rope, 1), isRow({0.675377905f, 1.24977899f, 1.24999988f, 1.25f, 1.05183876f,
                                     0.0235023834f, 0.000441941724f, 8.30983663e-06f}));
  EXPECT_THAT(rowOf(rope, 7), isRow({0.942377806f, 1.23918808f, 1.24999619f, 1.25f, 0.821233273f,
                                     0.164051756f, 0.0030935891f, 5.81688619e-05f}));
}

TEST(RopeTable, LinearScalingStretchesPositions) {
  // Divided by 4 throughout, position 4 p is position p of the table without.
  RopeDescription rope = ropeOf(10000, 64), scaled = rope;
  scaled.frequencyFactors.assign(32, 4);
  for (int64_t p : {1, 5, 100})
    EXPECT_EQ(rowOf(scaled, 4 * p), rowOf(rope, p)) << p;
}

} // namespace
