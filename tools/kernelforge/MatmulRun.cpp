#include "MatmulRun.h"

#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/compiler/Planner.h"
#include "kernelforge/ir/ModuleBuilder.h"
#include "kernelforge/kernels/Reference.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cli;
using namespace kernelforge::transformer;

/// Forms the kernel and gives it the schedule that was asked for.
static Status pinSchedule(ModuleOp module, const std::string &schedule,
                          const SessionOptions &options, int threads) {
  KF_CHECK(runToStage(module, Stage::Fused, {options.target, threads, true, {}, {}}));
  KF_TRY(ScheduleAttr knobs, scheduleFromJson(module.getContext(), schedule, "--schedule"));
  for (auto kernel : module.getOps<KernelOp>())
    kernel.setScheduleAttr(knobs);
  return {};
}

Expected<std::unique_ptr<MatmulRun>> MatmulRun::create(const MatmulProblem &problem,
                                                       const std::string &schedule,
                                                       const Context &context) {
  KF_CHECK(checkProblem(problem));
  auto result = std::make_unique<MatmulRun>();
  MatmulRun &r = *result;
  r.problem = problem;
  KF_TRY(SessionOptions options, requestedSession(context));
  KF_TRY(r.session, Session::create(options));
  // One row is a range of its own, as decode is; more rows are compiled as prefill is.
  OwningOpRef<ModuleOp> module =
      buildMatmul(&r.session->context(), problem.m == 1 ? 1 : 2, problem.m, problem.n, problem.k,
                  problem.weights, problem.transpose);
  OwningOpRef<ModuleOp> original = module->clone();
  KF_TRY(r.signature, readSignature(original->lookupSymbol<func::FuncOp>("matmul")));
  KF_TRY(r.data, randomData(r.signature, {{"rows", problem.m}}, context.seed));
  if (!schedule.empty())
    KF_CHECK(pinSchedule(*module, schedule, options, requestedThreads(context)));
  KF_CHECK(r.session->compile(std::move(module)));
  KF_TRY(std::vector<TensorData> reference, runReference(*original, r.signature, r.data));
  r.reference = reference.front().toFloats();
  KF_TRY(r.run, FunctionRun::create(*r.session, r.signature, r.data));
  return result;
}

void MatmulRun::runReferenceKernel() {
  const TensorData &x = data.arguments[0], &weight = data.arguments[1];
  reference::matmul(
      reference::denseRows(reinterpret_cast<const float *>(x.memory.data()), problem.m, problem.k),
      WeightView{problem.weights, weight.memory.data(), weight.shape[0], weight.shape[1], false},
      problem.transpose, {},
      reference::denseRows(reinterpret_cast<float *>(data.results[0].memory.data()), problem.m,
                           problem.n));
}

Accuracy MatmulRun::compare() const {
  return compareValues(result(), reference, toleranceOf(ElementType::F32));
}

const Artifact &MatmulRun::artifact() const {
  return session->program("matmul")->artifacts.front();
}
