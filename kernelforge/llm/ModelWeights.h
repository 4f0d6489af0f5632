// Which weights a description asks for, and the check that a file's tensors are those.
#pragma once

#include "kernelforge/ir/ModelDescription.h"
#include "kernelforge/llm/WeightFile.h"
#include "kernelforge/support/Error.h"

namespace kernelforge {

/// A weight that a model needs: canonical name and shape, outermost dimension first. A matrix may
/// be quantized; a vector (norm, bias) is f32, f16 or bf16.
struct WeightSpec {
  std::string name;
  std::vector<int64_t> shape;
  bool isMatrix() const { return shape.size() == 2; }
};

/// All weights of a model in the order of use. With vocabSize 0 there is neither embedding nor
/// final norm nor head; with tied embeddings there is no output.weight.
std::vector<WeightSpec> weightsOf(const ModelDescription &description);

/// How a file names its tensors.
enum class WeightNaming { Gguf, HuggingFace };

/// The name in a Hugging Face checkpoint of architecture Llama of the weight `canonical`
/// ("blk.0.attn_q.weight": "model.layers.0.self_attn.q_proj.weight"); empty where there is none.
std::string huggingFaceName(std::string_view canonical);

/// Finds every weight of the description among `tensors` and checks its shape and type. Tensors
/// that are left over are an error too (a model with them would compute something else), except
/// those known to be redundant. `where` names the file. Errors are Unusable.
Expected<NamedList<Weight>> bindWeights(const ModelDescription &description,
                                        const NamedList<StoredTensor> &tensors, WeightNaming naming,
                                        const std::string &where);

/// The first element of the weights that is no finite number, as "NAME has nan in row 3" (a row of
/// a vector is all of it), under the name that its file has; empty where there is none. Reads all
/// weights.
std::string describeNonFinite(const NamedList<Weight> &weights, WeightNaming naming);

} // namespace kernelforge
