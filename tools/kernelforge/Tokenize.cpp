// kernelforge tokenize: text to token ids and back.
#include "Commands.h"

#include "kernelforge/llm/ModelFile.h"
#include "kernelforge/llm/ModelNames.h"
#include "kernelforge/llm/Tokenizer.h"
#include "kernelforge/support/MappedFile.h"
#include "kernelforge/support/Numbers.h"
#include "kernelforge/support/Utf8.h"

#include <fmt/format.h>

using namespace kernelforge;
using namespace kernelforge::cli;

namespace {

struct TokenizeOptions {
  std::string model, file, jsonl;
  std::optional<std::string> text;
  bool decode = false;
  bool noSpecial = false;
};

/// The longest file of JSON lines.
constexpr uint64_t maxJsonlBytes = uint64_t(1) << 30;

tl::unexpected<Error> idError(std::string where, std::string why) {
  return unusable("token ids are not usable", std::move(where), std::move(why),
                  "write numbers with spaces or commas between, or a JSON array");
}

/// "1 2 3", "1,2,3" or "[1, 2, 3]".
Expected<std::vector<TokenId>> parseIds(std::string_view text, const std::string &where) {
  std::vector<TokenId> ids;
  constexpr std::string_view between = " \t\r\n,[]";
  for (size_t at = text.find_first_not_of(between); at != text.npos;
       at = text.find_first_not_of(between, at)) {
    const size_t end = std::min(text.find_first_of(between, at), text.size());
    const auto id = parseInteger<TokenId>(text.substr(at, end - at), 0);
    if (!id)
      return idError(where, fmt::format("byte {}: {}", at, id.error()));
    ids.push_back(*id);
    at = end;
  }
  return ids;
}

Status printIds(const Tokenizer &tokenizer, std::string_view text, const TokenizeOptions &options,
                const Context &context) {
  KF_TRY(std::vector<TokenId> ids, tokenizer.encode(text, !options.noSpecial));
  if (context.json) {
    printJson({{"ids", ids}});
    return {};
  }
  if (!options.jsonl.empty()) { // one line of output for each of input
    print(fmt::format("{}\n", fmt::join(ids, " ")));
    return {};
  }
  std::string table;
  for (TokenId id : ids)
    table +=
        fmt::format("{:>8}  {}\n", id,
                    Json(tokenizer.piece(id)).dump(-1, ' ', false, Json::error_handler_t::replace));
  print(table);
  return {};
}

Status printText(const Tokenizer &tokenizer, std::span<const TokenId> ids, const std::string &where,
                 const TokenizeOptions &options, const Context &context) {
  for (TokenId id : ids)
    if (id < 0 || id >= tokenizer.vocabSize())
      return idError(where, fmt::format("{} is not in the vocabulary of {} tokens", id,
                                        tokenizer.vocabSize()));
  const std::string text = replaceInvalidUtf8(tokenizer.decode(ids, options.noSpecial));
  if (context.json)
    printJson({{"text", text}});
  else
    print(text + "\n");
  return {};
}

/// One text, or one list of ids.
Status convert(const Tokenizer &tokenizer, const std::string &text, const std::string &where,
               const TokenizeOptions &options, const Context &context) {
  if (!options.decode)
    return printIds(tokenizer, text, options, context);
  KF_TRY(std::vector<TokenId> ids, parseIds(text, where));
  return printText(tokenizer, ids, where, options, context);
}

/// One line of a file of JSON lines: a string, or with --decode an array of ids.
Status convertLine(const Tokenizer &tokenizer, std::string_view line, const std::string &where,
                   const TokenizeOptions &options, const Context &context) {
  KF_TRY(JsonDocument document, parseJson(line, "line is not usable", where));
  if (!options.decode) {
    KF_TRY(std::string text, document.root().asString(Tokenizer::maxTextBytes));
    return printIds(tokenizer, text, options, context);
  }
  KF_TRY(auto elements, document.root().elements(line.size()));
  std::vector<TokenId> ids;
  for (const JsonView &element : elements) {
    KF_TRY(int64_t id, element.asInteger(0, tokenizer.vocabSize() - 1));
    ids.push_back(static_cast<TokenId>(id));
  }
  return printText(tokenizer, ids, where, options, context);
}

Expected<int> tokenize(const TokenizeOptions &options, const Context &context) {
  if (int(options.text.has_value()) + !options.file.empty() + !options.jsonl.empty() != 1)
    return unusable("wrong usage", "kernelforge tokenize", "exactly one text is needed",
                    "give a text, --file or --jsonl");
  KF_TRY(std::string path, resolveModel(options.model));
  KF_TRY(ModelFile model, openModelShape(path));
  KF_TRY(Tokenizer tokenizer, Tokenizer::load(model.tokenizer));
  if (options.text) {
    KF_CHECK(convert(tokenizer, *options.text, "argument", options, context));
    return 0;
  }
  if (!options.file.empty()) {
    KF_TRY(std::string text, readText(options.file, "text is not usable", Tokenizer::maxTextBytes));
    KF_CHECK(convert(tokenizer, text, options.file, options, context));
    return 0;
  }
  KF_TRY(std::string lines, readText(options.jsonl, "text is not usable", maxJsonlBytes));
  std::string_view rest = lines;
  for (size_t number = 1; !rest.empty(); ++number) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    KF_CHECK(convertLine(tokenizer, line, fmt::format("{}, line {}", options.jsonl, number),
                         options, context));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (outputFailed())
      break; // the frame says so
  }
  return 0;
}

} // namespace

void cli::addTokenize(CLI::App &app, Context &context) {
  auto options = std::make_shared<TokenizeOptions>();
  CLI::App &command = addCommand(
      app, context,
      {"tokenize", "text to token ids and back", "tokenize --model smollm2 \"Hello, world\""},
      [options, &context] { return tokenize(*options, context); });
  command
      .add_option("-m,--model", options->model,
                  "whose tokenizer: a GGUF file, a folder with tokenizer.json or tokenizer.model, "
                  "or a name")
      ->required();
  command.add_option("text", options->text, "the text, or with --decode the ids");
  command.add_option("--file", options->file, "a file with the text");
  command.add_option("--jsonl", options->jsonl, "a file with one JSON string a line");
  command.add_flag("--decode", options->decode, "ids to text");
  command.add_flag("--no-special", options->noSpecial,
                   "control tokens in the text are ordinary text; with --decode they are left out");
}
