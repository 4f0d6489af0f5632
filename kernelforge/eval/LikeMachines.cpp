#include "kernelforge/eval/LikeMachines.h"

#include "kernelforge/measure/Timing.h"

#include <algorithm>
#include <cmath>

using namespace kernelforge;

namespace {

constexpr size_t rates = 3; ///< the anchor, the first thread's writing, the slowest's

/// Logarithms of a sample: its time, and how slow each rate was beside it.
struct Point {
  double time = 0;
  std::array<double, rates> slow = {};
};

struct Fit {
  std::array<double, rates> exponents = {1, 0, 0};
  std::array<double, rates> deviations = {}; ///< standard, of the exponents
};

constexpr size_t fewest = 12; // samples of both sides: fewer tell nothing of three exponents
// Deviations of what is assumed: 1 of the anchor, 0 of writing.
constexpr double surest = 0.05, leastSure = 0.5, clockDeviation = 0.2, writingDeviation = 0.5;
constexpr double mostExponent = 4; // there is no row that feels a rate more than that
constexpr double unsure = 0.25;    // of what is taken out for writing: sharing is more than that
constexpr double huber = 1.345;    // 95 % efficient where errors are normally distributed

} // namespace

/// Whether the row's anchor reads a cache. Its rate depends on where its own memory was placed in a
/// run, and on who shares the core; apart from that on the clock, as arithmetic does.
static bool isCacheBound(const ReportRow &row) {
  return row.anchor.starts_with("read_") && row.anchor != "read_memory";
}

/// Whether a rate of the machine was measured beside all samples.
static bool knows(const ReportRow &row, double MachineState::*rate) {
  return row.machineSamples.size() == row.samples.size() &&
         std::ranges::all_of(row.machineSamples,
                             [rate](const MachineState &machine) { return machine.*rate > 0; });
}

/// The samples of both sides, with the rates that are known of both.
static std::array<std::vector<Point>, 2> pointsOf(const ReportRow &a, const ReportRow &b) {
  const ReportRow *const rows[] = {&a, &b};
  auto bothKnow = [&](double MachineState::*rate) { return knows(a, rate) && knows(b, rate); };
  const bool clock = isCacheBound(a) && bothKnow(&MachineState::fma);
  const bool writing = bothKnow(&MachineState::writeFirst) && bothKnow(&MachineState::writeSlowest);
  std::array<std::vector<Point>, 2> points;
  for (size_t side = 0; side < 2; ++side) {
    const ReportRow &row = *rows[side];
    for (size_t i = 0; i < row.samples.size(); ++i) {
      Point point{std::log(row.samples[i]), {-std::log(row.anchorSamples[i]), 0, 0}};
      if (clock)
        point.slow[0] = -std::log(row.machineSamples[i].fma);
      if (writing) {
        point.slow[1] = -std::log(row.machineSamples[i].writeFirst);
        point.slow[2] = -std::log(row.machineSamples[i].writeSlowest);
      }
      points[side].push_back(point);
    }
  }
  return points;
}

template <typename Get> static double medianBy(const std::vector<Point> &points, Get get) {
  std::vector<double> values;
  for (const Point &point : points)
    values.push_back(get(point));
  return median(std::move(values));
}

static Point medianOf(const std::vector<Point> &points) {
  Point middle{medianBy(points, [](const Point &p) { return p.time; }), {}};
  for (size_t i = 0; i < rates; ++i)
    middle.slow[i] = medianBy(points, [i](const Point &p) { return p.slow[i]; });
  return middle;
}

/// The least weighted squares with exponents in their limits, by descent along one after another.
/// `points` are around their middles, `scale` is the deviation of what is left over.
static Fit solve(const std::vector<Point> &points, const std::vector<double> &weights, double scale,
                 double anchorDeviation) {
  double xx[rates][rates] = {}, xy[rates] = {};
  for (size_t p = 0; p < points.size(); ++p)
    for (size_t i = 0; i < rates; ++i) {
      for (size_t j = 0; j < rates; ++j)
        xx[i][j] += weights[p] * points[p].slow[i] * points[p].slow[j];
      xy[i] += weights[p] * points[p].slow[i] * points[p].time;
    }
  // What is assumed weighs like so many samples.
  const double variance = std::max(scale * scale, 1e-12);
  const double assumed = variance / (anchorDeviation * anchorDeviation);
  xx[0][0] += assumed;
  xy[0] += assumed;
  for (size_t i = 1; i < rates; ++i)
    xx[i][i] += variance / (writingDeviation * writingDeviation);
  Fit fit;
  for (int sweep = 0; sweep < 200; ++sweep)
    for (size_t i = 0; i < rates; ++i) {
      double rest = xy[i];
      for (size_t j = 0; j < rates; ++j)
        rest -= j == i ? 0 : xx[i][j] * fit.exponents[j];
      fit.exponents[i] = std::clamp(rest / xx[i][i], 0.0, mostExponent);
      fit.deviations[i] = std::sqrt(variance / xx[i][i]);
    }
  return fit;
}

static double leftOver(const Point &point, const Fit &fit) {
  double rest = point.time;
  for (size_t i = 0; i < rates; ++i)
    rest -= fit.exponents[i] * point.slow[i];
  return rest;
}

LikeSamples kernelforge::onLikeMachines(const ReportRow &a, const ReportRow &b) {
  const std::array<std::vector<Point>, 2> sides = pointsOf(a, b);
  const Point middles[] = {medianOf(sides[0]), medianOf(sides[1])};
  std::vector<Point> within;
  for (size_t side = 0; side < 2; ++side)
    for (Point point : sides[side]) {
      point.time -= middles[side].time;
      for (size_t i = 0; i < rates; ++i)
        point.slow[i] -= middles[side].slow[i];
      within.push_back(point);
    }
  const double anchorDeviation =
      isCacheBound(a) ? clockDeviation
                      : std::clamp(1 - std::min(a.roofline, b.roofline), surest, leastSure);
  Fit fit;
  if (within.size() >= fewest)
    for (int pass = 0; pass < 12; ++pass) {
      const double scale =
          1.4826 * medianBy(within, [&](const Point &p) { return std::abs(leftOver(p, fit)); });
      std::vector<double> weights;
      for (const Point &point : within) {
        const double far = std::abs(leftOver(point, fit));
        weights.push_back(far > huber * scale ? huber * scale / far : 1);
      }
      fit = solve(within, weights, scale, anchorDeviation);
    }
  LikeSamples result;
  result.exponents = {fit.exponents[0], fit.exponents[1], fit.exponents[2]};
  double variance = 0, correction = 0;
  for (size_t i = 0; i < rates; ++i) {
    const double change = middles[1].slow[i] - middles[0].slow[i];
    variance += fit.deviations[i] * fit.deviations[i] * change * change;
    correction += i == 0 ? 0 : fit.exponents[i] * change;
  }
  result.deviation = std::hypot(std::sqrt(variance), unsure * correction);
  std::vector<double> *const times[] = {&result.a, &result.b};
  for (size_t side = 0; side < 2; ++side)
    for (Point point : sides[side]) {
      for (size_t i = 0; i < rates; ++i)
        point.slow[i] -= middles[0].slow[i];
      times[side]->push_back(std::exp(leftOver(point, fit)));
    }
  return result;
}
