// A model as it lies on disk, opened and checked: description, weights, tokenizer source, chat
// template. Nothing is copied but the vocabulary; weights stay in the mapped files.
#pragma once

#include "kernelforge/ir/ModelDescription.h"
#include "kernelforge/llm/TokenizerData.h"
#include "kernelforge/llm/WeightFile.h"
#include "kernelforge/support/Error.h"
#include "kernelforge/support/MappedFile.h"
#include "kernelforge/support/PageMemory.h"

namespace kernelforge {

enum class ModelFormat { Gguf, Safetensors };

struct ModelFile {
  std::string path; ///< as it was given
  std::string name; ///< of the GGUF file without extension, or of the safetensors folder
  ModelFormat format = ModelFormat::Gguf;
  ModelDescription description;
  NamedList<Weight> weights; ///< those of weightSlots(description), in that order
  SpecialTokens special;
  TokenizerSource tokenizer;
  std::string chatTemplate; ///< Jinja text; empty: the model brings none
  std::vector<MappedFile> files;
  PageMemory ownedWeights; ///< where weights lie that do not lie in the files as they are needed
  std::vector<std::string> warnings; ///< what is odd but harmless, one line each

  /// Bytes of the address space that the mapped files and the weights without a file take.
  uint64_t mappedBytes() const;

  /// Looks at the files again: an error where one changed its size since it was mapped.
  Status checkFiles() const;
};

/// Opens a GGUF file (or the first of its shards), a .safetensors file beside its config.json, a
/// model.safetensors.index.json, or a folder with config.json and model.safetensors or
/// model.safetensors.index.json. Everything in them is checked before it is used. A missing path
/// and every defect under it are Unusable.
Expected<ModelFile> openModel(const std::string &path);

/// What a GGUF file, a config.json or a folder with one says of a model, without any weights: its
/// description, and its tokenizer and chat template where they are there too. Errors as openModel.
Expected<ModelFile> openModelShape(const std::string &path);

} // namespace kernelforge
