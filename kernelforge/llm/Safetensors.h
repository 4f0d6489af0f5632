// safetensors files, one or in shards under an index: header and offsets checked as strictly as the
// reference reader does (no holes, no overlap, the whole buffer used).
#pragma once

#include "kernelforge/llm/WeightFile.h"
#include "kernelforge/support/Error.h"
#include "kernelforge/support/MappedFile.h"

namespace kernelforge {

/// Parses the bytes of a whole file; the tensors point into them. `where` names the file in errors,
/// which are Unusable. Tensors of types that ElementType does not have are listed without a type.
Expected<NamedList<StoredTensor>> parseSafetensors(std::span<const std::byte> file,
                                                   const std::string &where);

/// The tensors of a model with the files that hold them.
struct SafetensorsModel {
  std::vector<MappedFile> files;
  NamedList<StoredTensor> tensors;
  std::vector<std::string> warnings; ///< what is odd but harmless, one line each
};

/// Maps and parses one file.
Expected<SafetensorsModel> openSafetensors(const std::string &path);

/// Reads model.safetensors.index.json at `path` and opens every shard that it names, from the same
/// folder. The index and the shards must agree on where each tensor is.
Expected<SafetensorsModel> openSafetensorsIndex(const std::string &path);

} // namespace kernelforge
