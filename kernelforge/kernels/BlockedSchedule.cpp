#include "kernelforge/kernels/BlockedSchedule.h"

#include "kernelforge/support/Host.h"

#include <algorithm>
#include <cmath>

using namespace kernelforge;

MatmulArea kernelforge::wholeArea(const MatmulProblem &problem) {
  return {0, problem.m, 0, problem.n, 0, problem.k};
}

Blocking kernelforge::blockingOf(const KnobValues &schedule) {
  return {schedule.at("mc"), schedule.at("nc"), schedule.at("kc"), schedule.at("pack") != 0};
}

/// The size, a multiple of `unit`, of equal parts of `size` that are at most `most`: so that the
/// last one is no sliver.
static int64_t equalParts(int64_t size, int64_t most, int64_t unit) {
  const int64_t units = (size + unit - 1) / unit;
  const int64_t parts = (units * unit + most - 1) / most;
  return (units + parts - 1) / parts * unit;
}

std::vector<KnobRule> kernelforge::blockingRules(const MatmulProblem &problem,
                                                 const MatmulArea &area) {
  const int64_t columns = tileKernels().columns, unit = depthUnit(problem);
  // A panel fills half of the L2 cache at most; the other half is for the input and the result.
  const int64_t l2 = host().l2Bytes > 0 ? host().l2Bytes : int64_t(1) << 20;
  const int64_t depth = area.kEnd - area.kBegin;
  const int64_t kc = equalParts(depth, 512, unit);
  const int64_t widest = std::max(columns, l2 / 2 / 4 / kc / columns * columns);
  const int64_t nc = equalParts(area.columnEnd - area.columnBegin, widest, columns);
  // Where rows are few the panel is read too rarely to be worth packing.
  const bool fewRows = area.rowEnd - area.rowBegin <= 4;
  return {
      {{"mc", {8, 32, 64, 128, 256}, "rows of the input packed at once"}, {8, 4096, 8}, 64},
      {{"nc",
        {columns, 2 * columns, 4 * columns, 8 * columns, 16 * columns},
        "columns of a panel of the weight"},
       {columns, 4096 / columns * columns, columns},
       nc},
      {{"kc", {128, 256, 512, 1024}, "depth of a panel"}, {unit, 4096, unit}, kc},
      {{"pack", {0, 1}, "1: pack panels of the weight; 0: dot products with its rows"},
       {problem.transpose ? 1 : 0, 1},
       problem.transpose || !fewRows},
  };
}

double kernelforge::predictBlocked(const MatmulProblem &problem, const MatmulArea &area,
                                   const Blocking &blocking) {
  const ElementTypeInfo &t = info(problem.weights);
  const auto rows = double(area.rowEnd - area.rowBegin);
  const auto columns = double(area.columnEnd - area.columnBegin);
  const auto depth = double(area.kEnd - area.kBegin);
  const auto width = double(tileKernels().columns);
  const double lanes = width / 3, clock = 3e9;
  // Whole tiles are computed where only a part of one is wanted.
  const double computed = blocking.pack ? std::ceil(columns / width) * width : columns;
  const double arithmetic = rows * computed * depth / (blocking.pack ? 2 : 0.5) / lanes;
  const double expansion = problem.weights == ElementType::F32 ? 0 : 3;
  const double weight = columns * depth * (expansion + (blocking.pack ? 1 : 0));
  const double passes = std::ceil(columns / double(blocking.nc));
  const double input = blocking.pack ? passes * rows * depth * 0.5 : 0;
  const double results = rows * columns * depth / double(blocking.kc) * 0.25;
  const double bytes = columns * depth * double(t.blockBytes) / double(t.blockElements);
  return std::max((arithmetic + weight + input + results) / clock, bytes / 20e9);
}
