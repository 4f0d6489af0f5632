// The truth that search strategies are judged by: every schedule of a space, measured.
#include "kernelforge/autotune/Measurement.h"

#include "kernelforge/measure/Timing.h"

#include <algorithm>
#include <random>

#include <fmt/format.h>

using namespace kernelforge;

namespace {

constexpr size_t remeasured = 32;
constexpr int briefRounds = 3, carefulRounds = 9, passes = 3;

struct Point {
  KnobValues knobs;
  std::vector<double> ratios; ///< of all rounds
  bool failed = false;

  double ratio() const { return median(ratios); }
};

} // namespace

/// To five significant digits: more is beyond what a measurement tells.
static double rounded(double number) { return std::stod(fmt::format("{:.5g}", number)); }

static Status measurePoint(Measurement &measurement, Point &point, int rounds,
                           std::vector<double> &baseline) {
  KF_TRY(Record record, measurement.measure(point.knobs, HUGE_VAL, rounds));
  point.failed = record.status != RecordStatus::Ok;
  for (size_t i = 0; i < record.samplesNs.size() && !point.failed; ++i)
    point.ratios.push_back(record.samplesNs[i] / record.baselineNs[i]);
  baseline.insert(baseline.end(), record.baselineNs.begin(), record.baselineNs.end());
  return {};
}

Expected<Json> kernelforge::recordSpace(const KernelProblem &problem, size_t points,
                                        const TuneOptions &options) {
  const ScheduleSpace &space = problem.space();
  std::vector<KnobValues> schedules = space.legal(points);
  if (std::find(schedules.begin(), schedules.end(), space.analytic) == schedules.end())
    schedules.back() = space.analytic;
  std::vector<Point> all;
  for (KnobValues &knobs : schedules)
    all.push_back({std::move(knobs), {}, false});
  // In no order that drift of the machine could follow.
  std::vector<size_t> order(all.size());
  for (size_t i = 0; i < order.size(); ++i)
    order[i] = i;
  std::shuffle(order.begin(), order.end(), std::mt19937_64(options.seed));

  KF_TRY(std::unique_ptr<Measurement> measurement, Measurement::create(problem, options));
  std::vector<double> baseline;
  TuneProgress progress{problem.name(), 0, static_cast<int>(all.size()), 1, 0, 0, "", ""};
  for (size_t i : order) {
    if (options.cancel && options.cancel->load())
      return makeError(ErrorKind::Interrupted, "recording was interrupted", problem.name(),
                       "it was asked to stop");
    KF_CHECK(measurePoint(*measurement, all[i], briefRounds, baseline));
    ++progress.trial;
    if (!all[i].failed)
      progress.best = std::min(progress.best, all[i].ratio());
    if (options.progress)
      options.progress(progress);
  }

  std::erase_if(order, [&](size_t i) { return all[i].failed; });
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::pair(all[a].ratio(), a) < std::pair(all[b].ratio(), b);
  });
  order.resize(std::min(order.size(), remeasured));
  for (size_t i : order)
    all[i].ratios.clear();
  for (int pass = 0; pass < passes; ++pass)
    for (size_t i : order)
      KF_CHECK(measurePoint(*measurement, all[i], carefulRounds, baseline));

  const double unit = median(baseline) / 1e9;
  Json json = {{"problem", problem.name() + " " + problem.key().problem},
               {"kernel", problem.name()},
               {"cpu", problem.key().cpuModel},
               {"threads", problem.key().threads},
               {"target", problem.key().target},
               {"baseline_seconds", unit},
               {"analytic", space.analytic},
               {"knobs", Json::array()},
               {"points", Json::array()}};
  for (const Knob &knob : space.knobs)
    json["knobs"].push_back({{"name", knob.name}, {"values", knob.values}});
  double best = HUGE_VAL;
  for (const Point &point : all) {
    const double seconds = point.failed ? 0 : point.ratio() * unit;
    if (!point.failed)
      best = std::min(best, seconds);
    Json row = Json::array();
    for (const Knob &knob : space.knobs)
      row.push_back(point.knobs.at(knob.name));
    row.push_back(point.failed ? Json() : Json(rounded(seconds)));
    row.push_back(rounded(space.predict(point.knobs)));
    json["points"].push_back(std::move(row));
  }
  json["best_seconds"] = best;
  return json;
}
