// Which of the measured candidates wins, decided so that the same records give the same winner in
// whatever order they come: nothing here depends on the clock, the order or the machine.
#pragma once

#include "kernelforge/records/Record.h"

#include <functional>
#include <span>

namespace kernelforge {

/// A candidate's time as a multiple of the baseline's that was measured beside it.
struct Ratio {
  double median = 0; ///< over rounds: drift of the machine hits both and cancels
  double mad = 0;    ///< median absolute deviation
  size_t rounds = 0; ///< 0: nothing to compare
};

/// The ratio of rounds that were measured in turns: `samples[i]` beside `baseline[i]`.
Ratio ratioOf(std::span<const double> samples, std::span<const double> baseline);

/// Why a record takes no part in a choice: it failed, is wrong, not trusted or was measured beside
/// nothing. Empty where it takes part.
std::string whyNotCompared(const Record &record);

/// Two ratios are within noise where they differ by less than 2 % of the smaller, or by less than
/// their combined median absolute deviations (the root of the sum of their squares), of which at
/// most 5 % count: a disturbed measurement must not make a slow candidate a tie.
bool withinNoise(const Ratio &a, const Ratio &b);

/// What a choice may look at, beside the records.
struct ChoiceOptions {
  /// The schedule of generated code that is taken without measuring, as canonical JSON; preferred
  /// among equals. Where it is empty, what the records mark as `schedule_source` "analytic" is.
  std::string analyticSchedule;

  /// Candidates for which this is false are left out (variants that are not here, other classes of
  /// order). Empty: all are admitted.
  std::function<bool(const Record &)> admits;
};

/// The winner of a key.
struct Choice {
  Record record; ///< the newest of the winner's records
  Ratio ratio;   ///< of all its rounds together
  std::string reason;
};

/// The winner among the records of one key; nothing where none qualifies.
///
/// Records of the same variant, schedule and code are one candidate, their rounds are pooled. A
/// candidate qualifies with records that are comparable (whyNotCompared()); the baseline itself
/// takes part where it has a record of its own. It is out where the same code once crashed or gave
/// a wrong result. Where a schedule was measured with several codes, only the code measured last
/// counts. Only candidates measured beside the same baseline in the same mode are compared: those
/// that most of them have.
///
/// The analytic default wins wherever none was shown to be better: another candidate wins only with
/// a ratio that is below 1 (the baseline beside it) and below that of the default, where it has
/// one, by more than noise. Where nothing is, and the default has no record that qualifies, there
/// is no winner: it is taken without one. Of those that are better the least ratio is best, and all
/// within noise of it tie; of these the smallest canonical schedule, variant and code hash is
/// taken, in this order.
std::optional<Choice> choose(std::span<const Record> records, const ChoiceOptions &options = {});

/// As above, for those of `records` that have this key.
std::optional<Choice> choose(std::span<const Record> records, const RecordKey &key,
                             const ChoiceOptions &options = {});

/// Whether the record's schedule gives other code now. It still proposes, its times no longer hold.
bool isStale(const Record &record, std::string_view currentCodeHash);

/// How far apart two problems (JSON objects) are: the sum of |log2(a / b)| over their numbers.
/// Nothing where they differ in anything else: fields, texts (types, layouts), a number that is not
/// positive.
std::optional<double> problemDistance(std::string_view a, std::string_view b);

/// Records of another kernel, and how far its problem is.
struct NearKernel {
  bool comparable = false; ///< its problem has a problemDistance()
  double distance = 0;     ///< that, or the same sum over the positive numbers that both have
  std::vector<const Record *> records; ///< in their order
};

/// The records whose key differs from `key` in nothing but kernel and problem, by kernel: those
/// with comparable problems first, then the nearest, then by problem text and kernel hash.
std::vector<NearKernel> kernelsNear(std::span<const Record> records, const RecordKey &key);

/// Transfer between shapes: the nearest problem's record of `winners` (one of each key, not chosen
/// among again) whose key differs from `key` in nothing but kernel and problem and which `admits`
/// takes (empty: all); of equally near ones the smaller problem text, then kernel hash. Nothing
/// where none is comparable. A winner's schedule need not be legal for `key`: check it as one from
/// a user.
std::optional<Record> nearest(std::span<const Record> winners, const RecordKey &key,
                              const std::function<bool(const Record &)> &admits = {});

} // namespace kernelforge
