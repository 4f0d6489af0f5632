// Searches of a small kernel: what they propose and choose, and what they make of records.
#include "TunerFixture.h"

#include <sched.h>
#include <sys/mount.h>

using namespace kernelforge;
using testing::HasSubstr;
namespace fs = std::filesystem;

namespace {

class Tuner : public TunerFixture {
protected:
  /// A store of what would be known had each schedule been measured for good and taken that part of
  /// the default's time; `change` makes something else of a record. A search over it measures
  /// nothing.
  RecordStore known(const std::vector<KnobValues> &schedules, const std::vector<double> &ratios,
                    const std::function<void(Record &)> &change = nullptr) {
    propose(schedules);
    tune();
    std::map<std::string, double> ratioOf{{knobsText(problem->space().analytic), 1.0}};
    for (size_t i = 0; i < schedules.size(); ++i)
      ratioOf[knobsText(schedules[i])] = ratios[i];
    const RecordStore store(folder / "known");
    for (Record record : records()) {
      const double ratio = ratioOf.at(record.schedule);
      record.status = RecordStatus::Ok;
      record.error.clear();
      record.trusted = true;
      record.whyUntrusted.clear();
      record.baselineNs.assign(15, 1000);
      record.samplesNs.assign(15, 1000 * ratio);
      record.ratio = ratio;
      record.accuracy = RecordAccuracy{"f64", 0, 0, 0, 0, 0, 0, 1e-5, true};
      if (change)
        change(record);
      const Status kept = store.append(record);
      EXPECT_TRUE(kept) << kept.error().line();
    }
    return store;
  }
};

TEST_F(Tuner, TheSameRecordsGiveTheSameProposalsAndChoice) {
  make(5, 40, 64);
  options.trials = 8;
  options.seed = 3;
  for (const std::string &strategy : defaultStrategies().names()) {
    options.strategy = strategy;
    const RecordStore store(folder / strategy);
    tuneAnother(store, 6);
    const TuneResult first = tune(store);
    tuneAnother(store, 7); // what comes later is not looked at
    const TuneResult second = tune(store);
    EXPECT_GE(first.measured, 8) << strategy;
    EXPECT_GE(first.priors, 1) << strategy;
    EXPECT_EQ(second.priors, first.priors) << strategy;
    EXPECT_EQ(second.measured, 0) << strategy;
    EXPECT_EQ(second.trials, first.trials);
    EXPECT_EQ(second.proposals, first.proposals) << strategy;
    EXPECT_EQ(second.choice.record.schedule, first.choice.record.schedule) << strategy;
    EXPECT_EQ(second.choice.reason, first.choice.reason) << strategy;
    EXPECT_EQ(second.choice.record.created, first.choice.record.created) << strategy;
  }
}

TEST_F(Tuner, EndsAfterSoManyWithoutABetterOne) {
  make(5, 40, 64);
  const RecordStore store = known(others(6), {0.9, 0.8, 0.7, 0.75, 0.76, 0.5});
  options.patience = 2;
  const TuneResult result = tune(store);
  EXPECT_EQ(result.trials, 5) << "the third was the last better one, and the sixth is not reached";
  EXPECT_EQ(result.measured, 0);
  EXPECT_TRUE(result.foundBetter);
}

/// A strategy that remembers what it is told.
class Listening : public ListStrategy {
public:
  Listening(std::vector<KnobValues> list, std::vector<double> &told)
      : ListStrategy(std::move(list)), told(told) {}
  void tell(std::span<const Trial> trials) override {
    for (const Trial &trial : trials)
      told.push_back(trial.seconds);
  }

private:
  std::vector<double> &told;
};

TEST_F(Tuner, AFailedTrialIsNeverTheBest) {
  make(5, 40, 64);
  const std::vector<KnobValues> list = others(3);
  // It was timed, and wrong after that.
  const RecordStore store = known(list, {0.9, 0.1, 0.8}, [&](Record &record) {
    if (record.schedule == knobsText(list[1]))
      record.status = RecordStatus::WrongResult;
  });
  std::vector<double> best, told;
  options.strategies.add("listening", [&](const ScheduleSpace &, const StrategyOptions &) {
    return std::make_unique<Listening>(list, told);
  });
  options.strategy = "listening";
  options.progress = [&](const TuneProgress &progress) { best.push_back(progress.best); };
  const TuneResult result = tune(store);
  EXPECT_EQ(result.failed, 1);
  EXPECT_THAT(best, testing::ElementsAre(0.9, 0.9, 0.8));
  EXPECT_THAT(told, testing::ElementsAre(0.9, HUGE_VAL, 0.8));
  EXPECT_EQ(result.choice.record.schedule, knobsText(list[2]));
}

TEST_F(Tuner, SaysWhereNothingBetterWasFound) {
  make(5, 40, 64);
  const RecordStore store = known(others(3), {1.1, 0.985, 1.001});
  const TuneResult result = tune(store);
  EXPECT_EQ(result.measured, 0);
  EXPECT_FALSE(result.foundBetter);
  EXPECT_EQ(result.choice.record.schedule, knobsText(problem->space().analytic));
  EXPECT_EQ(result.choice.ratio.median, 1);
}

TEST_F(Tuner, AnInterruptedSearchGoesOnWhereItWas) {
  make(5, 40, 64);
  options.trials = 8;
  options.seed = 5;
  options.strategy = "random";
  const TuneResult whole = tune(RecordStore(folder / "whole"));

  std::atomic<bool> stop = false;
  options.cancel = &stop;
  options.progress = [&](const TuneProgress &progress) { stop = progress.trial == 4; };
  const auto interrupted = tuneKernel(*problem, RecordStore(folder / "records"), options);
  ASSERT_FALSE(interrupted);
  EXPECT_EQ(interrupted.error().kind, ErrorKind::Interrupted);
  const size_t kept = records().size();
  EXPECT_GE(kept, 4u);

  stop = false;
  options.progress = nullptr;
  const TuneResult rest = tune();
  EXPECT_EQ(rest.proposals, whole.proposals);
  EXPECT_EQ(rest.measured + static_cast<int>(kept), whole.measured);
  const TuneResult again = tune();
  EXPECT_EQ(again.measured, 0);
  EXPECT_EQ(again.proposals, whole.proposals);
  EXPECT_EQ(again.choice.record.schedule, rest.choice.record.schedule);
}

/// What it proposes next depends on the trials so far and on the records of other kernels as they
/// were when it began, not on those that another search left meanwhile.
TEST_F(Tuner, AnInterruptedSearchIsToldTheSameOfOtherKernels) {
  make(5, 40, 64);
  options.trials = 9;
  options.strategy = "model";
  tuneAnother(RecordStore(folder / "records"), 6);
  std::atomic<bool> stop = false;
  options.cancel = &stop;
  options.progress = [&](const TuneProgress &progress) { stop = progress.trial == 8; };
  ASSERT_FALSE(tuneKernel(*problem, RecordStore(folder / "records"), options));
  stop = false;
  options.progress = nullptr;
  fs::copy(folder / "records", folder / "quiet");
  tuneAnother(RecordStore(folder / "records"), 7);
  const TuneResult quiet = tune(RecordStore(folder / "quiet")), busy = tune();
  EXPECT_GE(quiet.priors, 1);
  EXPECT_EQ(busy.priors, quiet.priors);
  EXPECT_EQ(busy.proposals, quiet.proposals);
  EXPECT_LE(quiet.measured, 1);

  options.seed = 1;
  EXPECT_GT(tune().priors, busy.priors) << "another search is told all";
}

TEST_F(Tuner, AnInterruptDuringTheFinaleIsOne) {
  make(5, 40, 64);
  std::atomic<bool> stop = false;
  options.cancel = &stop;
  options.progress = [&](const TuneProgress &p) { stop = p.trial == p.trials; };
  const auto interrupted = tuneKernel(*problem, RecordStore(folder / "records"), options);
  ASSERT_FALSE(interrupted);
  EXPECT_EQ(interrupted.error().kind, ErrorKind::Interrupted);
  const size_t kept = records().size();

  stop = false;
  options.progress = nullptr;
  EXPECT_EQ(tune().measured, 0);
  const size_t finalists = records().size() - kept;
  EXPECT_GE(finalists, 1u) << "the finale is made up for";
  tune();
  EXPECT_EQ(records().size(), kept + finalists) << "and only once";
}

TEST_F(Tuner, WhereWeightsComeFromIsAConditionOfItsOwn) {
  const RecordStore store(folder);
  options.strategy = "random";
  options.otherVariants = true;
  make(1, 64, 96);
  auto near = tuneKernel(*problem, store, options);
  ASSERT_TRUE(near) << near.error().line();
  // The same kernel with weights that come from far, on 42 copies: nothing known is of use.
  problem = problemOf(1, 64, 96, 1 << 20);
  auto far = tuneKernel(*problem, store, options);
  ASSERT_TRUE(far) << far.error().line();
  EXPECT_EQ(far->failed, 0);
  EXPECT_GT(far->measured, 0);
  auto again = tuneKernel(*problem, store, options);
  ASSERT_TRUE(again) << again.error().line();
  EXPECT_EQ(again->measured, 0);

  auto log = store.load();
  ASSERT_TRUE(log);
  int streamed = 0;
  for (const Record &record : log->records) {
    EXPECT_TRUE(record.mode == "warm" || record.mode == "streamed") << record.mode;
    if (record.mode != "streamed" || record.variant != "generated")
      continue;
    ++streamed;
    // It is replayed as it was measured.
    auto run = problemOptionsFrom(record.run, {});
    ASSERT_TRUE(run) << run.error().line();
    EXPECT_EQ(run->streamBytes, 1 << 20);
  }
  EXPECT_GT(streamed, 0);
}

TEST_F(Tuner, OtherVariantsAreMeasuredOnce) {
  make(5, 40, 64);
  options.trials = 2;
  options.otherVariants = true;
  const TuneResult result = tune();
  std::map<std::string, int> counts;
  bool vendor = false;
  for (const Record &record : records()) {
    ++counts[record.variant];
    EXPECT_THAT(record, HasStatus(RecordStatus::Ok));
    EXPECT_TRUE(record.accuracy && record.accuracy->pass) << record.variant;
    EXPECT_EQ(record.samplesNs.size(), record.baselineNs.size());
    EXPECT_EQ(record.key, problem->key());
    EXPECT_TRUE(record.baseline.starts_with("schedule {")) << record.baseline;
    vendor |= record.variant.starts_with("vendor:");
    EXPECT_TRUE(!vendor || record.vendorRatio || record.variant != "generated");
  }
  EXPECT_EQ(counts["reference"], 1);
  EXPECT_EQ(counts["blocked"], 1);
  EXPECT_EQ(counts["parallel"], 1);
  EXPECT_EQ(result.variants.size(), counts.size() - 1);
  EXPECT_EQ(result.choice.record.variant, "generated");

  const size_t kept = records().size();
  const TuneResult again = tune();
  EXPECT_EQ(records().size(), kept);
  EXPECT_EQ(again.variants.size(), result.variants.size());
}

TEST_F(Tuner, TimesOfOlderCodeDoNotCount) {
  make(5, 40, 64);
  propose(others(3));
  tune();
  // The same schedule, twice as fast by the code of an older compiler.
  const RecordStore old(folder / "old");
  for (Record record : records()) {
    record.codeHash = "older";
    record.created = "2020-01-01T00:00:00Z";
    for (double &sample : record.samplesNs)
      sample /= 2;
    record.ratio = *record.ratio / 2;
    ASSERT_TRUE(old.append(record));
  }
  const TuneResult result = tune(old);
  EXPECT_EQ(result.measured, 4) << "three and the baseline";
  EXPECT_NE(result.choice.record.codeHash, "older");
  EXPECT_EQ(tune(old).choice.record.codeHash, result.choice.record.codeHash);
}

TEST_F(Tuner, ABaselineThatOnceFailedIsTriedAgain) {
  make(5, 40, 64);
  propose(others(1));
  tune();
  const RecordStore busy(folder / "busy");
  for (Record record : records())
    if (record.schedule == knobsText(problem->space().analytic)) {
      record.status = RecordStatus::Timeout;
      ASSERT_TRUE(busy.append(record));
    }
  tune(busy);
}

TEST_F(Tuner, ADamagedStoreIsAWarning) {
  make(5, 40, 64);
  propose(others(3));
  tune();
  const fs::path file = folder / "records" / "records.jsonl";
  std::ifstream in(file, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(in), {});
  in.close();
  std::ofstream(file, std::ios::binary) << "garbage\n{}\n\xff\xfe\0\n"
                                        << text.substr(0, text.size() - 200);
  const TuneResult result = tune();
  EXPECT_THAT(log.str(), HasSubstr("torn or damaged lines"));
  EXPECT_EQ(result.trials, 3);
  log.str("");
  EXPECT_EQ(tune().measured, 0);
}

TEST_F(Tuner, AStoreThatCannotBeWrittenIsAWarning) {
  make(5, 40, 64);
  std::ofstream(folder / "file") << "x";
  const TuneResult result = tune(RecordStore(folder / "file" / "records"));
  EXPECT_EQ(result.trials, 5);
  EXPECT_FALSE(result.choice.record.schedule.empty());
  EXPECT_GE(result.lost, result.measured) << "all of them";
  EXPECT_THAT(log.str(), HasSubstr("records cannot be"));
}

TEST_F(Tuner, FullAndReadOnlyDisksAreAWarning) {
  make(5, 40, 64);
  const fs::path disk = folder / "disk";
  fs::create_directory(disk);
  // In a name space of this thread's own.
  if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("none", disk.c_str(), "tmpfs", 0, "size=8k") != 0)
    GTEST_SKIP() << "a file system of our own cannot be mounted here";
  TuneResult result = tune(RecordStore(disk / "records"));
  EXPECT_EQ(result.trials, 5);
  EXPECT_THAT(log.str(), HasSubstr("No space left"));
  log.str("");
  EXPECT_EQ(mount("none", disk.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, "size=8k"), 0);
  result = tune(RecordStore(disk / "records"));
  EXPECT_EQ(result.trials, 5);
  EXPECT_THAT(log.str(), HasSubstr("Read-only file system"));
  EXPECT_EQ(umount(disk.c_str()), 0);
}

} // namespace
