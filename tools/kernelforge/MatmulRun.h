// One matmul compiled for this machine, with data and reference: what benchmark-matmul times and
// diagnose tries.
#pragma once

#include "Command.h"
#include "FunctionRun.h"

#include "kernelforge/kernels/MatmulKernel.h"

namespace kernelforge::cli {

class MatmulRun {
public:
  /// Compiles with `schedule` (JSON; empty: the planner's), binds random data, computes the
  /// reference. Unusable where the problem or the schedule is not legal.
  static Expected<std::unique_ptr<MatmulRun>>
  create(const MatmulProblem &problem, const std::string &schedule, const Context &context);

  /// Runs the compiled kernel, once.
  Status runGenerated() { return run->run(); }

  /// Runs the reference implementation into the same result.
  void runReferenceKernel();

  /// What runs next must write the result, all of it.
  void poison() { run->poisonResults(); }

  /// The result's distance from the reference.
  Accuracy compare() const;

  /// The result as it is now.
  std::vector<float> result() const { return data.results.front().toFloats(); }

  const Artifact &artifact() const;
  const Session &compiled() const { return *session; }

private:
  MatmulProblem problem;
  std::unique_ptr<Session> session;
  FunctionSignature signature;
  FunctionData data;
  std::vector<float> reference;
  std::optional<FunctionRun> run;
};

} // namespace kernelforge::cli
