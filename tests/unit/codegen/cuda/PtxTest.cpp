#include "kernelforge/codegen/cuda/Ptx.h"
#include "../simt/KernelTexts.h"
#include "CudaContext.h"
#include "kernelforge/codegen/cuda/Generator.h"
#include "kernelforge/codegen/cuda/Lowering.h"
#include "kernelforge/codegen/cuda/Target.h"
#include "kernelforge/ir/Transformer.h"
#include "ptx/Ptx.h"

#include "mlir/Parser/Parser.h"

#include <bit>
#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

using namespace kernelforge;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

namespace {

/// PTX of the kernel in `text`, with entries that begin with "main"; or why there is none.
std::string ptxOf(const std::string &text, const std::string &chip = "sm_90a",
                  const std::string &features = "") {
  const auto generator = cuda::createGenerator();
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context());
  auto target = generator->parse(chip, features, nullptr);
  if (!module || !target)
    return module ? target.error().line() : "the text cannot be parsed";
  auto kernel = *module->getOps<transformer::KernelOp>().begin();
  EmittedKernel emitted{mlir::ModuleOp::create(kernel.getLoc()), "main", {}};
  const KernelAnalysis analysis(kernel);
  auto launching = generator->emit(*emitted.module, analysis, *target, "main");
  if (!launching)
    return launching.error().line();
  emitted.launching = *launching;
  const Status lowered = generator->lower(*emitted.module);
  if (!lowered)
    return lowered.error().line();
  auto ptx = generator->compile(emitted, analysis, *target);
  return ptx ? *ptx : ptx.error().line();
}

/// A kernel by the plain method.
std::string plain(std::string text) {
  const std::string body = " {\n";
  text.insert(text.find(body, text.find("transformer.kernel")),
              " attributes {schedule = #transformer.schedule<{method = 0}>}");
  return text;
}

std::string matmulText(int64_t most = 64, ElementType type = ElementType::F32) {
  const std::string in = rowsText(256), out = rowsText(130), weight = weightText(type, 130, 256);
  return plain(kernelText("%x: " + in + ", %w: " + weight, out,
                          fmt::format("%y = transformer.matmul %x weights(%w) : ({}, {}) -> {}\n "
                                      "transformer.yield %y : {}",
                                      in, weight, out, out),
                          most));
}

/// Plain SIMT code by hand, one function @main of these parameters: its entry.
std::shared_ptr<const ptx::Entry> compiled(const std::string &parameters, const std::string &body,
                                           const std::string &attributes = "") {
  EmittedKernel emitted;
  emitted.entry = "main";
  emitted.module = mlir::parseSourceString<mlir::ModuleOp>(
      "func.func @main(" + parameters + ") " + attributes +
          " {\n%b = gpu.block_id x\n%t = gpu.thread_id x\n" + body + "\nreturn\n}",
      &context());
  EXPECT_TRUE(emitted.module) << body;
  Phase phase;
  phase.entry = "main";
  phase.block = {64, 1, 1};
  emitted.launching.phases = {phase};
  cuda::markBlocks(*emitted.module, emitted.launching);
  const Status lowered = cuda::lower(*emitted.module);
  EXPECT_TRUE(lowered) << lowered.error().line();
  auto text = cuda::printPtx(emitted, *cuda::parseTarget("sm_90a", "", nullptr), {});
  EXPECT_TRUE(text) << text.error().line();
  std::string error;
  auto module = ptx::parse(*text, error);
  EXPECT_TRUE(module) << error << "\n" << *text;
  return module ? module->entries.at("main") : nullptr;
}

/// What an operation gives for each of `x`.
std::vector<float> applied(const std::string &operation, std::vector<float> x,
                           const std::string &attributes = "") {
  x.resize((x.size() + 63) / 64 * 64);
  const auto entry = compiled(
      "%in: memref<?xf32>, %out: memref<?xf32>",
      "%c64 = arith.constant 64 : i32\n%b32 = arith.index_castui %b : index to i32\n%t32 = "
      "arith.index_castui %t : index to i32\n%first = arith.muli %b32, %c64 : i32\n%i = arith.addi "
      "%first, %t32 : i32\n%at = arith.index_castui %i : i32 to index\n%x = memref.load %in[%at] : "
      "memref<?xf32>\n%one = arith.constant 1.0 : f32\n%y = " +
          operation + " : f32\nmemref.store %y, %out[%at] : memref<?xf32>",
      attributes);
  std::vector<float> y(x.size());
  const void *pointers[] = {x.data(), y.data()};
  void *parameters[] = {static_cast<void *>(&pointers[0]), static_cast<void *>(&pointers[1])};
  ptx::Launch launch;
  launch.grid[0] = static_cast<unsigned>(x.size() / 64);
  launch.block[0] = 64;
  launch.parameters = parameters;
  EXPECT_EQ(ptx::run(*entry, launch), "");
  return y;
}

/// Distance in units of the last place of the exact result.
double ulps(float actual, double expected) {
  if (std::isnan(expected) || std::isinf(static_cast<float>(expected)))
    return (std::isnan(expected) && std::isnan(actual)) || actual == static_cast<float>(expected)
               ? 0
               : INFINITY;
  const int exponent = expected == 0 ? -126 : std::max(std::ilogb(expected), -126);
  const double error = std::fabs(actual - expected) / std::ldexp(1.0, exponent - 23);
  return std::isnan(error) ? INFINITY : error;
}

void expectAccurate(const std::string &function, double (*exact)(double), double limit) {
  // All exponents, denormals, infinities and NaNs; and densely what kernels compute.
  std::vector<float> x{0.0F, -0.0F, INFINITY, -INFINITY, NAN};
  for (uint64_t bits = 0; bits < uint64_t(1) << 32; bits += 100003)
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  for (int i = -20000; i <= 20000; ++i)
    x.push_back(static_cast<float>(i) * 0.00503F);
  const std::vector<float> y = applied("math." + function + " %x", x);
  double worst = 0, at = 0;
  for (size_t i = 0; i < x.size(); ++i)
    if (const double error = ulps(y[i], exact(x[i])); error > worst) {
      worst = error;
      at = x[i];
    }
  EXPECT_LE(worst, limit) << function << " at " << at;
}

} // namespace

TEST(Ptx, AnEntryIsAsTheConventionSays) {
  EXPECT_THAT(
      ptxOf(matmulText()),
      AllOf(testing::StartsWith("// @k: matmul (matmul)\n// 64 columns x 4 rows a workgroup\n"),
            HasSubstr(".version 8.0\n.target sm_90a\n"),
            HasSubstr(".visible .entry main(\n\t.param .u64 main_param_0,\n\t.param .u64 "
                      "main_param_1,\n\t.param .u64 main_param_2,\n\t.param .u32 main_param_3\n)\n"
                      ".reqntid 64, 1, 1\n.maxnreg 128\n"),
            Not(HasSubstr(".extern")), Not(HasSubstr("cvta"))));
}

TEST(Ptx, VersionAndChipAreTheTargets) {
  EXPECT_THAT(ptxOf(matmulText(), "sm_80", "+ptx83"), HasSubstr(".version 8.3\n.target sm_80\n"));
  EXPECT_THAT(ptxOf(matmulText(), "sm_75"), HasSubstr(".version 6.3\n.target sm_75\n"));
}

TEST(Ptx, SumsOfProductsAreFusedAndNothingElseIsLoose) {
  EXPECT_THAT(ptxOf(matmulText()),
              AllOf(HasSubstr("fma.rn.f32"), Not(HasSubstr("mul.rn.f32")), Not(HasSubstr(".ftz"))));
  const std::string rows = rowsText(100);
  EXPECT_THAT(
      ptxOf(plain(kernelText("%x: " + rows + ", %w: tensor<100xf32>", rows,
                             fmt::format("%y = transformer.rms_norm %x, %w {{epsilon = 1.0e-5}} : "
                                         "({0}, tensor<100xf32>) -> {0}\n transformer.yield %y : "
                                         "{0}",
                                         rows)))),
      AllOf(HasSubstr("div.rn.f32"), HasSubstr("sqrt.rn.f32"), HasSubstr("main_partial[256]"),
            Not(HasSubstr(".approx"))));
}

TEST(Ptx, PhasesAreEntriesOfOneModule) {
  const std::string in = rowsText(64);
  const std::string text = ptxOf(
      kernelText("%x: " + in + ", %a: tensor<64x64xf32>, %b: tensor<64x64xf32>", in + ", " + in,
                 fmt::format("%p, %q = transformer.matmul %x weights(%a, %b) : ({0}, "
                             "tensor<64x64xf32>, tensor<64x64xf32>) -> ({0}, {0})\n "
                             "transformer.yield %p, %q : {0}, {0}",
                             in)));
  EXPECT_THAT(text, AllOf(HasSubstr(".entry main_0("), HasSubstr(".entry main_1(")));
}

TEST(Ptx, HalvesAreConvertedAndStoredApart) {
  auto text = [](const std::string &element) {
    const std::string rows = rowsText(65, element);
    return ptxOf(kernelText("%x: " + rows, rows,
                            fmt::format("%y = transformer.softmax %x : {0}\n transformer.yield %y "
                                        ": {0}",
                                        rows)));
  };
  EXPECT_THAT(text("f16"), AllOf(HasSubstr("cvt.rn.f16.f32"), HasSubstr("st.global.b16")));
  EXPECT_THAT(text("bf16"), AllOf(HasSubstr("cvt.rn.bf16.f32"), HasSubstr("st.global.b16")));
}

TEST(Ptx, WhatIsNotComputedIsRefusedByName) {
  const std::string rows = rowsText(64);
  EXPECT_THAT(
      ptxOf(kernelText(
          "%x: " + rows + ", %w: tensor<64x64xf32>", rows,
          fmt::format("%y = transformer.matmul %x weights(%w) {{numerics = #transformer.numerics<"
                      "multiply = tf32x3, accumulate = f32>}} : ({0}, tensor<64x64xf32>) -> {0}\n "
                      "transformer.yield %y : {0}",
                      rows))),
      HasSubstr("@k, transformer.matmul): its numerics are to multiply in tf32x3"));
  // A 32-bit index of bytes does not reach its end.
  const std::string in = rowsText(65536), out = rowsText(131072);
  EXPECT_THAT(
      ptxOf(kernelText("%x: " + in + ", %w: tensor<131072x65536xf32>", out,
                       fmt::format("%y = transformer.matmul %x weights(%w) : ({0}, "
                                   "tensor<131072x65536xf32>) -> {1}\n transformer.yield %y "
                                   ": {1}",
                                   in, out))),
      HasSubstr("34359738368 bytes in one buffer, and the device allows 4294967296"));
}

TEST(Ptx, IndicesAreWidenedWithoutASign) {
  const auto entry =
      compiled("%in: memref<?xf32>, %out: memref<?xf32>, %n: i32",
               "%at = arith.index_castui %n : i32 to index\n%x = memref.load %in[%at] : "
               "memref<?xf32>\nmemref.store %x, %out[%t] : memref<?xf32>");
  const uint32_t index = 0xc0000000;
  const float in = 7;
  std::vector<float> out(64);
  const uint64_t begin = reinterpret_cast<uint64_t>(&in);
  const std::vector<ptx::Piece> memory = {{begin, 4, false},
                                          {reinterpret_cast<uint64_t>(out.data()), 256, true}};
  const uint64_t addresses[] = {begin - uint64_t(index) * 4, memory[1].begin};
  const void *const parameters[] = {&addresses[0], &addresses[1], &index};
  ptx::Launch launch;
  launch.block[0] = 64;
  launch.parameters = {const_cast<void *const *>(parameters), 3};
  launch.memory = &memory;
  EXPECT_EQ(ptx::run(*entry, launch), "");
  EXPECT_THAT(out, testing::Each(7.0F));
}

TEST(Ptx, LanesExchangeVectorsOfMemory) {
  // Each thread reads four numbers at once, and what the warp sums up of their first ones and what
  // the other lane has of the last go back beside two of them.
  const auto entry = compiled(
      "%in: memref<?xvector<4xf32>>, %out: memref<?xvector<4xf32>>",
      "%lane = gpu.lane_id\n%x = memref.load %in[%t] : memref<?xvector<4xf32>>\n"
      "%first = vector.extract %x[0] : f32 from vector<4xf32>\n"
      "%last = vector.extract %x[3] : f32 from vector<4xf32>\n"
      "%c5 = arith.constant 5 : i32\n%c32 = arith.constant 32 : i32\n"
      "%other, %valid = gpu.shuffle xor %last, %c5, %c32 : f32\n"
      "%sum = gpu.subgroup_reduce add %first uniform : (f32) -> f32\n"
      "%most = gpu.subgroup_reduce maxnumf %last uniform : (f32) -> f32\n"
      "%l32 = arith.index_castui %lane : index to i32\n%lf = arith.uitofp %l32 : i32 to f32\n"
      "%y = vector.from_elements %sum, %other, %most, %lf : vector<4xf32>\n"
      "%z = arith.addf %y, %x : vector<4xf32>\n"
      "memref.store %z, %out[%t] : memref<?xvector<4xf32>>");
  ASSERT_TRUE(entry);
  alignas(16) std::array<float, 256> x, z{};
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<float>(i);
  const void *pointers[] = {x.data(), z.data()};
  void *parameters[] = {static_cast<void *>(&pointers[0]), static_cast<void *>(&pointers[1])};
  ptx::Launch launch;
  launch.block[0] = 64;
  launch.parameters = parameters;
  ASSERT_EQ(ptx::run(*entry, launch), "");
  for (size_t thread = 0; thread < 64; ++thread) {
    const size_t warp = thread / 32 * 32, at = 4 * thread;
    const auto of = [&](size_t lane, size_t i) { return float(4 * (warp + lane) + i); };
    EXPECT_EQ(z[at], x[at] + 32 * (of(0, 0) + of(31, 0)) / 2);
    EXPECT_EQ(z[at + 1], x[at + 1] + of(thread % 32 ^ 5, 3));
    EXPECT_EQ(z[at + 2], x[at + 2] + of(31, 3));
    EXPECT_EQ(z[at + 3], x[at + 3] + float(thread % 32));
  }
}

TEST(Ptx, ElementaryFunctionsAreAccurate) {
  expectAccurate("exp", [](double x) { return std::exp(x) < 0x1p-126 ? 0.0 : std::exp(x); }, 2);
  expectAccurate("tanh", [](double x) { return std::tanh(x); }, 3);
  expectAccurate("erf", [](double x) { return std::erf(x); }, 4);
}

TEST(Ptx, WhatFollowsMatrixUnitsIsByTheGpusOwnFunctions) {
  std::vector<float> x;
  for (int i = -20000; i <= 20000; ++i)
    x.push_back(static_cast<float>(i) * 0.0008F);
  const auto worst = [&](const std::string &operation, double (*exact)(double), bool isRelative) {
    const std::vector<float> y = applied(operation, x, "attributes {own_functions}");
    double most = 0;
    for (size_t i = 0; i < x.size(); ++i)
      if (x[i] != 0) {
        const double right = exact(x[i]);
        most = std::max(most, std::fabs(y[i] - right) / (isRelative ? std::fabs(right) : 1));
      }
    return most;
  };
  EXPECT_LT(worst("math.exp %x", [](double x) { return std::exp(x); }, true), 0x1p-20);
  EXPECT_LT(worst("math.erf %x", [](double x) { return std::erf(x); }, false), 0x1p-20);
  EXPECT_LT(worst("arith.divf %one, %x", [](double x) { return 1 / x; }, true), 0x1p-22);
  const std::vector<float> ends =
      applied("math.erf %x", {INFINITY, -INFINITY, NAN, 0.0F}, "attributes {own_functions}");
  EXPECT_EQ(ends[0], 1);
  EXPECT_EQ(ends[1], -1);
  EXPECT_TRUE(std::isnan(ends[2]));
  EXPECT_NEAR(ends[3], 0, 0x1p-20);
  const std::vector<float> powers =
      applied("math.exp %x", {INFINITY, -INFINITY, NAN, 88.0F}, "attributes {own_functions}");
  EXPECT_EQ(powers[0], INFINITY);
  EXPECT_EQ(powers[1], 0);
  EXPECT_TRUE(std::isnan(powers[2]));
  EXPECT_NEAR(powers[3] / std::exp(88.0), 1, 0x1p-17);
}
