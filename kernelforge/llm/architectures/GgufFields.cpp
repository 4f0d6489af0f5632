#include "kernelforge/llm/architectures/GgufFields.h"

#include "kernelforge/llm/architectures/Architecture.h"

#include <fmt/format.h>

namespace kernelforge {

std::string GgufFields::key(std::string_view name) const {
  return fmt::format("{}.{}", architecture, name);
}

Expected<int64_t> GgufFields::integer(std::string_view name, int64_t low, int64_t high) const {
  KF_TRY(auto value, model.metadata.integer(key(name), low, high));
  if (!value)
    return model.metadata.error(key(name), "is missing");
  return *value;
}

Expected<std::optional<std::vector<int64_t>>>
GgufFields::perLayer(std::string_view name, int64_t low, int64_t high, int64_t layers) const {
  const GgufEntry *entry = model.metadata.find(key(name));
  if (!entry)
    return std::nullopt;
  if (entry->type != GgufType::Array) {
    KF_TRY(auto value, model.metadata.integer(key(name), low, high));
    return std::vector<int64_t>(static_cast<size_t>(layers), *value);
  }
  KF_TRY(auto values, model.metadata.integers(key(name), low, high));
  if (static_cast<int64_t>(values->size()) != layers)
    return model.metadata.error(
        key(name), fmt::format("has {} elements for {} layers", values->size(), layers));
  return values;
}

bool GgufFields::isList(std::string_view name) const {
  const GgufEntry *entry = model.metadata.find(key(name));
  return entry && entry->type == GgufType::Array;
}

Expected<double> GgufFields::numberOr(std::string_view name, double low, double high,
                                      double fallback) const {
  KF_TRY(auto value, model.metadata.number(key(name), low, high));
  return value.value_or(fallback);
}

Expected<double> GgufFields::epsilon(std::string_view name) const {
  KF_TRY(auto value, model.metadata.number(key(name), 1e-20, 1.0));
  if (!value)
    return model.metadata.error(key(name), "is missing");
  return *value;
}

Status GgufFields::refuseUnsupported() const {
  const GgufMetadata &metadata = model.metadata;
  KF_TRY(auto experts, metadata.integer(key("expert_count"), 0, 65536));
  if (experts.value_or(0) != 0)
    return metadata.error(key("expert_count"),
                          fmt::format("is {}: mixture of experts is not supported", *experts));
  KF_TRY(auto parallel, metadata.boolean(key("use_parallel_residual")));
  if (parallel.value_or(false))
    return metadata.error(key("use_parallel_residual"), "parallel residuals are not supported");
  KF_TRY(auto causal, metadata.boolean(key("attention.causal")));
  if (!causal.value_or(true))
    return metadata.error(key("attention.causal"), "attention without a mask is not supported");
  for (std::string_view name : {"attention.clamp_kqv", "attention.max_alibi_bias", "logit_scale",
                                "embedding_scale", "residual_scale"}) {
    KF_TRY(double value, numberOr(name, -1e30, 1e30, 0));
    const bool isNeutral = value == 0 || (value == 1 && name.ends_with("_scale"));
    if (!isNeutral)
      return metadata.error(key(name), fmt::format("is {}, which is not supported", value));
  }
  return {};
}

Expected<int64_t> GgufFields::vocabSize() const {
  constexpr std::string_view embedding = "token_embd.weight";
  const StoredTensor *tensor = model.tensors.find(embedding);
  const std::string where = fmt::format("{}, tensor {}", model.files.front().path(), embedding);
  if (!tensor || tensor->shape.size() != 2)
    return unusable(
        std::string(modelFileError), where,
        tensor ? fmt::format("has shape {}, must have two dimensions", printShape(tensor->shape))
               : "is missing");
  const int64_t rows = tensor->shape[0];
  if (rows > modelLimits::vocabulary)
    return unusable(
        std::string(modelFileError), where,
        fmt::format("has {} rows, at most {} are allowed", rows, modelLimits::vocabulary));
  KF_TRY(auto stated, model.metadata.integer(key("vocab_size"), 1, modelLimits::vocabulary));
  if (stated && *stated != rows)
    return model.metadata.error(key("vocab_size"),
                                fmt::format("is {}, the embedding has {} rows", *stated, rows));
  return rows;
}

Status GgufFields::readHeadDim(ModelDescription &d) const {
  const GgufMetadata &metadata = model.metadata;
  KF_TRY(auto keyDim, metadata.integer(key("attention.key_length"), 1, modelLimits::headDim));
  KF_TRY(auto valueDim, metadata.integer(key("attention.value_length"), 1, modelLimits::headDim));
  for (LayerDescription &layer : d.layers) {
    AttentionDescription &a = layer.attention;
    if (!keyDim && (d.modelDim % a.heads != 0 || d.modelDim / a.heads > modelLimits::headDim))
      return metadata.error(key("attention.head_count"),
                            fmt::format("{} heads do not divide {} dimensions into at most {} each",
                                        a.heads, d.modelDim, modelLimits::headDim));
    a.headDim = keyDim.value_or(d.modelDim / a.heads);
    if (valueDim.value_or(a.headDim) != a.headDim)
      return metadata.error(
          key("attention.value_length"),
          fmt::format("is {}, keys have {} dimensions: not supported", *valueDim, a.headDim));
  }
  return {};
}

Status GgufFields::readLayers(ModelDescription &d, int64_t count) const {
  constexpr std::string_view headKey = "attention.head_count", ffnKey = "feed_forward_length";
  KF_TRY(auto heads, perLayer(headKey, 1, modelLimits::heads, count));
  if (!heads)
    return model.metadata.error(key(headKey), "is missing");
  KF_TRY(auto kvHeads, perLayer("attention.head_count_kv", 1, modelLimits::heads, count));
  KF_TRY(auto widths, perLayer(ffnKey, 1, modelLimits::ffnDim, count));
  if (!widths)
    return model.metadata.error(key(ffnKey), "is missing");
  LayerDescription layer;
  layer.attention.bias = has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias");
  layer.attention.outputBias = has("blk.0.attn_output.bias");
  layer.mlp.bias = has("blk.0.ffn_up.bias");
  KF_TRY(layer.attention.scale, numberOr("attention.scale", 0, 1e6, 0));
  d.layers.assign(static_cast<size_t>(count), layer);
  for (size_t i = 0; i < d.layers.size(); ++i) {
    d.layers[i].attention.heads = (*heads)[i];
    d.layers[i].attention.kvHeads = kvHeads ? (*kvHeads)[i] : (*heads)[i];
    d.layers[i].mlp.width = (*widths)[i];
  }
  return readHeadDim(d);
}

Expected<ModelDescription> GgufFields::frame() const {
  ModelDescription d;
  d.architecture = architecture;
  KF_TRY(int64_t layers, integer("block_count", 1, modelLimits::layers));
  KF_TRY(d.modelDim, integer("embedding_length", 1, modelLimits::modelDim));
  KF_TRY(d.contextLength, integer("context_length", 1, modelLimits::context));
  KF_CHECK(readLayers(d, layers));
  KF_CHECK(refuseUnsupported());
  KF_TRY(auto window, model.metadata.integer(key("attention.sliding_window"), 0, INT64_MAX));
  if (window && *window < d.contextLength) // others see everything
    for (LayerDescription &layer : d.layers)
      layer.attention.window = *window;
  KF_TRY(d.vocabSize, vocabSize());
  d.tiedHead = !has("output.weight");
  return d;
}

} // namespace kernelforge
