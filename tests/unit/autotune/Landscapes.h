// Made-up schedule spaces in the manner of matrix multiplication's, fully known: what strategies
// are judged on without a machine.
#pragma once

#include "kernelforge/autotune/Replay.h"
#include "kernelforge/support/CounterRandom.h"

#include <cmath>

namespace kernelforge::landscapes {

/// A number in [low, high] of landscape `variant`.
inline double draw(uint64_t variant, uint64_t what, double low, double high) {
  return low + (high - low) * randomUniform(variant, what);
}

/// The point's own deviation of the time: a factor within 1 +- share.
inline double noise(uint64_t variant, uint64_t point, double share) {
  return 1 + share * (2 * randomUniform(variant + 1000, point) - 1);
}

/// Measures all legal combinations of `knobs`. `time` and `predict` take the knobs and, for the
/// noise, the point's number.
template <typename Legal, typename Time, typename Predict>
ReplaySpace measureAll(std::vector<Knob> knobs, Legal legal, Time time, Predict predict) {
  ScheduleSpace space;
  space.knobs = std::move(knobs);
  std::vector<ReplayPoint> points;
  for (uint64_t i = 0; i < space.size(); ++i) {
    const KnobValues values = *space.at(i);
    if (legal(values))
      points.push_back({values, 1e-3 * time(values, i), 1e-3 * predict(values)});
  }
  return makeReplaySpace(space.knobs, points);
}

/// A bowl in the logarithms of five knobs. The prediction's bowl is elsewhere: two steps away in
/// two knobs, blind for a third.
inline ReplaySpace separable(uint64_t variant) {
  const std::vector<Knob> knobs{{"kc", {64, 128, 256, 512, 1024}, ""},
                                {"mc", {32, 64, 128, 256}, ""},
                                {"mr", {1, 2, 4, 8, 16}, ""},
                                {"nr", {8, 16, 32, 64}, ""},
                                {"unroll", {1, 2, 4, 8}, ""}};
  const auto bowl = [=](const KnobValues &values, bool predicted) {
    double sum = 0;
    for (size_t k = 0; k < knobs.size(); ++k) {
      const double low = std::log2(knobs[k].values.front()),
                   high = std::log2(knobs[k].values.back());
      double center = draw(variant, k, low, high);
      double steepness = draw(variant, 10 + k, 0.03, 0.2);
      if (predicted && k == variant % 5)
        steepness = 0;
      if (predicted && (k == (variant + 1) % 5 || k == (variant + 2) % 5))
        center += center > (low + high) / 2 ? -2 : 2;
      const double distance = std::log2(values.at(knobs[k].name)) - center;
      sum += steepness * distance * distance;
    }
    return std::exp(sum);
  };
  return measureAll(
      knobs, [](const KnobValues &v) { return v.at("mr") * v.at("nr") <= 512; },
      [&](const KnobValues &v, uint64_t i) { return bowl(v, false) * noise(variant, i, 0.02); },
      [&](const KnobValues &v) { return bowl(v, true); });
}

/// Traffic that falls with the register tile, until the registers are spilled: twice the time. A
/// panel has to fit in a cache, the more so the deeper the prefetch; the better loop order depends
/// on the depth. The prediction knows the traffic and nothing of the cliffs.
inline ReplaySpace cliffs(uint64_t variant) {
  const std::vector<Knob> knobs{{"kc", {32, 64, 128, 256, 512, 1024}, ""},
                                {"mr", {1, 2, 4, 6, 8, 10, 12, 14}, ""},
                                {"nr", {16, 32, 48, 64}, ""},
                                {"order", {0, 1}, ""},
                                {"prefetch", {0, 1, 2, 4}, ""}};
  const double registers = draw(variant, 0, 18, 28);
  const double cache = draw(variant, 1, 8 << 10, 48 << 10);
  const auto traffic = [=](const KnobValues &v) {
    return 1 + draw(variant, 2, 0.7, 1.5) / static_cast<double>(v.at("mr")) +
           draw(variant, 3, 5, 12) / static_cast<double>(v.at("nr")) +
           draw(variant, 4, 8, 24) / static_cast<double>(v.at("kc"));
  };
  const auto time = [=](const KnobValues &v, uint64_t i) {
    double t = traffic(v);
    const double vectors = static_cast<double>(v.at("nr")) / 16;
    const double mr = static_cast<double>(v.at("mr")), kc = static_cast<double>(v.at("kc"));
    if (mr * vectors + vectors + 1 > registers)
      t *= 2;
    const double prefetch = static_cast<double>(v.at("prefetch"));
    const double bytes = kc * (mr + vectors * 16) + prefetch * draw(variant, 5, 500, 3000);
    if (bytes > cache)
      t *= 1 + 0.2 * std::log2(bytes / cache);
    t *= 1 + draw(variant, 6, 0.005, 0.02) * std::abs(prefetch - draw(variant, 7, 0, 4));
    if ((v.at("order") == 1) != (kc > draw(variant, 8, 64, 512)))
      t *= draw(variant, 9, 1.1, 1.3);
    return t * noise(variant, i, 0.01);
  };
  return measureAll(
      knobs, [](const KnobValues &v) { return v.at("mr") * v.at("nr") <= 14 * 48; }, time, traffic);
}

/// Hardly a difference between schedules, and that without a pattern.
inline ReplaySpace flat(uint64_t variant) {
  const std::vector<Knob> knobs{{"block", {1, 2, 4, 8, 16, 32, 64, 128}, ""},
                                {"chunk", {1, 2, 4, 8, 16, 32, 64, 128}, ""},
                                {"lanes", {1, 2, 4, 8}, ""},
                                {"unroll", {1, 2, 4}, ""}};
  return measureAll(
      knobs, [](const KnobValues &v) { return v.at("block") * v.at("chunk") <= 4096; },
      [&](const KnobValues &v, uint64_t i) {
        return (v.at("lanes") == 1 ? 1.08 : 1.0) * noise(variant, i, 0.04);
      },
      [&](const KnobValues &v) { return 1 + 0.1 / static_cast<double>(v.at("unroll")); });
}

} // namespace kernelforge::landscapes
