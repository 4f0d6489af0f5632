// The main function of a program with matmul variants of its own: lists all variants that the
// program has, or verifies and times those that are named.
#include "kernelforge/kernels/MatmulRegistry.h"
#include "kernelforge/kernels/VerifyMatmul.h"
#include "kernelforge/support/Host.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>

using namespace kernelforge;

/// Median of some runs, in seconds.
static Expected<double> timeOf(PreparedMatmul &matmul, const float *input, float *output) {
  std::vector<double> seconds;
  for (int i = 0; i < 11; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    KF_CHECK(matmul.run(input, output));
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::ranges::nth_element(seconds, seconds.begin() + 5);
  return seconds[5];
}

static Status verifyAndTime(const MatmulKernel &kernel) {
  KF_TRY(int verified, verifyMatmul(kernel));
  std::printf("%s: verified on %d of %zu problems\n", std::string(kernel.name()).c_str(), verified,
              trialProblems().size());
  const MatmulProblem problem{64, 256, 512};
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> input(64 * 512), weight(256 * 512), output(64 * 256);
  for (std::vector<float> *values : {&input, &weight})
    std::ranges::generate(*values, [&] { return normal(random); });
  const MatmulOperands operands{reinterpret_cast<const std::byte *>(weight.data())};
  KF_TRY(auto matmul, kernel.prepare(problem, operands, {host().physicalCores, ""}));
  KF_TRY(double seconds, timeOf(*matmul, input.data(), output.data()));
  std::printf("%s: %.1f us, %.2f GFLOP/s, %d threads%s%s\n", problem.name().c_str(), seconds * 1e6,
              problem.flops() / seconds * 1e-9, host().physicalCores,
              matmul->details.schedule.empty() ? "" : ", schedule ",
              matmul->details.schedule.c_str());
  return {};
}

int main(int count, char **arguments) {
  const MatmulRegistry &registry = MatmulRegistry::global();
  if (count == 1)
    for (const auto &kernel : registry.all()) {
      const MatmulSupport support = kernel->supports({64, 256, 512});
      std::printf("%s%s%s\n", std::string(kernel->name()).c_str(), support ? "" : ": ",
                  support.why.c_str());
    }
  for (int i = 1; i < count; ++i) {
    const auto kernel = registry.find(arguments[i]);
    const Status status = kernel ? verifyAndTime(**kernel) : tl::unexpected(kernel.error());
    if (!status) {
      std::fprintf(stderr, "kernelforge: error: %s\n", status.error().line().c_str());
      return static_cast<int>(status.error().kind);
    }
  }
  return 0;
}
