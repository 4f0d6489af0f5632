// Tokenizer::fromJson and load: what a tokenizer.json says, checked field by field.

#include "kernelforge/llm/AddedTokens.h"
#include "kernelforge/llm/ByteAlphabet.h"
#include "kernelforge/llm/PieceJson.h"
#include "kernelforge/llm/SentencePieceFile.h"
#include "kernelforge/llm/Tokenizer.h"
#include "kernelforge/support/Json.h"
#include "kernelforge/support/MappedFile.h"
#include "kernelforge/support/Utf8.h"

#include <filesystem>
#include <fmt/format.h>
#include <limits>

namespace kernelforge {

namespace {

constexpr std::string_view what = "tokenizer is not usable";
constexpr uint64_t maxAdded = 100'000;
constexpr uint64_t maxMerges = 4'000'000;
constexpr uint64_t maxTypeBytes = 64;

/// Reads a document into TokenizerData; everything that this tokenizer would do differently from
/// what the file asks for is refused.
class JsonReader {
public:
  TokenizerData data;

  Status read(const JsonView &root) {
    KF_TRY(JsonView model, root.object("model"));
    const bool isPieces = !mentionsByteLevel(root);
    KF_TRY(std::string type, model.stringOr("type", maxTypeBytes, "BPE"));
    if (type != "BPE" && (type != "Unigram" || !isPieces))
      return model.error(
          fmt::format("model {} is not supported{}", type, isPieces ? "" : " with ByteLevel"),
          supportedTokenizers);
    const bool isUnigram = type == "Unigram";
    data.model = isUnigram ? "t5" : "gpt2";
    if (!isPieces)
      KF_CHECK(checkBytes(model));
    KF_CHECK(isUnigram ? readUnigram(model) : readModel(model));
    if (root.has("added_tokens"))
      KF_CHECK(readAdded(root));
    for (size_t id = 0; id < data.types.size(); ++id)
      if (data.types[id] == TokenType::Unused)
        data.tokens[id].clear();
    if (isPieces) {
      KF_CHECK(readPieceRules(root, data));
      data.pieces->scores = std::move(scores);
      data.pieces->scores.resize(isUnigram ? data.tokens.size() : 0);
    } else {
      KF_TRY(data.composes, readNormalizer(root));
      KF_CHECK(readPreTokenizer(root));
      if (root.has("decoder")) {
        KF_TRY(std::string decoder, typeOf(root, "decoder"));
        if (decoder != "ByteLevel")
          return refuse(root, "decoder");
      }
    }
    if (root.has("post_processor")) {
      KF_TRY(JsonView processor, root.object("post_processor"));
      KF_CHECK(readPostProcessor(processor, true));
    }
    return {};
  }

private:
  std::vector<double> scores; ///< of unigram

  static Expected<std::string> typeOf(const JsonView &view) {
    return view.string("type", maxTypeBytes);
  }
  static Expected<std::string> typeOf(const JsonView &parent, std::string_view field) {
    KF_TRY(JsonView view, parent.object(field));
    return typeOf(view);
  }
  static tl::unexpected<Error> refuse(const JsonView &parent, std::string_view field) {
    auto view = parent.at(field);
    auto type = view ? typeOf(*view) : Expected<std::string>("");
    if (!type || type->empty())
      return parent.error(fmt::format("its {} is not supported", field));
    return view->error(fmt::format("{} {} is not supported", field, *type));
  }

  /// What is done with bytes that have no token matters only where a text can have such.
  static Status checkBytes(const JsonView &model) {
    KF_TRY(JsonView vocabulary, model.object("vocab"));
    for (int byte = 0; byte < 256; ++byte) {
      if (byte == 0xC0 || byte == 0xC1 || byte >= 0xF5)
        continue; // not in UTF-8
      std::string text;
      appendUtf8(text, byteCharacter(static_cast<uint8_t>(byte)));
      if (vocabulary.has(text))
        continue;
      KF_TRY(bool fallback, model.booleanOr("byte_fallback", false));
      if (fallback)
        return model.error(
            fmt::format("byte 0x{:02X} has no token, and byte_fallback is not supported with "
                        "ByteLevel",
                        byte));
      if (model.has("unk_token"))
        return model.error(
            fmt::format("byte 0x{:02X} has no token, and unk_token is not supported", byte));
      return {};
    }
    return {};
  }

  /// A list of [text, score], in order of ids; of equal texts the last counts.
  Status readUnigram(const JsonView &model) {
    KF_TRY(auto entries, model.array("vocab", maxTokens));
    for (const JsonView &entry : entries) {
      KF_TRY(auto pair, entry.elements(2));
      if (pair.size() != 2)
        return entry.error("is not a pair of a text and a score");
      KF_TRY(std::string text, pair[0].asString(TokenizerData::maxTokenBytes));
      constexpr double largest = std::numeric_limits<float>::max();
      KF_TRY(double score, pair[1].asNumber(-largest, largest));
      data.tokens.push_back(std::move(text));
      data.types.push_back(TokenType::Normal);
      scores.push_back(score);
    }
    return {};
  }

  Status readModel(const JsonView &model) {
    KF_TRY(JsonView vocabulary, model.object("vocab"));
    KF_TRY(data.ignoresMerges, model.booleanOr("ignore_merges", false));
    for (std::string_view name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      KF_TRY(std::string text, model.stringOr(name, TokenizerData::maxTokenBytes, ""));
      if (!text.empty())
        return model.error(fmt::format("{} is not supported", name));
    }
    KF_TRY(double dropout, model.numberOr("dropout", 0, 1, 0));
    if (dropout != 0)
      return model.error(fmt::format("a dropout of {} is not supported", dropout));

    KF_TRY(auto entries, vocabulary.members());
    for (auto &[text, view] : entries) {
      KF_TRY(int64_t id, view.asInteger(0, maxTokens - 1));
      KF_CHECK(placeToken(view, id, std::move(text), TokenType::Normal, data));
    }
    KF_TRY(auto merges, model.array("merges", maxMerges));
    data.merges.reserve(merges.size());
    for (const JsonView &merge : merges)
      KF_CHECK(readMerge(merge));
    return {};
  }

  /// "left right" (older files) or ["left", "right"].
  Status readMerge(const JsonView &merge) {
    constexpr uint64_t limit = 2 * TokenizerData::maxTokenBytes + 1;
    if (!merge.isArray()) {
      KF_TRY(std::string text, merge.asString(limit));
      data.merges.push_back(std::move(text));
      return {};
    }
    KF_TRY(auto parts, merge.elements(2));
    if (parts.size() != 2)
      return merge.error("is not a pair of tokens");
    KF_TRY(std::string left, parts[0].asString(limit));
    KF_TRY(std::string right, parts[1].asString(limit));
    data.merges.push_back(left + " " + right);
    return {};
  }

  Status readAdded(const JsonView &root) {
    KF_TRY(auto tokens, root.array("added_tokens", maxAdded));
    for (const JsonView &token : tokens) {
      KF_TRY(int64_t id, token.integer("id", 0, maxTokens - 1));
      KF_CHECK(addToken(token, id, data));
    }
    return {};
  }

  /// Whether the text is composed: NFC, or a sequence of that or of nothing, are all that is known.
  static Expected<bool> readNormalizer(const JsonView &root) {
    if (!root.has("normalizer"))
      return false;
    KF_TRY(JsonView normalizer, root.object("normalizer"));
    bool composes = false;
    std::vector<JsonView> steps{normalizer};
    KF_TRY(const std::string outer, typeOf(normalizer));
    if (outer == "Sequence") {
      KF_TRY(steps, normalizer.array("normalizers", 16));
    }
    for (const JsonView &step : steps) {
      KF_TRY(std::string type, typeOf(step));
      if (type != "NFC")
        return step.error(fmt::format("normalizer {} is not supported", type), "NFC is");
      composes = true;
    }
    return composes;
  }

  Status readPreTokenizer(const JsonView &root) {
    KF_TRY(JsonView outer, root.object("pre_tokenizer"));
    KF_TRY(std::string type, typeOf(outer));
    if (type == "ByteLevel") {
      data.pre = "gpt2";
      return checkByteLevel(outer);
    }
    if (type != "Sequence")
      return refuse(root, "pre_tokenizer");
    KF_TRY(auto steps, outer.array("pretokenizers", 16));
    std::string names;
    for (const JsonView &step : steps) {
      KF_TRY(std::string name, typeOf(step));
      names += (names.empty() ? "" : ", ") + name;
    }
    if (names == "ByteLevel") {
      data.pre = "gpt2";
      return checkByteLevel(steps[0]);
    }
    if (names.starts_with("Split, ") && names.ends_with("Split, ByteLevel"))
      return readSplits(outer, steps);
    if (names != "Digits, ByteLevel")
      return outer.error(fmt::format("pre_tokenizer sequence {} is not supported", names),
                         "ByteLevel; Digits, ByteLevel; and Split, ByteLevel are");
    KF_TRY(bool individual, steps[0].booleanOr("individual_digits", false));
    if (!individual)
      return steps[0].error("Digits without individual_digits is not supported");
    data.pre = "smollm";
    return checkByteLevel(steps[1]);
  }

  /// Regular expressions one after another, each cutting out what it matches, then the bytes.
  Status readSplits(const JsonView &outer, std::span<const JsonView> steps) {
    constexpr uint64_t longest = 4096;
    std::vector<std::string> regexes;
    for (const JsonView &step : steps.first(steps.size() - 1)) {
      KF_TRY(std::string type, typeOf(step));
      if (type != "Split")
        return outer.error(fmt::format("{} between expressions is not supported", type));
      KF_TRY(JsonView pattern, step.object("pattern"));
      KF_TRY(std::string regex, pattern.string("Regex", longest));
      regexes.push_back(std::move(regex));
      KF_TRY(std::string behavior, step.string("behavior", maxTypeBytes));
      KF_TRY(bool invert, step.booleanOr("invert", false));
      if (behavior != "Isolated" || invert)
        return step.error("a Split that does not isolate what it matches is not supported");
    }
    const PreTokenizer *known = PreTokenizer::byExpressions(regexes);
    if (!known)
      return outer.error("its regular expressions are those of no supported pre-tokenizer",
                         fmt::format("supported are {}", PreTokenizer::names()));
    data.pre = known->name();
    return checkByteLevel(steps.back(), /*cuts=*/false);
  }

  /// `cuts`: whether it is the one that cuts the text, by gpt2's expression.
  static Status checkByteLevel(const JsonView &view, bool cuts = true) {
    KF_TRY(bool prefix, view.booleanOr("add_prefix_space", true));
    KF_TRY(bool regex, view.booleanOr("use_regex", true));
    if (prefix)
      return view.error("ByteLevel with add_prefix_space is not supported");
    if (regex != cuts)
      return view.error(
          fmt::format("ByteLevel {} use_regex is not supported here", cuts ? "without" : "with"));
    return {};
  }

  /// A processor may put BOS in front of a text, or do nothing to its ids.
  Status readPostProcessor(const JsonView &view, bool mayNest) {
    KF_TRY(std::string type, typeOf(view));
    if (type == "ByteLevel")
      return {};
    if (type == "Sequence" && mayNest) {
      KF_TRY(auto processors, view.array("processors", 16));
      for (const JsonView &processor : processors)
        KF_CHECK(readPostProcessor(processor, false));
      return {};
    }
    if (type != "TemplateProcessing")
      return view.error(fmt::format("post_processor {} is not supported", type));
    KF_TRY(auto items, view.array("single", 16));
    // EOS behind a text is not put there: nothing is generated after it.
    if (data.pieces && items.size() > 1 && items.back().has("SpecialToken") &&
        items[items.size() - 2].has("Sequence"))
      items.pop_back();
    if (items.size() == 1 && items[0].has("Sequence"))
      return {};
    if (items.size() != 2 || !items[0].has("SpecialToken") || !items[1].has("Sequence"))
      return view.error("a template other than BOS and the text is not supported");
    KF_TRY(JsonView token, items[0].object("SpecialToken"));
    KF_TRY(std::string text, token.string("id", TokenizerData::maxTokenBytes));
    for (size_t id = 0; id < data.tokens.size(); ++id)
      if (data.types[id] == TokenType::Control && data.tokens[id] == text) {
        data.special.bos = static_cast<TokenId>(id);
        data.addBos = true;
        return {};
      }
    return token.error("is not a special token of the vocabulary");
  }
};

Expected<TokenizerData> readJson(std::string_view json, std::string_view where) {
  KF_TRY(JsonDocument document, parseJson(json, what, where));
  JsonReader reader;
  reader.data.where = where;
  KF_CHECK(reader.read(document.root()));
  return std::move(reader.data);
}

} // namespace

Expected<Tokenizer> Tokenizer::fromJson(std::string_view json, std::string_view where) {
  KF_TRY(TokenizerData data, readJson(json, where));
  return create(std::move(data));
}

Expected<Tokenizer> Tokenizer::fromSentencePiece(std::string_view file, std::string_view where) {
  KF_TRY(TokenizerData data, readSentencePiece(file, where));
  return create(std::move(data));
}

Expected<Tokenizer> Tokenizer::load(const TokenizerSource &source) {
  if (!source.present())
    return missing("tokenizer not found", "", "the model brings none");
  if (source.data)
    return create(*source.data);
  const bool isJson = !source.jsonPath.empty();
  const std::string &path = isJson ? source.jsonPath : source.modelPath;
  KF_TRY(std::string file, readFile(path, what, JsonLimits{}.maxBytes));
  KF_TRY(TokenizerData data, isJson ? readJson(file, path) : readSentencePiece(file, path));
  if (!isJson)
    KF_CHECK(addConfiguredTokens(std::filesystem::path(path).parent_path().string(), data));
  auto override = [](std::optional<TokenId> &to, std::optional<TokenId> from) {
    if (from)
      to = from;
  };
  override(data.special.bos, source.special.bos);
  override(data.special.eos, source.special.eos);
  if (isJson || !source.special.endOfGeneration.empty())
    data.special.endOfGeneration = source.special.endOfGeneration;
  data.addBos = source.addBos.value_or(data.addBos);
  if (source.vocabSize > 0 && static_cast<int64_t>(data.tokens.size()) > source.vocabSize)
    return unusable(std::string(what), path,
                    fmt::format("it has {} tokens but the model has embeddings for {}",
                                data.tokens.size(), source.vocabSize));
  return create(std::move(data));
}

} // namespace kernelforge
