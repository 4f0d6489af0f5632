// Every variant of matmul on every trial problem; what they refuse; and that the verification which
// says so finds mistakes.
#include "kernelforge/kernels/MatmulKernel.h"

#include "kernelforge/kernels/MatmulRegistry.h"
#include "kernelforge/kernels/VerifyMatmul.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

namespace kernelforge {
namespace {

using testing::HasSubstr;

const MatmulKernel &variant(std::string_view name) { return **MatmulRegistry::global().find(name); }

std::vector<std::string> variantNames() {
  std::vector<std::string> names;
  for (const auto &kernel : MatmulRegistry::global().all())
    names.emplace_back(kernel->name());
  return names;
}

std::string testName(const testing::TestParamInfo<std::string> &test) {
  std::string name = test.param;
  std::ranges::replace(name, ':', '_');
  return name;
}

std::string lineOf(const Status &status) { return status ? "no error" : status.error().line(); }

//===----------------------------------------------------------------------===//
// All variants
//===----------------------------------------------------------------------===//

class Variant : public testing::TestWithParam<std::string> {
protected:
  void SetUp() override {
    const MatmulSupport support = variant(GetParam()).supports({1, 1, 1});
    if (support.kind == MatmulSupport::Kind::Unavailable)
      GTEST_SKIP() << support.why;
  }
};

TEST_P(Variant, IsRightOnAllTrialProblems) {
  const MatmulKernel &kernel = variant(GetParam());
  for (const MatmulProblem &problem : trialProblems())
    for (int threads : {1, 2}) {
      const MatmulSupport support = kernel.supports(problem);
      if (!support) {
        EXPECT_EQ(support.kind, MatmulSupport::Kind::Unsupported);
        EXPECT_THAT(support.why, HasSubstr("f32"));
        EXPECT_TRUE(GetParam().starts_with("vendor:"));
        EXPECT_EQ(verifyMatmul(kernel, problem, {threads, ""}).error().kind, ErrorKind::Unusable);
        continue;
      }
      EXPECT_EQ(lineOf(verifyMatmul(kernel, problem, {threads, ""})), "no error");
    }
}

TEST_P(Variant, SaysWhatItTook) {
  const float weight[6] = {1, 2, 3, 4, 5, 6}, input[3] = {1, 10, 100};
  const MatmulOperands operands{reinterpret_cast<const std::byte *>(weight)};
  auto matmul = variant(GetParam()).prepare({1, 2, 3}, operands, {});
  ASSERT_TRUE(matmul) << matmul.error().line();
  float output[2] = {};
  ASSERT_TRUE((*matmul)->run(input, output));
  EXPECT_EQ(output[0], 321);
  EXPECT_EQ(output[1], 654);
  const MatmulDetails &details = (*matmul)->details;
  EXPECT_EQ(details.library.empty(), !GetParam().starts_with("vendor:"));
  EXPECT_EQ(details.scheduleSource, details.schedule.empty() ? "" : "analytic");
}

TEST_P(Variant, RefusesWhatItCannotDo) {
  const MatmulKernel &kernel = variant(GetParam());
  const float weight[4] = {};
  const MatmulOperands operands{reinterpret_cast<const std::byte *>(weight)};
  auto refusal = [&](const MatmulProblem &problem, const MatmulOperands &operands,
                     const MatmulOptions &options) {
    auto prepared = kernel.prepare(problem, operands, options);
    EXPECT_FALSE(prepared);
    return prepared ? std::string() : prepared.error().line();
  };
  EXPECT_THAT(refusal({0, 2, 2}, operands, {}), HasSubstr("m is 0, but must be from 1"));
  EXPECT_THAT(refusal({1, 2, 2}, {}, {}), HasSubstr("no weight is given"));
  EXPECT_THAT(refusal({1, 2, 2}, operands, {0, ""}), HasSubstr("thread count"));
  MatmulProblem biased{1, 2, 2};
  biased.epilogue = {EpilogueStep::Bias};
  EXPECT_THAT(refusal(biased, operands, {}), HasSubstr("reads a bias, and none is given"));
  if (!kernel.scheduleSpace({1, 2, 2}, 1))
    EXPECT_THAT(refusal({1, 2, 2}, operands, {1, R"({"mc":8})"}), HasSubstr("has no schedule"));
}

INSTANTIATE_TEST_SUITE_P(All, Variant, testing::ValuesIn(variantNames()), testName);

//===----------------------------------------------------------------------===//
// Schedules
//===----------------------------------------------------------------------===//

class Scheduled : public testing::TestWithParam<std::string> {};

/// Evenly spread schedules of the space, on a problem with edges everywhere.
TEST_P(Scheduled, AreRightAcrossTheSpace) {
  const MatmulKernel &kernel = variant(GetParam());
  for (const MatmulProblem &problem :
       {MatmulProblem{37, 150, 544, ElementType::Q4_1}, MatmulProblem{5, 300, 700},
        MatmulProblem{37, 150, 544, ElementType::F32, true}}) {
    const ScheduleSpace space = *kernel.scheduleSpace(problem, 2);
    EXPECT_EQ(lineOf(space.check(space.analytic)), "no error");
    for (const KnobValues &schedule : space.legal(12)) {
      EXPECT_GT(space.predict(schedule), 0);
      EXPECT_EQ(lineOf(verifyMatmul(kernel, problem, {2, knobsText(schedule)})), "no error")
          << knobsText(schedule);
    }
  }
}

TEST_P(Scheduled, RefusesIllegalOnes) {
  const MatmulKernel &kernel = variant(GetParam());
  const MatmulProblem problem{37, 150, 544, ElementType::Q4_1};
  const KnobValues legal = kernel.scheduleSpace(problem, 2)->analytic;
  auto refusal = [&](const std::string &knob, int64_t value) {
    KnobValues schedule = legal;
    schedule[knob] = value;
    return lineOf(verifyMatmul(kernel, problem, {2, knobsText(schedule)}));
  };
  EXPECT_THAT(refusal("mc", 9),
              HasSubstr("knob mc): it is 9, but must be a multiple of 8 from 8 to 4096; "
                        "the nearest legal value is 8"));
  EXPECT_THAT(refusal("kc", 5000), HasSubstr("the nearest legal value is 4096"));
  EXPECT_THAT(refusal("pack", 2), HasSubstr("it is 2, but must be from 0 to 1"));
  EXPECT_THAT(refusal("mr", 4), HasSubstr("there is no such knob; known: "));
  // Knobs that are left open get their analytic values.
  KnobValues incomplete = legal;
  incomplete.erase("nc");
  const auto space = kernel.scheduleSpace(problem, 2);
  EXPECT_EQ(space->complete({{"mc", 16}}).at("nc"), legal.at("nc"));
  EXPECT_EQ(space->complete({{"mc", 16}}).at("mc"), 16);
  EXPECT_TRUE(verifyMatmul(kernel, problem, {2, knobsText(incomplete)}));
  EXPECT_THAT(lineOf(verifyMatmul(kernel, problem, {2, "{"})), HasSubstr("schedule is not usable"));
}

INSTANTIATE_TEST_SUITE_P(All, Scheduled, testing::Values("blocked", "parallel"), testName);

TEST(Parallel, GivesTheSameBitsForAnyNumberOfThreads) {
  const MatmulProblem problem{3, 70, 2048};
  const std::vector<float> input(3 * 2048, 0.1f), weight(70 * 2048, 0.7f);
  const MatmulOperands operands{reinterpret_cast<const std::byte *>(weight.data())};
  const std::string schedule =
      R"({"kc":256,"mc":8,"nc":480,"pack":1,"split_k":3,"split_m":1,"split_n":1})";
  auto run = [&](int threads) {
    std::vector<float> output(3 * 70);
    auto matmul = variant("parallel").prepare(problem, operands, {threads, schedule});
    EXPECT_TRUE(matmul && (*matmul)->run(input.data(), output.data()));
    return output;
  };
  EXPECT_EQ(run(1), run(2));
  EXPECT_EQ(run(1), run(4)); // libomp leaks the tables that it outgrows with more
}

TEST(Parallel, SplitsTheSumOnlyWhereTheResultIsSmall) {
  EXPECT_GT(variant("parallel").scheduleSpace({1, 8, 8192}, 4)->analytic.at("split_k"), 1);
  EXPECT_EQ(variant("parallel").scheduleSpace({512, 512, 8192}, 4)->analytic.at("split_k"), 1);
}

//===----------------------------------------------------------------------===//
// Problems and epilogues
//===----------------------------------------------------------------------===//

TEST(MatmulProblem, IsNamedAndCounted) {
  MatmulProblem problem{512, 1536, 576, ElementType::Q4_1};
  EXPECT_EQ(problem.name(), "matmul_512x1536x576_q4_1");
  EXPECT_EQ(problem.flops(), 2.0 * 512 * 1536 * 576);
  EXPECT_EQ(problem.bytes(), 1536 * 576 / 32 * 20 + 4.0 * (512 * 576 + 512 * 1536));
  problem = {2, 3, 4, ElementType::BF16, true, {EpilogueStep::Bias, EpilogueStep::Residual}};
  EXPECT_EQ(problem.name(), "matmul_2x3x4_bf16_t_bias_residual");
  EXPECT_EQ(problem.bytes(), 3 * 4 * 2 + 4.0 * (2 * 4 + 2 * 3 + 2 * 3 + 3));
}

TEST(MatmulProblem, IsRefusedWhereItsBlocksAreNotWhole) {
  EXPECT_THAT(lineOf(checkProblem({1, 1, 577, ElementType::Q4_1})),
              HasSubstr("k is 577, which is no multiple of the 32 elements of a q4_1 block; "
                        "the nearest legal value is 576"));
  EXPECT_THAT(lineOf(checkProblem({1, 32, 32, ElementType::Q8_0, true})),
              HasSubstr("q8_0 weights cannot be transposed"));
  EXPECT_THAT(lineOf(checkProblem({1, 32, 32, ElementType::I32})),
              HasSubstr("i32 is no type of weights"));
  EXPECT_EQ(checkProblem({1, 1, 5, ElementType::Q4_1}).error().kind, ErrorKind::Unusable);
}

TEST(Epilogue, IsReadAndPrinted) {
  const std::string text = "bias,gelu_tanh,residual";
  auto steps = parseEpilogue(text);
  ASSERT_TRUE(steps);
  EXPECT_EQ(epilogueText(*steps), text);
  EXPECT_TRUE(parseEpilogue("")->empty());
  for (const char *bad : {"tanh", "bias,", ",bias", "bias,,relu", "bias,bias", "Bias"}) {
    auto refused = parseEpilogue(bad);
    ASSERT_FALSE(refused) << bad;
    EXPECT_EQ(refused.error().kind, ErrorKind::Unusable);
  }
  EXPECT_THAT(parseEpilogue("tanh").error().line(),
              HasSubstr("known: bias, relu, silu, gelu, gelu_tanh, residual"));
}

TEST(Epilogue, KeepsExtremes) {
  // NaN stays NaN, large values and infinities saturate, nothing else turns into NaN.
  const float huge = 1e30f, infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {-infinity, -huge, -100, -0.0f, 0, 100, huge, infinity, NAN};
  for (EpilogueStep step :
       {EpilogueStep::Relu, EpilogueStep::Silu, EpilogueStep::Gelu, EpilogueStep::GeluTanh}) {
    std::vector<float> out = values;
    Epilogue{{&step, 1}, nullptr, nullptr, 9}.applyToAll(1, 1, out.data());
    for (size_t i : {size_t(0), size_t(1), size_t(2), size_t(3), size_t(4)})
      EXPECT_NEAR(out[i], 0, 1e-30) << epilogueStepName(step) << " of " << values[i];
    for (size_t i : {size_t(5), size_t(6), size_t(7)})
      EXPECT_EQ(out[i], values[i]) << epilogueStepName(step);
    EXPECT_TRUE(std::isnan(out[8])) << epilogueStepName(step);
  }
}

//===----------------------------------------------------------------------===//
// The registry
//===----------------------------------------------------------------------===//

/// A variant that does what a test wants.
class Fake final : public MatmulKernel {
public:
  using Run = std::function<void(const MatmulProblem &, const float *, float *)>;
  Fake(std::string name, Run run) : label(std::move(name)), function(std::move(run)) {}
  std::string_view name() const override { return label; }
  MatmulSupport supports(const MatmulProblem &) const override { return MatmulSupport::ok(); }

private:
  struct Prepared final : PreparedMatmul {
    Status run(const float *input, float *output) override {
      if (Status status = right->run(input, output); !status)
        return status;
      function(problem, input, output);
      return {};
    }
    std::unique_ptr<PreparedMatmul> right;
    MatmulProblem problem;
    Run function;
  };
  Expected<std::unique_ptr<PreparedMatmul>> make(const MatmulProblem &problem,
                                                 const MatmulOperands &operands, const KnobValues &,
                                                 int threads) const override {
    auto prepared = std::make_unique<Prepared>();
    KF_TRY(prepared->right, variant("blocked").prepare(problem, operands, {threads, ""}));
    prepared->problem = problem;
    prepared->function = function;
    return prepared;
  }
  std::string label;
  Run function;
};

TEST(MatmulRegistry, HasUniqueNamesInOrder) {
  MatmulRegistry registry;
  for (const char *name : {"z", "a"})
    ASSERT_TRUE(registry.add(std::make_unique<Fake>(name, nullptr)));
  const Status again = registry.add(std::make_unique<Fake>("z", nullptr));
  EXPECT_THAT(lineOf(again), HasSubstr("one of that name already"));
  EXPECT_EQ(registry.all()[0]->name(), "z");
  EXPECT_EQ(registry.all()[1]->name(), "a");
  EXPECT_EQ((*registry.find("a"))->name(), "a");
  EXPECT_THAT(registry.find("b").error().line(), HasSubstr("there are z, a"));
  registry.addBeforeMain(std::make_unique<Fake>("a", nullptr));
  EXPECT_EQ(registry.all().size(), 2);
  EXPECT_THAT(registry.find("a").error().line(), HasSubstr("two variants claim this name"));
}

TEST(MatmulRegistry, HasTheBuiltInVariants) {
  EXPECT_THAT(variantNames(),
              testing::ElementsAre("reference", "blocked", "parallel", "vendor:openblas",
                                   "vendor:mkl", "vendor:onednn"));
}

//===----------------------------------------------------------------------===//
// The verification finds mistakes
//===----------------------------------------------------------------------===//

std::string verdict(Fake::Run run) {
  return lineOf(verifyMatmul(Fake("fake", std::move(run)), {5, 9, 33}, {}));
}

TEST(VerifyMatmul, FindsMistakes) {
  using P = const MatmulProblem &;
  EXPECT_EQ(verdict([](P, const float *, float *) {}), "no error");
  EXPECT_THAT(verdict([](P p, const float *, float *out) { std::fill_n(out, p.m * p.n, 0.0f); }),
              HasSubstr("row 0, column 0 is 0"));
  EXPECT_THAT(verdict([](P, const float *, float *out) { out[44] *= 1.0001f; }),
              HasSubstr("row 4, column 8"));
  EXPECT_THAT(verdict([](P, const float *, float *out) { out[7] = NAN; }),
              HasSubstr("row 0, column 7 is nan"));
  EXPECT_THAT(verdict([](P, const float *, float *out) { out[45] = 0; }),
              HasSubstr("wrote to element 45 of a result of 45"));
  EXPECT_THAT(verdict([](P, const float *, float *out) { out[-1] = 0; }),
              HasSubstr("wrote to element -1"));
  EXPECT_THAT(verdict([](P, const float *in, float *) { const_cast<float *>(in)[3] = 0; }),
              HasSubstr("changed its input"));
  int calls = 0;
  EXPECT_THAT(verdict([&](P, const float *, float *out) {
                if (++calls == 2)
                  out[3] = std::nextafter(out[3], 0.0f);
              }),
              HasSubstr("a second run gave other bits"));
}

} // namespace
} // namespace kernelforge
