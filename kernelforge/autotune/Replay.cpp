#include "kernelforge/autotune/Replay.h"

#include "kernelforge/support/CounterRandom.h"
#include "kernelforge/support/Json.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>

using namespace kernelforge;

static constexpr double infinity = std::numeric_limits<double>::infinity();
static constexpr double longest = 1e9; // seconds; more is a defect of the file
static constexpr std::string_view purpose = "recorded schedule space is not usable";

namespace {

/// Of the values alone: all schedules of a space have the same knobs.
struct KnobValuesHash {
  size_t operator()(const KnobValues &knobs) const {
    uint64_t hash = 0;
    for (const auto &[name, value] : knobs)
      hash = mixBits(hash ^ static_cast<uint64_t>(value));
    return hash;
  }
};

} // namespace

ReplaySpace kernelforge::makeReplaySpace(std::vector<Knob> knobs,
                                         std::span<const ReplayPoint> points) {
  ReplaySpace recorded;
  using Table = std::unordered_map<KnobValues, double, KnobValuesHash>;
  Table predicted;
  recorded.best = infinity;
  for (const ReplayPoint &point : points) {
    recorded.seconds[knobsText(point.knobs)] = point.seconds;
    predicted[point.knobs] = point.predicted;
    recorded.best = std::min(recorded.best, point.seconds);
  }
  recorded.space.knobs = std::move(knobs);
  // One table for both rules and all copies of the space.
  auto table = std::make_shared<const Table>(std::move(predicted));
  // Strategies walk all combinations: no text is made for each.
  recorded.space.check = [table](const KnobValues &values) -> Status {
    if (!table->contains(values))
      return unusable("schedule is not legal", "", "it is not in the recorded space");
    return {};
  };
  recorded.space.predict = [table](const KnobValues &values) {
    auto found = table->find(values);
    return found == table->end() ? infinity : found->second;
  };
  return recorded;
}

static Expected<KnobValues> readSchedule(const JsonView &view) {
  KnobValues schedule;
  KF_TRY(auto members, view.members());
  for (const auto &[name, value] : members) {
    KF_TRY(schedule[name], value.asInteger(INT32_MIN, INT32_MAX));
  }
  return schedule;
}

static Expected<Knob> readKnob(const JsonView &view) {
  Knob knob;
  KF_TRY(knob.name, view.string("name", 256));
  KF_TRY(auto values, view.array("values", 1024));
  if (values.empty())
    return view.error("\"values\" is empty");
  for (const JsonView &value : values) {
    KF_TRY(int64_t number, value.asInteger(INT32_MIN, INT32_MAX));
    if (!knob.values.empty() && number <= knob.values.back())
      return value.error(fmt::format("{} does not ascend", number));
    knob.values.push_back(number);
  }
  return knob;
}

/// Checks that a point is a combination of the knobs' values: only such can be proposed.
static Expected<ReplayPoint> readPoint(const JsonView &view, std::span<const Knob> knobs) {
  ReplayPoint point;
  KF_TRY(auto row, view.elements(knobs.size() + 2));
  if (row.size() != knobs.size() + 2)
    return view.error(fmt::format("it has {} numbers, {} knobs, seconds and predicted need {}",
                                  row.size(), knobs.size(), knobs.size() + 2));
  for (size_t k = 0; k < knobs.size(); ++k) {
    KF_TRY(int64_t value, row[k].asInteger(INT32_MIN, INT32_MAX));
    if (!std::ranges::binary_search(knobs[k].values, value))
      return row[k].error(
          fmt::format("{} = {} is none of the knob's values", knobs[k].name, value));
    point.knobs[knobs[k].name] = value;
  }
  const JsonView &seconds = row[knobs.size()];
  point.seconds = infinity;
  if (!seconds.value().is_null()) {
    KF_TRY(point.seconds, seconds.asNumber(0, longest));
  }
  if (point.seconds == 0)
    return seconds.error("it took no time");
  KF_TRY(point.predicted, row[knobs.size() + 1].asNumber(0, longest));
  return point;
}

static Expected<ReplaySpace> readSpace(const JsonView &root) {
  std::vector<Knob> knobs;
  KF_TRY(auto knobViews, root.array("knobs", 256));
  for (const JsonView &view : knobViews) {
    KF_TRY(Knob knob, readKnob(view));
    if (std::ranges::find(knobs, knob.name, &Knob::name) != knobs.end())
      return view.error(fmt::format("the knob {} is there twice", knob.name));
    knobs.push_back(std::move(knob));
  }
  std::vector<ReplayPoint> points;
  KF_TRY(auto pointViews, root.array("points", 1'000'000));
  for (const JsonView &view : pointViews) {
    KF_TRY(ReplayPoint point, readPoint(view, knobs));
    points.push_back(std::move(point));
  }
  ReplaySpace recorded = makeReplaySpace(std::move(knobs), points);
  if (recorded.seconds.size() != points.size())
    return root.error("\"points\" has a schedule twice");
  if (!std::isfinite(recorded.best))
    return root.error("no point has a time");
  KF_TRY(double best, root.number("best_seconds", 0, longest));
  // Writers may round.
  if (std::abs(best - recorded.best) > 1e-3 * recorded.best)
    return root.error(
        fmt::format("\"best_seconds\" is {}, the best point has {}", best, recorded.best));
  KF_TRY(recorded.problem, root.string("problem", 4096));
  KF_TRY(recorded.cpu, root.string("cpu", 4096));
  if (root.has("analytic")) {
    KF_TRY(JsonView analytic, root.object("analytic"));
    KF_TRY(recorded.space.analytic, readSchedule(analytic));
  }
  return recorded;
}

Expected<ReplaySpace> kernelforge::parseReplaySpace(std::string_view text, std::string_view where) {
  KF_TRY(JsonDocument document, parseJson(text, purpose, where));
  return readSpace(document.root());
}

Expected<ReplaySpace> kernelforge::readReplaySpace(const std::string &path) {
  KF_TRY(JsonDocument document, readJsonText(path, purpose));
  return readSpace(document.root());
}

namespace {

/// A strategy on a recorded space.
class ReplaySearch {
public:
  static Expected<ReplaySearch> begin(const ReplaySpace &recorded, const StrategyRegistry &registry,
                                      std::string_view strategy, StrategyOptions options) {
    options.startFromAnalytic = false;
    KF_TRY(std::unique_ptr<Strategy> search, registry.make(strategy, recorded.space, options));
    return ReplaySearch(recorded, strategy, std::move(search));
  }

  /// What it proposes next, with the times, of which it is told only by tell(). Empty: no more.
  Expected<std::vector<Trial>> ask(size_t count) {
    std::vector<Trial> trials;
    for (KnobValues &knobs : search->ask(count)) {
      auto found = recorded.seconds.find(knobsText(knobs));
      if (found == recorded.seconds.end())
        return failed("search failed", std::string(strategy),
                      fmt::format("it proposed {}, which is not legal", knobsText(knobs)));
      trials.push_back({std::move(knobs), found->second});
    }
    return trials;
  }

  void tell(std::span<const Trial> trials) { search->tell(trials); }

private:
  ReplaySearch(const ReplaySpace &recorded, std::string_view strategy,
               std::unique_ptr<Strategy> search)
      : recorded(recorded), strategy(strategy), search(std::move(search)) {}

  const ReplaySpace &recorded;
  std::string_view strategy;
  std::unique_ptr<Strategy> search;
};

bool haveSameKnobs(const ReplaySpace &a, const ReplaySpace &b) {
  return std::ranges::equal(a.space.knobs, b.space.knobs, {}, &Knob::name, &Knob::name);
}

} // namespace

Expected<ReplayRun> kernelforge::replay(const ReplaySpace &recorded,
                                        const StrategyRegistry &registry, std::string_view strategy,
                                        uint64_t seed, size_t batch,
                                        std::vector<std::vector<PriorTrial>> priors) {
  KF_TRY(ReplaySearch search, ReplaySearch::begin(recorded, registry, strategy,
                                                  {.seed = seed, .priors = std::move(priors)}));
  ReplayRun run;
  double best = infinity;
  for (;;) {
    KF_TRY(std::vector<Trial> trials, search.ask(batch));
    if (trials.empty())
      return failed("search failed", std::string(strategy),
                    fmt::format("it stopped after {} trials, {} times slower than the best",
                                run.trials, best / recorded.best));
    for (const Trial &trial : trials) {
      best = std::min(best, trial.seconds);
      run.trajectory.push_back(best);
      ++run.trials;
      if (recorded.isGood(best))
        return run;
    }
    search.tell(trials);
  }
}

/// The first `count` trials of a search without records, as priors of others.
static Expected<std::vector<PriorTrial>> recordsOf(const ReplaySpace &recorded,
                                                   const StrategyRegistry &registry, uint64_t seed,
                                                   size_t count) {
  KF_TRY(ReplaySearch search,
         ReplaySearch::begin(recorded, registry, "model", {.seed = seed, .priors = {}}));
  std::vector<PriorTrial> records;
  while (records.size() < count) {
    KF_TRY(std::vector<Trial> trials, search.ask(1));
    if (trials.empty())
      break;
    search.tell(trials);
    const Trial &trial = trials.front();
    records.push_back({trial.knobs, recorded.space.predict(trial.knobs), trial.seconds});
  }
  return records;
}

Expected<std::vector<std::vector<ReplaySummary>>>
kernelforge::replaySummaries(std::span<const ReplaySpace> spaces, const StrategyRegistry &registry,
                             std::span<const std::string> strategies, uint64_t seeds,
                             size_t records) {
  const size_t count = spaces.size(), runs = strategies.size();
  std::vector<std::vector<std::vector<size_t>>> trials(count); // by space, strategy and seed
  for (auto &ofSpace : trials)
    ofSpace.resize(runs);
  for (uint64_t seed = 0; seed < seeds; ++seed) {
    std::vector<std::vector<PriorTrial>> made(count);
    for (size_t i = 0; i < count && records > 0; ++i) {
      KF_TRY(made[i], recordsOf(spaces[i], registry, seed, records));
    }
    for (size_t i = 0; i < count; ++i) {
      std::vector<std::vector<PriorTrial>> priors;
      for (size_t other = 0; other < count; ++other)
        if (other != i && haveSameKnobs(spaces[other], spaces[i]))
          priors.push_back(made[other]);
      for (size_t s = 0; s < runs; ++s) {
        KF_TRY(ReplayRun run, replay(spaces[i], registry, strategies[s], seed, 1, priors));
        trials[i][s].push_back(run.trials);
      }
    }
  }
  std::vector<std::vector<ReplaySummary>> summaries(count);
  for (size_t i = 0; i < count; ++i)
    for (size_t s = 0; s < runs && seeds > 0; ++s) {
      std::vector<size_t> &sorted = trials[i][s];
      std::ranges::sort(sorted);
      summaries[i].push_back({strategies[s], sorted[(sorted.size() - 1) / 2],
                              sorted[(sorted.size() * 9 + 9) / 10 - 1]});
    }
  return summaries;
}
