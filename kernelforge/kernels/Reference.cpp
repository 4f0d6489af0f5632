#include "kernelforge/kernels/Reference.h"

#include "kernelforge/kernels/ReferenceElements.h"
#include "kernelforge/kernels/ReferenceLoops.h"
#include "kernelforge/kernels/ReferenceOperands.h"

#include <algorithm>
#include <vector>

namespace kernelforge::reference {

namespace {

/// Rows of the input that one panel is multiplied with at once.
constexpr int64_t rowsAtOnce = 64;

/// Expands columns [first, first + count) of the product into `panel`, K values each, rounded.
template <typename T>
void readPanel(const WeightView &weight, bool transpose, int64_t first, int64_t count, int64_t k,
               const OperandRounding &rounding, float *row, T *panel) {
  if (!transpose) {
    for (int64_t c = 0; c < count; ++c) {
      weight.readRow(first + c, row);
      rounding.elements(row, k);
      for (int64_t i = 0; i < k; ++i)
        panel[panelIndex<T>(c, i, k)] = row[i];
    }
    return;
  }
  const int64_t bytes = info(weight.type).blockBytes;
  for (int64_t i = 0; i < k; ++i) {
    dequantizeRow(weight.type, weight.data + (i * weight.width + first) * bytes, count, row);
    rounding.elements(row, count);
    for (int64_t c = 0; c < count; ++c)
      panel[panelIndex<T>(c, i, k)] = row[c];
  }
}

/// A copy of `input` in `memory`, rounded.
Rows roundedRows(Rows input, const OperandRounding &rounding, std::vector<float> &memory) {
  memory.resize(static_cast<size_t>(input.rows * input.width));
  const MutableRows copy = denseRows(memory.data(), input.rows, input.width);
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < input.rows; ++r) {
    std::copy_n(input.row(r), input.width, copy.row(r));
    rounding.row(copy.row(r), input.width);
  }
  return copy;
}

} // namespace

//===----------------------------------------------------------------------===//
// Matmul and mlp
//===----------------------------------------------------------------------===//

void matmul(Rows input, const WeightView &weight, bool transpose, std::span<const float> bias,
            MutableRows out, Precision precision, Numerics numerics) {
  const OperandRounding rounding(numerics, precision);
  std::vector<float> rounded;
  if (rounding.changesRows())
    input = roundedRows(input, rounding, rounded);
  const int64_t k = input.width, n = out.width;
  const int64_t tasks = (n + panelColumns - 1) / panelColumns;
  PerThread<float> rowBuffers(std::max(k, panelColumns));
  computeIn(precision, [&](auto zero) {
    using T = decltype(zero);
    PerThread<T> panels(k * panelColumns), sumBuffers(rowsAtOnce * panelColumns);
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < tasks; ++task) {
      const int64_t first = task * panelColumns, count = std::min(panelColumns, n - first);
      T *panel = panels.mine(), *sums = sumBuffers.mine();
      readPanel(weight, transpose, first, count, k, rounding, rowBuffers.mine(), panel);
      for (int64_t r = 0; r < input.rows; r += rowsAtOnce) {
        const int64_t rows = std::min(rowsAtOnce, input.rows - r);
        multiplyPanel<T>({input.row(r), rows, k, input.stride}, panel, count, sums);
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t c = 0; c < count; ++c) {
            const T sum = sums[i * panelColumns + c];
            out.row(r + i)[first + c] =
                static_cast<float>(bias.empty() ? sum : sum + bias[first + c]);
          }
      }
    }
  });
}

float dotProduct(const float *a, const float *b, int64_t n, Precision precision) {
  return precision == Precision::Plain ? dot<float>(a, b, n)
                                       : static_cast<float>(dot<double>(a, b, n));
}

void mlp(Rows input, const MlpWeights &weights, MutableRows out, Precision precision) {
  const int64_t hidden = weights.up.rows;
  std::vector<float> upValues(static_cast<size_t>(input.rows * hidden)), gateValues;
  MutableRows up = denseRows(upValues.data(), input.rows, hidden);
  matmul(input, weights.up, false, weights.upBias, up, precision, weights.numerics);
  if (weights.gate.data) {
    gateValues.resize(upValues.size());
    MutableRows gate = denseRows(gateValues.data(), input.rows, hidden);
    matmul(input, weights.gate, false, weights.gateBias, gate, precision, weights.numerics);
    activation(gate, weights.function, gate, precision);
    mul(gate, up, up);
  } else {
    activation(up, weights.function, up, precision);
  }
  matmul(up, weights.down, false, weights.downBias, out, precision, weights.numerics);
}

//===----------------------------------------------------------------------===//
// Attention and its cache
//===----------------------------------------------------------------------===//

void cacheAppend(Rows values, std::span<const int32_t> slots, const CacheView &cache) {
  for (int64_t r = 0; r < values.rows; ++r)
    if (slots[r] >= 0)
      cache.layout().write(values.row(r), cache.slotAt(slots[r]));
}

std::pair<int64_t, int64_t> AttentionInputs::visible(int64_t row) const {
  const int64_t own = int64_t(positions[row]) + 1;
  int64_t first = 0, end = causal ? own : lengths[sequences[row]];
  if (window > 0) {
    end = std::min(end, own);
    first = std::max<int64_t>(0, own - window);
  }
  return {first, end};
}

int64_t AttentionInputs::slot(int64_t sequence, int64_t position) const {
  if (keys.page == 0)
    return table[sequence] + position;
  return int64_t(table[sequence * tableWidth + position / keys.page]) * keys.page +
         position % keys.page;
}

/// The first `slots` slots of a cache as f32 in `memory`, rounded.
static CacheView roundedCache(const CacheView &cache, int64_t slots,
                              const OperandRounding &rounding, std::vector<float> &memory) {
  memory.resize(static_cast<size_t>(slots * cache.heads * cache.dim));
#pragma omp parallel for schedule(static)
  for (int64_t slot = 0; slot < slots; ++slot)
    for (int64_t head = 0; head < cache.heads; ++head) {
      float *values = memory.data() + (slot * cache.heads + head) * cache.dim;
      cache.read(slot, head, values);
      rounding.elements(values, cache.dim);
    }
  return {ElementType::F32, reinterpret_cast<std::byte *>(memory.data()), cache.heads, cache.dim,
          cache.page};
}

/// One more than the last slot that a row sees.
static int64_t slotsSeen(const AttentionInputs &in) {
  int64_t slots = 0;
  for (int64_t r = 0; r < in.query.rows; ++r) {
    const auto [first, end] = in.visible(r);
    // The last position of each page: slots are in order within one.
    for (int64_t p = end; p > first;
         p = in.keys.page == 0 ? first : (p - 1) / in.keys.page * in.keys.page)
      slots = std::max(slots, in.slot(in.sequences[r], p - 1) + 1);
  }
  return slots;
}

void attention(const AttentionInputs &in, MutableRows out, Precision precision) {
  int64_t longest = 0;
  for (int64_t r = 0; r < in.query.rows; ++r) {
    auto [first, end] = in.visible(r);
    longest = std::max(longest, end - first);
  }
  const int64_t group = in.heads / in.keys.heads;
  const OperandRounding rounding(in.numerics, precision);
  CacheView keys = in.keys, values = in.values;
  std::vector<float> keyMemory, valueMemory;
  if (rounding.changesElements()) { // once, not for each row that sees them
    keys = roundedCache(keys, slotsSeen(in), rounding, keyMemory);
    values = roundedCache(values, slotsSeen(in), rounding, valueMemory);
  }
  PerThread<float> vectorBuffers(std::max(in.keys.dim, in.values.dim)), queries(in.keys.dim);
  computeIn(precision, [&](auto zero) {
    using T = decltype(zero);
    PerThread<T> scoreBuffers(longest), sumBuffers(in.values.dim);
#pragma omp parallel for schedule(dynamic)
    for (int64_t task = 0; task < in.query.rows * in.heads; ++task) {
      const int64_t r = task / in.heads, head = task % in.heads, cacheHead = head / group;
      float *query = queries.mine();
      std::copy_n(in.query.row(r) + head * in.keys.dim, in.keys.dim, query);
      rounding.elements(query, in.keys.dim);
      const auto [first, end] = in.visible(r);
      T *scores = scoreBuffers.mine(), *sums = sumBuffers.mine();
      float *vector = vectorBuffers.mine();

      T highest = in.sinks.empty() ? T(-INFINITY) : T(in.sinks[head]), total = 0;
      for (int64_t p = first; p < end; ++p) {
        keys.read(in.slot(in.sequences[r], p), cacheHead, vector);
        scores[p - first] =
            softCapped(T(in.scale) * dot<T>(query, vector, in.keys.dim), T(in.softcap));
        highest = std::fmax(highest, scores[p - first]);
      }
      std::fill_n(sums, in.values.dim, T(0));
      if (!in.sinks.empty())
        total = std::exp(in.sinks[head] - highest);
      for (int64_t p = first; p < end; ++p) {
        const T share = std::exp(scores[p - first] - highest);
        total += share;
        const T factor =
            rounding.roundsElements() ? T(rounding.element(static_cast<float>(share))) : share;
        values.read(in.slot(in.sequences[r], p), cacheHead, vector);
        for (int64_t i = 0; i < in.values.dim; ++i)
          sums[i] += factor * vector[i];
      }
      float *result = out.row(r) + head * in.values.dim;
      for (int64_t i = 0; i < in.values.dim; ++i)
        result[i] = end > first ? static_cast<float>(sums[i] / total) : 0.0f;
    }
  });
}

//===----------------------------------------------------------------------===//
// Rowwise operations
//===----------------------------------------------------------------------===//

void embedding(std::span<const int32_t> ids, const WeightView &table, double scale, MutableRows out,
               Precision precision) {
  computeIn(precision, [&](auto zero) {
    using T = decltype(zero);
    for (int64_t r = 0; r < out.rows; ++r) {
      float *row = out.row(r);
      table.readRow(ids[r], row);
      for (int64_t i = 0; i < out.width; ++i)
        row[i] = static_cast<float>(row[i] * T(scale));
    }
  });
}

void gatherRows(Rows input, std::span<const int32_t> rows, MutableRows out) {
  for (int64_t r = 0; r < out.rows; ++r)
    std::copy_n(input.row(rows[r]), out.width, out.row(r));
}

void rmsNorm(Rows input, std::span<const float> weight, double epsilon, MutableRows out,
             Precision precision, double offset) {
  computeIn(precision, [&](auto zero) {
    using T = decltype(zero);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < input.rows; ++r) {
      const float *x = input.row(r);
      const T square = dot<T>(x, x, input.width) / static_cast<T>(input.width);
      const T factor = 1 / std::sqrt(square + T(epsilon));
      for (int64_t i = 0; i < input.width; ++i)
        out.row(r)[i] = static_cast<float>(x[i] * factor * (T(offset) + weight[i]));
    }
  });
}

void layerNorm(Rows input, std::span<const float> weight, std::span<const float> bias,
               double epsilon, MutableRows out, Precision precision, double offset) {
  computeIn(precision, [&](auto zero) {
    using T = decltype(zero);
    const auto width = static_cast<T>(input.width);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < input.rows; ++r) {
      const float *x = input.row(r);
      // Of the distances from the first element: a mean that is large beside the spread would be
      // rounded by as much as matters.
      auto distance = [x](int64_t i) { return T(x[i]) - T(x[0]); };
      T mean = 0, variance = 0;
      for (int64_t i = 0; i < input.width; ++i)
        mean += distance(i);
      mean /= width;
      for (int64_t i = 0; i < input.width; ++i)
        variance += (distance(i) - mean) * (distance(i) - mean);
      const T factor = 1 / std::sqrt(variance / width + T(epsilon));
      for (int64_t i = 0; i < input.width; ++i) {
        const T y = (distance(i) - mean) * factor * (T(offset) + weight[i]);
        out.row(r)[i] = static_cast<float>(bias.empty() ? y : y + bias[i]);
      }
    }
  });
}

void rope(Rows input, std::span<const int32_t> positions, Rows table, int64_t headDim,
          RopePairing pairing, MutableRows out, Precision precision) {
  const int64_t pairs = table.width / 2;
  const bool halfSplit = pairing == RopePairing::HalfSplit;
  computeIn(precision, [&](auto zero) {
    using T = decltype(zero);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < input.rows; ++r) {
      const float *cosines = table.row(positions[r]), *sines = cosines + pairs;
      for (int64_t head = 0; head < input.width; head += headDim) {
        const float *x = input.row(r) + head;
        float *y = out.row(r) + head;
        for (int64_t i = 0; i < pairs; ++i) {
          const int64_t first = halfSplit ? i : 2 * i, second = halfSplit ? i + pairs : 2 * i + 1;
          const T a = x[first], b = x[second], cosine = cosines[i], sine = sines[i];
          y[first] = static_cast<float>(a * cosine - b * sine);
          y[second] = static_cast<float>(a * sine + b * cosine);
        }
        std::copy(x + table.width, x + headDim, y + table.width);
      }
    }
  });
}

void softmax(Rows input, MutableRows out, Precision precision) {
  computeIn(precision, [&](auto zero) {
    using T = decltype(zero);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < input.rows; ++r) {
      const float *x = input.row(r);
      T highest = -INFINITY, total = 0;
      for (int64_t i = 0; i < input.width; ++i)
        highest = std::fmax(highest, T(x[i]));
      for (int64_t i = 0; i < input.width; ++i)
        total += std::exp(x[i] - highest);
      for (int64_t i = 0; i < input.width; ++i)
        out.row(r)[i] = static_cast<float>(std::exp(x[i] - highest) / total);
    }
  });
}

void activation(Rows input, ActivationKind function, MutableRows out, Precision precision) {
  mapElements(input, out, precision, [&](auto x) { return activated(x, function); });
}

void add(Rows a, Rows b, MutableRows out) {
  mapElements<float>(a, out, [&](float x, int64_t r, int64_t i) { return x + b.row(r)[i]; });
}

void mul(Rows a, Rows b, MutableRows out) {
  mapElements<float>(a, out, [&](float x, int64_t r, int64_t i) { return x * b.row(r)[i]; });
}

void scale(Rows input, double factor, double softcap, MutableRows out, Precision precision) {
  mapElements(input, out, precision, [&](auto x) {
    using T = decltype(x);
    return softCapped(T(factor) * x, T(softcap));
  });
}

} // namespace kernelforge::reference
