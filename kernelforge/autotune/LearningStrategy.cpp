#include "kernelforge/autotune/LearningStrategy.h"

#include "kernelforge/support/CounterRandom.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

using namespace kernelforge;

// One set for all kernels, chosen on made-up spaces that differ in shape (tests/unit/autotune).
static constexpr uint64_t founders = 6;    // before the model alone decides, every other is random
static constexpr double randomShare = 0.1; // of later proposals: the way out of a wrong model
static constexpr double worst = 0.35;      // logarithms of times are cut off so far above the best
static constexpr double worthwhile = 0.02; // improvements are counted from this one on
static constexpr double boldness = 0.7;    // deviations are taken for that part
static constexpr double temperature = 2;   // of the choice among models by their evidence
static constexpr size_t maxObservations = 96; // the solver's cost grows with the cube
static constexpr size_t maxPriors = 192;      // trials of other kernels beside them,
static constexpr size_t fewestKernels = 4;    // of so many kernels if there are as many
static constexpr double priorNoise = 4;       // another kernel's trial against one of this kernel
static constexpr size_t maxPool = 16384;      // schedules that are ranked

namespace {

/// What a model may assume; the first holds until something was measured.
constexpr std::array<CostModel::Prior, 6> assumptions{
    {{1, 1}, {1, 0.2}, {1, 5}, {0, 1}, {0, 0.2}, {0, 5}}};
constexpr std::array<double, 3> scales{1, 0.2, 5}; // those of the assumptions

constexpr double infinity = std::numeric_limits<double>::infinity();

/// Logarithm that also orders 0 and negative values: 0 is one step below 1.
double signedLog2(int64_t value) {
  const double magnitude = std::log2(std::abs(static_cast<double>(value)) + (value == 0)) + 1;
  return value > 0 ? magnitude : value < 0 ? -magnitude : 0;
}

} // namespace

LearningStrategy::LearningStrategy(const ScheduleSpace &space, const StrategyOptions &options)
    : HistoryStrategy(space, options) {
  for (KnobValues &knobs : sample(maxPool)) {
    places.emplace(knobsText(knobs), pool.size());
    pool.push_back(candidateOf(std::move(knobs)));
  }
  complete = pool.size() < maxPool && space.size() <= sampledCombinations;
  // Around 0, so that the prediction's share is learned apart from the offset.
  for (const Candidate &candidate : pool)
    center += candidate.point.logPredicted / static_cast<double>(pool.size());
  for (Candidate &candidate : pool)
    candidate.point.logPredicted -= center;
  others = OtherTrials(takenPriors(), scales);
  for (Candidate &candidate : pool)
    candidate.point.others = others.about(candidate.point);
}

void LearningStrategy::learn() {
  for (; points.size() < history.size();) {
    const KnobValues &knobs = history[points.size()].knobs;
    points.push_back(candidateOf(knobs).point);
    takeOut(knobs);
  }
  for (const KnobValues &knobs : pending)
    takeOut(knobs);
  best = infinity;
  for (const Trial &trial : history)
    best = std::min(best, trial.seconds);
}

uint64_t LearningStrategy::stream() const { return mixBits(options.seed) ^ mixBits(~seenCount()); }

bool LearningStrategy::randomNext() const {
  return seenCount() < founders ? seenCount() % 2 == 1 : randomUniform(stream(), 0) < randomShare;
}

LearningStrategy::Candidate LearningStrategy::candidateOf(KnobValues knobs) const {
  ModelPoint point = pointOf(knobs, logPredicted(knobs) - center);
  point.others = others.about(point);
  return {std::move(knobs), std::move(point)};
}

ModelPoint LearningStrategy::pointOf(const KnobValues &knobs, double logPredicted) const {
  ModelPoint point;
  std::vector<double> powers;
  point.logPredicted = logPredicted;
  for (const Knob &knob : space.knobs) {
    const double low = signedLog2(knob.values.front()), high = signedLog2(knob.values.back());
    auto found = knobs.find(knob.name);
    const double log = found == knobs.end() ? low : signedLog2(found->second);
    powers.push_back(log);
    // A user's pins may lie outside the values that a search tries.
    point.logs.push_back(high > low ? std::clamp(2 * (log - low) / (high - low) - 1, -1.5, 1.5)
                                    : 0);
    point.steps.push_back(static_cast<double>(valueIndex(knob, knobs)));
  }
  point.setPowers(powers);
  return point;
}

std::vector<Observation> LearningStrategy::takenPriors() const {
  const auto isUsable = [&](const PriorTrial &trial) {
    return trial.predicted > 0 && std::isfinite(trial.predicted) && trial.seconds > 0 &&
           std::ranges::all_of(space.knobs,
                               [&](const Knob &knob) { return trial.knobs.contains(knob.name); });
  };
  std::vector<std::vector<const PriorTrial *>> kernels;
  size_t total = 0;
  for (const std::vector<PriorTrial> &trials : options.priors) {
    if (kernels.size() >= fewestKernels && total >= maxPriors)
      break;
    std::vector<const PriorTrial *> usable;
    for (const PriorTrial &trial : trials)
      if (isUsable(trial))
        usable.push_back(&trial);
    // Without a success nothing says how slow the failures are.
    if (std::ranges::none_of(usable, [](auto *trial) { return std::isfinite(trial->seconds); }))
      continue;
    total += usable.size();
    kernels.push_back(std::move(usable));
  }
  const auto takenWith = [&](size_t most) {
    size_t sum = 0;
    for (const auto &trials : kernels)
      sum += std::min(trials.size(), most);
    return sum;
  };
  size_t most = 0; // that a kernel gives
  while (most < maxPriors && takenWith(most + 1) <= maxPriors)
    ++most;

  std::vector<Observation> taken;
  for (size_t kernel = 0; kernel < kernels.size(); ++kernel) {
    const auto &trials = kernels[kernel];
    double fastest = infinity;
    for (const PriorTrial *trial : trials)
      fastest = std::min(fastest, trial->seconds);
    const size_t count = std::min(trials.size(), most);
    for (size_t i = 0; i < count; ++i) {
      const PriorTrial &trial = *trials[i * trials.size() / count];
      ModelPoint point = pointOf(trial.knobs, std::log(trial.predicted) - center);
      point.kernel = kernel + 1;
      const double logTime = std::min(std::log(trial.seconds / fastest), worst);
      taken.push_back({std::move(point), logTime, priorNoise});
    }
  }
  return taken;
}

void LearningStrategy::takeOut(const KnobValues &knobs) {
  if (auto found = places.find(knobsText(knobs)); found != places.end())
    pool[found->second].out = true;
}

CostModel LearningStrategy::fit(double draw) const {
  std::vector<Observation> observations;
  if (std::isfinite(best)) {
    const std::vector<size_t> order = ranking();
    // The best half of what the solver takes, and of the others evenly spread ones: where it is
    // slow has to be known, too.
    const size_t room = maxObservations, kept = std::min(order.size(), room);
    for (size_t i = 0; i < kept; ++i) {
      const size_t half = room / 2;
      const size_t rank = i < half || order.size() <= room
                              ? i
                              : half + (i - half) * (order.size() - half) / (room - half);
      const double logTime = std::log(history[order[rank]].seconds / best);
      observations.push_back({points[order[rank]], std::min(logTime, worst)});
    }
  }
  std::vector<CostModel> models;
  std::vector<double> shares;
  double top = -infinity, sum = 0;
  for (const CostModel::Prior &assumed : assumptions) {
    models.emplace_back(observations, assumed, others);
    top = std::max(top, models.back().evidence());
    if (observations.empty() && others.empty())
      return models.front();
  }
  for (const CostModel &model : models)
    sum += shares.emplace_back(std::exp((model.evidence() - top) / temperature));
  size_t chosen = 0;
  for (draw = draw * sum - shares[0]; draw >= 0 && chosen + 1 < models.size();)
    draw -= shares[++chosen];
  if (pending.empty() || !std::isfinite(best))
    return models[chosen];
  // Schedules that are being measured are believed to take what is expected: a batch would crowd
  // in one place otherwise.
  for (const KnobValues &knobs : pending) {
    ModelPoint point = candidateOf(knobs).point;
    const double expected = models[chosen].guess(point).logTime;
    observations.push_back({std::move(point), expected});
  }
  return {observations, assumptions[chosen], others};
}

double LearningStrategy::score(const CostModel &model, const ModelPoint &point) const {
  const CostModel::Guess guess = model.guess(point);
  if (!std::isfinite(best))
    return -guess.logTime;
  const double deviation = boldness * guess.deviation + 1e-9;
  const double margin = (-worthwhile - guess.logTime) / deviation;
  // Far below, the improvement is nil in floating point; the order still matters.
  if (margin < -6)
    return -1000 + margin;
  const double below = std::erfc(-margin / std::sqrt(2.0)) / 2;
  const double density = std::exp(-margin * margin / 2) / std::sqrt(2 * M_PI);
  return std::log(deviation * (margin * below + density) + 1e-300);
}
