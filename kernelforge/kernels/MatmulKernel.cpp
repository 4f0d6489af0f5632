#include "kernelforge/kernels/MatmulKernel.h"

#include "kernelforge/support/Numbers.h"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>

using namespace kernelforge;

std::string MatmulProblem::name() const {
  std::string text =
      fmt::format("matmul_{}x{}x{}_{}{}", m, n, k, info(weights).name, transpose ? "_t" : "");
  for (EpilogueStep step : epilogue)
    text.append("_").append(epilogueStepName(step));
  return text;
}

bool MatmulProblem::has(EpilogueStep step) const {
  return std::ranges::find(epilogue, step) != epilogue.end();
}

double MatmulProblem::bytes() const {
  const ElementTypeInfo &t = info(weights);
  const double weightBytes = double(n) * double(k) / double(t.blockElements) * double(t.blockBytes);
  const double results = has(EpilogueStep::Residual) ? 2 : 1;
  return weightBytes + 4.0 * (double(m) * double(k) + results * double(m) * double(n) +
                              (has(EpilogueStep::Bias) ? double(n) : 0.0));
}

Status kernelforge::checkProblem(const MatmulProblem &problem) {
  auto refuse = [&](std::string why, std::string hint) {
    return unusable("problem is not usable", problem.name(), std::move(why), std::move(hint));
  };
  // Products of two sizes, in bytes, stay far below 2^63.
  constexpr int64_t largest = int64_t(1) << 28;
  for (auto [name, size] : {std::pair("m", problem.m), {"n", problem.n}, {"k", problem.k}})
    if (size < 1 || size > largest)
      return refuse(
          fmt::format("{} is {}, but must be from 1 to {}", name, size, grouped(largest)),
          fmt::format("the nearest legal value is {}", std::clamp<int64_t>(size, 1, largest)));
  const ElementTypeInfo &t = info(problem.weights);
  if (problem.weights == ElementType::I32)
    return refuse("i32 is no type of weights", "take a floating-point or a quantized type");
  if (problem.transpose && t.isQuantized())
    return refuse(fmt::format("{} weights cannot be transposed: their blocks lie along k", t.name),
                  "leave out the transposition, or take f32, bf16 or f16 weights");
  if (!problem.transpose && problem.k % t.blockElements != 0)
    return refuse(
        fmt::format("k is {}, which is no multiple of the {} elements of a {} block", problem.k,
                    t.blockElements, t.name),
        fmt::format("the nearest legal value is {}",
                    std::max<int64_t>(1, (problem.k + t.blockElements / 2) / t.blockElements) *
                        t.blockElements));
  return {};
}

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

Expected<std::unique_ptr<PreparedMatmul>>
MatmulKernel::prepare(const MatmulProblem &problem, const MatmulOperands &operands,
                      const MatmulOptions &options) const {
  KF_CHECK(checkProblem(problem));
  const std::string where = problem.name() + ", " + std::string(name());
  if (MatmulSupport support = supports(problem); !support) {
    if (support.kind == MatmulSupport::Kind::Unavailable)
      return missing("variant is unavailable", where, support.why);
    return unusable("variant does not support the problem", where, support.why);
  }
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
