// A row of a suite, compiled, with data and with what must come out: ready to be run, timed and
// verified.
#pragma once

#include "kernelforge/eval/Fidelity.h"
#include "kernelforge/eval/RowModule.h"
#include "kernelforge/kernels/MatmulRegistry.h"
#include "kernelforge/problem/FunctionRun.h"

namespace kernelforge {

/// One variant of a vendor for a row that is a matmul.
struct VendorRun {
  std::string name;
  std::unique_ptr<PreparedMatmul> prepared; ///< null where it is not here
  std::string why;                          ///< then
};

struct RowOptions {
  SessionOptions session; ///< target, threads, records, object cache
  uint64_t seed = 0;      ///< of the inputs
  bool vendors = false;   ///< whether vendors' variants are prepared
  bool verified = true;   ///< whether verify() can be called: what must come out takes time to make
};

class RowRun {
public:
  /// Compiles the row, makes its data and what must come out. Errors of compiling and running.
  static Expected<std::unique_ptr<RowRun>> create(const SuiteRow &row, const RowOptions &options);

  /// Runs once.
  Status run();

  /// Runs to be timed, as Session::timed says.
  Expected<TimedCalls> timed() { return function->timed(); }

  /// Runs into poisoned results, and judges what comes out by the honest f32 implementation.
  Expected<Accuracy> verify();

  /// Runs twice: nothing where the outputs are equal to the bit, otherwise where they differ.
  Expected<std::optional<std::string>> bitwiseDifference();

  /// Variants of vendors that support the row; empty where none does.
  std::span<VendorRun> vendors() { return vendorRuns; }
  Status run(VendorRun &vendor);
  /// As verify(), of what a vendor computes.
  Expected<Accuracy> verify(VendorRun &vendor);

  /// Operations and bytes of a run, at the least.
  double flops() const { return operations; }
  double bytes() const { return traffic; }
  /// The numerics of the products that are most of these operations.
  Numerics numerics() const { return mostNumerics; }

  /// What a measurement row says about its code: "kernels", "schedule" and "schedule_source" where
  /// there is one kernel, "resources", "code_hash", "compile_ms", "variant".
  Json codeJson() const;

private:
  RowRun() = default;
  Status prepareData(const SuiteRow &row, const RowOptions &options);
  Status prepareVendors(const RowOptions &options);
  void countWork();
  Accuracy judge() const;

  std::unique_ptr<Session> session;
  RowModule source; ///< in the session's context
  FunctionSignature signature;
  FunctionData data;
  std::optional<FunctionRun> function;
  std::optional<MatmulProblem> matmul;
  std::optional<SampledMatmul> matmulResult; ///< what must come out of a matmul
  std::optional<FunctionFidelity> fidelity;  ///< what must come out of anything else
  std::vector<VendorRun> vendorRuns;
  double operations = 0, traffic = 0;
  Numerics mostNumerics = Numerics::F32;
};

} // namespace kernelforge
