#include "kernelforge/llm/ModelConfig.h"

#include "kernelforge/llm/Fp8Weights.h"
#include "kernelforge/llm/WeightFile.h"
#include "kernelforge/llm/architectures/ConfigFields.h"

#include <algorithm>
#include <fmt/format.h>

namespace kernelforge {

namespace {

/// A family, and which of its classes a configuration names.
struct Kind {
  const Architecture *architecture;
  HuggingFaceClass kind;
};

/// "LlamaForCausalLM, MistralForCausalLM and GPT2LMHeadModel": what there is, for error messages.
std::string joined(const std::vector<std::string_view> &names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i)
    text += fmt::format("{}{}", i == 0 ? "" : i + 1 == names.size() ? " and " : ", ", names[i]);
  return text;
}

std::string knownClasses(bool byClass) {
  std::vector<std::string_view> names;
  for (const Architecture *architecture : architectures())
    for (const HuggingFaceClass &kind : architecture->classes())
      names.push_back(byClass ? kind.name : kind.modelType);
  return "supported are " + joined(names);
}

std::optional<Kind> findClass(std::string_view name, bool byClass) {
  for (const Architecture *architecture : architectures())
    for (const HuggingFaceClass &kind : architecture->classes())
      if (name == (byClass ? kind.name : kind.modelType))
        return Kind{architecture, kind};
  return std::nullopt;
}

/// By `architectures`, or by `model_type` where that names none.
Expected<Kind> readKind(const JsonView &root) {
  std::vector<JsonView> names;
  if (root.has("architectures")) {
    KF_TRY(names, root.array("architectures", 16));
  }
  const bool byClass = !names.empty();
  KF_TRY(JsonView view, root.at(byClass ? "architectures" : "model_type"));
  if (!byClass)
    names.push_back(view);
  std::string shown;
  for (const JsonView &name : names) {
    KF_TRY(std::string text, name.asString(maxNameBytes));
    if (auto known = findClass(text, byClass))
      return *known;
    shown += (shown.empty() ? "" : ", ") + text;
  }
  return view.error(fmt::format("architecture \"{}\" is not supported", shown),
                    knownClasses(byClass));
}

/// A special id: nothing where it means none.
Expected<std::optional<TokenId>> asTokenId(const JsonView &view, int64_t vocabulary) {
  if (view.value().is_null() || (view.isInteger() && meansNoToken(view.value().get<int64_t>())))
    return std::nullopt;
  KF_TRY(int64_t id, asWhole(view, 0, vocabulary - 1));
  return static_cast<TokenId>(id);
}

/// Adds `eos_token_id`, one id or several.
Status addEndOfGeneration(const JsonView &root, int64_t vocabulary, SpecialTokens &special) {
  if (!root.has("eos_token_id"))
    return {};
  KF_TRY(JsonView view, root.at("eos_token_id"));
  std::vector<JsonView> ids{view};
  if (view.isArray()) {
    KF_TRY(ids, view.elements(64));
  }
  for (const JsonView &element : ids) {
    KF_TRY(auto id, asTokenId(element, vocabulary));
    if (!id)
      continue;
    if (!special.eos)
      special.eos = id;
    if (std::find(special.endOfGeneration.begin(), special.endOfGeneration.end(), *id) ==
        special.endOfGeneration.end())
      special.endOfGeneration.push_back(*id);
  }
  return {};
}

Expected<SpecialTokens> readSpecialTokens(const JsonView &root, int64_t vocabulary) {
  SpecialTokens special;
  if (root.has("bos_token_id")) {
    KF_TRY(JsonView bos, root.at("bos_token_id"));
    KF_TRY(special.bos, asTokenId(bos, vocabulary));
  }
  KF_CHECK(addEndOfGeneration(root, vocabulary, special));
  return special;
}

/// Quantized checkpoints have tensors of their own kind, whatever the family: those of FP8 are
/// read, where numbers and scales are the usual ones.
Status checkQuantization(const JsonView &root) {
  if (!root.has("quantization_config"))
    return {};
  KF_TRY(JsonView view, root.at("quantization_config"));
  KF_TRY(std::string method, view.stringOr("quant_method", maxNameBytes, "unnamed"));
  if (method != "fp8")
    return view.error(fmt::format("quantization \"{}\" is not supported", method),
                      "use the unquantized checkpoint, one of fp8 or a GGUF file");
  KF_TRY(std::string format, view.stringOr("fmt", maxNameBytes, "e4m3"));
  if (format != "e4m3")
    return view.error(fmt::format("numbers of fp8 in format \"{}\" are not supported", format),
                      "supported is e4m3");
  if (!view.has("weight_block_size"))
    return {};
  KF_TRY(JsonView size, view.at("weight_block_size"));
  if (size.value().is_null() || size.value() == Json::array({fp8Block, fp8Block}))
    return {};
  return size.error(
      fmt::format("blocks of another size than [{0}, {0}] are not supported", fp8Block),
      "scales may be one for a block, for a row or for a tensor");
}

} // namespace

Expected<ModelConfig> configFromJson(const JsonDocument &document) {
  const JsonView root = document.root();
  KF_TRY(Kind kind, readKind(root));
  ModelConfig config;
  config.architecture = kind.architecture;
  KF_TRY(config.description, kind.architecture->fromConfig(root, kind.kind));
  KF_CHECK(checkQuantization(root));
  if (std::string defect = describeDefect(config.description); !defect.empty())
    return root.error(std::move(defect));
  KF_TRY(config.special, readSpecialTokens(root, config.description.vocabSize));
  return config;
}

Expected<ModelConfig> readConfigJson(const std::string &path) {
  KF_TRY(JsonDocument document, readJsonFile(path, modelFileError, configJsonLimits));
  return configFromJson(document);
}

Status addGenerationConfig(const JsonDocument &document, ModelConfig &config) {
  return addEndOfGeneration(document.root(), config.description.vocabSize, config.special);
}

Expected<ModelConfig> configFromGguf(const GgufModel &model) {
  constexpr std::string_view key = "general.architecture";
  KF_TRY(auto name, model.metadata.string(key, maxNameBytes));
  std::vector<std::string_view> known;
  for (const Architecture *architecture : architectures())
    known.push_back(architecture->name());
  ModelConfig config;
  config.architecture = name ? findArchitecture(*name) : nullptr;
  if (!config.architecture)
    return model.metadata.error(
        key, name ? fmt::format("architecture \"{}\" is not supported", *name) : "is missing",
        "supported are " + joined(known));
  KF_TRY(config.description, config.architecture->fromGguf(model));
  if (std::string defect = describeDefect(config.description); !defect.empty())
    return unusable(std::string(modelFileError), model.files.front().path(), std::move(defect));
  return config;
}

} // namespace kernelforge
