// What a comparison of two measurements of one suite says, whether they were stored or made in
// turns.
#pragma once

#include "kernelforge/eval/LikeMachines.h"
#include "kernelforge/eval/Report.h"
#include "kernelforge/measure/Statistics.h"

#include <span>

namespace kernelforge {

enum class Verdict { Improved, Same, Regressed, Inconclusive };

/// "improved", "same", "regressed" or "inconclusive".
const char *verdictName(Verdict verdict);

/// One row of both sides. Where a number could not be had it is absent.
struct RowComparison {
  std::string name;
  std::optional<double> aMedianNs, bMedianNs; ///< as measured, on the machine as it was
  std::optional<double> ratio; ///< time of B by time of A: above 1 is slower; corrected for the
                               ///< machine's speed where there are `exponents`
  std::optional<Interval> interval; ///< of the ratio, 95 %
  std::optional<double> p, pAdjusted;
  std::optional<MachineExponents> exponents; ///< where the machine's part was taken out
  size_t samples = 0;                        ///< that decided, of the side that has fewer
  std::optional<size_t> samplesNeeded;       ///< where inconclusive and more would do
  Verdict verdict = Verdict::Inconclusive;
  std::string why; ///< what the verdict rests on
};

/// A row whose results are not what they were.
struct FidelityChange {
  std::string name, what;
  bool broken = false; ///< it was right and is not any more
};

struct Comparison {
  std::string kind; ///< "stored" or "live"
  Json a, b;        ///< what was compared
  double threshold = 0, alpha = 0;
  std::vector<RowComparison> rows;
  std::optional<double> geomeanRatio;    ///< of rows that could be judged
  std::optional<double> geomeanMeasured; ///< of the same, as measured; where ratios are corrected
  Verdict verdict = Verdict::Inconclusive;
  std::vector<FidelityChange> fidelityChanged;
  std::vector<std::string> onlyA, onlyB;
  std::vector<std::string> differences; ///< of machine, suite or settings, where forced
};

/// The rule of both kinds. A row regresses (improves) only where its adjusted p is below alpha and
/// its interval lies wholly above 1 + threshold (below 1 / (1 + threshold)); it is the same where
/// the interval lies within the two; otherwise inconclusive.
Verdict judge(const Interval &interval, double pAdjusted, double threshold, double alpha);

/// A sentence for the verdict of judge().
std::string reasonFor(Verdict verdict, const Interval &interval, double pAdjusted,
                      double threshold);

/// Whether results changed from `a` to `b`: another status, an accuracy that passed and fails or
/// the reverse, or an error (l2_rel) that more than doubled and is beyond rounding (2^-20, 16 units
/// of the last place of f32).
std::optional<FidelityChange> fidelityChange(const ReportRow &a, const ReportRow &b);

/// A row that is not ok on both sides: inconclusive, because of what became of it.
RowComparison failedRow(const ReportRow &a, const ReportRow &b);

/// B/A of a row as it was measured, on the machines as they were.
std::optional<double> measuredRatio(const RowComparison &row);

/// Whether ratios are corrected for the machine's speed.
bool isCorrected(const Comparison &comparison);

/// Fills `geomeanRatio` and `geomeanMeasured`, of the rows with an adjusted p, and `verdict`:
/// regressed where any row is or any result broke; else improved where any row is; else
/// inconclusive where more than half of the rows are, or none is there; else same.
void conclude(Comparison &comparison);

/// The comparison as `compare --json` prints it and a report holds it.
Json toJson(const Comparison &comparison);

} // namespace kernelforge
