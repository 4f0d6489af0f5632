// Running one function from the command line: what `compile` and `run` share.
#pragma once

#include "Command.h"

#include "kernelforge/backend/Program.h"
#include "kernelforge/measure/Accuracy.h"
#include "kernelforge/problem/FunctionData.h"

#include <functional>

namespace kernelforge::cli {

/// The arrays that a user names.
struct ArrayOptions {
  std::vector<std::string> inputs, outputs, expected;

  bool any() const { return !inputs.empty() || !outputs.empty() || !expected.empty(); }
};

/// Adds --input, --output and --expect.
void addArrayOptions(CLI::App &command, ArrayOptions &arrays);

/// --size NAME=N, as values.
Expected<SizeValues> parseSizes(const std::vector<std::string> &texts);

/// One compared tensor: a result, or a cache that was written.
struct TensorComparison {
  std::string name;
  Accuracy accuracy;
};

/// Compares the outputs of a run with `reference`, or with the files that the user expects; within
/// `tolerances`, or where none are given those of their types.
Expected<std::vector<TensorComparison>>
verify(const ArrayOptions &arrays, const FunctionSignature &signature, const FunctionData &data,
       const std::vector<TensorData> &reference, std::span<const double> tolerances = {});

/// Writes the outputs of a run to the files that the user named.
Status writeOutputs(const ArrayOptions &arrays, const FunctionSignature &signature,
                    const FunctionData &data);

/// Comparisons as JSON and as lines; `reference` names what was compared with.
Json comparisonsJson(const std::vector<TensorComparison> &comparisons, const char *reference);
void printComparisons(const std::vector<TensorComparison> &comparisons, const char *reference);

/// The answer of a run: 0 where all comparisons pass, else the exit code of the failure, which is
/// said on standard error.
int verdictOf(const std::vector<TensorComparison> &comparisons, const std::string &function,
              const char *reference);

/// What is printed of one kernel.
struct KernelRow {
  std::string family; ///< empty: not known
  const Artifact *artifact = nullptr;
  int launches = 0;
  std::vector<double> nanoseconds; ///< one call, by --bench
  /// Share of the time that the roofline allows it, where it demands one.
  std::optional<double> roofline = {};
};

Json kernelsJson(const std::vector<KernelRow> &rows);
void printKernels(const std::vector<KernelRow> &rows);

/// Calls `round` at least ten times, until half a second is over or it was called a thousand times.
Status untilHalfASecond(const std::function<Status()> &round);

/// Times each kernel within whole runs: `runTimed` gives the nanoseconds of each launch.
Status timeKernels(const Program &program, std::vector<KernelRow> &rows,
                   const std::function<Expected<std::vector<int64_t>>()> &runTimed);

} // namespace kernelforge::cli
