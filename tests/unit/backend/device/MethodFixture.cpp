#include "MethodFixture.h"

#include <fmt/format.h>

namespace kernelforge {

/// All of one of both in a row, with `before` and `between` them.
template <typename Part>
static std::string joined(const std::vector<std::pair<std::string, std::string>> &list, Part part) {
  std::string text;
  for (const auto &[name, type] : list)
    text += (text.empty() ? "" : ", ") + part(name, type);
  return text;
}

std::string PinnedKernel::text(const std::vector<std::string> &schedules) const {
  auto ofType = [](const std::string &, const std::string &type) {
    return type.substr(0, type.find(" {"));
  };
  const std::string declared = joined(arguments, [](const std::string &name, const auto &type) {
    return "%" + name + ": " + type;
  });
  const std::string names =
      joined(arguments, [](const std::string &name, const std::string &) { return "%" + name; });
  const std::string types = joined(arguments, ofType), given = joined(results, ofType);
  const std::string yielded =
      joined(results, [](const std::string &name, const std::string &) { return "%" + name; });
  std::string text, launches, returned, returnedTypes;
  for (size_t i = 0; i < schedules.size(); ++i) {
    const std::string yield = results.empty()
                                  ? "transformer.yield"
                                  : fmt::format("transformer.yield {} : {}", yielded, given);
    text += fmt::format("transformer.kernel @k{}({}) -> ({}) attributes {{schedule = "
                        "#transformer.schedule<{{{}}}>}} {{\n{}\n{}\n}}\n",
                        i, declared, given, schedules[i], body, yield);
    launches += fmt::format("  {}transformer.launch @k{}({}) : ({}) -> ({})\n",
                            results.empty() ? "" : fmt::format("%r{}:{} = ", i, results.size()), i,
                            names, types, given);
    for (size_t j = 0; j < results.size(); ++j) {
      returned += fmt::format("{}%r{}#{}", returned.empty() ? "" : ", ", i, j);
      returnedTypes += (returnedTypes.empty() ? "" : ", ") + results[j].second;
    }
  }
  return fmt::format("{}func.func @f({}) -> ({}) {{\n{}  return {}{}{}\n}}\n", text, declared,
                     returnedTypes, launches, returned, returned.empty() ? "" : " : ",
                     returnedTypes);
}

void MethodTest::SetUp() {
  Expected<std::unique_ptr<Device>> device = testTarget().createForKernels();
  if (!device) {
    if (std::getenv(testTarget().requiredBy))
      FAIL() << device.error().line();
    GTEST_SKIP() << device.error().line();
  }
  auto target = (*findGenerator(testTarget().kind))->parse("", "", &(*device)->info());
  ASSERT_TRUE(target) << target.error().line();
  options = testOptions(*target);
  options.openDevice = testTarget().createForKernels;
}

void MethodTest::expectRight(const std::string &text, const FunctionInputs &inputs) {
  auto outcome = runFunction(text, options, 1, Numerics::F32, inputs);
  ASSERT_TRUE(outcome) << outcome.error().line() << "\n" << text;
  for (const auto &[i, output] : llvm::enumerate(outcome->outputs))
    EXPECT_TRUE(output.pass) << "output " << i << ": " << output.why << "\n" << text;
}

} // namespace kernelforge
