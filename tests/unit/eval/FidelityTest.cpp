// Right kernels pass the verdict, whatever they compute, for each level and several seeds, and how
// near they come to what is allowed.
#include "FunctionTrial.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

using namespace kernelforge;

namespace {

constexpr uint64_t seeds[] = {1, 2};

/// The largest errors that were seen in a family.
struct Margin {
  double allowed = 0;   ///< largest error, as a part of what rule 2 allows
  double l2Allowed = 0; ///< and of what rule 3 allows
  double yardstick = 0; ///< largest error, as a multiple of the plain implementation's
  std::string where;    ///< of `allowed`
};

/// Runs the cases of a family; every output must pass.
void expectRight(const std::string &family, const std::vector<FunctionCase> &cases) {
  Margin margin;
  int judged = 0;
  for (const FunctionCase &tried : cases)
    for (const std::string &level : levels()) {
      auto trial = FunctionTrial::compile(tried, level);
      for (uint64_t seed : seeds) {
        auto run = trial ? trial->run(seed) : nullptr;
        if (!run)
          return;
        for (const auto &[name, a] : run->verdicts()) {
          const std::string where =
              fmt::format("{}, {}, seed {}, {}", tried.name, level, seed, name);
          EXPECT_TRUE(a.pass) << where << ": " << a.why;
          EXPECT_GT(a.checked, 0) << where;
          ++judged;
          const double part = a.maxAbs / (a.tolerance * a.maxReference);
          if (part >= margin.allowed) {
            margin.allowed = part;
            margin.where = where;
          }
          margin.l2Allowed = std::max(margin.l2Allowed, a.l2Rel / a.l2Tolerance);
          if (a.yardstickMaxAbs > 0)
            margin.yardstick = std::max(margin.yardstick, a.maxAbs / a.yardstickMaxAbs);
        }
      }
    }
  fmt::print("[  MARGIN  ] {}: {} outputs; error / yardstick {:.2f}; of what is allowed: {:.2f} "
             "(L2 {:.2f}); {}\n",
             family, judged, margin.yardstick, margin.allowed, margin.l2Allowed, margin.where);
}

TEST(RightKernels, MatmulOfEveryWeightType) {
  std::vector<FunctionCase> cases;
  for (const ElementTypeInfo &t : elementTypes())
    if (t.type != ElementType::I32)
      for (int64_t rows : {1, 3, 40})
        cases.push_back(matmulCase({rows, 99, 512, t.type}));
  expectRight("matmul by type", cases);
}

TEST(RightKernels, MatmulOfManyShapes) {
  using enum ElementType;
  using enum EpilogueStep;
  expectRight("matmul by shape",
              {matmulCase({1, 576, 16}), matmulCase({1, 64, 8192}), matmulCase({70, 130, 17}),
               matmulCase({64, 64, 64}), matmulCase({16, 200, 1536}),
               matmulCase({5, 333, 4096, BF16}), matmulCase({130, 64, 2048, Q8_0}),
               matmulCase({1, 600, 8192, Q4_K}), matmulCase({33, 100, 700, F32, true}),
               matmulCase({9, 120, 512, F16, true})});
  expectRight("matmul with epilogue",
              {matmulCase({7, 129, 320, F32, false, {Bias, Silu, Residual}}),
               matmulCase({7, 129, 320, F32, false, {Bias, Gelu}}),
               matmulCase({7, 129, 320, Q4_1, false, {GeluTanh}}),
               matmulCase({1, 640, 640, Q4_0, false, {Silu}}),
               matmulCase({1, 640, 640, F32, false, {Residual, Relu}})});
}

TEST(RightKernels, Attention) {
  expectRight("attention, decode",
              {attentionCase("1 row", 1, 0), attentionCase("1 after 15", 1, 15),
               attentionCase("1 after 300", 1, 300), attentionCase("1 after 2000", 1, 2000)});
  expectRight("attention, prefill",
              {attentionCase("2 rows", 2, 0), attentionCase("33 rows", 33, 0),
               attentionCase("64 after 100", 64, 100), attentionCase("200 rows", 200, 0)});
}

TEST(RightKernels, Rowwise) {
  std::vector<FunctionCase> cases;
  for (const auto &[name, body] : std::vector<std::pair<std::string, std::string>>{
           {"rms_norm", "%y = transformer.rms_norm %x, %a {epsilon = 1.0e-5 : f64} : "
                        "(!rows, !vector) -> !rows"},
           {"layer_norm", "%y = transformer.layer_norm %x, %a, %b {epsilon = 1.0e-5 : f64} : "
                          "(!rows, !vector, !vector) -> !rows"},
           {"softmax", "%y = transformer.softmax %x : !rows"},
           {"silu", "%y = transformer.activation %x <silu> : !rows"},
           {"gelu", "%y = transformer.activation %x <gelu> : !rows"},
           {"gelu_tanh", "%y = transformer.activation %x <gelu_tanh> : !rows"},
           {"relu", "%y = transformer.activation %x <relu> : !rows"},
           {"add", "%y = transformer.add %x, %x : !rows"},
           {"mul", "%y = transformer.mul %x, %x : !rows"},
           {"soft cap", "%y = transformer.scale %x {factor = -1.3 : f64, softcap = 2.0 : f64} : "
                        "!rows"},
           {"wide silu", "%s = transformer.scale %x {factor = 20.0 : f64, softcap = 0.0 : f64} : "
                         "!rows\n%y = transformer.activation %s <silu> : !rows"},
           {"peaked softmax", "%s = transformer.scale %x {factor = 30.0 : f64, softcap = 0.0 : f64}"
                              " : !rows\n%y = transformer.softmax %s : !rows"}})
    for (auto [rows, width] : {std::pair(1, 64), {1, 576}, {5, 4096}, {33, 100}})
      cases.push_back(
          rowwiseCase(fmt::format("{} of {} x {}", name, rows, width), rows, width, body));
  expectRight("rowwise", cases);
}

TEST(RightKernels, Blocks) {
  std::vector<FunctionCase> cases;
  for (int64_t tokens : {1, 40})
    for (int64_t past : {0, 60}) {
      auto name = [&](const char *kind) {
        return fmt::format("{}, {} tokens after {}", kind, tokens, past);
      };
      cases.push_back(blockCase(name("llama f32"), true, ElementType::F32, tokens, past));
      cases.push_back(blockCase(name("llama q4_1"), true, ElementType::Q4_1, tokens, past));
      cases.push_back(blockCase(name("llama q4_k"), true, ElementType::Q4_K, tokens, past));
      cases.push_back(blockCase(name("gpt bf16"), false, ElementType::BF16, tokens, past));
    }
  expectRight("blocks", cases);
}

} // namespace
