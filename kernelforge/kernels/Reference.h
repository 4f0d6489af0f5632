// The reference semantics of every operation of the dialect: plain functions in wide precision
// (sums and functions in f64, each result rounded to f32 once), which every other way to compute
// an operation is measured against. The same functions in f32, which round what numerics say, are
// the yardstick of that distance.
// They write results into memory that the caller gives and check nothing: indices in range and
// fitting sizes are the caller's part.
#pragma once

#include "kernelforge/ir/ModelDescription.h"
#include "kernelforge/kernels/Layout.h"
#include "kernelforge/support/CacheSlot.h"
#include "kernelforge/support/Numerics.h"

#include <span>
#include <utility>

namespace kernelforge::reference {

/// What an operation computes in.
enum class Precision {
  Exact, ///< as Wide, and operands are not rounded as numerics ask for: what is right
  Wide,  ///< sums and functions in f64, each result rounded to f32 once
  Plain  ///< all of it in f32, sums term after term: what an honest simple implementation makes
};

/// `rows` x `width` values; row r begins at `data + r * stride`. Not owned.
template <typename T> struct RowsOf {
  T *data = nullptr;
  int64_t rows = 0;
  int64_t width = 0;
  int64_t stride = 0;

  T *row(int64_t r) const { return data + r * stride; }
  operator RowsOf<const T>() const { return {data, rows, width, stride}; }
};
using Rows = RowsOf<const float>;
using MutableRows = RowsOf<float>;

/// Heads of rows without gaps, as rows of their own.
template <typename T> RowsOf<T> headsOf(RowsOf<T> rows, int64_t heads) {
  const int64_t width = rows.width / heads;
  return {rows.data, rows.rows * heads, width, width};
}

/// Rows that follow each other without gaps.
template <typename T> RowsOf<T> denseRows(T *data, int64_t rows, int64_t width) {
  return {data, rows, width, width};
}

/// A key or value cache (f32, f16, bf16 or q8_0), slot after slot as CacheSlot says. Not owned.
struct CacheView {
  ElementType type = ElementType::F32;
  std::byte *data = nullptr;
  int64_t heads = 0;
  int64_t dim = 0;
  int64_t page = 0; ///< positions of a page; 0: contiguous

  CacheSlot layout() const { return {type, heads, dim}; }
  std::byte *slotAt(int64_t slot) const { return data + slot * layout().bytes(); }
  /// The `dim` numbers (or quants) of one head in one slot.
  std::byte *at(int64_t slot, int64_t head) const {
    return slotAt(slot) + head * layout().headBytes();
  }
  /// The `dim` values of one head in one slot, as f32.
  void read(int64_t slot, int64_t head, float *values) const {
    layout().read(slotAt(slot), head, values);
  }
};

/// `out = input * weight^T (+ bias)`: [M, K] x [N, K] -> [M, N]; with `transpose` the weight is
/// [K, N] of a plain type and row-major. `bias` has N values, or none. Rows and weight are rounded
/// as `numerics` say, which must be ones that OperandRounding::isComputed; those of whole numbers
/// take a quantized weight.
void matmul(Rows input, const WeightView &weight, bool transpose, std::span<const float> bias,
            MutableRows out, Precision precision = Precision::Wide,
            Numerics numerics = Numerics::F32);

/// One element of that product of rounded operands, without bias: the same bits as matmul() gives.
float dotProduct(const float *a, const float *b, int64_t n, Precision precision = Precision::Wide);

/// Weights of a feed-forward layer, [out, in]; `gate.data` is null where it is not gated.
struct MlpWeights {
  WeightView gate, up, down;
  std::span<const float> gateBias, upBias, downBias;
  ActivationKind function = ActivationKind::Silu;
  Numerics numerics = Numerics::F32; ///< of each product
};

/// `down(act(gate(x)) * up(x))`, or `down(act(up(x)))`. Rounds where the operations that it
/// decomposes into round, so that the result is theirs.
void mlp(Rows input, const MlpWeights &weights, MutableRows out,
         Precision precision = Precision::Wide);

/// Row r of `values` goes to slot slots[r], converted to the cache's type; negative slots are
/// passed over.
void cacheAppend(Rows values, std::span<const int32_t> slots, const CacheView &cache);

/// What attention works on. Row r belongs to sequence `sequences[r]` and stands at `positions[r]`.
struct AttentionInputs {
  Rows query; ///< [rows, heads * keys.dim]
  CacheView keys, values;
  std::span<const int32_t> positions, sequences;
  std::span<const int32_t> table; ///< first slot by sequence, or pages [sequences, tableWidth]
  int64_t tableWidth = 1;         ///< pages of a sequence in `table`; 1 for contiguous caches
  std::span<const int32_t> lengths;
  int64_t heads = 0;
  double scale = 1.0;
  bool causal = true;
  int64_t window = 0;
  double softcap = 0.0;
  std::span<const float> sinks = {}; ///< by query head, or none: scores of keys whose values are 0
  Numerics numerics = Numerics::F32; ///< of both products; none of whole numbers

  /// The positions [first, second) whose keys row `row` sees; empty where second <= first.
  std::pair<int64_t, int64_t> visible(int64_t row) const;

  /// The slot of a position of a sequence.
  int64_t slot(int64_t sequence, int64_t position) const;
};

/// Grouped-query attention: `out` is [rows, heads * values.dim]. A row that sees no key gives 0.
void attention(const AttentionInputs &inputs, MutableRows out,
               Precision precision = Precision::Wide);

/// Row r of `out` is row ids[r] of `table`, times `scale`.
void embedding(std::span<const int32_t> ids, const WeightView &table, double scale, MutableRows out,
               Precision precision = Precision::Wide);

/// Row r of `out` is row rows[r] of `input`.
void gatherRows(Rows input, std::span<const int32_t> rows, MutableRows out);

/// `x / sqrt(mean(x^2) + epsilon) * (offset + weight)`.
void rmsNorm(Rows input, std::span<const float> weight, double epsilon, MutableRows out,
             Precision precision = Precision::Wide, double offset = 0);

/// `(x - mean) / sqrt(variance + epsilon) * (offset + weight) (+ bias)`, biased variance; `bias`
/// may be empty.
void layerNorm(Rows input, std::span<const float> weight, std::span<const float> bias,
               double epsilon, MutableRows out, Precision precision = Precision::Wide,
               double offset = 0);

/// Rotates the leading table.width dimensions of each head of `headDim`. Row p of `table` holds
/// the cosines of position p, then the sines.
void rope(Rows input, std::span<const int32_t> positions, Rows table, int64_t headDim,
          RopePairing pairing, MutableRows out, Precision precision = Precision::Wide);

/// Softmax of each row.
void softmax(Rows input, MutableRows out, Precision precision = Precision::Wide);

/// An activation function, element by element.
void activation(Rows input, ActivationKind function, MutableRows out,
                Precision precision = Precision::Wide);

/// Sums and products of two, which both precisions round to the same f32.
void add(Rows a, Rows b, MutableRows out);
void mul(Rows a, Rows b, MutableRows out);

/// `y = factor * x`, then `softcap * tanh(y / softcap)` where softcap > 0.
void scale(Rows input, double factor, double softcap, MutableRows out,
           Precision precision = Precision::Wide);

/// The token that each row of logits chooses (support/Sampling.h). `settings` is [rows, 5], `draws`
/// [rows, 3], `recent` [rows, window] with -1 where there are fewer; a window of 0: none.
struct SampleInputs {
  Rows logits, settings;
  std::span<const int32_t> draws, positions, recent;
  int64_t window = 0;
};
void sample(const SampleInputs &inputs, std::span<int32_t> ids);

/// What a step hands to the next one. Rows and sequences as in AttentionInputs.
struct StepState {
  std::span<const int32_t> ids, positions, slots, sequences;
  std::span<const int32_t> table; ///< first slot by sequence, or pages [sequences, tableWidth]
  int64_t tableWidth = 1;
  std::span<const int32_t> lengths, limits;
  std::span<const int32_t> recent; ///< [rows, window], newest last
  int64_t window = 0;
  int64_t page = 0; ///< positions of a page; 0: contiguous

  /// The slot of row `row` in the next step, -1 where the row ends here. All fits in 32 bits.
  int32_t nextSlot(size_t row) const;
};
struct NextStep {
  std::span<int32_t> ids, positions, slots, lengths, recent;
};
void advance(const StepState &state, const NextStep &next);

} // namespace kernelforge::reference
