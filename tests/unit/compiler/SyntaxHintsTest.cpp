#include "kernelforge/problem/SyntaxHints.h"

#include "DecoderFixture.h"

#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/problem/ModuleText.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

class SyntaxHints : public testing::Test {
protected:
  SyntaxHints() { loadAllStages(context.get()); }

  /// A function with that line, after what the forms of operations take.
  static std::string around(const std::string &line) {
    return "!rows = tensor<4x8xf32>\n!weight = tensor<8x8xf32>\n!vector = tensor<8xf32>\n"
           "!indices = tensor<4xi32>\n!cache = !transformer.cache<1, 8, f32>\n"
           "func.func @f(%x: !rows, " +
           std::string(line.starts_with("%y") ? "" : "%y: !rows, ") +
           "%w: !weight, %v: !vector, %b: !vector, %i: !indices, %k: !cache) {\n" + line +
           "\n  return\n}\n";
  }

  std::unique_ptr<mlir::MLIRContext> context = std::make_unique<mlir::MLIRContext>();
};

/// What a message tells a user to write can be written.
TEST_F(SyntaxHints, FormsParse) {
  for (const auto &[name, form] : operationForms()) {
    auto module = parseModuleText(context.get(), around(form), "form");
    EXPECT_TRUE(module) << name << ": " << module.error().line();
    EXPECT_THAT(form, testing::HasSubstr(name + " "));
  }
}

TEST_F(SyntaxHints, FormIsShownForEachOperation) {
  for (const auto &[name, form] : operationForms()) {
    const std::string broken = form.substr(0, form.rfind(" :"));
    auto module = parseModuleText(context.get(), around(broken), "form");
    ASSERT_FALSE(module) << name;
    EXPECT_EQ(module.error().hint, "it is written " + form);
  }
}

TEST_F(SyntaxHints, PlacesBeyondTheTextAreNoMatter) {
  for (const char *text : {"", "\n", "%", "func.func @f("})
    for (unsigned line : {0u, 1u, 2u, 1000u})
      for (unsigned column : {0u, 1u, 1000u})
        for (const char *message : {"", "expected ':'", "custom op '", "custom op '' is unknown",
                                    "use of undeclared SSA value name"})
          syntaxHint(context.get(), text, {message, line, column});
}

} // namespace
