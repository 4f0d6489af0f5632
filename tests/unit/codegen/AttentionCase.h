// Attention kernels by themselves: problems of every type and form, their data, and what must come
// out. In every cache slot that no query row sees, all bytes are ones: NaN, whatever the type.
#pragma once

#include "KernelRunner.h"

#include "kernelforge/kernels/Reference.h"

#include <cmath>
#include <optional>

namespace kernelforge {

/// One problem. Rows go to sequences and positions at random, unless `whole` rows follow each
/// other at the end of the first sequence.
struct AttentionCase {
  int64_t heads = 1, kvHeads = 1, dim = 64, valueDim = 0; ///< valueDim 0: as dim
  int64_t rows = 1;
  std::vector<int32_t> lengths{17};
  bool causal = true;
  int64_t window = 0;
  double softcap = 0;
  bool whole = false;
  Knobs knobs = {};
  int64_t threads = 2;
  ElementType keys = ElementType::F32, values = ElementType::F32; ///< of the caches
  int64_t page = 0;
  ElementType type = ElementType::F32; ///< of query and result
  std::optional<ElementType> sinks = {};
  bool rounds = false; ///< numerics are bf16

  int64_t valueWidth() const { return valueDim ? valueDim : dim; }
  double scale() const { return 1 / std::sqrt(double(dim)); }
  CacheSlot keySlot() const { return {keys, kvHeads, dim}; }
  CacheSlot valueSlot() const { return {values, kvHeads, valueWidth()}; }
  std::string name(const std::string &level) const;
  /// The kernel's text. It takes any rows up to `rows`, up to 8 sequences and any pages.
  std::string text() const;
};

/// Inputs of a problem.
struct AttentionData {
  std::vector<float> query, sinks; ///< rounded to their types
  Bytes keys, values;
  std::vector<int32_t> positions, sequences, table, lengths;
  int64_t tableWidth = 1, slots = 0;

  reference::AttentionInputs inputs(const AttentionCase &p);
  std::vector<int64_t> sizes(const AttentionCase &p) const;
  std::vector<Bytes> arguments(const AttentionCase &p) const;

  /// Its rows `rows`, with caches and sequences as they are; `p` becomes their problem.
  AttentionData only(AttentionCase &p, const std::vector<int64_t> &rows) const;
};

/// Random data, the same for the same seed. Sequences and pages lie in the caches in another order
/// than they are numbered in, with gaps.
AttentionData makeAttentionData(const AttentionCase &p, uint64_t seed);

/// The same with the caches filled anew: with values where its rows look, ones elsewhere.
AttentionData withSeenSlots(const AttentionCase &p, AttentionData data, uint64_t seed);

/// Numbers as memory of a plain type, and back.
Bytes encoded(ElementType type, const std::vector<float> &values);
std::vector<float> decoded(ElementType type, const Bytes &bytes);

/// The kernel's result, as f32.
std::vector<float> runAttention(const CompiledKernel &kernel, const AttentionCase &p,
                                const AttentionData &data);

/// Fails the running test where a kernel's result is not the reference's.
void checkAttention(const CompiledKernel &kernel, const AttentionCase &p, AttentionData &data,
                    const std::string &name, double nmse = 1e-11);

/// Fails the running test where a row has other bits when it is alone in a call.
void checkRowsAlone(const AttentionCase &p, const std::string &level);

/// Schedules of each form.
extern const Knobs oneRow, split, blocks;

} // namespace kernelforge
