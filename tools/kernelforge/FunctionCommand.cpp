#include "FunctionCommand.h"

#include "TensorFiles.h"

#include "kernelforge/measure/AccuracyJson.h"
#include "kernelforge/measure/Timing.h"
#include "kernelforge/problem/Verification.h"
#include "kernelforge/support/Numbers.h"

#include <fmt/format.h>

#include <chrono>

using namespace kernelforge;
using namespace kernelforge::cli;

//===----------------------------------------------------------------------===//
// Options
//===----------------------------------------------------------------------===//

void cli::addArrayOptions(CLI::App &command, ArrayOptions &arrays) {
  command
      .add_option("--input", arrays.inputs,
                  "a .npy file for each tensor or cache argument, in order")
      ->allow_extra_args(false);
  command
      .add_option("--output", arrays.outputs,
                  "write each result, then each written cache, to a .npy file")
      ->allow_extra_args(false);
  command
      .add_option("--expect", arrays.expected,
                  "check each result and written cache against a .npy file")
      ->allow_extra_args(false);
}

Expected<SizeValues> cli::parseSizes(const std::vector<std::string> &texts) {
  SizeValues sizes;
  for (const std::string &text : texts) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0)
      return unusable("wrong usage", "--size " + text, "it is no NAME=N");
    const auto value = parseInteger<int64_t>(text.substr(equals + 1), 0, int64_t(1) << 40);
    if (!value)
      return unusable("wrong usage", "--size " + text, value.error());
    if (!sizes.emplace(text.substr(0, equals), *value).second)
      return unusable("wrong usage", "--size " + text, "that size is given twice");
  }
  return sizes;
}

//===----------------------------------------------------------------------===//
// Verifying
//===----------------------------------------------------------------------===//

Expected<std::vector<TensorComparison>> cli::verify(const ArrayOptions &arrays,
                                                    const FunctionSignature &signature,
                                                    const FunctionData &data,
                                                    const std::vector<TensorData> &reference,
                                                    std::span<const double> tolerances) {
  const std::vector<const TensorData *> outputs = outputsOf(signature, data);
  if (!arrays.expected.empty() && arrays.expected.size() != outputs.size())
    return unusable("wrong usage", "--expect",
                    fmt::format("@{} gives {} arrays (results, then written caches), {} are given",
                                signature.name, outputs.size(), arrays.expected.size()));
  std::vector<TensorComparison> comparisons;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const bool cache = i >= data.results.size();
    std::vector<float> expected;
    if (arrays.expected.empty()) {
      expected = reference[i].toFloats();
    } else {
      KF_TRY(expected, readExpected(arrays.expected[i], *outputs[i], cache));
    }
    const double tolerance =
        tolerances.empty() ? toleranceOf(signature, *outputs[i]) : tolerances[i];
    comparisons.push_back(
        {outputs[i]->name, compareValues(outputs[i]->toFloats(), expected, tolerance)});
  }
  return comparisons;
}

Status cli::writeOutputs(const ArrayOptions &arrays, const FunctionSignature &signature,
                         const FunctionData &data) {
  const std::vector<const TensorData *> outputs = outputsOf(signature, data);
  if (arrays.outputs.empty())
    return {};
  if (arrays.outputs.size() > outputs.size() || arrays.outputs.size() < data.results.size())
    return unusable("wrong usage", "--output",
                    fmt::format("@{} gives {} results and {} written caches, {} files are named",
                                signature.name, data.results.size(),
                                outputs.size() - data.results.size(), arrays.outputs.size()));
  for (size_t i = 0; i < arrays.outputs.size(); ++i)
    KF_CHECK(writeTensor(arrays.outputs[i], *outputs[i], i >= data.results.size()));
  return {};
}

Json cli::comparisonsJson(const std::vector<TensorComparison> &comparisons, const char *reference) {
  Json list = Json::array();
  for (const TensorComparison &comparison : comparisons) {
    Json json = accuracyJson(comparison.accuracy, reference);
    json["name"] = comparison.name;
    list.push_back(std::move(json));
  }
  return list;
}

void cli::printComparisons(const std::vector<TensorComparison> &comparisons,
                           const char *reference) {
  for (const TensorComparison &comparison : comparisons) {
    const Accuracy &accuracy = comparison.accuracy;
    const bool isPlaceKnown = !accuracy.pass && accuracy.worst >= 0;
    print(fmt::format("{}: {} against {}: max error {:.3g} of {:.3g} (tolerance {:g}), {}{}\n",
                      escapeControls(comparison.name), accuracy.pass ? "ok" : "WRONG", reference,
                      accuracy.maxAbs, accuracy.maxReference, accuracy.tolerance,
                      notNumbersText(accuracy),
                      isPlaceKnown ? "; worst at " + placeOf(accuracy.worst, 0) : ""));
  }
}

int cli::verdictOf(const std::vector<TensorComparison> &comparisons, const std::string &function,
                   const char *reference) {
  for (const TensorComparison &comparison : comparisons)
    if (!comparison.accuracy.pass)
      return report(Error{ErrorKind::No, "verification failed", "@" + function,
                          std::string("a result differs from ") + reference, ""},
                    false);
  return 0;
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

static Json kernelJson(const KernelRow &row) {
  const Artifact &artifact = *row.artifact;
  Json json = {{"name", artifact.kernel},
               {"launches", row.launches},
               {"variant", artifact.variant},
               {"schedule", Json::parse(artifact.schedule, nullptr, /*allow_exceptions=*/false)},
               {"schedule_source", artifact.scheduleSource},
               {"phases", artifact.launching.phases.size()},
               {"from_cache", artifact.fromCache},
               {"compile_ms", artifact.compileSeconds * 1e3},
               {"code_hash", artifact.codeHash},
               {"resources", {{"code_bytes", artifact.code.size()}}}};
  if (!row.family.empty())
    json["family"] = row.family;
  if (!row.nanoseconds.empty())
    json.update({{"median_ns", median(row.nanoseconds)},
                 {"mad_ns", medianAbsoluteDeviation(row.nanoseconds)},
                 {"samples", row.nanoseconds.size()}});
  if (row.roofline)
    json["pct_roofline"] = 100 * *row.roofline;
  return json;
}

Json cli::kernelsJson(const std::vector<KernelRow> &rows) {
  Json list = Json::array();
  for (const KernelRow &row : rows)
    list.push_back(kernelJson(row));
  return list;
}

void cli::printKernels(const std::vector<KernelRow> &rows) {
  if (rows.empty())
    print("no kernels: nothing is computed\n");
  for (const KernelRow &row : rows) {
    std::string line =
        fmt::format("{:<28} {:<9} x{:<4} {:<11} {}", row.artifact->kernel, row.family, row.launches,
                    row.artifact->scheduleSource,
                    row.artifact->library ? row.artifact->variant : row.artifact->schedule);
    if (!row.nanoseconds.empty())
      line += fmt::format("  {:.1f} us +- {:.1f}", median(row.nanoseconds) / 1e3,
                          medianAbsoluteDeviation(row.nanoseconds) / 1e3);
    if (row.roofline)
      line += fmt::format(", {:.1f} % of the roofline", 100 * *row.roofline);
    print(escapeControls(line) + "\n");
  }
}

Status cli::untilHalfASecond(const std::function<Status()> &round) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i) {
    const auto spent = std::chrono::steady_clock::now() - start;
    if (i >= 10 && spent > std::chrono::milliseconds(500))
      break;
    KF_CHECK(round());
  }
  return {};
}

Status cli::timeKernels(const Program &program, std::vector<KernelRow> &rows,
                        const std::function<Expected<std::vector<int64_t>>()> &runTimed) {
  KF_CHECK(runTimed()); // the first may be slower
  return untilHalfASecond([&]() -> Status {
    KF_TRY(const std::vector<int64_t> nanoseconds, runTimed());
    for (size_t i = 0; i < program.launches.size(); ++i)
      for (KernelRow &row : rows)
        if (row.artifact->kernel == program.artifacts[program.launches[i].artifact].kernel)
          row.nanoseconds.push_back(static_cast<double>(nanoseconds[i]));
    return {};
  });
}
