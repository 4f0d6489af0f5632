#include "kernelforge/kernels/MatmulKernel.h"

#include <chrono>
#include <fmt/format.h>

using namespace kernelforge;

/// The schedule to take, and where it is from.
static Expected<std::pair<KnobValues, std::string>>
chooseSchedule(std::string_view variant, const std::optional<ScheduleSpace> &space,
               const std::string &text) {
  if (!space) {
    if (!text.empty())
      return unusable("schedule is not usable", std::string(variant),
                      "this variant has no schedule", "leave out the schedule");
    return std::pair(KnobValues{}, std::string());
  }
  if (text.empty())
    return std::pair(space->analytic, std::string("analytic"));
  KF_TRY(KnobValues knobs, parseKnobs(text, variant));
  knobs = space->complete(knobs);
  KF_CHECK(space->check(knobs));
  return std::pair(std::move(knobs), std::string("pinned"));
}

static std::string whereOf(const MatmulProblem &problem, const MatmulKernel &kernel) {
  return problem.name() + ", " + std::string(kernel.name());
}

Status MatmulKernel::check(const MatmulProblem &problem) const {
  const MatmulSupport support = supports(problem);
  if (support)
    return {};
  if (support.kind == MatmulSupport::Kind::Unavailable)
    return missing("variant is unavailable", whereOf(problem, *this), support.why);
  return unusable("variant does not support the problem", whereOf(problem, *this), support.why);
}

Expected<std::unique_ptr<PreparedMatmul>>
MatmulKernel::prepare(const MatmulProblem &problem, const MatmulOperands &operands,
                      const MatmulOptions &options) const {
  KF_CHECK(checkProblem(problem));
  KF_CHECK(check(problem));
  const std::string where = whereOf(problem, *this);
  for (auto [step, operand] :
       {std::pair(EpilogueStep::Bias, operands.bias), {EpilogueStep::Residual, operands.residual}})
    if (problem.has(step) && !operand)
      return unusable(
          "operands are not usable", where,
          fmt::format("the epilogue reads a {}, and none is given", epilogueStepName(step)));
  if (!operands.weight)
    return unusable("operands are not usable", where, "no weight is given");
  if (options.threads < 1 || options.threads > 4096)
    return unusable("thread count is not usable", where,
                    fmt::format("it is {}, but must be from 1 to 4096", options.threads));
  std::pair<KnobValues, std::string> choice;
  if (!options.schedule.empty() || !choosesSchedule()) {
    KF_TRY(choice,
           chooseSchedule(name(), scheduleSpace(problem, options.threads), options.schedule));
  }
  const auto begin = std::chrono::steady_clock::now();
  KF_TRY(std::unique_ptr<PreparedMatmul> prepared,
         make(problem, operands, choice.first, options.threads));
  const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - begin;
  // A variant that knows these better has filled them in.
  MatmulDetails &details = prepared->details;
  if (details.compileMs == 0)
    details.compileMs = taken.count();
  if (details.schedule.empty() && !choice.second.empty()) {
    details.schedule = knobsText(choice.first);
    details.scheduleSource = choice.second;
  }
  return prepared;
}
