#include "kernelforge/autotune/Tuner.h"

#include "kernelforge/autotune/Measurement.h"
#include "kernelforge/autotune/RecordPriors.h"
#include "kernelforge/kernels/MatmulRegistry.h"
#include "kernelforge/support/Log.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include <fmt/format.h>

using namespace kernelforge;

namespace {

/// Rounds of a candidate that may win, and of the final between the best few.
constexpr int usualRounds = 9, finalRounds = 15;
constexpr size_t finalists = 3, mostConfirmed = 16;

/// A candidate this much slower than the best so far is hopeless: it gets no more rounds.
constexpr double hopeless = 1.25;

/// One search.
class Search {
public:
  Search(const KernelProblem &problem, const RecordStore &store, const TuneOptions &options)
      : problem(problem), store(store), options(options) {}

  Expected<TuneResult> run();

private:
  Status loadRecords();
  Status measureVariants();
  Expected<Record> evaluate(const KnobValues &schedule, bool mustRun = false);
  void noteVariant(const Record &record);
  Status keep(Record &record);
  Status finale();
  Expected<bool> confirm(const std::string &schedule);
  std::optional<Choice> winner() const;
  bool over() const;
  Status interruption() const;
  double elapsed() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  const KernelProblem &problem;
  const RecordStore &store;
  const TuneOptions &options;
  std::unique_ptr<Measurement> measurement;
  std::vector<Record> known;                   ///< of this key, from the store and from this search
  std::vector<Record> others;                  ///< of other variants, from the store
  std::vector<std::vector<PriorTrial>> priors; ///< of other kernels
  std::string vendor;                          ///< the best one, and its ratio
  double vendorRatio = 0;
  TuneResult result;
  double best = 1;
  int lastBetter = 0;
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
};

Status Search::loadRecords() {
  KF_TRY(RecordLog log, store.load());
  priors = recordPriors(log.records, problem.key(), options.strategy, options.seed);
  for (Record &record : log.records)
    if (record.key == problem.key())
      (record.variant == "generated" ? known : others).push_back(std::move(record));
  return {};
}

bool Search::over() const {
  if (result.trials >= options.trials)
    return true;
  if (options.seconds > 0 && elapsed() >= options.seconds)
    return true;
  return options.patience > 0 && result.trials - lastBetter >= options.patience;
}

/// The error to end with where the search was asked to stop.
Status Search::interruption() const {
  if (!options.cancel || !options.cancel->load())
    return {};
  return makeError(ErrorKind::Interrupted, "tuning was interrupted", problem.name(),
                   "it was asked to stop", "run it again to go on");
}

/// Completes a record by what the search knows, and keeps it in the store and in memory.
Status Search::keep(Record &record) {
  record.strategy = options.strategy;
  record.seed = static_cast<int64_t>(options.seed);
  record.trial = result.trials;
  if (vendorRatio > 0 && record.ratio)
    record.vendorRatio = *record.ratio / vendorRatio;
  record.created = recordTimeNow(); // the same in memory as on the disk: a choice may look at it
  if (Status status = store.append(record); !status && ++result.lost == 1)
    logger().warn("{}", status.error().line());
  if (record.variant == "generated")
    known.push_back(record);
  return {};
}

/// Multiply-adds up to which the plainest of all may be worth its time.
static constexpr double small = 0x1p18;

/// Keeps a record of each variant that can run the problem here and has none beside this baseline.
Status Search::measureVariants() {
  if (!options.otherVariants || !problem.library())
    return {};
  const MatmulProblem &matmul = problem.library()->problem;
  const double size = double(matmul.m) * double(matmul.n) * double(matmul.k);
  for (const auto &variant : MatmulRegistry::global().all()) {
    KF_CHECK(interruption());
    const std::string name(variant->name());
    if ((name == "reference" && size > small) || !variant->supports(matmul))
      continue;
    const auto measured = std::ranges::find_if(others, [&](const Record &record) {
      return record.variant == name && record.baseline == measurement->baselineText() &&
             record.status != RecordStatus::Unavailable;
    });
    if (measured != others.end()) {
      noteVariant(*measured);
      continue;
    }
    KF_TRY(Record record, measurement->measure(*variant, hopeless, finalRounds));
    noteVariant(record);
    KF_CHECK(keep(record));
  }
  return {};
}

void Search::noteVariant(const Record &record) {
  const bool ok = record.status == RecordStatus::Ok && record.ratio;
  result.variants.push_back({record.variant, record.status, ok ? *record.ratio : 0});
  if (ok && record.variant.starts_with("vendor:") &&
      (vendorRatio == 0 || *record.ratio < vendorRatio)) {
    vendor = record.variant;
    vendorRatio = *record.ratio;
  }
}

/// The candidate's record: a known one of the same code and baseline, or a new one. What `mustRun`
/// is never given up as hopeless, and is measured again where it once failed: the machine may have
/// been busy or out of memory.
Expected<Record> Search::evaluate(const KnobValues &schedule, bool mustRun) {
  const std::string text = knobsText(schedule);
  const std::optional<std::string> code = measurement->codeHash(schedule);
  const std::string baseline = measurement->baselineText();
  for (const Record &record : known)
    if (record.schedule == text && record.baseline == baseline &&
        record.codeHash == code.value_or("") &&       // none where it does not compile
        record.status != RecordStatus::Unavailable && // nothing was learned
        (!mustRun || record.status == RecordStatus::Ok))
      return record;
  ++result.measured;
  const double limit = mustRun ? HUGE_VAL : hopeless * best;
  KF_TRY(Record record, measurement->measure(schedule, limit, usualRounds));
  KF_CHECK(keep(record));
  return record;
}

/// Measures the best few candidates again where no search has, so that none wins by one lucky
/// measurement.
Status Search::finale() {
  KF_CHECK(interruption());
  std::map<std::string, double> ratios; // by schedule
  const std::string baseline = measurement->baselineText();
  for (const Record &record : known)
    if (record.status == RecordStatus::Ok && record.ratio && record.baseline == baseline &&
        record.samplesNs.size() >= static_cast<size_t>(usualRounds))
      ratios.try_emplace(record.schedule, *record.ratio);
  std::vector<std::pair<double, std::string>> order;
  for (const auto &[schedule, ratio] : ratios)
    order.emplace_back(ratio, schedule);
  std::sort(order.begin(), order.end());
  order.resize(std::min(order.size(), finalists));
  for (const auto &[ratio, schedule] : order)
    KF_CHECK(confirm(schedule));
  // On a busy machine these may fall behind another that was lucky.
  for (size_t i = 0; i < mostConfirmed; ++i) {
    const std::optional<Choice> choice = winner();
    if (!choice)
      break;
    KF_TRY(bool measured, confirm(choice->record.schedule));
    if (!measured)
      break;
  }
  return {};
}

/// Measures a candidate over the rounds of the final, where no search has; whether it did.
Expected<bool> Search::confirm(const std::string &schedule) {
  KF_CHECK(interruption());
  KF_TRY(KnobValues knobs, parseKnobs(schedule, "records"));
  const std::string code = measurement->codeHash(knobs).value_or("");
  const std::string baseline = measurement->baselineText();
  const auto isFinal = [&](const Record &record) { // or will not have another
    return record.schedule == schedule && record.baseline == baseline && record.codeHash == code &&
           record.status != RecordStatus::Unavailable &&
           (record.status != RecordStatus::Ok ||
            record.samplesNs.size() >= static_cast<size_t>(finalRounds));
  };
  if (std::any_of(known.begin(), known.end(), isFinal))
    return false;
  KF_TRY(Record record, measurement->measure(knobs, HUGE_VAL, finalRounds));
  KF_CHECK(keep(record));
  return true;
}

std::optional<Choice> Search::winner() const {
  ChoiceOptions choosing;
  choosing.analyticSchedule = knobsText(problem.space().analytic);
  return choose(known, problem.key(), choosing);
}

Expected<TuneResult> Search::run() {
  if (Status status = loadRecords(); !status)
    logger().warn("{}", status.error().line());
  KF_TRY(measurement, Measurement::create(problem, options));
  // What was measured under other conditions is no candidate of this search.
  const auto isOther = [&](const Record &record) { return record.mode != measurement->mode(); };
  std::erase_if(known, isOther);
  std::erase_if(others, isOther);
  StrategyOptions strategyOptions;
  strategyOptions.seed = options.seed;
  strategyOptions.startFromAnalytic = !options.start;
  for (const std::vector<PriorTrial> &trials : priors)
    result.priors += static_cast<int>(trials.size());
  strategyOptions.priors = std::move(priors);
  KF_TRY(std::unique_ptr<Strategy> strategy,
         options.strategies.make(options.strategy, problem.space(), strategyOptions));

  KF_CHECK(measureVariants());
  // The baseline beside itself: what noise alone makes of a ratio, and a record that can win.
  KF_TRY(Record baseline, evaluate(measurement->baseline(), /*mustRun=*/true));
  if (baseline.status != RecordStatus::Ok)
    return makeError(ErrorKind::Failed, "kernel cannot be tuned", problem.name(), baseline.error,
                     "");
  if (options.start) // known from the start, not to be proposed
    strategy->tell(std::vector<Trial>{{measurement->baseline(), 1.0}});
  while (!over()) {
    KF_CHECK(interruption());
    std::vector<KnobValues> asked = strategy->ask(1);
    if (asked.empty())
      break;
    ++result.trials;
    result.proposals.push_back(knobsText(asked.front()));
    KF_TRY(Record record, evaluate(asked.front()));
    const bool ok = record.status == RecordStatus::Ok && record.ratio;
    if (!ok)
      ++result.failed;
    strategy->tell(std::vector<Trial>{{asked.front(), ok ? *record.ratio : HUGE_VAL}});
    if (ok && *record.ratio < best) {
      best = *record.ratio;
      lastBetter = result.trials;
    }
    if (options.progress)
      options.progress({problem.name(), result.trials, options.trials, best, elapsed(),
                        options.seconds, record.schedule, std::string(statusName(record.status)),
                        vendor, vendorRatio});
  }
  KF_CHECK(finale());
  std::optional<Choice> choice = winner();
  if (!choice) // nor was the baseline's own record calm enough to be compared
    choice = Choice{std::move(baseline), Ratio{1, 0, 0},
                    options.start ? "nothing was shown to be faster than the start"
                                  : "nothing was shown to be faster than the default, which stays"};
  result.foundBetter = choice->record.schedule != knobsText(measurement->baseline());
  result.choice = std::move(*choice);
  return result;
}

} // namespace

Expected<TuneResult> kernelforge::tuneKernel(const KernelProblem &problem, const RecordStore &store,
                                             const TuneOptions &options) {
  return Search(problem, store, options).run();
}

Expected<Record> kernelforge::measureSchedule(const KernelProblem &problem,
                                              const KnobValues &schedule,
                                              const TuneOptions &options) {
  KF_CHECK(problem.space().check(schedule));
  KF_TRY(std::unique_ptr<Measurement> measurement, Measurement::create(problem, options));
  return measurement->measure(schedule, HUGE_VAL, finalRounds);
}
