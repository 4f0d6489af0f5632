#include "kernelforge/eval/LikeMachines.h"

#include "kernelforge/measure/Timing.h"

#include "Reports.h"

#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

/// A machine and how much a row's time feels of it.
struct Made {
  double ns = 1000;
  double anchor = 100, anchorNoise = 0; ///< median, deviation of the logarithm
  double busy = 0;                      ///< share of samples beside which someone has a core
  MachineExponents feels = {1, 0, 0};
  int samples = 40;
  double roofline = 0.9;
};

/// Someone else takes the first core in some samples, the other core in others, both in a few.
ReportRow rowOf(const Made &made, uint64_t seed) {
  ReportRow row;
  row.status = "ok";
  row.roofline = made.roofline;
  for (int i = 0; i < made.samples; ++i) {
    auto draw = [&](uint64_t what) { return randomUniform(mixBits(seed) + what, uint64_t(i)); };
    const double anchor = made.anchor * std::exp(made.anchorNoise * madeNormal(seed, uint64_t(i)));
    const double first = draw(1) < made.busy ? 80 : 118;
    const double other = draw(2) < made.busy ? 80 : 118;
    MachineState machine;
    machine.writeFirst = first;
    machine.writeSlowest = std::min(first, other);
    const double feels = std::pow(made.anchor / anchor, made.feels.anchor) * (100 / made.anchor) *
                         std::pow(118 / first, made.feels.writeFirst) *
                         std::pow(118 / machine.writeSlowest, made.feels.writeSlowest);
    row.samples.push_back(made.ns * feels * std::exp(0.005 * madeNormal(seed + 1, uint64_t(i))));
    row.anchorSamples.push_back(anchor);
    row.machineSamples.push_back(machine);
  }
  return row;
}

/// Divided by the anchor, in units of its median.
std::vector<double> times(const ReportRow &row) {
  std::vector<double> values;
  for (size_t i = 0; i < row.samples.size(); ++i)
    values.push_back(row.samples[i] * row.anchorSamples[i] / median(row.anchorSamples));
  return values;
}

double ratioOf(const LikeSamples &samples) { return median(samples.b) / median(samples.a); }

TEST(LikeMachines, SharingACoreIsNoChange) {
  Made quiet, busy;
  quiet.feels = busy.feels = {1, 0.8, 0.2};
  quiet.busy = 0.3;
  busy.busy = 0.7;
  const ReportRow a = rowOf(quiet, 1), b = rowOf(busy, 2);
  EXPECT_GT(median(b.samples) / median(a.samples), 1.15);
  const LikeSamples like = onLikeMachines(a, b);
  EXPECT_NEAR(ratioOf(like), 1, 0.01);
  EXPECT_NEAR(like.exponents.writeFirst, 0.8, 0.05);
  EXPECT_NEAR(like.exponents.writeSlowest, 0.2, 0.05);
  // A quarter of what was taken out is not sure; where nothing was, all is.
  EXPECT_GT(like.deviation, 0.2 * std::log(1.15));
  EXPECT_LT(onLikeMachines(a, rowOf(quiet, 3)).deviation, 0.02);
}

TEST(LikeMachines, AChangeIsNotSharing) {
  Made before, now;
  before.feels = now.feels = {1, 0.8, 0};
  before.busy = now.busy = 0.7;
  now.ns = 1.1 * before.ns;
  EXPECT_NEAR(ratioOf(onLikeMachines(rowOf(before, 1), rowOf(now, 2))), 1.1, 0.01);
  // Where everybody else was away in one run and there all the time in the other, nothing is known
  // of what that does: nothing is taken out, and nothing is sure.
  before.feels = now.feels = {1, 0, 0};
  before.busy = 0;
  now.busy = 1;
  const LikeSamples unsure = onLikeMachines(rowOf(before, 1), rowOf(now, 2));
  EXPECT_NEAR(ratioOf(unsure), 1.1, 0.01);
  EXPECT_GT(unsure.deviation, 0.1);
}

TEST(LikeMachines, ASlowerMachineIsNoChange) {
  Made before, now;
  before.anchorNoise = now.anchorNoise = 0.002;
  now.anchor = 93;
  const LikeSamples like = onLikeMachines(rowOf(before, 1), rowOf(now, 2));
  EXPECT_NEAR(ratioOf(like), 1, 0.01);
  EXPECT_GT(like.exponents.anchor, 0.9);
}

TEST(LikeMachines, ARowFarFromItsRooflineMayNotFeelItsAnchor) {
  Made before, now;
  before.roofline = now.roofline = 0.1;
  before.anchorNoise = now.anchorNoise = 0.05;
  before.feels = now.feels = {0, 0, 0};
  const ReportRow a = rowOf(before, 1), b = rowOf(now, 2);
  const LikeSamples like = onLikeMachines(a, b);
  EXPECT_LT(like.exponents.anchor, 0.1);
  EXPECT_LT(medianAbsoluteDeviation(like.a), 0.3 * medianAbsoluteDeviation(times(a)));
  // One that is at it does, whatever its samples seem to tell.
  before.roofline = now.roofline = 1;
  EXPECT_GT(onLikeMachines(rowOf(before, 1), rowOf(now, 2)).exponents.anchor,
            like.exponents.anchor);
}

TEST(LikeMachines, NobodyIsFasterOnASlowerMachine) {
  Made made;
  made.busy = 0.7; // hardly ever alone
  made.feels = {1, -0.5, 0};
  const LikeSamples like = onLikeMachines(rowOf(made, 1), rowOf(made, 2));
  EXPECT_EQ(like.exponents.writeFirst, 0);
  EXPECT_EQ(like.exponents.writeSlowest, 0);
}

TEST(LikeMachines, OutliersDoNotDecide) {
  Made made;
  made.busy = 0.7;
  made.feels = {1, 0.5, 0};
  ReportRow a = rowOf(made, 1), b = rowOf(made, 2);
  for (size_t i = 0; i < a.samples.size(); i += 10) // of those where nobody disturbed
    if (a.machineSamples[i].writeFirst > 100)
      a.samples[i] *= 4;
  const LikeSamples like = onLikeMachines(a, b);
  EXPECT_NEAR(like.exponents.writeFirst, 0.5, 0.1);
  EXPECT_NEAR(ratioOf(like), 1, 0.02);
}

TEST(LikeMachines, WhatIsNotKnownChangesNothing) {
  Made made;
  made.busy = 0.5;
  made.anchorNoise = 0.03;
  ReportRow a = rowOf(made, 1), b = rowOf(made, 2);
  a.machineSamples.clear();
  b.machineSamples.clear();
  const LikeSamples unknown = onLikeMachines(a, b);
  EXPECT_EQ(unknown.exponents.writeFirst, 0);
  EXPECT_EQ(unknown.exponents.writeSlowest, 0);
  EXPECT_NEAR(unknown.exponents.anchor, 1, 0.1);
  // What one side knows is not set against nothing.
  for (const char *anchor : {"fma_f32", "read_l2"}) {
    ReportRow knows = rowOf(made, 1);
    knows.anchor = b.anchor = anchor;
    for (MachineState &machine : knows.machineSamples)
      machine.fma = 230;
    const LikeSamples one = onLikeMachines(knows, b);
    EXPECT_NEAR(ratioOf(one), 1, 0.02) << anchor;
    EXPECT_EQ(one.exponents.writeFirst, 0) << anchor;
  }
  made.samples = 5; // ten in all
  const LikeSamples few = onLikeMachines(rowOf(made, 1), rowOf(made, 2));
  EXPECT_EQ(few.exponents.anchor, 1);
  EXPECT_EQ(few.exponents.writeFirst, 0);
  EXPECT_EQ(few.a.size(), 5u);
}

} // namespace
