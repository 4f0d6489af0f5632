#include "MatmulRun.h"

#include "NumberOptions.h"

#include "kernelforge/compiler/Targets.h"
#include "kernelforge/kernels/ReferenceMatmul.h"
#include "kernelforge/problem/GeneratedMatmul.h"
#include "kernelforge/problem/Verification.h"
#include "kernelforge/support/CounterRandom.h"
#include "kernelforge/support/Host.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

using namespace kernelforge;
using namespace kernelforge::cli;

/// Multiply-adds up to which a result is verified in full, and the rows that are beyond.
static constexpr double fullyVerified = 0x1p31;
static constexpr int64_t spreadRows = 64;

void cli::addProblemSizes(CLI::App &command, MatmulProblem &problem) {
  constexpr int64_t largest = int64_t(1) << 24;
  addInteger(command, "-m", problem.m, "rows of the input", 1, largest);
  addInteger(command, "-n", problem.n, "columns of the result", 1, largest);
  addInteger(command, "-k", problem.k, "columns of the input", 1, largest);
}

Expected<MatmulRegistry> cli::matmulVariants(const Context &context) {
  MatmulRegistry registry = MatmulRegistry::global();
  KF_TRY(SessionOptions options, requestedSession(context));
  KF_TRY(options.target, targetHere(std::move(options.target), context.device));
  KF_CHECK(registry.add(std::make_unique<GeneratedMatmul>(std::move(options))));
  return registry;
}

/// Numbers in [-scale, scale), an independent sequence for each `stream`.
static void fillRandom(std::span<float> values, uint64_t seed, uint64_t stream, double scale) {
  const uint64_t key = mixBits(seed) + stream;
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>((2 * randomUniform(key, i) - 1) * scale);
}

static Expected<PageMemory> randomFloats(int64_t count, uint64_t seed, uint64_t stream,
                                         double scale) {
  KF_TRY(PageMemory memory, PageMemory::allocate(uint64_t(count) * sizeof(float)));
  fillRandom({reinterpret_cast<float *>(memory.data()), static_cast<size_t>(count)}, seed, stream,
             scale);
  return memory;
}

Expected<std::unique_ptr<MatmulRun>> MatmulRun::create(const MatmulProblem &problem, uint64_t seed,
                                                       int threads) {
  KF_CHECK(checkProblem(problem));
  // Variants may bring the weight into a layout of their own; the least that is needed is the
  // operands themselves.
  const double memory = double(host().memoryBytes);
  if (memory > 0 && problem.bytes() > memory)
    return unusable("problem does not fit", problem.name(),
                    fmt::format("its operands need {:.0f} MiB, this machine has {:.0f}",
                                problem.bytes() / 0x1p20, memory / 0x1p20),
                    "take smaller sizes");
  std::unique_ptr<MatmulRun> run(new MatmulRun(problem, threads));
  KF_CHECK(run->makeOperands(seed));
  KF_CHECK(run->makeReference());
  return run;
}

Status MatmulRun::makeOperands(uint64_t seed) {
  const auto [m, n, k] = std::tuple(shape.m, shape.n, shape.k);
  KF_TRY(input, randomFloats(m * k, seed, 0, 1));
  if (shape.has(EpilogueStep::Bias)) {
    KF_TRY(bias, randomFloats(n, seed, 1, 1));
  }
  if (shape.has(EpilogueStep::Residual)) {
    KF_TRY(residual, randomFloats(m * n, seed, 2, 1));
  }
  // Scaled so that a product is about as large as its input, whatever its width.
  const double scale = 1 / std::sqrt(double(k));
  const int64_t count = shape.transpose ? k : n, width = shape.transpose ? n : k;
  const uint64_t rowSize = *rowBytes(shape.weights, static_cast<uint64_t>(width));
  KF_TRY(weight, PageMemory::allocate(rowSize * uint64_t(count)));
  std::vector<float> row(static_cast<size_t>(width));
  for (int64_t i = 0; i < count; ++i) {
    fillRandom(row, seed, 3 + static_cast<uint64_t>(i), scale);
    quantizeRow(shape.weights, row.data(), row.size(), weight.data() + uint64_t(i) * rowSize);
  }
  KF_TRY(output, PageMemory::allocate(uint64_t(m) * uint64_t(n) * sizeof(float)));
  typical = 1.0 / 3;
  return {};
}

Status MatmulRun::makeReference() {
  const bool whole = double(shape.m) * double(shape.n) * double(shape.k) <= fullyVerified;
  const int64_t count = whole ? shape.m : std::min(shape.m, spreadRows);
  for (int64_t i = 0; i < count; ++i)
    rows.push_back(count == 1 ? 0 : i * (shape.m - 1) / (count - 1));
  auto gather = [&](const PageMemory &from, int64_t width) {
    std::vector<float> values(static_cast<size_t>(count * width));
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(values.data() + i * width,
                  from.data() + static_cast<uint64_t>(rows[static_cast<size_t>(i)] * width) * 4,
                  static_cast<size_t>(width) * 4);
    return values;
  };
  MatmulProblem part = shape;
  part.m = count;
  MatmulOperands partOperands = operands();
  std::vector<float> gatheredInput, gatheredResidual;
  const auto *rowsOfInput = reinterpret_cast<const float *>(input.data());
  if (count < shape.m) {
    gatheredInput = gather(input, shape.k);
    rowsOfInput = gatheredInput.data();
    if (partOperands.residual) {
      gatheredResidual = gather(residual, shape.n);
      partOperands.residual = gatheredResidual.data();
    }
  }
  reference.resize(static_cast<size_t>(count * shape.n));
  reference::matmulProblem(part, partOperands, rowsOfInput, reference.data(), threadCount,
                           reference::Precision::Exact);
  if (shape.numerics != Numerics::F32)
    measureRounding(part, partOperands, rowsOfInput);
  return {};
}

void MatmulRun::measureRounding(const MatmulProblem &part, const MatmulOperands &operands,
                                const float *input) {
  std::vector<float> plain(reference.size());
  reference::matmulProblem(part, operands, input, plain.data(), threadCount,
                           reference::Precision::Plain);
  rounded = compareValues(plain, reference, 0).maxAbs;
}

MatmulOperands MatmulRun::operands() const {
  auto floats = [](const PageMemory &memory) {
    return reinterpret_cast<const float *>(memory.data());
  };
  return {weight.data(), floats(bias), floats(residual)};
}

Expected<std::unique_ptr<PreparedMatmul>> MatmulRun::prepare(const MatmulKernel &kernel,
                                                             const std::string &schedule) const {
  return kernel.prepare(shape, operands(), {threadCount, schedule});
}

std::vector<float> MatmulRun::comparedResult() const {
  std::vector<float> values;
  values.reserve(reference.size());
  for (int64_t row : rows)
    values.insert(values.end(), result() + row * shape.n, result() + (row + 1) * shape.n);
  return values;
}

Expected<Accuracy> MatmulRun::verify(PreparedMatmul &matmul) {
  poison(resultSpan());
  KF_CHECK(run(matmul));
  // Relative to the largest value, but for results so few that all of them may be small by chance.
  double largest = 0;
  for (float value : reference)
    largest = std::max(largest, std::abs(double(value)));
  double allowed = toleranceOf(ElementType::F32);
  if (largest > 0)
    allowed = std::max(allowed * std::max(1.0, typical / largest), 4 * rounded / largest);
  return compareValues(comparedResult(), reference, allowed);
}

TimedCalls MatmulRun::timed(PreparedMatmul &matmul) {
  if (!matmul.hasOwnClock())
    return byHostClock([this, &matmul] { return run(matmul); });
  return [&matmul](int64_t calls) -> Expected<CallTimes> {
    const auto begin = std::chrono::steady_clock::now();
    KF_TRY(double taken, matmul.timeRuns(calls));
    const std::chrono::duration<double, std::nano> onHost =
        std::chrono::steady_clock::now() - begin;
    return CallTimes{taken, onHost.count()};
  };
}

Expected<bool> MatmulRun::repeats(PreparedMatmul &matmul) {
  KF_CHECK(run(matmul));
  const std::vector<float> first(resultSpan().begin(), resultSpan().end());
  for (int i = 0; i < 3; ++i) {
    poison(resultSpan());
    KF_CHECK(run(matmul));
    if (std::memcmp(first.data(), result(), first.size() * sizeof(float)) != 0)
      return false;
  }
  return true;
}
