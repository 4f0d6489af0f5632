// What is particular to a family of models: how its files say what a model is, and where its
// weights lie in them. A family is one file beside this one and a line in Architectures.def.
#pragma once

#include "kernelforge/ir/ModelDescription.h"
#include "kernelforge/llm/Gguf.h"
#include "kernelforge/support/Error.h"
#include "kernelforge/support/Json.h"

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// Limits of what a configuration may ask for; beyond them a file is taken for damaged.
namespace modelLimits {
inline constexpr int64_t layers = 1024;
inline constexpr int64_t modelDim = 1 << 18;
inline constexpr int64_t heads = 4096;
inline constexpr int64_t headDim = 1024;
inline constexpr int64_t ffnDim = 1 << 22;
inline constexpr int64_t vocabulary = 1 << 24;
inline constexpr int64_t context = 1 << 27;
} // namespace modelLimits

/// How a file names its tensors.
enum class WeightNaming { Gguf, HuggingFace };

/// Where a weight lies in a file: rows (of a vector: elements) of one of its tensors.
struct TensorSource {
  std::vector<std::string> names; ///< of the tensor; files of the family have one of them
  int64_t firstRow = 0;
  int64_t rows = 0;        ///< that the tensor has; 0: the weight is all of it
  bool transposed = false; ///< a matrix that is stored [in, out]
};

/// What config.json calls a model: an element of `architectures`, and `model_type`.
struct HuggingFaceClass {
  std::string_view name, modelType;
};

class Architecture {
public:
  virtual ~Architecture() = default;

  /// The family's name: `general.architecture` of GGUF files.
  virtual std::string_view name() const = 0;

  virtual std::span<const HuggingFaceClass> classes() const = 0;

  /// The model in a GGUF file. Switches that cannot be computed are refused by their key, never
  /// ignored. Relations between dimensions are checked by the caller.
  virtual Expected<ModelDescription> fromGguf(const GgufModel &model) const = 0;

  /// The same from a config.json whose class is `kind`, with the defaults that `transformers` gives
  /// to absent fields.
  virtual Expected<ModelDescription> fromConfig(const JsonView &root,
                                                const HuggingFaceClass &kind) const = 0;

  /// Where files of that naming have a weight of the description.
  virtual TensorSource locate(const WeightSlot &slot, const ModelDescription &description,
                              WeightNaming naming) const = 0;

  /// True for tensors of real files that repeat what the description says, or are a second copy.
  virtual bool isRedundant(std::string_view tensor, const ModelDescription &description,
                           WeightNaming naming) const = 0;
};

/// All families, in the order of Architectures.def.
std::span<const Architecture *const> architectures();

/// The family of a GGUF file's `general.architecture`; null where there is none.
const Architecture *findArchitecture(std::string_view name);

} // namespace kernelforge
