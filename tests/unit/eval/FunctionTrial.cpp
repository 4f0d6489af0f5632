#include "FunctionTrial.h"

#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/compiler/MatmulModule.h"
#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/eval/RowModule.h"
#include "kernelforge/ir/ModuleBuilder.h"
#include "kernelforge/ir/Transformer.h"

#include "mlir/Parser/Parser.h"

#include <algorithm>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace kernelforge {

const TensorData &TrialRun::argument(const std::string &name) const {
  return *std::ranges::find(data.arguments, name, &TensorData::name);
}

std::unique_ptr<FunctionTrial> FunctionTrial::open(const std::string &level) {
  auto trial = std::make_unique<FunctionTrial>();
  SessionOptions options;
  options.target = parseTarget(level, "").value();
  options.threads = 2;
  options.cache = false;
  options.poison = true;
  trial->session = std::move(Session::create(options).value());
  return trial;
}

bool FunctionTrial::load(mlir::OwningOpRef<mlir::ModuleOp> module) {
  if (!module) {
    ADD_FAILURE() << tried.name << " cannot be built";
    return false;
  }
  original = module->clone();
  const Status status = session->compile(std::move(module));
  if (!status)
    ADD_FAILURE() << tried.name << ": " << status.error().line();
  return status.has_value();
}

std::unique_ptr<FunctionTrial> FunctionTrial::compile(const FunctionCase &tried,
                                                      const std::string &level) {
  auto trial = open(level);
  trial->tried = tried;
  return trial->load(tried.build(&trial->session->context())) ? std::move(trial) : nullptr;
}

std::unique_ptr<FunctionTrial> FunctionTrial::compile(const SuiteRow &row,
                                                      const std::string &level) {
  auto trial = open(level);
  auto built = buildRowModule(&trial->session->context(), row);
  if (!built) {
    ADD_FAILURE() << row.name << ": " << built.error().line();
    return nullptr;
  }
  trial->tried = {row.name, built->function, {}, built->sizes, built->past};
  return trial->load(std::move(built->module)) ? std::move(trial) : nullptr;
}

static Expected<TrialRun> runOnce(Session &session, mlir::ModuleOp original,
                                  const FunctionCase &tried, uint64_t seed,
                                  const DataChange &change) {
  KF_TRY(mlir::func::FuncOp function, findFunction(original, tried.function));
  KF_TRY(FunctionSignature signature, readSignature(function));
  KF_TRY(SizeValues sizes, chooseSizes(signature, tried.sizes, tried.past));
  KF_TRY(FunctionData data, randomData(signature, sizes, seed, tried.past));
  if (change)
    change(data);
  KF_TRY(FunctionFidelity fidelity, FunctionFidelity::create(original, signature, data));
  const std::vector<mlir::Type> types = declaredTypes(session.module(), signature.name);
  for (size_t i = 0; i < data.arguments.size(); ++i) {
    TensorData &argument = data.arguments[i];
    if (layoutOf(types[i]))
      KF_CHECK(session.bindWeight(argument.name, argument.type,
                                  argument.memory.span().first(argument.bytes())));
    else
      KF_CHECK(session.bind(argument.name, argument.memory.span()));
  }
  TrialRun run{std::move(signature), std::move(data), std::move(fidelity)};
  std::vector<std::span<std::byte>> results;
  for (TensorData &result : run.data.results) {
    results.push_back(result.memory.span());
    poison(
        {reinterpret_cast<float *>(result.memory.data()), static_cast<size_t>(result.elements())});
  }
  const std::vector<int64_t> list = run.data.sizeList(run.signature);
  KF_CHECK(session.run(run.signature.name, list, results));
  return run;
}

std::unique_ptr<TrialRun> FunctionTrial::run(uint64_t seed, const DataChange &change) {
  auto run = runOnce(*session, *original, tried, seed, change);
  if (!run) {
    ADD_FAILURE() << tried.name << ": " << run.error().line();
    return nullptr;
  }
  return std::make_unique<TrialRun>(std::move(*run));
}

std::vector<std::string> levels() {
  std::vector<std::string> names{"avx2"};
  if (checkRunnable(parseTarget("avx512", "").value()))
    names.emplace_back("avx512");
  return names;
}

static ModuleBuilderFn parsing(const std::string &text) {
  return [text](mlir::MLIRContext *context) {
    return mlir::parseSourceString<mlir::ModuleOp>(text, context);
  };
}

FunctionCase rowwiseCase(const std::string &name, int64_t rows, int64_t width,
                         const std::string &body) {
  const std::string text = fmt::format(R"mlir(
!rows = tensor<?x{0}xf32, #transformer.dims<"tokens">>
!vector = tensor<{0}xf32>
func.func @f(%n: index {{transformer.size = #transformer.size<"tokens", 1 to 64>}},
    %x: !rows {{transformer.input = "x"}}, %a: !vector {{transformer.weight = "a"}},
    %b: !vector {{transformer.weight = "b"}}) -> !rows {{
  {1}
  return %y : !rows
}})mlir",
                                       width, body);
  return {name, "f", parsing(text), {{"tokens", rows}}};
}

FunctionCase attentionCase(const std::string &name, int64_t rows, int64_t past) {
  const std::string text = fmt::format(R"mlir(
!rows = tensor<?x128xf32, #transformer.dims<"tokens">>
!indices = tensor<?xi32, #transformer.dims<"tokens">>
!each = tensor<?xi32, #transformer.dims<"sequences">>
!cache = !transformer.cache<2, 32, f32>
func.func @f(%n: index {{transformer.size = #transformer.size<"tokens", {0} to {0}>}},
    %s: index {{transformer.size = #transformer.size<"sequences", 1 to 1>}},
    %q: !rows {{transformer.input = "q"}}, %k: !cache {{transformer.input = "k"}},
    %v: !cache {{transformer.input = "v"}}, %p: !indices {{transformer.input = "positions"}},
    %seq: !indices {{transformer.input = "sequences"}}, %t: !each {{transformer.input = "table"}},
    %l: !each {{transformer.input = "lengths"}}) -> !rows {{
  %y = transformer.attention %q, %k, %v positions(%p) sequences(%seq) table(%t) lengths(%l)
      {{heads = 4 : i64, scale = 0.5 : f64}}
      : (!rows, !cache, !cache, !indices, !indices, !each, !each) -> !rows
  return %y : !rows
}})mlir",
                                       rows);
  return {name, "f", parsing(text), {{"tokens", rows}, {"sequences", 1}}, past};
}

FunctionCase matmulCase(const MatmulProblem &problem) {
  auto build = [problem](mlir::MLIRContext *context) {
    return std::move(buildMatmulModule(context, problem).value());
  };
  return {problem.name(), "matmul", build, {{"rows", problem.m}}};
}

FunctionCase blockCase(const std::string &name, bool gated, ElementType weights, int64_t tokens,
                       int64_t past) {
  ModelDescription d;
  d.modelDim = 256;
  d.contextLength = 256;
  LayerDescription layer;
  layer.attention = {.heads = 4, .kvHeads = 2, .headDim = 64};
  layer.mlp = {.width = 512, .gated = gated};
  if (gated) {
    layer.attention.rope = d.addRope({.rotaryDim = 64});
  } else {
    layer.beforeAttention = layer.beforeMlp = NormDescription{.kind = NormKind::Layer};
    layer.mlp.activation = ActivationKind::Gelu;
    layer.attention.bias = layer.attention.outputBias = layer.mlp.bias = true;
  }
  d.layers.push_back(layer);
  auto build = [d, weights, tokens](mlir::MLIRContext *context) {
    auto typeOf = [weights](llvm::StringRef weight) {
      return weight.ends_with("weight") && !weight.contains("norm") ? weights : ElementType::F32;
    };
    return buildDecoder(context, d, {{"block", tokens, tokens, 1, 1}}, typeOf);
  };
  SizeValues sizes{{"tokens", tokens}, {"sequences", 1}};
  if (gated) // rows of the table of RoPE
    sizes["context"] = std::min<int64_t>(past + tokens, d.contextLength);
  return {name, "block", build, sizes, past};
}

} // namespace kernelforge
