// Writes some bytes of a word of 32 bits in a buffer. The API copies whole words only, and buffers
// of tensors end in the middle of one.
#pragma once

#include "kernelforge/backend/webgpu/Context.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace kernelforge::webgpu {

/// One word that is partly overwritten. Offsets are bytes, multiples of 4.
struct MergedWord {
  WGPUBuffer to = nullptr;
  uint64_t toOffset = 0;
  uint32_t mask = 0;         ///< the bits that are overwritten
  WGPUBuffer from = nullptr; ///< where they come from; null: from `value`
  uint64_t fromOffset = 0;
  uint32_t value = 0;
};

/// The bits of the bytes [begin, end) of a word as it lies in memory, 0 <= begin < end <= 4.
uint32_t byteMask(int begin, int end);

/// A kernel that merges words.
class WordMerge {
public:
  static Expected<std::unique_ptr<WordMerge>> make(std::shared_ptr<const Context> context);

  /// Submits the merging of these words, in order with what else is submitted. Called under the
  /// context's lock.
  Status submit(const std::vector<MergedWord> &words) const;

private:
  explicit WordMerge(std::shared_ptr<const Context> context) : context(std::move(context)) {}
  Status compile();

  std::shared_ptr<const Context> context;
  Handle<WGPUBindGroupLayout> layout;
  Handle<WGPUComputePipeline> pipeline;
  Handle<WGPUBuffer> nothing; ///< stands for `from` where there is none
};

} // namespace kernelforge::webgpu
