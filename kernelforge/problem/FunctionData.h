// Values for the arguments and results of one run of a function, random or given, checked so that
// no index points outside what it indexes.
#pragma once

#include "kernelforge/problem/FunctionSignature.h"
#include "kernelforge/support/ElementType.h"
#include "kernelforge/support/PageMemory.h"

#include <span>
#include <vector>

namespace kernelforge {

/// A tensor or cache in memory: row-major, in its own element type; a cache slot by slot
/// (support/CacheSlot.h). What has three dimensions is a cache.
struct TensorData {
  std::string name;
  ElementType type = ElementType::F32;
  std::vector<int64_t> shape; ///< of a cache: [slots, heads, dim]
  PageMemory memory;

  int64_t elements() const;
  uint64_t bytes() const; ///< memory that the elements take; no more than memory.size()
  std::span<int32_t> indices() const {
    return {reinterpret_cast<int32_t *>(memory.data()), static_cast<size_t>(elements())};
  }
  uint64_t rows() const;        ///< of all dimensions but the last; of a cache, its slots
  uint64_t rowElements() const; ///< of each; of a cache, those of all heads
  /// All elements as f32, exact.
  std::vector<float> toFloats() const;
  /// Rounds the elements of a row to the type.
  void setRow(uint64_t row, const float *values);
  /// A copy with memory of its own.
  Expected<TensorData> clone() const;

  /// Zeroed memory for a tensor. Unusable where its size overflows or is beyond this machine's
  /// memory, Failed where it cannot be had.
  static Expected<TensorData> allocate(std::string name, ElementType type,
                                       std::vector<int64_t> shape);
};

/// Element type and shape of an argument at these sizes; `slots` is that of caches.
std::pair<ElementType, std::vector<int64_t>> describeArgument(const FunctionSignature &signature,
                                                              const FunctionArgument &argument,
                                                              const SizeValues &sizes,
                                                              int64_t slots);

struct FunctionData {
  SizeValues sizes;
  std::vector<TensorData> arguments; ///< as FunctionSignature::arguments
  std::vector<TensorData> results;

  /// Sizes in the order of the function's.
  std::vector<int64_t> sizeList(const FunctionSignature &signature) const;
  /// The same, but those that bound lengths are `cached`: to count what a run reads, exactly.
  std::vector<int64_t> sizeList(const FunctionSignature &signature, int64_t cached) const;

  /// The longest sequence that an attention of the function reads; 0 where there is none.
  int64_t longest(const FunctionSignature &signature) const;
};

/// Random values for all arguments, the same for the same seed: numbers of both signs, weights
/// scaled by their width; indices in range that fit together: rows follow each other in their
/// sequences, after a past of up to `past` positions where there is room for one, and every
/// sequence has room in the caches.
Expected<FunctionData> randomData(const FunctionSignature &signature, const SizeValues &sizes,
                                  uint64_t seed, int64_t past = defaultPast);

/// Memory for the results of a run at these sizes; a packed weight's as it lies there, its last
/// group of rows filled.
Expected<std::vector<TensorData>> allocateResults(const FunctionSignature &signature,
                                                  const SizeValues &sizes);

/// Unusable, naming argument, place and limit, where an index points outside what it indexes.
Status checkIndices(const FunctionSignature &signature, const FunctionData &data);

} // namespace kernelforge
