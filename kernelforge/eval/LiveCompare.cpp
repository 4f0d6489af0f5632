#include "kernelforge/eval/LiveCompare.h"

#include "kernelforge/eval/SuiteWorkerProcess.h"
#include "kernelforge/measure/Timing.h"
#include "kernelforge/support/CounterRandom.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fmt/format.h>
#include <map>
#include <thread>

using namespace kernelforge;

namespace {

/// What was measured of one row in one stage.
struct StageSamples {
  std::vector<std::vector<double>> ratios; ///< B/A of each round, by pair of processes
  std::vector<double> a, b;                ///< nanoseconds

  double ratio() const { return median(all()); }
  std::vector<double> all() const {
    std::vector<double> values;
    for (const std::vector<double> &group : ratios)
      values.insert(values.end(), group.begin(), group.end());
    return values;
  }
  double p() const {
    std::vector<double> logs = all();
    for (double &value : logs)
      value = std::log(value);
    return wilcoxonSignedRank(logs).p;
  }
};

/// Names of rows and how many rounds each gets.
using Plan = std::map<std::string, int>;

/// The two processes of a pair.
struct Workers {
  SuiteWorkerProcess a, b;
};

class LiveComparison {
public:
  LiveComparison(const std::string &oldBinary, const std::string &newBinary,
                 const LiveOptions &options)
      : oldBinary(oldBinary), newBinary(newBinary), options(options) {}

  Expected<Comparison> run();

private:
  Expected<Workers> start(const std::string &filter);
  Status readRows(const Workers &workers);
  Expected<std::map<std::string, StageSamples>> measure(const Plan &plan, int processes,
                                                        std::optional<Workers> first);
  Status measureRounds(Workers &workers, const Plan &plan,
                       std::map<std::string, StageSamples> &samples);
  Expected<double> sample(SuiteWorkerProcess &worker, size_t row);

  Interval intervalOf(const StageSamples &samples) const;
  RowComparison rowOf(const std::string &name, const StageSamples &samples) const;
  Plan decideSame(const std::map<std::string, StageSamples> &samples);
  void decideSuspects(const std::map<std::string, StageSamples> &first,
                      const std::map<std::string, StageSamples> &second);
  RowComparison &rowNamed(const std::string &name) {
    return *std::ranges::find(comparison.rows, name, &RowComparison::name);
  }
  size_t randomBelow(size_t n) {
    return static_cast<size_t>(randomUniform(options.seed, drawn++) * static_cast<double>(n));
  }

  const std::string &oldBinary, &newBinary;
  const LiveOptions &options;
  Comparison comparison;
  std::vector<std::string> names;    ///< of the rows that are measured, in the order of A
  std::vector<RowComparison> failed; ///< the others that are in both
  uint64_t drawn = 0;
  int64_t pairs = 0; ///< started
  int64_t done = 0, total = 0;
};

} // namespace

//===----------------------------------------------------------------------===//
// Measuring
//===----------------------------------------------------------------------===//

static tl::unexpected<Error> interrupted() {
  return makeError(ErrorKind::Interrupted, "interrupted", "comparison", "stopped by user");
}

Expected<Workers> LiveComparison::start(const std::string &filter) {
  SuiteWorkerOptions worker{options.suite,         options.folder,      filter,
                            options.threads,       options.seed,        options.batchSeconds,
                            /*verify=*/pairs == 0, options.openSeconds, options.answerSeconds};
  if (options.cancel && *options.cancel)
    return interrupted();
  // What starts first may get other memory.
  if (pairs++ % 2 == 0) {
    KF_TRY(SuiteWorkerProcess a, SuiteWorkerProcess::open(oldBinary, worker));
    KF_TRY(SuiteWorkerProcess b, SuiteWorkerProcess::open(newBinary, worker));
    return Workers{std::move(a), std::move(b)};
  }
  KF_TRY(SuiteWorkerProcess b, SuiteWorkerProcess::open(newBinary, worker));
  KF_TRY(SuiteWorkerProcess a, SuiteWorkerProcess::open(oldBinary, worker));
  return Workers{std::move(a), std::move(b)};
}

/// Which rows are in both and ok, and whose results changed.
Status LiveComparison::readRows(const Workers &workers) {
  comparison.a = {{"binary", oldBinary}, {"git_commit", workers.a.gitCommit()}};
  comparison.b = {{"binary", newBinary}, {"git_commit", workers.b.gitCommit()}};
  const std::vector<ReportRow> &ofA = workers.a.rows(), &ofB = workers.b.rows();
  for (const ReportRow &row : ofA) {
    const auto other = std::ranges::find(ofB, row.name, &ReportRow::name);
    if (other == ofB.end()) {
      comparison.onlyA.push_back(row.name);
      continue;
    }
    if (std::optional<FidelityChange> change = fidelityChange(row, *other))
      comparison.fidelityChanged.push_back(std::move(*change));
    if (row.ok() && other->ok())
      names.push_back(row.name);
    else
      failed.push_back(failedRow(row, *other));
  }
  for (const ReportRow &row : ofB)
    if (std::ranges::find(ofA, row.name, &ReportRow::name) == ofA.end())
      comparison.onlyB.push_back(row.name);
  if (comparison.onlyA.size() == ofA.size())
    return unusable("programs cannot be compared", oldBinary + ", " + newBinary,
                    "no row of the suite is in both", "see --suite and --filter");
  return {};
}

Expected<double> LiveComparison::sample(SuiteWorkerProcess &worker, size_t row) {
  if (options.cancel && *options.cancel)
    return interrupted();
  std::this_thread::sleep_for(std::chrono::duration<double>(options.settleSeconds));
  return worker.measure(row);
}

/// Where the worker has a row that was ok before.
static Expected<size_t> indexOf(const SuiteWorkerProcess &worker, const std::string &name,
                                const std::string &binary) {
  const auto row = std::ranges::find(worker.rows(), name, &ReportRow::name);
  if (row == worker.rows().end() || !row->ok())
    return failed("suite worker cannot be compared", binary + ", " + name,
                  row == worker.rows().end() ? "the row was there and is not any more"
                                             : "the row was ok and is " + row->status);
  return static_cast<size_t>(row - worker.rows().begin());
}

/// The rounds of one pair of processes.
Status LiveComparison::measureRounds(Workers &workers, const Plan &plan,
                                     std::map<std::string, StageSamples> &samples) {
  struct Row {
    size_t a, b;
    int rounds;
    bool first; ///< whether A goes first in even rounds
    StageSamples *into;
  };
  std::vector<Row> rows;
  int rounds = 0;
  for (const auto &[name, count] : plan) {
    KF_TRY(size_t a, indexOf(workers.a, name, oldBinary));
    KF_TRY(size_t b, indexOf(workers.b, name, newBinary));
    rows.push_back({a, b, count, randomBelow(2) == 0, &samples[name]});
    rows.back().into->ratios.emplace_back();
    rounds = std::max(rounds, count);
  }
  for (int round = 0; round < rounds; ++round) {
    for (size_t i = rows.size(); i > 1; --i)
      std::swap(rows[i - 1], rows[randomBelow(i)]);
    for (const Row &row : rows) {
      if (row.rounds <= round)
        continue;
      double a = 0, b = 0;
      const bool aFirst = row.first == (round % 2 == 0);
      if (aFirst) {
        KF_TRY(a, sample(workers.a, row.a));
      }
      KF_TRY(b, sample(workers.b, row.b));
      if (!aFirst) {
        KF_TRY(a, sample(workers.a, row.a));
      }
      row.into->a.push_back(a);
      row.into->b.push_back(b);
      row.into->ratios.back().push_back(b / a);
      if (options.progress)
        options.progress(done += 2, total);
    }
  }
  return {};
}

/// A pattern that these names match and no others.
static std::string patternFor(const Plan &plan) {
  std::string pattern;
  for (const auto &[name, rounds] : plan) {
    pattern += pattern.empty() ? "^(" : "|";
    for (char c : name) {
      if (std::string_view("\\^$.|?*+()[{").find(c) != std::string_view::npos)
        pattern += '\\';
      pattern += c;
    }
  }
  return pattern + ")$";
}

/// Spreads the rounds of each row over so many pairs of processes; the first may be there already.
Expected<std::map<std::string, StageSamples>>
LiveComparison::measure(const Plan &plan, int processes, std::optional<Workers> first) {
  std::map<std::string, StageSamples> samples;
  if (plan.empty())
    return samples;
  done = total = 0;
  for (const auto &[name, rounds] : plan)
    total += 2 * rounds;
  for (int pair = 0; pair < processes; ++pair) {
    Plan share;
    for (const auto &[name, rounds] : plan) {
      const int some = rounds / processes + (pair < rounds % processes ? 1 : 0);
      if (some > 0)
        share[name] = some;
    }
    if (share.empty())
      break;
    std::optional<Workers> workers = std::exchange(first, std::nullopt);
    if (!workers) {
      // Workers take patterns of 4096 bytes; more rows than needed do no harm.
      const std::string pattern = patternFor(plan);
      KF_TRY(workers, start(pattern.size() <= 4096 ? pattern : options.filter));
    }
    KF_CHECK(measureRounds(*workers, share, samples));
  }
  return samples;
}

//===----------------------------------------------------------------------===//
// Deciding
//===----------------------------------------------------------------------===//

Interval LiveComparison::intervalOf(const StageSamples &samples) const {
  BootstrapOptions bootstrap;
  bootstrap.seed = options.seed;
  return groupedMedianInterval(samples.ratios, bootstrap);
}

RowComparison LiveComparison::rowOf(const std::string &name, const StageSamples &samples) const {
  RowComparison row;
  row.name = name;
  row.aMedianNs = median(samples.a);
  row.bMedianNs = median(samples.b);
  row.samples = samples.a.size();
  row.ratio = samples.ratio();
  row.interval = intervalOf(samples);
  row.p = samples.p();
  return row;
}

/// Rounds that decide nine times of ten, by those that would decide if the ratio came out the same
/// again, which is every other time: (1 + z(0.9) / z(0.975))^2.
static constexpr size_t moreForPower = 3;

/// The first stage: rows that are the same. The rounds of the others.
Plan LiveComparison::decideSame(const std::map<std::string, StageSamples> &samples) {
  Plan suspects;
  std::vector<double> p;
  for (const std::string &name : names) {
    RowComparison row = rowOf(name, samples.at(name));
    p.push_back(*row.p);
    row.verdict = judge(*row.interval, 1, options.threshold, options.alpha);
    row.why = reasonFor(row.verdict, *row.interval, 1, options.threshold);
    if (row.verdict != Verdict::Same) {
      const auto least = static_cast<size_t>(options.moreRounds);
      const size_t most = std::max(least, static_cast<size_t>(options.mostRounds));
      const std::optional<size_t> needed =
          samplesNeeded(*row.interval, *row.ratio, row.samples, options.threshold);
      suspects[name] = static_cast<int>(
          std::clamp(moreForPower * std::min(needed.value_or(most), most), least, most));
    }
    comparison.rows.push_back(std::move(row));
  }
  const std::vector<double> adjusted = holmAdjusted(p);
  for (size_t i = 0; i < adjusted.size(); ++i)
    rowNamed(names[i]).pAdjusted = adjusted[i];
  return suspects;
}

/// The second stage: verdicts of suspects, by its samples alone.
void LiveComparison::decideSuspects(const std::map<std::string, StageSamples> &first,
                                    const std::map<std::string, StageSamples> &second) {
  std::vector<double> p;
  for (const auto &[name, samples] : second)
    p.push_back(samples.p());
  const std::vector<double> adjusted = holmAdjusted(p);
  size_t i = 0;
  for (const auto &[name, samples] : second) {
    RowComparison row = rowOf(name, samples);
    row.pAdjusted = adjusted[i++];
    row.verdict = judge(*row.interval, *row.pAdjusted, options.threshold, options.alpha);
    row.why = reasonFor(row.verdict, *row.interval, *row.pAdjusted, options.threshold);
    const double before = first.at(name).ratio();
    if ((row.verdict == Verdict::Regressed && before <= 1) ||
        (row.verdict == Verdict::Improved && before >= 1)) {
      row.why = fmt::format("{}, but the first stage's ratio was {:.3f}", row.why, before);
      row.verdict = Verdict::Inconclusive;
    } else if (row.verdict == Verdict::Inconclusive) {
      row.samplesNeeded = samplesNeeded(*row.interval, *row.ratio, row.samples, options.threshold);
    }
    rowNamed(name) = std::move(row);
  }
}

Expected<Comparison> LiveComparison::run() {
  comparison.kind = "live";
  comparison.threshold = options.threshold;
  comparison.alpha = options.alpha;
  KF_TRY(Workers workers, start(options.filter));
  KF_CHECK(readRows(workers));
  Plan all;
  for (const std::string &name : names)
    all[name] = options.rounds;
  KF_TRY(auto first, measure(all, options.restarts, std::move(workers)));
  const Plan suspects = decideSame(first);
  KF_TRY(auto second, measure(suspects, 3 * options.restarts, std::nullopt));
  decideSuspects(first, second);
  std::ranges::move(failed, std::back_inserter(comparison.rows));
  conclude(comparison);
  return std::move(comparison);
}

Expected<Comparison> kernelforge::compareLive(const std::string &oldBinary,
                                              const std::string &newBinary,
                                              const LiveOptions &options) {
  return LiveComparison(oldBinary, newBinary, options).run();
}
