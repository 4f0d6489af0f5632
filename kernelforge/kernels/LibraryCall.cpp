#include "kernelforge/kernels/LibraryCall.h"

#include <fmt/format.h>

using namespace kernelforge;

Status kernelforge::checkLibraryCall(const LibraryCall &call) {
  KF_CHECK(checkProblem(call.problem));
  auto refuse = [&](std::string why) {
    return unusable("library call is not usable", call.problem.name(), std::move(why));
  };
  constexpr unsigned mostArguments = 64; // far more than a matmul has
  if (call.arguments > mostArguments || call.sizes > call.arguments)
    return refuse(fmt::format("{} of {} arguments are sizes", call.sizes, call.arguments));
  if (call.rowsSize < -1 || call.rowsSize >= static_cast<int>(call.sizes))
    return refuse(fmt::format("its rows follow size {} of {}", call.rowsSize, call.sizes));
  for (const auto &[operand, step] :
       {std::pair(call.bias, EpilogueStep::Bias), std::pair(call.residual, EpilogueStep::Residual)})
    if (operand.has_value() != call.problem.has(step))
      return refuse(
          fmt::format("its epilogue and its {} do not fit together", epilogueStepName(step)));
  for (const std::optional<unsigned> &operand :
       {std::optional(call.input), std::optional(call.weight), call.bias, call.residual})
    if (operand && (*operand < call.sizes || *operand >= call.arguments))
      return refuse(fmt::format("argument {} is no tensor of the kernel", *operand));
  return {};
}
