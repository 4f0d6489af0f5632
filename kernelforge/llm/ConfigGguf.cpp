// GGUF metadata of architecture llama: the model description and the tokenizer's tables.
#include "kernelforge/llm/ModelConfig.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

namespace kernelforge {

namespace {

constexpr std::string_view architecture = "llama";
constexpr uint64_t maxNameBytes = 128;
constexpr std::string_view embeddingTensor = "token_embd.weight";
constexpr std::string_view ropeTensor = "rope_freqs.weight";

std::string keyOf(std::string_view name) { return fmt::format("{}.{}", architecture, name); }

/// The metadata of one architecture, with keys that must be there.
struct Reader {
  const GgufMetadata &metadata;

  Expected<int64_t> integer(std::string_view name, int64_t low, int64_t high) const {
    KF_TRY(auto value, metadata.integer(keyOf(name), low, high));
    if (!value)
      return metadata.error(keyOf(name), "is missing");
    return *value;
  }

  /// A number, or an array with the same number for every layer.
  Expected<std::optional<int64_t>> perLayer(std::string_view name, int64_t low, int64_t high,
                                            int64_t layers) const {
    const std::string key = keyOf(name);
    const GgufEntry *entry = metadata.find(key);
    if (!entry || entry->type != GgufType::Array)
      return metadata.integer(key, low, high);
    KF_TRY(auto values, metadata.integers(key, low, high));
    if (static_cast<int64_t>(values->size()) != layers)
      return metadata.error(key,
                            fmt::format("has {} elements for {} layers", values->size(), layers));
    for (int64_t value : *values)
      if (value != values->front())
        return metadata.error(key, "differs between layers, which is not supported");
    return values->front();
  }

  Expected<double> numberOr(std::string_view name, double low, double high, double fallback) const {
    KF_TRY(auto value, metadata.number(keyOf(name), low, high));
    return value.value_or(fallback);
  }
};

/// Keys that change what is computed in a way that we do not compute.
Status refuseUnsupported(const Reader &reader, int64_t context) {
  const GgufMetadata &metadata = reader.metadata;
  KF_TRY(auto experts, metadata.integer(keyOf("expert_count"), 0, 65536));
  if (experts.value_or(0) != 0)
    return metadata.error(keyOf("expert_count"),
                          fmt::format("is {}: mixture of experts is not supported", *experts));
  KF_TRY(auto window, metadata.integer(keyOf("attention.sliding_window"), 0, INT64_MAX));
  if (window.value_or(0) != 0 && *window < context)
    return metadata.error(keyOf("attention.sliding_window"),
                          fmt::format("is {}: a sliding window is not supported", *window));
  KF_TRY(auto parallel, metadata.boolean(keyOf("use_parallel_residual")));
  if (parallel.value_or(false))
    return metadata.error(keyOf("use_parallel_residual"), "parallel residuals are not supported");
  KF_TRY(auto causal, metadata.boolean(keyOf("attention.causal")));
  if (!causal.value_or(true))
    return metadata.error(keyOf("attention.causal"), "attention without a mask is not supported");
  for (std::string_view name : {"attention.clamp_kqv", "attention.max_alibi_bias", "logit_scale",
                                "embedding_scale", "residual_scale"}) {
    KF_TRY(double value, reader.numberOr(name, -1e30, 1e30, 0));
    const bool isNeutral = value == 0 || (value == 1 && name.ends_with("_scale"));
    if (!isNeutral)
      return metadata.error(keyOf(name), fmt::format("is {}, which is not supported", value));
  }
  return {};
}

/// The factors of rope_freqs.weight, or none.
Expected<std::vector<double>> readRopeTensor(const GgufModel &model, int64_t count) {
  const StoredTensor *tensor = model.tensors.find(ropeTensor);
  if (!tensor)
    return std::vector<double>{};
  if (tensor->type != ElementType::F32 || tensor->shape != std::vector<int64_t>{count})
    return unusable(std::string(modelFileError),
                    fmt::format("{}, tensor {}", model.files.front().path(), ropeTensor),
                    fmt::format("is {} {}, must be f32 [{}]", tensor->typeName,
                                printShape(tensor->shape), count));
  std::vector<float> values(static_cast<size_t>(count));
  dequantizeRow(ElementType::F32, tensor->bytes.data(), values.size(), values.data());
  return std::vector<double>(values.begin(), values.end());
}

Expected<RopeDescription> readRope(const GgufModel &model, int64_t headDim) {
  const Reader reader{model.metadata};
  RopeDescription rope;
  rope.present = true;
  rope.pairing = RopePairing::Interleaved;
  KF_TRY(rope.theta, reader.numberOr("rope.freq_base", 1e-3, 1e15, 10000.0));
  KF_TRY(auto rotary, model.metadata.integer(keyOf("rope.dimension_count"), 2, headDim));
  rope.rotaryDim = rotary.value_or(headDim);
  KF_TRY(rope.magnitude, reader.numberOr("rope.scaling.attn_factor", 1e-3, 1e6, 1.0));
  KF_TRY(rope.frequencyFactors, readRopeTensor(model, rope.rotaryDim / 2));

  // A factor without a type means linear; files before scaling.* have scale_linear.
  const std::string typeKey = keyOf("rope.scaling.type");
  KF_TRY(auto type, model.metadata.string(typeKey, maxNameBytes));
  if (type && *type != "none" && *type != "linear")
    return model.metadata.error(typeKey, fmt::format("RoPE scaling \"{}\" is not supported", *type),
                                "supported are none, linear and rope_freqs.weight");
  KF_TRY(double old, reader.numberOr("rope.scale_linear", 1e-3, 1e6, 1.0));
  KF_TRY(double factor, reader.numberOr("rope.scaling.factor", 0, 1e6, old));
  if (type != "none" && factor != 0 && factor != 1) {
    if (rope.frequencyFactors.empty())
      rope.frequencyFactors = linearRopeFactors(rope.rotaryDim / 2, factor);
    else
      for (double &existing : rope.frequencyFactors)
        existing *= factor;
  }
  return rope;
}

Expected<int64_t> readVocabSize(const GgufModel &model) {
  const StoredTensor *embedding = model.tensors.find(embeddingTensor);
  if (!embedding || embedding->shape.size() != 2)
    return unusable(std::string(modelFileError),
                    fmt::format("{}, tensor {}", model.files.front().path(), embeddingTensor),
                    embedding ? fmt::format("has shape {}, must have two dimensions",
                                            printShape(embedding->shape))
                              : "is missing");
  const int64_t rows = embedding->shape[0];
  if (rows > modelLimits::vocabulary)
    return unusable(
        std::string(modelFileError),
        fmt::format("{}, tensor {}", model.files.front().path(), embeddingTensor),
        fmt::format("has {} rows, at most {} are allowed", rows, modelLimits::vocabulary));
  KF_TRY(auto stated, model.metadata.integer(keyOf("vocab_size"), 1, modelLimits::vocabulary));
  if (stated && *stated != rows)
    return model.metadata.error(keyOf("vocab_size"),
                                fmt::format("is {}, the embedding has {} rows", *stated, rows));
  return rows;
}

/// A special id: nothing where it is absent or means none, else below the number of tokens.
Expected<std::optional<TokenId>> readTokenId(const GgufMetadata &metadata, std::string_view name,
                                             size_t tokens) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  if (const GgufEntry *entry = metadata.find(key)) {
    const auto *u = std::get_if<uint64_t>(&entry->value);
    const auto *i = std::get_if<int64_t>(&entry->value);
    if ((u && meansNoToken(static_cast<int64_t>(*u))) || (i && meansNoToken(*i)))
      return std::nullopt;
  }
  KF_TRY(auto id, metadata.integer(key, 0, static_cast<int64_t>(tokens) - 1));
  return id ? std::optional(static_cast<TokenId>(*id)) : std::nullopt;
}

Expected<SpecialTokens> readSpecialTokens(const GgufMetadata &metadata, size_t tokens) {
  SpecialTokens special;
  KF_TRY(special.bos, readTokenId(metadata, "bos", tokens));
  KF_TRY(special.eos, readTokenId(metadata, "eos", tokens));
  KF_TRY(auto endOfTurn, readTokenId(metadata, "eot", tokens));
  KF_TRY(auto endOfMessage, readTokenId(metadata, "eom", tokens));
  for (auto id : {special.eos, endOfTurn, endOfMessage})
    if (id && std::find(special.endOfGeneration.begin(), special.endOfGeneration.end(), *id) ==
                  special.endOfGeneration.end())
      special.endOfGeneration.push_back(*id);
  return special;
}

} // namespace

Expected<ModelDescription> configFromGguf(const GgufModel &model) {
  namespace limits = modelLimits;
  const GgufMetadata &metadata = model.metadata;
  KF_TRY(auto name, metadata.string("general.architecture", maxNameBytes));
  if (!name || *name != architecture)
    return metadata.error("general.architecture",
                          name ? fmt::format("architecture \"{}\" is not supported", *name)
                               : "is missing",
                          "supported is llama");
  const Reader reader{metadata};
  ModelDescription d;
  KF_TRY(d.layers, reader.integer("block_count", 1, limits::layers));
  KF_TRY(d.modelDim, reader.integer("embedding_length", 1, limits::modelDim));
  KF_TRY(d.contextLength, reader.integer("context_length", 1, limits::context));
  KF_TRY(auto heads, reader.perLayer("attention.head_count", 1, limits::heads, d.layers));
  if (!heads)
    return metadata.error(keyOf("attention.head_count"), "is missing");
  d.heads = *heads;
  KF_TRY(auto kvHeads, reader.perLayer("attention.head_count_kv", 1, limits::heads, d.layers));
  d.kvHeads = kvHeads.value_or(d.heads);
  KF_TRY(auto ffnDim, reader.perLayer("feed_forward_length", 1, limits::ffnDim, d.layers));
  if (!ffnDim)
    return metadata.error(keyOf("feed_forward_length"), "is missing");
  d.ffnDim = *ffnDim;

  KF_TRY(auto keyDim, metadata.integer(keyOf("attention.key_length"), 1, limits::headDim));
  KF_TRY(auto valueDim, metadata.integer(keyOf("attention.value_length"), 1, limits::headDim));
  if (!keyDim && (d.modelDim % d.heads != 0 || d.modelDim / d.heads > limits::headDim))
    return metadata.error(keyOf("attention.head_count"),
                          fmt::format("{} heads do not divide {} dimensions into at most {} each",
                                      d.heads, d.modelDim, limits::headDim));
  d.headDim = keyDim.value_or(d.modelDim / d.heads);
  if (valueDim.value_or(d.headDim) != d.headDim)
    return metadata.error(
        keyOf("attention.value_length"),
        fmt::format("is {}, keys have {} dimensions: not supported", *valueDim, d.headDim));

  KF_TRY(auto epsilon, metadata.number(keyOf("attention.layer_norm_rms_epsilon"), 1e-20, 1.0));
  if (!epsilon)
    return metadata.error(keyOf("attention.layer_norm_rms_epsilon"), "is missing");
  d.normEpsilon = *epsilon;
  KF_TRY(d.attentionScale, reader.numberOr("attention.scale", 0, 1e6, 0));
  KF_CHECK(refuseUnsupported(reader, d.contextLength));
  KF_TRY(d.rope, readRope(model, d.headDim));
  KF_TRY(d.vocabSize, readVocabSize(model));
  d.tiedEmbeddings = !model.tensors.find("output.weight");
  d.attentionBias = model.tensors.find("blk.0.attn_q.bias") != nullptr;
  d.outputBias = model.tensors.find("blk.0.attn_output.bias") != nullptr;
  d.mlpBias = model.tensors.find("blk.0.ffn_up.bias") != nullptr;
  if (std::string defect = describeDefect(d); !defect.empty())
    return unusable(std::string(modelFileError), model.files.front().path(), std::move(defect));
  return d;
}

Expected<std::optional<TokenizerData>> tokenizerFromGguf(const GgufMetadata &metadata,
                                                         const std::string &where) {
  TokenizerData data;
  data.where = where;
  KF_TRY(auto model, metadata.string("tokenizer.ggml.model", maxNameBytes));
  if (model ? *model == "no_vocab" || *model == "none" : !metadata.find("tokenizer.ggml.tokens"))
    return std::nullopt;
  if (!model)
    return metadata.error("tokenizer.ggml.model", "is missing");
  data.model = *model;
  if (!data.isByteLevel())
    return data; // refused by its name where a tokenizer is needed: nothing else of it matters
  KF_TRY(auto tokens, metadata.strings("tokenizer.ggml.tokens", TokenizerData::maxTokenBytes));
  if (!tokens || tokens->empty())
    return metadata.error("tokenizer.ggml.tokens", tokens ? "is empty" : "is missing");
  data.tokens = std::move(*tokens);
  const size_t count = data.tokens.size();
  if (count > static_cast<size_t>(modelLimits::vocabulary))
    return metadata.error(
        "tokenizer.ggml.tokens",
        fmt::format("has {} elements, at most {} are allowed", count, modelLimits::vocabulary));
  KF_TRY(auto pre, metadata.string("tokenizer.ggml.pre", maxNameBytes));
  data.pre = pre.value_or("");

  data.types.assign(count, TokenType::Normal);
  constexpr std::string_view typeKey = "tokenizer.ggml.token_type";
  KF_TRY(auto types, metadata.integers(typeKey, 1, 6));
  if (types) {
    if (types->size() != count)
      return metadata.error(
          typeKey, fmt::format("has {} elements, there are {} tokens", types->size(), count));
    std::transform(types->begin(), types->end(), data.types.begin(),
                   [](int64_t type) { return static_cast<TokenType>(type); });
  }
  KF_TRY(auto merges, metadata.strings("tokenizer.ggml.merges", 2 * TokenizerData::maxTokenBytes));
  data.merges = std::move(merges).value_or(std::vector<std::string>{});

  KF_TRY(data.special, readSpecialTokens(metadata, count));
  KF_TRY(auto addBos, metadata.boolean("tokenizer.ggml.add_bos_token"));
  data.addBos = addBos.value_or(false);
  constexpr std::string_view bosKey = "tokenizer.ggml.bos_token_id";
  if (data.addBos && !data.special.bos)
    return metadata.error(bosKey, fmt::format("{}, but add_bos_token asks for it",
                                              metadata.find(bosKey) ? "means none" : "is missing"));
  return data;
}

} // namespace kernelforge
