// Every rowwise operation of the dialect, found by its interface: each target computes it in a
// kernel of its own and in one with a matmul, or says by name that it does not. One that is new has
// no example here, and is missed.
#include "RunFunction.h"

#include "kernelforge/compiler/Targets.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

using namespace kernelforge;
using testing::HasSubstr;
using transformer::ComputeOp;
using transformer::KernelOp;

namespace {

/// One operation on `%x`, rows of 5 x 16 that may be computed. It gives `%y`, rows of 5 x 16, or
/// nothing.
struct Example {
  std::string arguments; ///< beside %x
  std::string text;
};

#define ROWS "tensor<5x16xf32>"
#define INDICES "tensor<5xi32>"

const std::multimap<std::string, Example> examples{
    {"embedding",
     {"%i: " INDICES ", %t: tensor<9x16xf32>",
      "%y = transformer.embedding %i, %t : (" INDICES ", tensor<9x16xf32>) -> " ROWS}},
    {"gather_rows",
     {"%i: " INDICES, "%y = transformer.gather_rows %x, %i : (" ROWS ", " INDICES ") -> " ROWS}},
    {"rms_norm",
     {"%n: tensor<16xf32>",
      "%y = transformer.rms_norm %x, %n {epsilon = 1.0e-5} : (" ROWS ", tensor<16xf32>) -> " ROWS}},
    {"layer_norm",
     {"%n: tensor<16xf32>, %b: tensor<16xf32>",
      "%y = transformer.layer_norm %x, %n, %b {epsilon = 1.0e-5} : (" ROWS
      ", tensor<16xf32>, tensor<16xf32>) -> " ROWS}},
    // Of heads: they may follow a matmul.
    {"rms_norm",
     {"%n: tensor<8xf32>",
      "%y = transformer.rms_norm %x, %n {epsilon = 1.0e-5, heads = 2, offset = 1.0} : (" ROWS
      ", tensor<8xf32>) -> " ROWS}},
    {"layer_norm",
     {"%n: tensor<4xf32>, %b: tensor<4xf32>",
      "%y = transformer.layer_norm %x, %n, %b {epsilon = 1.0e-5, heads = 4, offset = 0.5} : (" ROWS
      ", tensor<4xf32>, tensor<4xf32>) -> " ROWS}},
    {"rope",
     {"%p: " INDICES ", %t: tensor<6x8xf32>",
      "%y = transformer.rope %x, %p, %t <half_split> {headDim = 8} : (" ROWS ", " INDICES
      ", tensor<6x8xf32>) -> " ROWS}},
    {"softmax", {"", "%y = transformer.softmax %x : " ROWS}},
    {"activation", {"", "%y = transformer.activation %x <gelu> : " ROWS}},
    {"add", {"%a: " ROWS, "%y = transformer.add %x, %a : " ROWS}},
    {"mul", {"%a: " ROWS, "%y = transformer.mul %a, %x : " ROWS}},
    {"cast",
     {"", "%c = transformer.cast %x : " ROWS " to tensor<5x16xf16>\n"
          "%y = transformer.cast %c : tensor<5x16xf16> to " ROWS}},
    {"scale", {"", "%y = transformer.scale %x {factor = 0.5, softcap = 3.0} : " ROWS}},
    {"cache_append",
     {"%s: " INDICES ", %c: !transformer.cache<2, 8, f32>",
      "transformer.cache_append %x, %s into %c : !transformer.cache<2, 8, f32>, " ROWS
      ", " INDICES}},
};

/// Where an example stands.
enum class Standing { Alone, BeforeMatmul, AfterMatmul };

bool hasResult(const Example &example) { return example.text.find("%y") != std::string::npos; }

/// Whether it has what a matmul gives it, or it gives the matmul.
bool canStand(const Example &example, Standing place) {
  return place == Standing::Alone          ? true
         : place == Standing::BeforeMatmul ? hasResult(example)
                                           : example.text.find("%x") != std::string::npos;
}

std::string textOf(const Example &example, Standing place) {
  const std::string more = example.arguments.empty() ? "" : ", " + example.arguments;
  const std::string weight =
      place == Standing::Alone ? "" : ", %w: tensor<16x16xf32> {transformer.weight = \"w\"}";
  auto matmul = [](const char *from, const char *to) {
    return fmt::format("{} = transformer.matmul {} weights(%w) : (" ROWS
                       ", tensor<16x16xf32>) -> " ROWS "\n",
                       to, from);
  };
  std::string body = example.text + "\n", result = hasResult(example) ? "%y" : "%x";
  if (place == Standing::AfterMatmul) {
    body = matmul("%z", "%x") + body;
  } else if (place == Standing::BeforeMatmul) {
    body += matmul("%y", "%m");
    result = "%m";
  } else if (!hasResult(example)) { // a function does not return its argument
    body += "%z = transformer.add %x, %x : " ROWS "\n";
    result = "%z";
  }
  return fmt::format("func.func @f({}: " ROWS "{}{}) -> " ROWS " {{\n{}return {} : " ROWS "\n}}",
                     place == Standing::AfterMatmul ? "%z" : "%x", more, weight, body, result);
}

/// Names of the operations in each kernel of the module.
std::vector<std::string> kernelsOf(mlir::ModuleOp module) {
  std::vector<std::string> kernels;
  for (auto kernel : module.getOps<KernelOp>()) {
    std::string names;
    for (mlir::Operation &op : kernel.getBody().front().without_terminator())
      names += (names.empty() ? "" : " ") + op.getName().stripDialect().str();
    kernels.push_back(names);
  }
  return kernels;
}

/// The rowwise operations of the dialect that stand in kernels with others.
std::map<std::string, OpKind> rowwiseOps(mlir::MLIRContext &context) {
  std::map<std::string, OpKind> found;
  for (mlir::RegisteredOperationName name : context.getRegisteredOperations())
    if (auto *op = name.getInterface<ComputeOp>()) {
      const OpKind kind = op->getKind();
      if (isRowwise(kind) && kind != OpKind::EndsStep && kind != OpKind::Packs)
        found[name.stripDialect().str()] = kind;
    }
  return found;
}

class RowwiseOps : public testing::Test {
protected:
  RowwiseOps() { loadAllStages(&context); }

  mlir::MLIRContext context;
};

} // namespace

TEST_F(RowwiseOps, HaveAnExampleEach) {
  std::set<std::string> ops, known;
  for (const auto &[name, kind] : rowwiseOps(context))
    ops.insert(name);
  for (const auto &[name, example] : examples)
    known.insert(name);
  EXPECT_EQ(ops, known);
}

TEST_F(RowwiseOps, EveryTargetComputesThemOrRefusesThemByName) {
  for (const std::string &kind : targetKinds())
    for (const auto &[name, example] : examples)
      for (Standing place : {Standing::Alone, Standing::BeforeMatmul, Standing::AfterMatmul})
        for (bool fuse : {true, false}) {
          if (!canStand(example, place))
            continue;
          SCOPED_TRACE(fmt::format("{}: {}{}\n{}", kind, name, fuse ? "" : ", not fused",
                                   textOf(example, place)));
          auto module = mlir::parseSourceString<mlir::ModuleOp>(textOf(example, place), &context);
          ASSERT_TRUE(module);
          PipelineOptions options;
          auto target = (*findGenerator(kind))->parse("", "", nullptr); // any device's
          ASSERT_TRUE(target) << target.error().line();
          options.target = *target;
          options.fuse = fuse;
          Status status = runToStage(*module, Stage::Scheduled, options);
          if (status) {
            auto text = printCode(*module, options);
            status = text ? Status() : Status(tl::unexpected(text.error()));
          }
          if (!status)
            EXPECT_THAT(status.error().line(), HasSubstr("transformer." + name));
        }
}

TEST_F(RowwiseOps, WhatMayBeAPrologueOrAnEpilogueIsFused) {
  for (const auto &[name, example] : examples) {
    SCOPED_TRACE(example.text);
    auto parse = [&, &example = example](Standing place) {
      return mlir::parseSourceString<mlir::ModuleOp>(textOf(example, place), &context);
    };
    auto kernels = [&](Standing place) {
      auto module = parse(place);
      PipelineOptions options;
      options.target = referenceTarget(); // which refuses nothing
      EXPECT_TRUE(runFuse(*module, options));
      return kernelsOf(*module);
    };
    bool mayBeEpilogue = false, mayBePrologue = false;
    auto module = parse(Standing::Alone);
    module->walk([&, &name = name](ComputeOp op) {
      if (op->getName().stripDialect() != name)
        return;
      mayBeEpilogue = op.mayBeEpilogue();
      mayBePrologue = op.mayBePrologue();
    });
    if (canStand(example, Standing::AfterMatmul))
      EXPECT_EQ(kernels(Standing::AfterMatmul).size(), mayBeEpilogue ? 1u : 2u);
    if (canStand(example, Standing::BeforeMatmul))
      EXPECT_EQ(kernels(Standing::BeforeMatmul).size(), mayBePrologue ? 1u : 2u);
  }
}

TEST_F(RowwiseOps, TheProcessorComputesWhatTheReferenceDoes) {
  for (const auto &[name, example] : examples)
    for (Standing place : {Standing::Alone, Standing::BeforeMatmul, Standing::AfterMatmul})
      for (bool fuse : {true, false}) {
        if (!canStand(example, place))
          continue;
        SCOPED_TRACE(fmt::format("{}{}", example.text, fuse ? "" : ", not fused"));
        auto outcome = runFunction(textOf(example, place), fuse);
        ASSERT_TRUE(outcome) << outcome.error().line();
        EXPECT_TRUE(outcome->isRight());
      }
}
