// Measured matmuls as answers: measurement rows, a table for people, tuning records.
#pragma once

#include "Rows.h"

#include "kernelforge/kernels/MatmulKernel.h"
#include "kernelforge/measure/Accuracy.h"
#include "kernelforge/measure/Ceilings.h"
#include "kernelforge/measure/Timing.h"
#include "kernelforge/records/Record.h"

namespace kernelforge::cli {

/// What all variants of one run of benchmark-matmul share.
struct MatmulConditions {
  MatmulProblem problem;
  std::string target; ///< as targetText() says it
  std::string mode = "warm";
  int threads = 1;
  uint64_t seed = 0;
  size_t comparedRows = 0;
  std::optional<KernelCeilings> before, after; ///< of the machine, where times were taken
  bool software = false;                       ///< whether the processor emulates the device
  std::string device = {};                     ///< whose clock tells; empty: the threads' own
  std::string whyNotTimed = {};                ///< where set: times say nothing

  /// The better of the two: what disturbs a measurement makes it slower.
  KernelCeilings ceilings() const;
  /// Whether times are the device's, and the machine was the same before and after, to a tenth.
  bool trusted() const;
  /// Whether times can be judged by them: they are known, and the times are worth it.
  bool areJudged() const;
  /// The least time that the problem can take, and whether arithmetic is the limit.
  double leastSeconds() const;
  bool computeBound() const;
};

/// One variant's part of it.
struct MatmulMeasurement {
  std::string variant;               ///< as it was asked for
  std::string chosen = {}, why = {}; ///< of "auto"
  bool beside = false;               ///< measured only as the others' baseline: not printed
  MatmulDetails details = {};
  RecordStatus status = RecordStatus::Ok;
  std::string error = {}; ///< why the status is not Ok
  std::optional<Accuracy> accuracy = {};
  std::optional<Timing> timing = {};
  std::optional<double> vendorRatio = {};

  /// The variant that ran.
  const std::string &name() const { return chosen.empty() ? variant : chosen; }
};

/// Sets each vendorRatio: by the median of paired rounds, to the vendor with the least median.
void compareWithVendors(std::vector<MatmulMeasurement> &measured);

/// A measurement row.
Json rowJson(const MatmulConditions &conditions, const MatmulMeasurement &measured);

/// Prints the rows in a format of --format. A table comes with the problem and the ceilings, and
/// with reasons below it.
void printMatmuls(const MatmulConditions &conditions,
                  const std::vector<MatmulMeasurement> &measured, const std::string &format);

/// A record's line for everything that was timed or wrong, beside the generated variant.
Expected<std::string> recordLines(const MatmulConditions &conditions, const RecordKey &key,
                                  const std::vector<MatmulMeasurement> &measured);

} // namespace kernelforge::cli
