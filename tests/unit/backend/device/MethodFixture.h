// Kernels whose schedules are pinned, run on the device of the tests, beside their references.
#pragma once

#include "../../compiler/RunFunction.h"
#include "DeviceFixture.h"

#include "kernelforge/codegen/CodeGenerator.h"
#include "kernelforge/compiler/Targets.h"

#include <cstdlib>
#include <gtest/gtest.h>

namespace kernelforge {

/// A kernel's arguments, by name and type, body and results, launched by one function once for each
/// of some schedules: the function gives all that the launches give.
struct PinnedKernel {
  std::vector<std::pair<std::string, std::string>> arguments;
  std::string body;
  std::vector<std::pair<std::string, std::string>>
      results; ///< by the values that the body ends with

  std::string text(const std::vector<std::string> &schedules) const;
};

/// Skips a test where there is no device.
class MethodTest : public testing::Test {
protected:
  void SetUp() override;

  /// From here on, targets are without a feature.
  void takeAway(const std::string &feature) { std::erase(options.target.enabled, feature); }

  /// All that a function of `text` gives must be right.
  void expectRight(const std::string &text, const FunctionInputs &inputs = {});

  SessionOptions options;
};

} // namespace kernelforge
