#include "kernelforge/llm/SentencePieceFile.h"

#include "kernelforge/llm/ByteToken.h"
#include "kernelforge/llm/architectures/Architecture.h"
#include "kernelforge/support/Protobuf.h"
#include "kernelforge/support/Utf8.h"

#include <bit>
#include <bitset>
#include <cmath>
#include <fmt/format.h>
#include <unordered_set>

namespace kernelforge {

namespace {

constexpr std::string_view what = "tokenizer is not usable";

/// Field numbers and defaults are those of sentencepiece_model.proto.
/// https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
class Reader {
public:
  Reader(std::string_view file, std::string_view where) : file(file), where(where) {}

  TokenizerData data;

  Status read() {
    data.where = where;
    rules.scores.reserve(file.size() / 16);
    ProtobufReader message(file, 0, what, where);
    while (!message.atEnd()) {
      KF_TRY(const ProtobufField field, message.next());
      if (field.number == 1) {
        KF_CHECK(readPiece(field));
      } else if (field.number == 2) {
        KF_CHECK(readTrainer(field));
      } else if (field.number == 3) {
        KF_CHECK(readNormalizer(field));
      } else if (field.number == 5) {
        KF_CHECK(readDenormalizer(field));
      }
    }
    KF_CHECK(checkPieces());
    KF_CHECK(findSpecial());
    finish();
    return {};
  }

private:
  tl::unexpected<Error> error(std::string why, std::string_view hint = "") const {
    return unusable(what, where, why, hint);
  }
  tl::unexpected<Error> wrongKind(std::string_view message, const ProtobufField &field) const {
    return error(fmt::format("field {} of {} is of another kind", field.number, message));
  }
  static constexpr auto isNumber = ProtobufField::Kind::Varint;
  static constexpr auto isText = ProtobufField::Kind::Bytes;

  /// Calls use(field) for each field of a message inside, whose kind is that of kindOf(number).
  template <typename KindOf, typename Use>
  Status forEach(std::string_view name, const ProtobufField &message, KindOf &&kindOf, Use &&use) {
    if (message.kind != isText)
      return error(fmt::format("{} is no message", name));
    ProtobufReader fields(message.bytes, message.offset, what, where);
    while (!fields.atEnd()) {
      KF_TRY(const ProtobufField field, fields.next());
      const std::optional<ProtobufField::Kind> kind = kindOf(field.number);
      if (!kind)
        continue; // of training, or of a later version
      if (*kind != field.kind)
        return wrongKind(name, field);
      use(field);
    }
    return {};
  }

  Status readPiece(const ProtobufField &message) {
    const size_t id = data.tokens.size();
    if (static_cast<int64_t>(id) >= modelLimits::vocabulary)
      return error(fmt::format("it has more than {} pieces", modelLimits::vocabulary));
    std::string_view text;
    float score = 0;
    uint64_t type = 1;
    auto kindOf = [](uint32_t number) -> std::optional<ProtobufField::Kind> {
      constexpr ProtobufField::Kind kinds[] = {isText, ProtobufField::Kind::Fixed32, isNumber};
      return number >= 1 && number <= 3 ? std::optional(kinds[number - 1]) : std::nullopt;
    };
    KF_CHECK(forEach(fmt::format("piece {}", id), message, kindOf, [&](const ProtobufField &field) {
      if (field.number == 1)
        text = field.bytes;
      else if (field.number == 2)
        score = std::bit_cast<float>(static_cast<uint32_t>(field.value));
      else
        type = field.value;
    }));
    auto refuse = [&](std::string_view why) { return error(fmt::format("piece {} {}", id, why)); };
    if (type < 1 || type > 6)
      return refuse(fmt::format("has the unknown type {}", type));
    if (!std::isfinite(score))
      return refuse("has a score that is not a finite number");
    if (text.empty())
      return refuse("has no text");
    if (text.size() > PieceRules::maxPieceBytes)
      return refuse(fmt::format("is {} bytes long, at most {} are allowed", text.size(),
                                PieceRules::maxPieceBytes));
    if (!isValidUtf8(text))
      return refuse("is not valid UTF-8");
    if (text.find('\0') != text.npos)
      return refuse("has a NUL");
    data.tokens.emplace_back(text);
    data.types.push_back(static_cast<TokenType>(type));
    rules.scores.push_back(score);
    return {};
  }

  Status readTrainer(const ProtobufField &message) {
    auto kindOf = [](uint32_t number) -> std::optional<ProtobufField::Kind> {
      switch (number) {
      case 3:
      case 24:
      case 35:
      case 40:
      case 41:
      case 42:
        return isNumber;
      case 44:
      case 46:
      case 47:
        return isText;
      default:
        return std::nullopt;
      }
    };
    return forEach("trainer_spec", message, kindOf, [&](const ProtobufField &field) {
      const auto number = static_cast<int32_t>(field.value);
      switch (field.number) {
      case 3:
        modelType = field.value;
        break;
      case 24:
        step.spaceIsSuffix = number != 0;
        break;
      case 35:
        rules.byteFallback = number != 0;
        break;
      case 40:
        unknownId = number;
        break;
      case 41:
        bosId = number;
        break;
      case 42:
        eosId = number;
        break;
      case 44:
        rules.unknownText = field.bytes;
        break;
      case 46:
        bosText = field.bytes;
        break;
      default:
        eosText = field.bytes;
        break;
      }
    });
  }

  Status readNormalizer(const ProtobufField &message) {
    auto kindOf = [](uint32_t number) -> std::optional<ProtobufField::Kind> {
      if (number == 2)
        return isText;
      return number >= 3 && number <= 5 ? std::optional(isNumber) : std::nullopt;
    };
    std::string_view table;
    KF_CHECK(forEach("normalizer_spec", message, kindOf, [&](const ProtobufField &field) {
      const bool isOn = field.value != 0;
      if (field.number == 2)
        table = field.bytes;
      else if (field.number == 3)
        step.addDummyPrefix = isOn;
      else if (field.number == 4)
        step.removeExtraSpaces = isOn;
      else
        step.escapeSpaces = isOn;
    }));
    if (table.empty())
      return {};
    auto map = Charsmap::read(table);
    if (!map)
      return error(fmt::format("its precompiled_charsmap {}", map.error()));
    step.charsmap = *map;
    return {};
  }

  Status readDenormalizer(const ProtobufField &message) {
    auto kindOf = [](uint32_t number) {
      return number == 2 ? std::optional(isText) : std::nullopt;
    };
    bool isEmpty = true;
    KF_CHECK(forEach("denormalizer_spec", message, kindOf,
                     [&](const ProtobufField &field) { isEmpty &= field.bytes.empty(); }));
    return isEmpty ? Status() : error("a denormalizer is not supported");
  }

  Status checkPieces() {
    if (modelType != 1 && modelType != 2)
      return error(modelType == 3   ? "model type word is not supported"
                   : modelType == 4 ? "model type char is not supported"
                                    : fmt::format("model type {} is unknown", modelType),
                   "unigram and bpe are");
    if (data.tokens.empty())
      return error("it has no pieces");
    if (rules.unknownText.size() > PieceRules::maxPieceBytes || !isValidUtf8(rules.unknownText))
      return error("unk_surface is not valid UTF-8 of a sensible length");
    std::unordered_set<std::string_view> texts;
    texts.reserve(data.tokens.size());
    std::bitset<256> bytes;
    for (size_t id = 0; id < data.tokens.size(); ++id) {
      const std::string &text = data.tokens[id];
      if (!texts.insert(text).second)
        return error(fmt::format("piece {} is there twice", id));
      if (data.types[id] == TokenType::Unknown) {
        if (rules.unknown)
          return error(fmt::format("pieces {} and {} are both unknown", *rules.unknown, id));
        rules.unknown = static_cast<TokenId>(id);
      }
      if (data.types[id] != TokenType::Byte)
        continue;
      const int byte = byteOfToken(text);
      if (byte < 0)
        return error(fmt::format("piece {} is a byte, but not of the form <0xNN>", id));
      if (!rules.byteFallback)
        return error(fmt::format("piece {} is a byte, but byte_fallback is off", id));
      bytes.set(static_cast<size_t>(byte));
    }
    if (rules.byteFallback && !bytes.all())
      return error(fmt::format("byte_fallback is on, but there are pieces for {} bytes of 256",
                               bytes.count()));
    if (!rules.unknown && !rules.byteFallback)
      return error("it has no unknown piece");
    return {};
  }

  /// The control token of that text; `id` is what the trainer was asked for, -1 for none.
  Expected<std::optional<TokenId>> control(std::string_view name, int32_t id,
                                           const std::string &text) {
    const auto count = static_cast<int64_t>(data.tokens.size());
    if (id < -1 || id >= count)
      return error(fmt::format("{}_id is {}, there are {} pieces", name, id, count));
    if (id < 0)
      return std::nullopt;
    for (size_t i = 0; i < data.tokens.size(); ++i)
      if (data.types[i] == TokenType::Control && data.tokens[i] == text)
        return static_cast<TokenId>(i);
    return std::nullopt;
  }

  Status findSpecial() {
    KF_CHECK(control("unk", unknownId, ""));
    KF_TRY(data.special.bos, control("bos", bosId, bosText));
    KF_TRY(data.special.eos, control("eos", eosId, eosText));
    if (data.special.eos)
      data.special.endOfGeneration.push_back(*data.special.eos);
    return {};
  }

  void finish() {
    const bool isUnigram = modelType == 1;
    data.model = isUnigram ? "t5" : "llama";
    data.addBos = !isUnigram && data.special.bos.has_value();
    rules.algorithm =
        isUnigram ? PieceRules::Algorithm::Unigram : PieceRules::Algorithm::MergesByScore;
    rules.sumsInF32 = true;
    rules.userDefinedWithin = true;
    rules.leadingSpace = PieceRules::leadingSpaceOf(step);
    rules.steps.push_back(std::move(step));
    data.pieces = std::move(rules);
  }

  static NormalizerStep defaultStep() {
    NormalizerStep step;
    step.kind = NormalizerStep::Kind::SentencePiece;
    step.addDummyPrefix = step.removeExtraSpaces = step.escapeSpaces = true;
    return step;
  }
  static PieceRules defaultRules() {
    PieceRules rules;
    rules.unknownText = defaultUnknownText;
    return rules;
  }

  std::string_view file, where;
  PieceRules rules = defaultRules();
  NormalizerStep step = defaultStep();
  uint64_t modelType = 1;
  int32_t unknownId = 0, bosId = 1, eosId = 2;
  std::string bosText = "<s>", eosText = "</s>";
};

} // namespace

Expected<TokenizerData> readSentencePiece(std::string_view file, std::string_view where) {
  // Others by that name are lines of text; SentencePiece's begins with one of its fields.
  constexpr std::string_view tags = "\x0a\x12\x1a\x2a";
  if (!file.empty() && tags.find(file[0]) == tags.npos && file[0] >= ' ')
    return unusable(what, where, "tokenizer model \"tiktoken\" is not supported",
                    supportedTokenizers);
  Reader reader(file, where);
  KF_CHECK(reader.read());
  return std::move(reader.data);
}

} // namespace kernelforge
