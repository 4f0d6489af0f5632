#include "kernelforge/eval/RowModule.h"

#include "kernelforge/compiler/MatmulModule.h"
#include "kernelforge/ir/ModuleBuilder.h"
#include "kernelforge/ir/Numerics.h"
#include "kernelforge/problem/ModuleText.h"
#include "kernelforge/support/MappedFile.h"

#include <cmath>

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;

namespace {

using Operation = RowwiseProblem::Operation;

/// The size that rows follow, in the range that a decoder would have it: one row is a range of its
/// own.
std::string tokensSize(int64_t rows) {
  return fmt::format(
      "%tokens: index {{transformer.size = #transformer.size<\"tokens\", {} to {}>}}",
      rows == 1 ? 1 : 2, rows);
}

std::string input(const char *name, const std::string &type) {
  return fmt::format(", %{0}: {1} {{transformer.input = \"{0}\"}}", name, type);
}

/// What `operation` reads beside its rows %x, and how it is written.
struct RowwiseText {
  std::string inputs, operation;
};

RowwiseText rowwiseText(const RowwiseProblem &p) {
  const std::string vector = fmt::format("tensor<{}xf32>", p.width);
  const std::string ids = "tensor<?xi32, #tokens>";
  switch (p.operation) {
  case Operation::RmsNorm:
    return {input("w", vector),
            "%y = transformer.rms_norm %x, %w {epsilon = 1.0e-5} : (!x, " + vector + ") -> !x"};
  case Operation::LayerNorm:
    return {input("w", vector) + input("b", vector),
            "%y = transformer.layer_norm %x, %w, %b {epsilon = 1.0e-5} : (!x, " + vector + ", " +
                vector + ") -> !x"};
  case Operation::Softmax:
    return {"", "%y = transformer.softmax %x : !x"};
  case Operation::Rope: {
    const std::string table =
        fmt::format("tensor<?x{}xf32, #transformer.dims<\"context\">>", p.headDim);
    return {input("positions", ids) + input("rope", table),
            fmt::format("%y = transformer.rope %x, %positions, %rope <half_split> {{headDim = {}}} "
                        ": (!x, {}, {}) -> !x",
                        p.headDim, ids, table)};
  }
  case Operation::SiluMul:
    return {input("up", "!x"), "%s = transformer.activation %x <silu> : !x\n"
                               "    %y = transformer.mul %s, %up : !x"};
  case Operation::Add:
    return {input("b", "!x"), "%y = transformer.add %x, %b : !x"};
  }
  return {};
}

std::string moduleText(const RowwiseProblem &p) {
  const RowwiseText text = rowwiseText(p);
  const std::string context =
      p.operation == Operation::Rope
          ? ", %context: index {transformer.size = #transformer.size<\"context\", 1 to 65536>}"
          : "";
  return fmt::format(R"(
#tokens = #transformer.dims<"tokens">
!x = tensor<?x{}xf32, #tokens>
module {{
  func.func @row({}{}{}{}) -> !x {{
    {}
    return %y : !x
  }}
}}
)",
                     p.width, tokensSize(p.rows), context, input("x", "!x"), text.inputs,
                     text.operation);
}

/// The range of lengths of an attention's row, unless it is deeper: the same code for every depth.
constexpr int64_t mostCached = 65536;

std::string moduleText(const AttentionProblem &p) {
  std::string element(info(p.cache).name);
  if (info(p.cache).isQuantized())
    element = fmt::format("!transformer.quant<{}>", element);
  const std::string cache =
      fmt::format("!transformer.cache<{}, {}, {}>", p.kvHeads, p.headDim, element);
  const std::string ids = "tensor<?xi32, #tokens>";
  const std::string perSequence = "tensor<?xi32, #transformer.dims<\"sequences\">>";
  return fmt::format(
      R"(
#tokens = #transformer.dims<"tokens">
!x = tensor<?x{0}xf32, #tokens>
module {{
  func.func @row({1},
      %sequences: index {{transformer.size = #transformer.size<"sequences", 1 to 1>}},
      %cached: index {{transformer.size = #transformer.size<"cached", 1 to {8}>}}{2}) -> !x {{
    %y = transformer.attention %q, %k, %v positions(%positions) sequences(%sequence) table(%table)
      lengths(%lengths) {{heads = {3}, scale = {4:.17g} : f64, cached = "cached"}}
      : (!x, {5}, {5}, {6}, {6}, {7}, {7}) -> !x
    return %y : !x
  }}
}}
)",
      p.heads * p.headDim, tokensSize(p.rows),
      input("q", "!x") + input("k", cache) + input("v", cache) + input("positions", ids) +
          input("sequence", ids) + input("table", perSequence) + input("lengths", perSequence),
      p.heads, 1 / std::sqrt(double(p.headDim)), cache, ids, perSequence,
      std::max(p.past + p.rows, mostCached));
}

/// Builds the module of each kind of problem.
struct ModuleMaker {
  MLIRContext *context;
  const SuiteRow &row;

  Expected<RowModule> operator()(const MatmulProblem &p) const {
    KF_TRY(OwningOpRef<ModuleOp> module, buildMatmulModule(context, p));
    return RowModule{std::move(module), "matmul", {{"rows", p.m}}, 0};
  }
  Expected<RowModule> operator()(const AttentionProblem &p) const {
    KF_TRY(OwningOpRef<ModuleOp> module, parseModuleText(context, moduleText(p), row.name));
    KF_CHECK(setNumerics(*module, p.numerics));
    return RowModule{std::move(module), "row", {{"tokens", p.rows}, {"sequences", 1}}, p.past};
  }
  Expected<RowModule> operator()(const RowwiseProblem &p) const {
    KF_TRY(OwningOpRef<ModuleOp> module, parseModuleText(context, moduleText(p), row.name));
    if (p.operation != Operation::Rope)
      return RowModule{std::move(module), "row", {{"tokens", p.rows}}, 0};
    // Not from position 0: of a single row a kernel that ignores positions would be right.
    constexpr int64_t context = 4096, past = 1000;
    return RowModule{std::move(module), "row", {{"tokens", p.rows}, {"context", context}}, past};
  }
  Expected<RowModule> operator()(const BlockProblem &p) const {
    ModelDescription d;
    d.architecture = "block";
    d.modelDim = p.modelDim;
    d.contextLength = p.past + p.rows;
    LayerDescription layer;
    layer.attention.heads = p.heads;
    layer.attention.kvHeads = p.kvHeads;
    layer.attention.headDim = p.headDim;
    layer.attention.rope = d.addRope({.rotaryDim = p.headDim});
    layer.mlp.width = p.ffnDim;
    d.layers.assign(static_cast<size_t>(p.layers), layer);
    const FunctionRange range{"row", p.rows == 1 ? 1 : 2, p.rows, 1, 1};
    OwningOpRef<ModuleOp> module =
        buildDecoder(context, d, range, [&](llvm::StringRef) { return p.weights; });
    KF_CHECK(setNumerics(*module, p.numerics));
    return RowModule{std::move(module),
                     "row",
                     {{"tokens", p.rows}, {"sequences", 1}, {"context", p.past + p.rows}},
                     p.past};
  }
  Expected<RowModule> operator()(const ModuleProblem &p) const {
    KF_TRY(std::string text, readFile(p.file, "module is not usable", maxModuleBytes));
    KF_TRY(OwningOpRef<ModuleOp> module, parseModuleText(context, text, p.file));
    KF_TRY(func::FuncOp function, findFunction(*module, p.function));
    return RowModule{std::move(module), function.getSymName().str(), p.sizes, p.past};
  }
};

} // namespace

Expected<RowModule> kernelforge::buildRowModule(MLIRContext *context, const SuiteRow &row) {
  return std::visit(ModuleMaker{context, row}, row.problem);
}
