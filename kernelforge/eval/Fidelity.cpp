#include "kernelforge/eval/Fidelity.h"

#include "kernelforge/kernels/ReferenceMatmul.h"
#include "kernelforge/support/CounterRandom.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <new>

using namespace kernelforge;
using reference::Precision;

//===----------------------------------------------------------------------===//
// Matmul
//===----------------------------------------------------------------------===//

/// The first and last row and column, and elements drawn by seed; ascending, each once.
static std::vector<int64_t> sampleOf(int64_t m, int64_t n, uint64_t seed) {
  std::vector<int64_t> places;
  for (int64_t c = 0; c < n; ++c)
    places.insert(places.end(), {c, (m - 1) * n + c});
  for (int64_t r = 0; r < m; ++r)
    places.insert(places.end(), {r * n, r * n + n - 1});
  const uint64_t key = mixBits(seed);
  for (int64_t i = 0; i < SampledMatmul::sampledElements; ++i)
    places.push_back(
        static_cast<int64_t>(randomUniform(key, static_cast<uint64_t>(i)) * double(m) * double(n)));
  std::ranges::sort(places);
  places.erase(std::ranges::unique(places).begin(), places.end());
  return places;
}

Expected<SampledMatmul> SampledMatmul::createSampled(const MatmulProblem &problem,
                                                     const MatmulOperands &operands,
                                                     const float *input, uint64_t seed,
                                                     int threads) {
  KF_CHECK(checkProblem(problem));
  try {
    SampledMatmul sampled;
    sampled.width = problem.n;
    sampled.outputs = problem.m * problem.n;
    sampled.places = sampleOf(problem.m, problem.n, seed);
    for (auto [values, precision] : {std::pair(&sampled.wide, Precision::Exact),
                                     std::pair(&sampled.narrow, Precision::Plain)}) {
      values->resize(sampled.places.size());
      reference::matmulElements(problem, operands, input, sampled.places, *values, threads,
                                precision);
    }
    return sampled;
  } catch (const std::bad_alloc &) {
    return failed("out of memory", problem.name(), "the values to compare with cannot be held");
  }
}

Expected<SampledMatmul> SampledMatmul::create(const MatmulProblem &problem,
                                              const MatmulOperands &operands, const float *input,
                                              uint64_t seed, int threads) {
  KF_CHECK(checkProblem(problem));
  if (problem.flops() / 2 > wholeMultiplyAdds ||
      double(problem.m) * double(problem.n) > wholeElements)
    return createSampled(problem, operands, input, seed, threads);
  try {
    SampledMatmul whole;
    whole.width = problem.n;
    whole.outputs = problem.m * problem.n;
    for (auto [values, precision] :
         {std::pair(&whole.wide, Precision::Exact), std::pair(&whole.narrow, Precision::Plain)}) {
      values->resize(static_cast<size_t>(whole.outputs));
      reference::matmulProblem(problem, operands, input, values->data(), threads, precision);
    }
    return whole;
  } catch (const std::bad_alloc &) {
    return failed("out of memory", problem.name(), "the values to compare with cannot be held");
  }
}

Accuracy SampledMatmul::judge(std::span<const float> out) const {
  if (places.empty())
    return kernelforge::judge(out, wide, narrow, {ElementType::F32, width});
  std::vector<float> picked;
  picked.reserve(places.size());
  for (int64_t index : places)
    picked.push_back(out[static_cast<size_t>(index)]);
  Accuracy verdict =
      kernelforge::judge(picked, wide, narrow, {ElementType::F32, width, places, outputs});
  // What is no number shows without a reference, wherever it is.
  const NotNumbers found = findNotNumbers(out);
  if (found.first < 0 || !verdict.pass)
    return verdict;
  verdict.pass = false;
  verdict.poisonedLeft = found.poisoned;
  verdict.nan = found.poisoned + found.others;
  verdict.worst = found.first;
  verdict.why =
      found.poisoned > 0
          ? fmt::format("{} of {} elements were not written", found.poisoned, out.size())
          : fmt::format("{} is {} ({} elements are no numbers)", placeOf(found.first, width),
                        out[static_cast<size_t>(found.first)], found.others);
  return verdict;
}

//===----------------------------------------------------------------------===//
// Functions
//===----------------------------------------------------------------------===//

/// Elements of a row: of a cache, all heads of a slot.
static int64_t rowWidth(const TensorData &tensor) {
  return tensor.shape.size() < 2 ? tensor.elements() : tensor.elements() / tensor.shape[0];
}

Expected<FunctionFidelity> FunctionFidelity::create(mlir::ModuleOp module,
                                                    const FunctionSignature &signature,
                                                    const FunctionData &data) {
  FunctionFidelity fidelity;
  KF_TRY(fidelity.wide, runReference(module, signature, data, Precision::Exact));
  KF_TRY(fidelity.narrow, runReference(module, signature, data, Precision::Plain));
  for (size_t i = 0; i < signature.arguments.size(); ++i)
    if (signature.arguments[i].written) {
      KF_TRY(TensorData copy, data.arguments[i].clone());
      fidelity.before.push_back(std::move(copy));
    }
  return fidelity;
}

/// The slots of a cache that were written, judged; the others must be as they were.
static Accuracy judgeCache(const TensorData &out, ElementType stored, const TensorData &before,
                           const TensorData &wide, const TensorData &narrow) {
  const int64_t width = rowWidth(out), slots = out.shape[0];
  const uint64_t rowBytes = out.bytes() / static_cast<uint64_t>(std::max<int64_t>(slots, 1));
  auto differs = [&](const TensorData &a, const TensorData &b, int64_t slot) {
    const uint64_t at = static_cast<uint64_t>(slot) * rowBytes;
    return std::memcmp(a.memory.data() + at, b.memory.data() + at, rowBytes) != 0;
  };
  const std::vector<float> all = out.toFloats(), right = wide.toFloats(), plain = narrow.toFloats();
  std::vector<float> values[3];
  std::vector<int64_t> indices;
  int64_t changed = -1;
  for (int64_t slot = 0; slot < slots; ++slot) {
    if (!differs(wide, before, slot) && !differs(narrow, before, slot)) {
      if (changed < 0 && differs(out, before, slot))
        changed = slot;
      continue;
    }
    for (int64_t i = slot * width; i < (slot + 1) * width; ++i) {
      indices.push_back(i);
      values[0].push_back(all[static_cast<size_t>(i)]);
      values[1].push_back(right[static_cast<size_t>(i)]);
      values[2].push_back(plain[static_cast<size_t>(i)]);
    }
  }
  Accuracy accuracy =
      judge(values[0], values[1], values[2], {stored, width, indices, out.elements()});
  if (changed >= 0 && accuracy.pass) {
    accuracy.pass = false;
    accuracy.worst = changed * width;
    accuracy.why = fmt::format("slot {} is not for this run to write and was changed", changed);
  }
  return accuracy;
}

std::vector<OutputAccuracy> FunctionFidelity::judge(const FunctionSignature &signature,
                                                    const FunctionData &data) const {
  std::vector<OutputAccuracy> verdicts;
  const std::vector<const TensorData *> outputs = outputsOf(signature, data);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const TensorData &out = *outputs[i];
    const size_t results = data.results.size();
    const ElementType stored = coarsestOf(signature, out);
    verdicts.push_back(
        {out.name, i < results ? kernelforge::judge(out.toFloats(), wide[i].toFloats(),
                                                    narrow[i].toFloats(), {stored, rowWidth(out)})
                               : judgeCache(out, stored, before[i - results], wide[i], narrow[i])});
  }
  return verdicts;
}

Accuracy kernelforge::combined(std::span<const OutputAccuracy> outputs) {
  /// How near the largest error is to what is allowed.
  auto nearness = [](const Accuracy &a) {
    const double allowed = a.tolerance * a.maxReference;
    return allowed > 0 ? a.maxAbs / allowed : 0.0;
  };
  Accuracy result;
  int64_t all = 0, checked = 0, nan = 0, inBoth = 0, poisoned = 0;
  bool any = false;
  for (const auto &[name, accuracy] : outputs) {
    all += accuracy.outputs;
    checked += accuracy.checked;
    nan += accuracy.nan;
    inBoth += accuracy.nanInBoth;
    poisoned += accuracy.poisonedLeft;
    const bool takes =
        !any || (result.pass && (!accuracy.pass || nearness(accuracy) > nearness(result)));
    if (takes) {
      result = accuracy;
      if (!result.why.empty())
        result.why = name + ": " + result.why;
    }
    any = true;
  }
  result.outputs = all;
  result.checked = checked;
  result.nan = nan;
  result.nanInBoth = inBoth;
  result.poisonedLeft = poisoned;
  return result;
}

std::optional<std::string>
kernelforge::bitwiseDifference(std::span<const TensorData *const> first,
                               std::span<const TensorData *const> second) {
  for (size_t i = 0; i < first.size(); ++i) {
    const TensorData &a = *first[i], &b = *second[i];
    if (std::memcmp(a.memory.data(), b.memory.data(), a.bytes()) == 0)
      continue;
    const std::vector<float> before = a.toFloats(), after = b.toFloats();
    // Of narrower types, too, every value has bits of its own in f32.
    const int64_t at = firstDifferentBit(before, after).value_or(0);
    return fmt::format("{}: {} is {}, then {}", a.name, placeOf(at, rowWidth(a)),
                       before[static_cast<size_t>(at)], after[static_cast<size_t>(at)]);
  }
  return std::nullopt;
}
