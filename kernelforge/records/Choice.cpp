#include "kernelforge/records/Choice.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include <fmt/format.h>

namespace kernelforge {

namespace {

constexpr double leastNoise = 0.02, mostNoise = 0.05;

// measure/, which has the same two, is a room above.
double middle(std::vector<double> values) {
  if (values.empty())
    return 0;
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

Ratio summary(const std::vector<double> &ratios) {
  Ratio ratio{middle(ratios), 0, ratios.size()};
  std::vector<double> distances;
  for (double value : ratios)
    distances.push_back(std::abs(value - ratio.median));
  ratio.mad = middle(std::move(distances));
  return ratio;
}

/// The ratio of each round; where the rounds do not match one by one, that of the medians.
std::vector<double> ratiosOf(std::span<const double> samples, std::span<const double> baseline) {
  if (samples.empty() || baseline.empty())
    return {};
  if (samples.size() != baseline.size())
    return {middle({samples.begin(), samples.end()}) / middle({baseline.begin(), baseline.end()})};
  std::vector<double> ratios;
  for (size_t i = 0; i < samples.size(); ++i)
    ratios.push_back(samples[i] / baseline[i]);
  return ratios;
}

/// Whether the record says that its code must not be used. A timeout does not: the machine may have
/// been busy.
bool condemns(const Record &record) {
  return record.status == RecordStatus::Crash || record.status == RecordStatus::WrongResult ||
         (record.status == RecordStatus::Ok && record.accuracy && !record.accuracy->pass);
}

/// What a record may be compared by: equal texts are equal conditions.
std::string baselineOf(const Record &record) {
  return fmt::format("{} ({})", record.baseline.empty() ? "the baseline" : record.baseline,
                     record.mode);
}

/// All records of one schedule and code. The order of members is the order of preference.
using CandidateName = std::tuple<std::string, std::string, std::string>; // schedule, variant, code

CandidateName nameOf(const Record &record) {
  return {record.schedule, record.variant, record.codeHash};
}

struct Candidate {
  const Record *newest = nullptr;
  std::map<std::string, std::vector<double>> ratios; ///< by baseline, as baselineOf() says it
  bool analytic = false;
  bool condemned = false;
};

/// Which of two records is the newer; the text decides where the time does not.
bool isNewer(const Record &a, const Record &b) {
  if (a.created != b.created)
    return a.created > b.created;
  auto text = [](const Record &record) {
    return toJson(record).dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  return text(a) > text(b);
}

using Candidates = std::map<CandidateName, Candidate>;

Candidates gather(std::span<const Record *const> records, const ChoiceOptions &options) {
  Candidates candidates;
  for (const Record *record : records) {
    if (options.admits && !options.admits(*record))
      continue;
    Candidate &candidate = candidates[nameOf(*record)];
    if (condemns(*record))
      candidate.condemned = true;
    if (!whyNotCompared(*record).empty())
      continue;
    candidate.analytic |=
        record->variant == "generated" &&
        (options.analyticSchedule.empty() ? record->scheduleSource == "analytic"
                                          : record->schedule == options.analyticSchedule);
    std::vector<double> &pool = candidate.ratios[baselineOf(*record)];
    for (double ratio : ratiosOf(record->samplesNs, record->baselineNs))
      pool.push_back(ratio);
    if (!candidate.newest || isNewer(*record, *candidate.newest))
      candidate.newest = record;
  }
  std::erase_if(candidates,
                [](const auto &item) { return item.second.condemned || !item.second.newest; });
  return candidates;
}

/// Leaves of each variant's schedule the code measured last.
void dropOldCode(Candidates &candidates) {
  std::map<std::pair<std::string, std::string>, const Record *> last;
  for (const auto &[name, candidate] : candidates) {
    const Record *&newest = last[{std::get<0>(name), std::get<1>(name)}];
    if (!newest || isNewer(*candidate.newest, *newest))
      newest = candidate.newest;
  }
  std::erase_if(candidates, [&](const auto &item) {
    const auto &[schedule, variant, code] = item.first;
    return last.at({schedule, variant})->codeHash != code;
  });
}

/// The baseline that most candidates were measured beside; of several the smallest text.
std::string commonBaseline(const Candidates &candidates) {
  std::map<std::string, size_t> counts;
  for (const auto &[name, candidate] : candidates)
    for (const auto &[baseline, ratios] : candidate.ratios)
      ++counts[baseline];
  auto most = std::max_element(counts.begin(), counts.end(), [](const auto &a, const auto &b) {
    return a.second < b.second; // the first of equals, hence the smallest
  });
  return most == counts.end() ? "" : most->first;
}

/// Whether `a` takes less time than `b`, by more than noise.
bool isFaster(const Ratio &a, const Ratio &b) { return a.median < b.median && !withinNoise(a, b); }

std::optional<Choice> chooseAmong(std::span<const Record *const> records,
                                  const ChoiceOptions &options) {
  Candidates candidates = gather(records, options);
  dropOldCode(candidates);
  const std::string baseline = commonBaseline(candidates);
  std::erase_if(candidates,
                [&](const auto &item) { return !item.second.ratios.contains(baseline); });
  if (candidates.empty())
    return std::nullopt;

  std::vector<std::pair<const Candidate *, Ratio>> ranked; // in the order of their names
  for (const auto &[name, candidate] : candidates)
    ranked.emplace_back(&candidate, summary(candidate.ratios.at(baseline)));
  const size_t all = ranked.size();
  const auto known = std::ranges::find_if(ranked, [](const auto &r) { return r.first->analytic; });
  std::optional<std::pair<const Candidate *, Ratio>> usual;
  if (known != ranked.end())
    usual = *known;
  // The baseline's own record, or the default's, may be missing here, or not trusted.
  std::erase_if(ranked, [&](const auto &item) {
    return !isFaster(item.second, Ratio{1, 0, item.second.rounds}) ||
           (usual && !isFaster(item.second, usual->second));
  });
  auto choice = [&](const std::pair<const Candidate *, Ratio> &winner, const std::string &why) {
    const Ratio &ratio = winner.second;
    return Choice{*winner.first->newest, ratio,
                  fmt::format("{:.3f} of the time of {} beside it over {} {}; {}", ratio.median,
                              baseline, ratio.rounds, ratio.rounds == 1 ? "round" : "rounds", why)};
  };
  if (ranked.empty()) {
    if (!usual)
      return std::nullopt;
    return choice(*usual,
                  all == 1 ? "the analytic default, the only candidate"
                           : fmt::format("the analytic default: none of {} candidates was shown to "
                                         "be faster",
                                         all));
  }
  const Ratio best = std::ranges::min_element(ranked, {}, [](const auto &item) {
                       return item.second.median;
                     })->second;
  std::erase_if(ranked, [&](const auto &item) { return !withinNoise(item.second, best); });
  if (all == 1)
    return choice(ranked.front(), "the only candidate");
  if (ranked.size() == 1)
    return choice(ranked.front(), fmt::format("the best of {} candidates", all));
  return choice(ranked.front(),
                fmt::format("{} of {} candidates are within noise of the best ({:.3f}): the "
                            "smallest schedule text among them",
                            ranked.size(), all, best.median));
}

/// Adds |log2| of the ratios of all positive numbers that both have to `sum`; whether the two
/// differ in nothing else.
bool addDistance(const Json &a, const Json &b, double &sum) {
  if (a == b)
    return true;
  if (a.is_number() && b.is_number()) {
    const double x = a.get<double>(), y = b.get<double>();
    if (x <= 0 || y <= 0)
      return false;
    sum += std::abs(std::log2(x / y));
    return true;
  }
  if (a.type() != b.type() || !a.is_structured())
    return false;
  bool comparable = a.size() == b.size();
  if (a.is_array()) {
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
      comparable &= addDistance(a[i], b[i], sum);
    return comparable;
  }
  for (const auto &[field, value] : a.items())
    if (b.contains(field))
      comparable &= addDistance(value, b[field], sum);
    else
      comparable = false;
  return comparable;
}

struct Distance {
  double sizes = 0;
  bool comparable = false;
};

Distance distanceOf(std::string_view a, std::string_view b) {
  const Json left = Json::parse(a, nullptr, /*allow_exceptions=*/false);
  const Json right = Json::parse(b, nullptr, /*allow_exceptions=*/false);
  Distance distance;
  distance.comparable = left.is_object() && right.is_object();
  if (distance.comparable)
    distance.comparable = addDistance(left, right, distance.sizes);
  return distance;
}

} // namespace

Ratio ratioOf(std::span<const double> samples, std::span<const double> baseline) {
  return summary(ratiosOf(samples, baseline));
}

std::string whyNotCompared(const Record &record) {
  if (record.status != RecordStatus::Ok)
    return record.error.empty() ? std::string(statusName(record.status)) : record.error;
  if (!record.accuracy)
    return "its result was not verified";
  if (!record.accuracy->pass)
    return "its result is wrong";
  if (record.software)
    return "its times are of a device that the processor emulates";
  if (!record.trusted)
    return "not trusted: " +
           (record.whyUntrusted.empty() ? "the measurement was disturbed" : record.whyUntrusted);
  if (record.samplesNs.empty())
    return "it was not timed";
  return record.baselineNs.empty() ? "nothing was measured beside it" : "";
}

bool withinNoise(const Ratio &a, const Ratio &b) {
  const double least = std::min(a.median, b.median);
  const double spread = std::min(std::hypot(a.mad, b.mad), mostNoise * least);
  const double difference = std::abs(a.median - b.median);
  return difference == 0 || difference < std::max(leastNoise * least, spread);
}

std::optional<Choice> choose(std::span<const Record> records, const ChoiceOptions &options) {
  std::vector<const Record *> all;
  for (const Record &record : records)
    all.push_back(&record);
  return chooseAmong(all, options);
}

std::optional<Choice> choose(std::span<const Record> records, const RecordKey &key,
                             const ChoiceOptions &options) {
  std::vector<const Record *> ofKey;
  for (const Record &record : records)
    // The hash is cheap to compare; the whole key makes sure.
    if (record.key.kernelHash == key.kernelHash && record.key == key)
      ofKey.push_back(&record);
  return chooseAmong(ofKey, options);
}

bool isStale(const Record &record, std::string_view currentCodeHash) {
  return record.codeHash != currentCodeHash;
}

std::optional<double> problemDistance(std::string_view a, std::string_view b) {
  const Distance distance = distanceOf(a, b);
  return distance.comparable ? std::optional(distance.sizes) : std::nullopt;
}

std::vector<NearKernel> kernelsNear(std::span<const Record> records, const RecordKey &key) {
  auto sameElse = [&](const RecordKey &other) {
    return other.family == key.family && other.target == key.target &&
           other.cpuModel == key.cpuModel && other.toolchain == key.toolchain &&
           other.threads == key.threads && other.affinity == key.affinity;
  };
  std::map<std::pair<std::string, std::string>, std::vector<const Record *>> kernels;
  for (const Record &record : records)
    if (sameElse(record.key) && (record.key.kernelHash != key.kernelHash || !(record.key == key)))
      kernels[{record.key.problem, record.key.kernelHash}].push_back(&record);

  std::multimap<std::pair<bool, double>, NearKernel> order; // equals in the order of their names
  for (auto &[name, ofKernel] : kernels) {
    const Distance distance = distanceOf(key.problem, name.first);
    order.emplace(std::pair(!distance.comparable, distance.sizes),
                  NearKernel{distance.comparable, distance.sizes, std::move(ofKernel)});
  }
  std::vector<NearKernel> near;
  for (auto &[place, kernel] : order)
    near.push_back(std::move(kernel));
  return near;
}

std::optional<Record> nearest(std::span<const Record> winners, const RecordKey &key,
                              const std::function<bool(const Record &)> &admits) {
  for (const NearKernel &kernel : kernelsNear(winners, key)) {
    if (!kernel.comparable)
      break;
    for (const Record *record : kernel.records)
      if (!admits || admits(*record))
        return *record;
  }
  return std::nullopt;
}

} // namespace kernelforge
