#include "KernelRunner.h"

#include "kernelforge/codegen/cpu/VectorMath.h"

#include <bit>
#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernelforge/codegen/ObjectFile.h"
#include "kernelforge/codegen/cpu/ObjectEmitter.h"

using namespace kernelforge;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float notANumber = std::numeric_limits<float>::quiet_NaN();

/// Rows of 16; the body is not looked at.
constexpr const char *vectors = R"mlir(
transformer.kernel @vectors(%n: index {transformer.size = #transformer.size<"n", 1 to 1000000>},
                            %x: tensor<?x16xf32, #transformer.dims<"n">>)
    -> tensor<?x16xf32, #transformer.dims<"n">> {
  %y = transformer.scale %x : tensor<?x16xf32, #transformer.dims<"n">>
  transformer.yield %y : tensor<?x16xf32, #transformer.dims<"n">>
})mlir";

using Function = mlir::Value (*)(cpu::KernelBuilder &, mlir::Value);

/// Code of a vector function, for one target.
CompiledKernel compileFunction(Function function, const std::string &level) {
  auto emitter = [&](mlir::ModuleOp module, transformer::KernelOp kernel, const Target &target,
                     llvm::StringRef entry) -> Expected<Launching> {
    cpu::KernelBuilder k(module, kernel, target, entry);
    mlir::Value rows = k.rows(kernel.getArgumentTypes()[1]);
    k.loop(k.c(0), rows, 1, [&](mlir::Value row) {
      mlir::Value offset = k.mul(row, 4 * cpu::lanes);
      mlir::Value x = k.loadVec(k.at(k.argument(kernel.getBody().getArgument(1)), offset));
      k.storeVec(function(k, x), k.at(k.result(0), offset));
    });
    k.finish();
    Launching launching;
    launching.phases.push_back(Phase{});
    return launching;
  };
  auto kernel = CompiledKernel::compileWith(emitter, vectors, level);
  if (!kernel)
    ADD_FAILURE() << kernel.error().line();
  return std::move(kernel.value());
}

std::vector<float> applyTo(const CompiledKernel &kernel, std::vector<float> x) {
  const size_t count = x.size();
  x.resize((count + 15) / 16 * 16);
  auto rows = static_cast<int64_t>(x.size() / 16);
  std::vector<float> y = valuesOf<float>(kernel.run({rows}, {bytesOf(x)}).results.at(0));
  y.resize(count);
  return y;
}

/// Every 1009th f32 by its bits: all exponents, denormals, NaNs; and what is special.
std::vector<float> samples() {
  std::vector<float> x{0.0f,      -0.0f,      1.0f,      -1.0f,      infinity,
                       -infinity, notANumber, 0x1p-149f, -0x1p-149f, 0x1p-126f};
  for (uint64_t bits = 0; bits < (uint64_t(1) << 32); bits += 1009)
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  return x;
}

/// The neighbourhood of points where a function's code changes its way.
std::vector<float> around(const std::vector<float> &points) {
  std::vector<float> x;
  for (float point : points)
    for (int32_t step = -2000; step <= 2000; ++step)
      for (float sign : {1.0f, -1.0f})
        x.push_back(sign * std::bit_cast<float>(std::bit_cast<int32_t>(point) + step));
  return x;
}

/// Distance in units of the last place of the exact result.
double ulps(float actual, double expected) {
  if (std::isnan(expected) || std::isinf(static_cast<float>(expected)))
    return (std::isnan(expected) && std::isnan(actual)) || actual == static_cast<float>(expected)
               ? 0
               : infinity;
  int exponent = expected == 0 ? -126 : std::max(std::ilogb(expected), -126);
  double error = std::fabs(actual - expected) / std::ldexp(1.0, exponent - 23);
  return std::isnan(error) ? infinity : error;
}

struct Worst {
  double ulps = 0;
  float x = 0, y = 0;
};

Worst worstOf(const std::vector<float> &x, const std::vector<float> &y, double (*exact)(double)) {
  Worst worst;
  for (size_t i = 0; i < x.size(); ++i) {
    double error = ulps(y[i], exact(x[i]));
    if (error > worst.ulps)
      worst = {error, x[i], y[i]};
  }
  return worst;
}

void expectAccurate(const char *name, Function function, double (*exact)(double), double limit,
                    const std::vector<float> &joints) {
  std::vector<float> x = samples(), more = around(joints);
  x.insert(x.end(), more.begin(), more.end());
  for (const std::string &level : everyRunnableLevel()) {
    CompiledKernel kernel = compileFunction(function, level);
    Worst worst = worstOf(x, applyTo(kernel, x), exact);
    EXPECT_LE(worst.ulps, limit) << name << " on " << level << ": x = " << worst.x << " gives "
                                 << worst.y << ", not " << exact(worst.x);
    testing::Test::RecordProperty(std::string(name) + "_ulps_" + level, std::to_string(worst.ulps));
    auto undefined = undefinedSymbols(kernel.object);
    ASSERT_TRUE(undefined);
    EXPECT_THAT(*undefined, testing::IsEmpty());
  }
}

/// exp as the header has it: results that are no normal numbers are 0.
double expWithoutDenormals(double x) {
  double y = std::exp(x);
  return y < 0x1p-126 ? 0 : y;
}

} // namespace

TEST(VectorMath, ExpIsAccurateEverywhere) {
  expectAccurate("exp", cpu::emitExp, expWithoutDenormals, 2,
                 {0x1.62e42ep+6f, 0x1.5d589ep+6f, 0.34657359f, 1.03972077f, 87.0f, 88.0f});
}

TEST(VectorMath, ExpOfNonPositiveIsAccurate) {
  std::vector<float> x = samples();
  for (float value : around({0.34657359f, 1.03972077f, 87.0f, 0x1.5d589ep+6f, 87.68f, 88.0f}))
    x.push_back(value);
  // NaNs whose lowest bits are set, too.
  x.push_back(std::bit_cast<float>(0x7fc00001u));
  x.push_back(std::bit_cast<float>(0xffc001ffu));
  std::erase_if(x, [](float value) { return value > 0; });
  for (const std::string &level : everyRunnableLevel()) {
    const std::vector<float> y = applyTo(compileFunction(cpu::emitExpOfNonPositive, level), x);
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = std::exp(double(x[i]));
      if (std::isnan(x[i]))
        EXPECT_TRUE(std::isnan(y[i])) << level;
      else if (x[i] <= -88)
        EXPECT_EQ(y[i], 0) << x[i] << " on " << level;
      else if (exact < 0x1p-126)
        EXPECT_NEAR(y[i], exact, 1.2e-38) << x[i] << " on " << level;
      else
        EXPECT_LE(ulps(y[i], exact), 2) << x[i] << " on " << level;
    }
  }
}

TEST(VectorMath, RoughPowersOfTwoAreAsRoughAsTheySay) {
  std::vector<float> x = samples();
  std::erase_if(x, [](float value) { return value > 0; });
  x.insert(x.end(), {-0.5f, -1.5f, -126.5f, -127.0f, -127.5f, -infinity, notANumber});
  if (parseTarget("native", "")->limits.vectorBits != 512)
    GTEST_SKIP() << "this processor lacks AVX-512";
  const std::vector<float> y = applyTo(compileFunction(cpu::emitRoughExp2, "native"), x);
  for (size_t i = 0; i < x.size(); ++i)
    if (std::isnan(x[i]))
      EXPECT_TRUE(std::isnan(y[i]));
    else if (x[i] < -126)
      EXPECT_TRUE(y[i] >= 0 && y[i] <= 1.2e-38f) << x[i] << ": " << y[i];
    else
      EXPECT_NEAR(y[i] / std::exp2(double(x[i])), 1, 1e-4) << x[i];
}

TEST(VectorMath, TanhIsAccurateEverywhere) {
  expectAccurate("tanh", cpu::emitTanh, [](double x) { return std::tanh(x); }, 3,
                 {0.625f, 9.0f, 44.36f});
}

TEST(VectorMath, ErfIsAccurateEverywhere) {
  expectAccurate("erf", cpu::emitErf, [](double x) { return std::erf(x); }, 4,
                 {0.875f, 3.9f, 10.0f});
}

TEST(VectorMath, SignOfZeroIsKept) {
  for (Function function : {cpu::emitTanh, cpu::emitErf}) {
    std::vector<float> y = applyTo(compileFunction(function, "native"), {0.0f, -0.0f});
    EXPECT_FALSE(std::signbit(y[0]));
    EXPECT_TRUE(std::signbit(y[1]));
  }
}

TEST(VectorMath, SoftcapCapsAndKeepsSmallValues) {
  auto capped = [](cpu::KernelBuilder &k, mlir::Value x) { return cpu::emitSoftcap(k, 30.0, x); };
  auto plain = [](cpu::KernelBuilder &k, mlir::Value x) { return cpu::emitSoftcap(k, 0.0, x); };
  std::vector<float> x{0.0f, 1.0f, -29.0f, 1e9f, -infinity, infinity, notANumber, 3e-6f};
  std::vector<float> y = applyTo(compileFunction(capped, "native"), x);
  for (size_t i = 0; i < x.size(); ++i)
    EXPECT_LE(ulps(y[i], 30.0 * std::tanh(x[i] / 30.0)), 4) << x[i];
  std::vector<float> same = applyTo(compileFunction(plain, "native"), x);
  EXPECT_EQ(bytesOf(same), bytesOf(x));
}

TEST(VectorMath, ActivationsAreAccurate) {
  using transformer::Activation;
  struct Case {
    const char *name;
    Function function;
    double (*exact)(double);
    double limit; ///< of the error over max(|x|, |result|) in units of 2^-24
  };
  const Case cases[] = {
      {"silu",
       [](cpu::KernelBuilder &k, mlir::Value x) {
         return cpu::emitActivation(k, Activation::Silu, x);
       },
       [](double x) { return x / (1 + std::exp(-x)); }, 4},
      {"gelu",
       [](cpu::KernelBuilder &k, mlir::Value x) {
         return cpu::emitActivation(k, Activation::Gelu, x);
       },
       [](double x) { return 0.5 * x * std::erfc(-x * std::sqrt(0.5)); }, 4},
      {"gelu_tanh",
       [](cpu::KernelBuilder &k, mlir::Value x) {
         return cpu::emitActivation(k, Activation::GeluTanh, x);
       },
       [](double x) {
         return x / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
       },
       4},
      {"relu",
       [](cpu::KernelBuilder &k, mlir::Value x) {
         return cpu::emitActivation(k, Activation::Relu, x);
       },
       [](double x) { return x < 0 ? 0 : x; }, 0},
  };
  std::vector<float> x = randomFloats(100000, 1, 4.0f);
  for (float large : {100.0f, 1e4f, 1e30f, 3e38f, 1e-30f, 1e-40f, 0.0f, notANumber, infinity})
    x.insert(x.end(), {large, -large});
  for (const Case &test : cases)
    for (const std::string &level : runnableLevels()) {
      std::vector<float> y = applyTo(compileFunction(test.function, level), x);
      for (size_t i = 0; i < x.size(); ++i) {
        if (x[i] == -infinity) { // the limit there, where the formula has none
          EXPECT_EQ(y[i], 0) << test.name << " on " << level;
          continue;
        }
        double expected = test.exact(x[i]);
        if (!std::isfinite(expected)) {
          EXPECT_TRUE(y[i] == expected || (std::isnan(y[i]) && std::isnan(expected)))
              << test.name << " on " << level << " of " << x[i] << " is " << y[i];
          continue;
        }
        double error = std::fabs(y[i] - expected) / std::max(std::fabs(x[i]), 0x1p-126f);
        ASSERT_LE(error, test.limit * 0x1p-24)
            << test.name << " on " << level << " of " << x[i] << " is " << y[i];
        // The small values of negative x keep most of their places.
        ASSERT_LE(std::fabs(y[i] - expected), 3e-5 * std::fabs(expected) + 0x1p-120)
            << test.name << " on " << level << " of " << x[i] << " is " << y[i];
      }
    }
}
