#include "kernelforge/llm/ModelWeights.h"

#include <array>
#include <cmath>
#include <fmt/format.h>
#include <unordered_set>

namespace kernelforge {

namespace {

struct NamePair {
  std::string_view canonical, huggingFace;
};
constexpr std::array<NamePair, 3> modelNames = {{
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
}};
constexpr std::array<NamePair, 9> layerNames = {{
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
}};

/// Adds a projection [out, in] and its bias if it has one.
void addLinear(std::vector<WeightSpec> &specs, const std::string &name, int64_t out, int64_t in,
               bool bias) {
  specs.push_back({name + ".weight", {out, in}});
  if (bias)
    specs.push_back({name + ".bias", {out}});
}

void addNorm(std::vector<WeightSpec> &specs, const std::string &name, const ModelDescription &d) {
  specs.push_back({name + ".weight", {d.modelDim}});
  if (d.norm == NormKind::Layer)
    specs.push_back({name + ".bias", {d.modelDim}});
}

/// Tensors of real files that repeat what the description already says, or are a second copy.
bool isRedundant(const std::string &name, const ModelDescription &d, WeightNaming naming) {
  if (naming == WeightNaming::Gguf)
    return name == "rope_freqs.weight" || name.ends_with(".attn_rot_embd") ||
           name.ends_with(".attn_rot_embd.weight");
  return name.ends_with(".rotary_emb.inv_freq") || (d.tiedEmbeddings && name == "lm_head.weight");
}

std::string supportedTypes(bool isMatrix) {
  std::string names;
  for (const ElementTypeInfo &type : elementTypes())
    if (type.type != ElementType::I32 && (isMatrix || !type.isQuantized()))
      names += fmt::format("{}{}", names.empty() ? "" : ", ", type.name);
  return names;
}

Expected<Weight> bindWeight(const WeightSpec &spec, const StoredTensor &tensor,
                            const std::string &where) {
  auto error = [&](std::string why, std::string hint = "") {
    return unusable(std::string(modelFileError), fmt::format("{}, tensor {}", where, tensor.name),
                    std::move(why), std::move(hint));
  };
  const bool usable = tensor.type && *tensor.type != ElementType::I32 &&
                      (spec.isMatrix() || !info(*tensor.type).isQuantized());
  if (!usable)
    return error(fmt::format("type {} is not supported for a {}", tensor.typeName,
                             spec.isMatrix() ? "weight matrix" : "norm or bias"),
                 "supported are " + supportedTypes(spec.isMatrix()));
  if (tensor.shape != spec.shape) // after the type: packed types have shapes of their own
    return error(fmt::format("has shape {}, the model needs {}", printShape(tensor.shape),
                             printShape(spec.shape)));
  return Weight{spec.name, *tensor.type, spec.shape, tensor.bytes};
}

} // namespace

std::vector<WeightSpec> weightsOf(const ModelDescription &d) {
  std::vector<WeightSpec> specs;
  const int64_t queryDim = d.heads * d.headDim, kvDim = d.kvHeads * d.headDim;
  if (d.vocabSize != 0)
    specs.push_back({"token_embd.weight", {d.vocabSize, d.modelDim}});
  for (int64_t layer = 0; layer < d.layers; ++layer) {
    const std::string block = fmt::format("blk.{}.", layer);
    addNorm(specs, block + "attn_norm", d);
    addLinear(specs, block + "attn_q", queryDim, d.modelDim, d.attentionBias);
    addLinear(specs, block + "attn_k", kvDim, d.modelDim, d.attentionBias);
    addLinear(specs, block + "attn_v", kvDim, d.modelDim, d.attentionBias);
    addLinear(specs, block + "attn_output", d.modelDim, queryDim, d.outputBias);
    addNorm(specs, block + "ffn_norm", d);
    if (d.gated)
      addLinear(specs, block + "ffn_gate", d.ffnDim, d.modelDim, d.mlpBias);
    addLinear(specs, block + "ffn_up", d.ffnDim, d.modelDim, d.mlpBias);
    addLinear(specs, block + "ffn_down", d.modelDim, d.ffnDim, d.mlpBias);
  }
  if (d.vocabSize != 0) {
    addNorm(specs, "output_norm", d);
    if (!d.tiedEmbeddings)
      specs.push_back({"output.weight", {d.vocabSize, d.modelDim}});
  }
  return specs;
}

std::string huggingFaceName(std::string_view canonical) {
  const size_t dot = canonical.rfind('.');
  if (dot == std::string_view::npos)
    return "";
  const std::string_view base = canonical.substr(0, dot), suffix = canonical.substr(dot);
  for (const NamePair &names : modelNames)
    if (base == names.canonical)
      return fmt::format("{}{}", names.huggingFace, suffix);
  constexpr std::string_view block = "blk.";
  const size_t layerEnd = base.find('.', block.size());
  if (!base.starts_with(block) || layerEnd == std::string_view::npos)
    return "";
  for (const NamePair &names : layerNames)
    if (base.substr(layerEnd + 1) == names.canonical)
      return fmt::format("model.layers.{}.{}{}", base.substr(block.size(), layerEnd - block.size()),
                         names.huggingFace, suffix);
  return "";
}

Expected<NamedList<Weight>> bindWeights(const ModelDescription &description,
                                        const NamedList<StoredTensor> &tensors, WeightNaming naming,
                                        const std::string &where) {
  NamedList<Weight> weights;
  std::unordered_set<std::string_view> used; // views into `tensors`
  for (const WeightSpec &spec : weightsOf(description)) {
    const std::string name = naming == WeightNaming::Gguf ? spec.name : huggingFaceName(spec.name);
    const StoredTensor *tensor = tensors.find(name);
    if (!tensor)
      return unusable(std::string(modelFileError), fmt::format("{}, tensor {}", where, name),
                      "is missing");
    KF_TRY(Weight weight, bindWeight(spec, *tensor, where));
    weights.add(std::move(weight));
    used.insert(tensor->name);
  }
  for (const StoredTensor &tensor : tensors)
    if (!used.contains(tensor.name) && !isRedundant(tensor.name, description, naming))
      return unusable(std::string(modelFileError), fmt::format("{}, tensor {}", where, tensor.name),
                      "has no place in a model of this configuration");
  return weights;
}

std::string describeNonFinite(const NamedList<Weight> &weights, WeightNaming naming) {
  std::vector<float> values;
  for (const Weight &weight : weights) {
    values.resize(static_cast<size_t>(weight.shape.back()));
    const uint64_t stride = *rowBytes(weight.type, values.size()); // checked when it was bound
    const int64_t rows = weight.shape.size() == 1 ? 1 : weight.shape.front();
    for (int64_t row = 0; row < rows; ++row) {
      dequantizeRow(weight.type, weight.bytes.data() + static_cast<uint64_t>(row) * stride,
                    values.size(), values.data());
      for (float value : values)
        if (!std::isfinite(value))
          return fmt::format("{} has {} in row {}",
                             naming == WeightNaming::Gguf ? weight.name
                                                          : huggingFaceName(weight.name),
                             std::isnan(value) ? std::fabs(value) : value, row); // NaN has a sign
    }
  }
  return "";
}

} // namespace kernelforge
