#include "kernelforge/llm/ModelFile.h"

#include "kernelforge/llm/Gguf.h"
#include "kernelforge/llm/ModelConfig.h"
#include "kernelforge/llm/ModelWeights.h"
#include "kernelforge/llm/Safetensors.h"
#include "kernelforge/support/Utf8.h"

#include <filesystem>
#include <fmt/format.h>

namespace kernelforge {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t maxTemplateBytes = 1u << 20;
constexpr std::string_view indexName = "model.safetensors.index.json";
constexpr std::string_view indexSuffix = ".safetensors.index.json";

bool isFile(const fs::path &path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

bool isFolder(const fs::path &path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

/// Binds the weights of a description that was read, from its files of the model's format.
Status bindTensors(ModelFile &model, const Architecture &architecture,
                   const NamedList<StoredTensor> &tensors, const std::string &where) {
  const bool isGguf = model.format == ModelFormat::Gguf;
  KF_TRY(BoundWeights bound,
         bindWeights(architecture, model.description, tensors,
                     isGguf ? WeightNaming::Gguf : WeightNaming::HuggingFace, where));
  model.weights = std::move(bound.weights);
  model.ownedWeights = std::move(bound.owned);
  return {};
}

Expected<ModelFile> openGgufModel(const std::string &path) {
  ModelFile model;
  model.format = ModelFormat::Gguf;
  KF_TRY(GgufModel gguf, openGguf(path));
  KF_TRY(ModelConfig config, configFromGguf(gguf));
  model.description = std::move(config.description);
  KF_CHECK(bindTensors(model, *config.architecture, gguf.tensors, path));
  KF_TRY(model.tokenizer.data, tokenizerFromGguf(gguf.metadata, path));
  if (const auto &data = model.tokenizer.data) {
    if (data->isSupported() &&
        static_cast<int64_t>(data->tokens.size()) != model.description.vocabSize)
      return gguf.metadata.error("tokenizer.ggml.tokens",
                                 fmt::format("has {} elements, the embedding has {} rows",
                                             data->tokens.size(), model.description.vocabSize));
    model.special = data->special;
    model.tokenizer.special = data->special;
    model.tokenizer.addBos = data->addBos;
  }
  KF_TRY(auto chatTemplate, gguf.metadata.string("tokenizer.chat_template", maxTemplateBytes));
  model.chatTemplate = std::move(chatTemplate).value_or("");
  model.files = std::move(gguf.files);
  return model;
}

/// The text of `chat_template`: a string, or a list of named ones of which "default" is taken.
Expected<std::string> readChatTemplate(const JsonView &root) {
  if (!root.has("chat_template"))
    return std::string();
  KF_TRY(JsonView view, root.at("chat_template"));
  if (!view.isArray())
    return view.asString(maxTemplateBytes);
  KF_TRY(auto list, view.elements(64));
  for (const JsonView &entry : list) {
    KF_TRY(std::string name, entry.string("name", 256));
    if (name == "default")
      return entry.string("template", maxTemplateBytes);
  }
  return std::string();
}

/// What the files beside config.json add: all of them may be absent.
Status readSideFiles(const fs::path &folder, ModelConfig &config, ModelFile &model) {
  if (const fs::path path = folder / "generation_config.json"; isFile(path)) {
    KF_TRY(auto document, readJsonFile(path.string(), modelFileError, configJsonLimits));
    KF_CHECK(addGenerationConfig(document, config));
  }
  if (const fs::path path = folder / "tokenizer_config.json"; isFile(path)) {
    KF_TRY(auto document, readJsonFile(path.string(), modelFileError, configJsonLimits));
    const JsonView root = document.root();
    if (root.has("add_bos_token")) {
      KF_TRY(model.tokenizer.addBos, root.boolean("add_bos_token"));
    }
    KF_TRY(model.chatTemplate, readChatTemplate(root));
  }
  // The newer place of the template, which wins.
  if (const fs::path path = folder / "chat_template.jinja"; isFile(path)) {
    KF_TRY(model.chatTemplate, readFile(path.string(), modelFileError, maxTemplateBytes));
    if (!isValidUtf8(model.chatTemplate))
      return unusable(std::string(modelFileError), path.string(), "is not valid UTF-8");
  }
  if (const fs::path path = folder / "tokenizer.json"; isFile(path))
    model.tokenizer.jsonPath = path.string();
  else if (const fs::path other = folder / "tokenizer.model"; isFile(other))
    model.tokenizer.modelPath = other.string();
  return {};
}

/// A model without its weights yet, and its family.
struct OpenedConfig {
  ModelFile model;
  const Architecture *architecture;
};

/// All but the weights, from a config.json and what lies beside it.
Expected<OpenedConfig> openConfig(const fs::path &configJson) {
  ModelFile model;
  model.format = ModelFormat::Safetensors;
  KF_TRY(ModelConfig config, readConfigJson(configJson.string()));
  // A configuration under another name is not one of a model's files.
  if (configJson.filename() == "config.json")
    KF_CHECK(readSideFiles(configJson.parent_path(), config, model));
  model.description = std::move(config.description);
  model.special = config.special;
  model.tokenizer.special = std::move(config.special);
  return OpenedConfig{std::move(model), config.architecture};
}

/// `weights` is a .safetensors file or an index; config.json lies beside it.
Expected<ModelFile> openSafetensorsModel(const fs::path &weights, bool isIndex) {
  KF_TRY(OpenedConfig config, openConfig(weights.parent_path() / "config.json"));
  ModelFile model = std::move(config.model);
  KF_TRY(SafetensorsModel tensors,
         isIndex ? openSafetensorsIndex(weights.string()) : openSafetensors(weights.string()));
  KF_CHECK(bindTensors(model, *config.architecture, tensors.tensors, weights.string()));
  model.files = std::move(tensors.files);
  model.warnings = std::move(tensors.warnings);
  return model;
}

Expected<ModelFile> openFolder(const fs::path &folder) {
  if (isFile(folder / "model.safetensors"))
    return openSafetensorsModel(folder / "model.safetensors", false);
  if (isFile(folder / indexName))
    return openSafetensorsModel(folder / indexName, true);
  return unusable(std::string(modelFileError), folder.string(),
                  fmt::format("the folder has neither model.safetensors nor {}", indexName),
                  "name a GGUF file, or a folder with config.json and safetensors");
}

Expected<ModelFile> openByKind(const std::string &path) {
  if (isFolder(path))
    return openFolder(path);
  if (path.ends_with(indexSuffix))
    return openSafetensorsModel(path, true);
  if (path.ends_with(".safetensors"))
    return openSafetensorsModel(path, false);
  if (path.ends_with(".gguf"))
    return openGgufModel(path);
  // Another name: the first bytes decide, so that a download cache's file names work.
  KF_TRY(MappedFile file, MappedFile::open(path, modelFileError));
  const auto bytes = file.bytes();
  const std::string_view head(reinterpret_cast<const char *>(bytes.data()), bytes.size());
  if (head.starts_with("GGUF"))
    return openGgufModel(path);
  return unusable(std::string(modelFileError), path, "is neither a GGUF nor a safetensors file",
                  "name a .gguf file, a .safetensors file or a folder with config.json");
}

/// Fills in what follows from the path that a model was opened by.
void setPath(ModelFile &model, const std::string &path) {
  std::error_code ignored; // an unusual current folder costs the name, not the model
  fs::path named = fs::absolute(path, ignored).lexically_normal();
  if (!named.has_filename()) // "folder/"
    named = named.parent_path();
  // Every safetensors model is called "model", its configuration "config": the folder says more.
  const bool isOwnName = model.format == ModelFormat::Gguf ||
                         (named.extension() == ".json" && named.filename() != "config.json" &&
                          !named.string().ends_with(indexSuffix));
  if (isOwnName)
    model.name = named.stem().string();
  else
    model.name = (isFolder(named) ? named : named.parent_path()).filename().string();
  model.path = path;
  model.tokenizer.vocabSize = model.description.vocabSize;
}

} // namespace

uint64_t ModelFile::mappedBytes() const {
  uint64_t sum = ownedWeights.size(); // of mappings that exist at once: below the address space
  for (const MappedFile &file : files)
    sum += file.bytes().size();
  return sum;
}

Status ModelFile::checkFiles() const {
  for (const MappedFile &file : files)
    KF_CHECK(file.checkSize());
  return {};
}

Expected<ModelFile> openModel(const std::string &path) {
  KF_TRY(ModelFile model, openByKind(path));
  setPath(model, path);
  return model;
}

Expected<ModelFile> openModelShape(const std::string &path) {
  const bool folder = isFolder(path), json = path.ends_with(".json");
  const fs::path config = folder ? fs::path(path) / "config.json" : fs::path(path);
  ModelFile model;
  if (folder || json) {
    KF_TRY(OpenedConfig opened, openConfig(config));
    model = std::move(opened.model);
  } else {
    KF_TRY(model, openByKind(path));
  }
  model.weights = {};
  model.ownedWeights = {};
  model.files.clear();
  setPath(model, path);
  return model;
}

} // namespace kernelforge
