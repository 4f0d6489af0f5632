#include "kernelforge/problem/GeneratedMatmul.h"

#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/compiler/MatmulModule.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/RecordKeys.h"
#include "kernelforge/compiler/Targets.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

namespace {

std::span<std::byte> bytesOf(const float *data, int64_t count) {
  return std::as_writable_bytes(std::span(const_cast<float *>(data), static_cast<size_t>(count)));
}

class PreparedGenerated : public PreparedMatmul {
public:
  std::unique_ptr<Session> session;
  int64_t rows = 0, n = 0, k = 0;

  Status run(const float *input, float *output) override {
    if (input != bound) {
      KF_CHECK(session->bind("x", bytesOf(input, rows * k)));
      bound = input;
    }
    result = bytesOf(output, rows * n);
    timed.reset();
    return session->run("matmul", {&rows, 1}, {&result, 1});
  }

  bool hasOwnClock() const override { return session->device().info().hasOwnClock(); }

  Expected<double> timeRuns(int64_t calls) override {
    if (!timed) {
      KF_TRY(timed, session->timed("matmul", {&rows, 1}, {&result, 1}));
    }
    KF_TRY(CallTimes times, (*timed)(calls));
    return times.taken;
  }

private:
  const float *bound = nullptr;
  std::span<std::byte> result;     ///< of the last run
  std::optional<TimedCalls> timed; ///< on what it was given
};

} // namespace

MatmulSupport GeneratedMatmul::supports(const MatmulProblem &problem) const {
  return isKernel(problem) ? MatmulSupport::ok()
                           : MatmulSupport::unsupported("a bias must be the epilogue's first step");
}

std::optional<ScheduleSpace> GeneratedMatmul::scheduleSpace(const MatmulProblem &problem,
                                                            int threads) const {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  auto module = buildMatmulModule(&context, problem);
  if (!module || !runToStage(**module, Stage::Fused, {options.target, threads, true, {}, {}}))
    return std::nullopt;
  for (auto kernel : (*module)->getOps<KernelOp>())
    if (auto space = generatorOf(options.target)
                         .scheduleSpace(KernelAnalysis(kernel), options.target, threads))
      return std::move(*space);
  return std::nullopt;
}

Expected<std::unique_ptr<PreparedMatmul>> GeneratedMatmul::make(const MatmulProblem &problem,
                                                                const MatmulOperands &operands,
                                                                const KnobValues &schedule,
                                                                int threads) const {
  auto prepared = std::make_unique<PreparedGenerated>();
  SessionOptions sessionOptions = options;
  sessionOptions.threads = threads;
  KF_TRY(prepared->session, Session::create(sessionOptions));
  Session &session = *prepared->session;
  KF_TRY(OwningOpRef<ModuleOp> module, buildMatmulModule(&session.context(), problem));
  KF_CHECK(runToStage(*module, Stage::Fused, {options.target, threads, true, {}, {}}));
  for (auto kernel : module->getOps<KernelOp>()) {
    kernel.setVariant("generated"); // whatever won in the records
    if (!schedule.empty())
      kernel.setScheduleAttr(scheduleAttr(kernel.getContext(), schedule));
  }
  KF_CHECK(session.compile(std::move(module)));
  KF_CHECK(session.bindWeight("weight", problem.weights, {operands.weight, problem.weightBytes()}));
  if (problem.has(EpilogueStep::Bias))
    KF_CHECK(session.bind("bias", bytesOf(operands.bias, problem.n)));
  if (problem.has(EpilogueStep::Residual))
    KF_CHECK(session.bind("residual", bytesOf(operands.residual, problem.m * problem.n)));
  prepared->rows = problem.m;
  prepared->n = problem.n;
  prepared->k = problem.k;
  const Artifact &artifact = session.program("matmul")->artifacts.front();
  MatmulDetails &details = prepared->details;
  details.schedule = artifact.schedule;
  details.scheduleSource = artifact.scheduleSource;
  details.codeHash = artifact.codeHash;
  details.resources = recordResources(artifact, session.resources("matmul").front());
  details.compileMs = artifact.compileSeconds * 1e3;
  return prepared;
}
