#include "kernelforge/llm/PieceJson.h"

#include "kernelforge/llm/ByteToken.h"

#include <algorithm>
#include <cctype>
#include <fmt/format.h>

namespace kernelforge {

namespace {

constexpr uint64_t maxTypeBytes = 64, maxSteps = 16;
/// The longest text that takes the place of a space: what a normalizer may make of a text.
constexpr uint64_t maxReplacementBytes = 16;
constexpr const char *supportedNormalizers =
    "Precompiled, NFC, NFKC, Lowercase, Prepend, Replace, Strip and sequences of these are";
constexpr const char *supportedPreTokenizers =
    "Metaspace, WhitespaceSplit, Split of a text and sequences of these are";

Expected<std::string> typeOf(const JsonView &view) { return view.string("type", maxTypeBytes); }

/// The value of a field, or the steps of a Sequence there; none where it is null.
Expected<std::vector<JsonView>> stepsOf(const JsonView &root, std::string_view field,
                                        std::string_view list) {
  if (!root.has(field))
    return std::vector<JsonView>();
  KF_TRY(JsonView view, root.object(field));
  KF_TRY(const std::string type, typeOf(view));
  if (type != "Sequence")
    return std::vector<JsonView>{view};
  return view.array(list, maxSteps);
}

Expected<std::string> decodeBase64(const JsonView &view, std::string_view field) {
  constexpr uint64_t longest = (Charsmap::maxBytes / 3 + 1) * 4;
  KF_TRY(const std::string text, view.string(field, longest));
  std::string out;
  out.reserve(text.size() / 4 * 3);
  std::string_view digits = text;
  while (digits.ends_with('='))
    digits.remove_suffix(1);
  uint32_t bits = 0;
  int count = 0;
  for (char c : digits) {
    constexpr std::string_view alphabet =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t digit = alphabet.find(c);
    if (digit == alphabet.npos || text.size() % 4 != 0 || text.size() - digits.size() > 2)
      return view.error(fmt::format("its {} is not base64", field));
    bits = bits << 6 | static_cast<uint32_t>(digit);
    count += 6;
    if (count >= 8) {
      count -= 8;
      out.push_back(static_cast<char>(bits >> count & 0xff));
    }
  }
  return out;
}

/// A Replace: of a text, or of one of the expressions that such files have.
Expected<NormalizerStep> readReplace(const JsonView &view) {
  NormalizerStep step;
  KF_TRY(JsonView pattern, view.object("pattern"));
  KF_TRY(step.to, view.string("content", maxReplacementBytes));
  if (!pattern.has("Regex")) {
    step.kind = NormalizerStep::Kind::Replace;
    KF_TRY(step.from, pattern.string("String", maxReplacementBytes));
    if (step.from.empty())
      return pattern.error("replacing an empty text is not supported");
    return step;
  }
  KF_TRY(const std::string regex, pattern.string("Regex", 256));
  if (regex == " {2,}")
    step.kind = NormalizerStep::Kind::ReplaceSpaces;
  else if (regex == R"(\A +| +\z)" && step.to.empty())
    step.kind = NormalizerStep::Kind::TrimSpaces;
  else if (regex == R"(\A)" + std::string(pieceSpace) &&
           step.to == std::string(pieceSpace) + std::string(pieceSpace))
    step.kind = NormalizerStep::Kind::DoubleSpace;
  else
    return pattern.error(
        fmt::format("replacing the expression \"{}\" by \"{}\" is not supported", regex, step.to));
  return step;
}

Expected<NormalizerStep> readNormalizer(const JsonView &view) {
  NormalizerStep step;
  KF_TRY(const std::string type, typeOf(view));
  if (type == "Replace")
    return readReplace(view);
  if (type == "Precompiled") {
    step.kind = NormalizerStep::Kind::Charsmap;
    KF_TRY(const std::string table, decodeBase64(view, "precompiled_charsmap"));
    auto map = Charsmap::read(table);
    if (!map)
      return view.error(fmt::format("its precompiled_charsmap {}", map.error()));
    step.charsmap = *map;
  } else if (type == "NFC") {
    step.kind = NormalizerStep::Kind::Compose;
  } else if (type == "NFKC") {
    step.kind = NormalizerStep::Kind::ComposeCompatibility;
  } else if (type == "Lowercase") {
    step.kind = NormalizerStep::Kind::Lowercase;
  } else if (type == "Prepend") {
    step.kind = NormalizerStep::Kind::Prepend;
    KF_TRY(step.to, view.string("prepend", maxReplacementBytes));
    if (step.to.empty())
      return view.error("prepending an empty text is not supported");
  } else if (type == "Strip") {
    step.kind = NormalizerStep::Kind::Strip;
    KF_TRY(step.left, view.booleanOr("strip_left", true));
    KF_TRY(step.right, view.booleanOr("strip_right", true));
  } else {
    return view.error(fmt::format("normalizer {} is not supported", type), supportedNormalizers);
  }
  return step;
}

/// The texts of an expression that is nothing but texts with | between, special characters escaped.
Expected<PieceSet> readLiterals(const JsonView &pattern) {
  KF_TRY(const std::string regex, pattern.string("Regex", uint64_t(1) << 20));
  std::vector<std::pair<std::string, TokenId>> texts(1);
  for (size_t i = 0; i < regex.size(); ++i) {
    constexpr std::string_view special = ".^$*+?()[]{}";
    if (regex[i] == '|') {
      texts.emplace_back();
      continue;
    }
    const bool isEscaped = regex[i] == '\\' && i + 1 < regex.size();
    i += isEscaped;
    const bool isLetter = std::isalnum(static_cast<unsigned char>(regex[i])) != 0;
    if (isEscaped ? isLetter : special.find(regex[i]) != special.npos || regex[i] == '\\')
      return pattern.error("an expression that is more than some texts is not supported");
    texts.back().first += regex[i];
  }
  for (size_t i = 0; i < texts.size(); ++i)
    texts[i].second = static_cast<TokenId>(i);
  const PieceSet set(texts);
  bool isOrdered = true; // an earlier text wins over a longer one
  for (const auto &[text, index] : texts) {
    isOrdered &= !text.empty();
    set.forEachPrefix(text,
                      [&, index = index](size_t, TokenId other) { isOrdered &= other >= index; });
  }
  if (!isOrdered)
    return pattern.error("an expression with a text behind its own beginning is not supported");
  return set;
}

/// A Split; nothing where it cuts at spaces, which the normalizer has left none of.
Expected<std::optional<CutStep>> readSplit(const JsonView &view, bool leavesSpaces) {
  KF_TRY(JsonView pattern, view.object("pattern"));
  KF_TRY(const std::string behavior, view.string("behavior", maxTypeBytes));
  KF_TRY(const bool invert, view.booleanOr("invert", false));
  if (invert)
    return view.error("a Split that inverts is not supported");
  if (pattern.has("Regex")) {
    if (behavior != "Isolated")
      return view.error("a Split that does not isolate what it matches is not supported");
    CutStep cut;
    cut.kind = CutStep::Kind::Isolate;
    KF_TRY(cut.literals, readLiterals(pattern));
    return cut;
  }
  KF_TRY(const std::string text, pattern.string("String", 256));
  if (text != " " || leavesSpaces)
    return view.error("a Split of a text is only supported of spaces that a normalizer replaces");
  return std::nullopt;
}

Expected<CutStep> readMetaspace(const JsonView &view) {
  CutStep cut;
  cut.kind = CutStep::Kind::Metaspace;
  KF_TRY(const std::string replacement, view.stringOr("replacement", 8, std::string(pieceSpace)));
  if (replacement != pieceSpace)
    return view.error(fmt::format("a replacement of \"{}\" is not supported", replacement));
  KF_TRY(const bool adds, view.booleanOr("add_prefix_space", true)); // of older files
  KF_TRY(const std::string scheme,
         view.stringOr("prepend_scheme", maxTypeBytes, adds ? "always" : "never"));
  KF_TRY(cut.split, view.booleanOr("split", true));
  if (scheme == "always")
    cut.prefix = CutStep::Prefix::Always;
  else if (scheme == "first")
    cut.prefix = CutStep::Prefix::First;
  else if (scheme != "never")
    return view.error(fmt::format("prepend_scheme {} is not supported", scheme));
  return cut;
}

Status readCuts(const JsonView &root, PieceRules &rules) {
  KF_TRY(auto steps, stepsOf(root, "pre_tokenizer", "pretokenizers"));
  bool leavesSpaces = true;
  for (const NormalizerStep &step : rules.steps)
    leavesSpaces &= step.kind != NormalizerStep::Kind::Replace || step.from != " " ||
                    step.to.find(' ') != step.to.npos;
  for (const JsonView &view : steps) {
    KF_TRY(const std::string type, typeOf(view));
    if (type == "Metaspace") {
      KF_TRY(CutStep cut, readMetaspace(view));
      const auto isMetaspace = [](const CutStep &c) { return c.kind == CutStep::Kind::Metaspace; };
      if (cut.prefix == CutStep::Prefix::First && std::ranges::any_of(rules.cuts, isMetaspace))
        return view.error("a Metaspace with prepend_scheme first behind another is not supported");
      rules.cuts.push_back(std::move(cut));
    } else if (type == "WhitespaceSplit") {
      rules.cuts.emplace_back().kind = CutStep::Kind::Whitespace;
    } else if (type == "Split") {
      KF_TRY(auto cut, readSplit(view, leavesSpaces));
      if (cut)
        rules.cuts.push_back(std::move(*cut));
    } else {
      return view.error(fmt::format("pre_tokenizer {} is not supported", type),
                        supportedPreTokenizers);
    }
  }
  return {};
}

/// The decoder: U+2581 to spaces, bytes to text, and perhaps a space less at the beginning.
Status readDecoder(const JsonView &root, PieceRules &rules, bool &readsBytes) {
  if (!root.has("decoder"))
    return root.error("its decoder is missing",
                      "a Metaspace, or a Replace of U+2581, is supported");
  KF_TRY(auto steps, stepsOf(root, "decoder", "decoders"));
  bool hasSpaces = false, isFused = false;
  for (const JsonView &view : steps) {
    KF_TRY(const std::string type, typeOf(view));
    // What would be about the texts of several tokens, or of bytes.
    const bool isLate = readsBytes || isFused || (hasSpaces && type == "Metaspace");
    if (isLate && type != "Fuse" && type != "Strip")
      return view.error(fmt::format("a {} behind other decoders is not supported", type));
    if (type == "Metaspace") {
      KF_TRY(const CutStep cut, readMetaspace(view));
      hasSpaces = true;
      if (cut.prefix != CutStep::Prefix::Never)
        rules.leadingSpace = PieceRules::LeadingSpace::DropFirstToken;
    } else if (type == "Replace") {
      KF_TRY(const NormalizerStep step, readReplace(view));
      if (step.kind != NormalizerStep::Kind::Replace || step.from != pieceSpace || step.to != " ")
        return view.error("a Replace of other than U+2581 by a space is not supported");
      hasSpaces = true;
    } else if (type == "ByteFallback") {
      readsBytes = true;
    } else if (type == "Fuse") {
      isFused = true;
    } else if (type == "Strip") {
      KF_TRY(const std::string content, view.string("content", 8));
      KF_TRY(const int64_t start, view.integer("start", 0, 1));
      KF_TRY(const int64_t stop, view.integer("stop", 0, 1));
      if (content != " " || stop != 0 || !isFused)
        return view.error("a Strip of other than one space at the beginning is not supported");
      if (start == 1 && rules.leadingSpace != PieceRules::LeadingSpace::Keep)
        return view.error("a Strip behind what drops spaces at the beginning is not supported");
      if (start == 1)
        rules.leadingSpace = PieceRules::LeadingSpace::DropOne;
    } else {
      return view.error(fmt::format("decoder {} is not supported", type));
    }
  }
  if (!hasSpaces)
    return root.error("its decoder does not turn U+2581 into spaces");
  return {};
}

/// What becomes of characters that no piece stands for.
Status readUnknown(const JsonView &model, bool readsBytes, TokenizerData &data, PieceRules &rules) {
  KF_TRY(rules.byteFallback, model.booleanOr("byte_fallback", false));
  if (rules.byteFallback && !readsBytes)
    return model.error("byte_fallback without a ByteFallback among its decoders is not supported");
  for (size_t id = 0; id < data.tokens.size(); ++id)
    if (data.types[id] == TokenType::Normal && readsBytes && byteOfToken(data.tokens[id]) >= 0)
      data.types[id] = TokenType::Byte;
  if (rules.algorithm == PieceRules::Algorithm::Unigram) {
    if (!model.has("unk_id"))
      return model.error("a Unigram without unk_id is not supported");
    KF_TRY(const int64_t id,
           model.integer("unk_id", 0, static_cast<int64_t>(data.tokens.size()) - 1));
    rules.unknown = static_cast<TokenId>(id);
    return {};
  }
  KF_TRY(rules.fuseUnknown, model.booleanOr("fuse_unk", false));
  KF_TRY(const std::string text, model.stringOr("unk_token", TokenizerData::maxTokenBytes, ""));
  if (text.empty())
    return {};
  const auto found = std::ranges::find(data.tokens, text);
  if (found == data.tokens.end())
    return model.error("its unk_token is not in the vocabulary");
  rules.unknown = static_cast<TokenId>(found - data.tokens.begin());
  return {};
}

} // namespace

bool mentionsByteLevel(const JsonView &root) {
  for (auto [field, list] :
       {std::pair("pre_tokenizer", "pretokenizers"), {"decoder", "decoders"}}) {
    auto steps = stepsOf(root, field, list);
    if (!steps)
      continue; // an error where it is read
    for (const JsonView &view : *steps)
      if (auto type = typeOf(view); type && *type == "ByteLevel")
        return true;
  }
  return false;
}

Status readPieceRules(const JsonView &root, TokenizerData &data) {
  PieceRules rules;
  rules.algorithm =
      data.model == "t5" ? PieceRules::Algorithm::Unigram : PieceRules::Algorithm::MergesByRank;
  rules.bytesArePieces = true;
  KF_TRY(auto steps, stepsOf(root, "normalizer", "normalizers"));
  for (const JsonView &view : steps) {
    KF_TRY(NormalizerStep step, readNormalizer(view));
    rules.steps.push_back(std::move(step));
  }
  KF_CHECK(readCuts(root, rules));
  bool readsBytes = false;
  KF_CHECK(readDecoder(root, rules, readsBytes));
  KF_TRY(JsonView model, root.object("model"));
  KF_CHECK(readUnknown(model, readsBytes, data, rules));
  data.pieces = std::move(rules);
  return {};
}

} // namespace kernelforge
