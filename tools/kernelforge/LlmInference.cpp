// kernelforge llm-inference: generates text after a prompt.
#include "Commands.h"
#include "LanguageModel.h"
#include "NumberOptions.h"
#include "RemoteComparison.h"

#include "kernelforge/llm/ChatTemplate.h"
#include "kernelforge/llm/Generate.h"
#include "kernelforge/llm/Logits.h"
#include "kernelforge/measure/Ceilings.h"
#include "kernelforge/support/CheckedArithmetic.h"
#include "kernelforge/support/Host.h"
#include "kernelforge/support/MappedFile.h"
#include "kernelforge/support/Npy.h"
#include "kernelforge/support/Progress.h"

#include <ctime>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

using namespace kernelforge;
using namespace kernelforge::cli;

namespace {

struct InferenceOptions {
  ModelChoice choice;
  std::string prompt, promptFile, system, logitsFile;
  std::vector<TokenId> promptIds;
  GenerateOptions generate;
  RemoteChoice remote;
  bool chat = false;
  bool kernelTimes = false;
  bool measureBandwidth = false;
};

/// A run's parts, for printing.
struct Inference {
  std::vector<TokenId> promptIds;
  Generation generation;
  LoadedModel model;
  std::optional<double> readBandwidth; ///< of this machine's memory, in bytes per second
  std::optional<RemoteAnswer> remote;  ///< where a hosted model was asked
};

//===----------------------------------------------------------------------===//
// Prompt
//===----------------------------------------------------------------------===//

Expected<std::string> readPrompt(const InferenceOptions &options) {
  if (options.promptFile.empty())
    return options.prompt;
  return readText(options.promptFile, "prompt is not usable", Tokenizer::maxTextBytes);
}

std::vector<ChatMessage> messagesOf(const InferenceOptions &options, const std::string &text) {
  std::vector<ChatMessage> messages;
  if (!options.system.empty())
    messages.push_back({"system", options.system});
  messages.push_back({"user", text});
  return messages;
}

Expected<std::vector<TokenId>> encodeTurn(const ModelFile &file, const Tokenizer &tokenizer,
                                          const InferenceOptions &options,
                                          const std::string &text) {
  if (file.chatTemplate.empty())
    return unusable("chat is not possible", file.path, "the model brings no chat template",
                    "leave out --chat");
  ChatInput input;
  input.messages = messagesOf(options, text);
  if (tokenizer.bos())
    input.bosToken = tokenizer.piece(*tokenizer.bos());
  if (tokenizer.eos())
    input.eosToken = tokenizer.piece(*tokenizer.eos());
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  if (localtime_r(&now, &local))
    input.now = local;
  KF_TRY(ChatTemplate chat, ChatTemplate::parse(file.chatTemplate, file.path));
  KF_TRY(ChatPrompt prompt, chat.render(input));
  return encodeChat(tokenizer, prompt);
}

/// The ids of the prompt. Raw ids are taken as they are; a raw text gets BOS where the model wants
/// one and the text does not begin with it.
Expected<std::vector<TokenId>> encodePrompt(const ModelFile &file, const Tokenizer *tokenizer,
                                            const InferenceOptions &options,
                                            const std::string &text) {
  if (!options.promptIds.empty())
    return options.promptIds;
  if (options.chat)
    return encodeTurn(file, *tokenizer, options, text);
  KF_TRY(std::vector<TokenId> ids, tokenizer->encode(text, true));
  if (tokenizer->addBos() && (ids.empty() || ids.front() != *tokenizer->bos()))
    ids.insert(ids.begin(), *tokenizer->bos());
  return ids;
}

Status checkUsage(const InferenceOptions &options, const Context &context) {
  auto error = [&](std::string why, std::string hint) {
    return unusable("wrong usage", "kernelforge " + context.command, std::move(why),
                    std::move(hint));
  };
  if (options.prompt.empty() && options.promptFile.empty() && options.promptIds.empty())
    return error("there is no prompt", "give one with -p, --prompt-file or --prompt-ids");
  if (options.chat && !options.promptIds.empty())
    return error("--chat needs a text, not --prompt-ids", "use -p or --prompt-file");
  if (!options.system.empty() && !options.chat)
    return error("--system is a message of a chat", "add --chat");
  if (options.remote.isWanted() && !options.chat)
    return error("a hosted model is asked by messages of a chat", "add --chat");
  return checkRemote(options.remote, options.generate, context.command);
}

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

/// The logits of every position of the prompt.
struct LogitsFile {
  std::string path;
  std::vector<float> values;
  uint64_t positions = 0, vocabulary = 0;

  static Expected<LogitsFile> plan(const std::string &path, size_t positions, int64_t vocabulary) {
    LogitsFile file{path, {}, positions, static_cast<uint64_t>(vocabulary)};
    const auto bytes = checkedProduct({file.positions, file.vocabulary, sizeof(float)});
    if (!bytes || *bytes > static_cast<uint64_t>(host().memoryBytes))
      return unusable("logits do not fit in memory", path,
                      fmt::format("{} positions of {} values", positions, vocabulary),
                      "shorten the prompt");
    file.values.resize(file.positions * file.vocabulary);
    return file;
  }

  Status write() const {
    const uint64_t shape[] = {positions, vocabulary};
    return writeNpy(path, NpyType::F32, shape, std::as_bytes(std::span(values)));
  }
};

/// Runs the prompt in steps of the decoder's, so that each position's logits can be kept.
Expected<std::span<const float>> scorePrompt(Decoder &decoder, std::span<const TokenId> prompt,
                                             LogitsFile &file, Progress &progress,
                                             const std::atomic<bool> *cancel) {
  Status status;
  auto keep = [&](int64_t position, std::span<const float> row) {
    if (status)
      status = checkLogits(row, position + 1);
    std::copy(row.begin(), row.end(),
              file.values.begin() + position * static_cast<int64_t>(file.vocabulary));
    progress.update(position);
  };
  KF_CHECK(decoder.score(prompt, keep, cancel));
  KF_CHECK(status);
  return std::span<const float>(file.values).last(file.vocabulary);
}

/// Why a generation ends whose output failed; the frame says what failed.
tl::unexpected<Error> nobodyReads() {
  return makeError(ErrorKind::Interrupted, "generation ended", "standard output",
                   "nobody gets the text");
}

TokenRules rulesOf(const SamplingOptions &sampling) {
  return {SampleSettings::of(sampling.temperature, sampling.topP, sampling.minP, 1), sampling.topK,
          sampling.seed};
}

bool choosesOnDevice(const InferenceOptions &options) {
  const SamplingOptions &sampling = options.generate.sampling;
  return rulesOf(sampling).areQuick() && sampling.repeatPenalty == 1 && !options.kernelTimes;
}

/// Generates; the text goes to standard output as it comes unless JSON was asked for.
Expected<Generation> run(Inference &inference, const Tokenizer *tokenizer,
                         const InferenceOptions &options, const Context &context) {
  Decoder &decoder = *inference.model.decoder;
  const std::atomic<bool> *cancel = interruptFlag();
  std::optional<LogitsFile> logits;
  if (!options.logitsFile.empty()) {
    KF_TRY(logits, LogitsFile::plan(options.logitsFile, inference.promptIds.size(),
                                    decoder.description().vocabSize));
  }
  auto append = [&](std::span<const TokenId> tokens) -> Expected<std::span<const float>> {
    if (outputFailed())
      return nobodyReads();
    if (decoder.length() > 0)
      return decoder.append(tokens, cancel);
    Progress progress("running the prompt", static_cast<int64_t>(tokens.size()));
    if (logits)
      return scorePrompt(decoder, tokens, *logits, progress, cancel);
    return decoder.append(tokens, cancel, [&](int64_t done) { progress.update(done); });
  };
  TokenSteps steps;
  if (decoder.hasDeviceSteps()) {
    steps.begin = [&](TokenId first, const SamplingOptions &sampling, int64_t most) {
      return decoder.beginSteps(first, rulesOf(sampling), most);
    };
    steps.next = [&]() -> Expected<TokenId> {
      if (outputFailed())
        return nobodyReads();
      return decoder.nextToken(cancel);
    };
    steps.end = [&] { return decoder.endSteps(); };
  }
  std::function<void(std::string_view)> show;
  if (!context.json)
    show = [](std::string_view text) { print(text); };
  KF_TRY(Generation generation, generate(append, tokenizer, inference.promptIds, decoder.context(),
                                         options.generate, show, cancel, steps));
  if (logits && decoder.length() >= static_cast<int64_t>(inference.promptIds.size()))
    KF_CHECK(logits->write());
  return generation;
}

/// What all threads together can read from memory.
Expected<double> measureMemory(const Context &context) {
  Progress progress("measuring read bandwidth", 0);
  CeilingOptions options;
  options.threads = requestedThreads(context);
  options.cancel = interruptFlag();
  KF_TRY(std::vector<ReadBandwidth> levels, measureReadBandwidth(options));
  for (const ReadBandwidth &level : levels)
    if (level.level == "memory")
      return level.allCores;
  return failed("read bandwidth cannot be measured", "memory", "there is no such level");
}

//===----------------------------------------------------------------------===//
// Answers
//===----------------------------------------------------------------------===//

/// Bytes of weights that decoding read in a second, in units of 10^9.
double decodeGbPerSecond(const Inference &inference) {
  return inference.generation.decodeRate() *
         static_cast<double>(inference.model.decoder->weightBytesPerToken()) / 1e9;
}

/// Decoding's share of the measured read bandwidth; nothing where it was not measured.
std::optional<double> percentOfBandwidth(const Inference &inference) {
  if (!inference.readBandwidth || *inference.readBandwidth <= 0)
    return std::nullopt;
  return decodeGbPerSecond(inference) * 1e9 / *inference.readBandwidth * 100;
}

Json kernelsJson(const std::vector<KernelTime> &times) {
  Json rows = Json::array();
  for (const KernelTime &time : times) {
    const double perSecond = time.seconds > 0 ? 1e-9 / time.seconds : 0;
    rows.push_back({{"name", time.name},
                    {"variant", time.variant},
                    {"calls", time.calls},
                    {"total_s", time.seconds},
                    {"gb_per_s", time.bytes * perSecond},
                    {"gflops", time.flops * perSecond}});
  }
  return rows;
}

std::string hashText(uint64_t hash) { return fmt::format("{:016x}", hash); }

Json toJson(const Inference &inference, const InferenceOptions &options) {
  const Generation &g = inference.generation;
  const Decoder &decoder = *inference.model.decoder;
  const DecoderMemory memory = decoder.memory();
  const std::optional<double> percent = percentOfBandwidth(inference);
  Json json = {{"model", inference.model.file->name},
               {"target", targetName(decoder)},
               {"context", decoder.context()},
               {"kv_cache", cacheName(decoder)},
               {"numerics", numericsText(decoder)},
               {"prompt_tokens", g.promptTokens},
               {"generated_tokens", g.ids.size()},
               {"text", g.text},
               {"prompt_ids", inference.promptIds},
               {"token_ids", g.ids},
               {"finish_reason", name(g.finish)},
               {"logits_hash", g.logitsHash ? Json(hashText(*g.logitsHash)) : Json()},
               {"timings",
                {{"load_s", inference.model.loadSeconds},
                 {"compile_s", decoder.compileStatistics().seconds},
                 {"time_to_first_token_s", g.timings.timeToFirstToken},
                 {"prefill_s", g.timings.prefill},
                 {"prefill_tokens_per_s", g.prefillRate()},
                 {"decode_s", g.timings.decode},
                 {"decode_tokens_per_s", g.decodeRate()},
                 {"total_s", totalSeconds(g)},
                 {"wall_tokens_per_s", wallRate(g)}}},
               {"memory",
                {{"mapped_bytes", memory.mappedBytes},
                 {"packed_bytes", memory.packedBytes},
                 {"kv_cache_bytes", memory.kvCacheBytes},
                 {"scratch_bytes", memory.scratchBytes},
                 {"peak_rss_bytes", peakResidentBytes()}}},
               {"bandwidth",
                {{"decode_gb_per_s", decodeGbPerSecond(inference)},
                 {"pct_of_measured_read_bandwidth", percent ? Json(*percent) : Json()}}},
               {"schedule_sources", decoder.compileStatistics().scheduleSources},
               {"variants", decoder.compileStatistics().variants},
               {"kernels", kernelsJson(decoder.kernelTimes())}};
  if (inference.remote)
    json["remote"] = remoteJson(options.remote, *inference.remote);
  return json;
}

/// Where schedules are from, unless all are analytic, and what is not generated: "5 schedules from
/// records, 12 analytic, 2 kernels run by vendor:openblas".
std::string scheduleSources(const CompileStatistics &compile) {
  std::vector<std::string> parts;
  for (const auto &[source, text] :
       {std::pair("record", "schedules from records"),
        std::pair("transferred", "from records of other shapes"), std::pair("pinned", "pinned"),
        std::pair("analytic", "analytic")})
    if (const auto found = compile.scheduleSources.find(source);
        found != compile.scheduleSources.end())
      parts.push_back(fmt::format("{} {}", found->second, text));
  if (compile.scheduleSources.size() <= 1 && compile.scheduleSources.count("analytic"))
    return "";
  for (const auto &[variant, kernels] : compile.variants)
    parts.push_back(
        fmt::format("{} kernel{} run by {}", kernels, kernels == 1 ? "" : "s", variant));
  return fmt::format("{}", fmt::join(parts, ", "));
}

void printSummary(const Inference &inference) {
  const Generation &g = inference.generation;
  const Decoder &decoder = *inference.model.decoder;
  const CompileStatistics &compile = decoder.compileStatistics();
  const DecoderMemory memory = decoder.memory();
  fmt::print(stderr, "model    {} on {}, context {}, cache {}, numerics {}\n",
             inference.model.file->name, targetName(decoder), decoder.context(), cacheName(decoder),
             numericsText(decoder));
  fmt::print(stderr, "start    load {:.2f} s, compile {:.2f} s ({} kernels, {} cached)\n",
             inference.model.loadSeconds, compile.seconds, compile.kernels, compile.fromCache);
  if (const std::string sources = scheduleSources(compile); !sources.empty())
    fmt::print(stderr, "tuned    {}; nothing was measured\n", sources);
  const bool isGenerated = !g.ids.empty();
  fmt::print(stderr, "prompt   {} tokens, {:.1f} tokens/s{}\n", g.promptTokens, g.prefillRate(),
             isGenerated ? fmt::format(", first token after {:.3f} s", g.timings.timeToFirstToken)
                         : "");
  const std::optional<double> percent = percentOfBandwidth(inference);
  if (isGenerated)
    fmt::print(stderr, "decode   {} tokens, {:.1f} tokens/s, {:.1f} GB/s of weights{} ({})\n",
               g.ids.size(), g.decodeRate(), decodeGbPerSecond(inference),
               percent ? fmt::format(", {:.0f} % of what memory gives", *percent) : "",
               name(g.finish));
  else
    fmt::print(stderr, "decode   no tokens ({})\n", name(g.finish));
  fmt::print(stderr, "memory   mapped {}, packed {}, cache {}, scratch {}, peak {}\n",
             printBytes(memory.mappedBytes), printBytes(memory.packedBytes),
             printBytes(memory.kvCacheBytes), printBytes(memory.scratchBytes),
             printBytes(peakResidentBytes()));
  if (g.logitsHash)
    fmt::print(stderr, "logits   {}\n", hashText(*g.logitsHash));
}

void printKernelTimes(const std::vector<KernelTime> &times) {
  double total = 0;
  for (const KernelTime &time : times)
    total += time.seconds;
  fmt::print(stderr, "{:<48} {:>7} {:>10} {:>6} {:>8} {:>8}\n", "kernel", "calls", "total ms", "%",
             "GB/s", "GFLOP/s");
  for (const KernelTime &time : times) {
    const double perSecond = time.seconds > 0 ? 1e-9 / time.seconds : 0;
    const std::string name =
        time.variant == "generated" ? time.name : time.name + " (" + time.variant + ")";
    fmt::print(stderr, "{:<48} {:>7} {:>10.3f} {:>6.1f} {:>8.1f} {:>8.1f}\n", name, time.calls,
               time.seconds * 1e3, total > 0 ? time.seconds / total * 100 : 0,
               time.bytes * perSecond, time.flops * perSecond);
  }
}

/// What standard output gets besides the text: ids where there is none, and a last newline; nothing
/// where nothing was generated.
void finishText(const Generation &generation, bool hasTokenizer) {
  if (generation.ids.empty())
    return;
  if (!hasTokenizer)
    for (TokenId id : generation.ids)
      print(fmt::format("{} ", id));
  print("\n");
}

Expected<int> infer(const InferenceOptions &options, const Context &context) {
  KF_CHECK(checkUsage(options, context));
  KF_CHECK(checkOptions(options.generate, true));
  const auto start = std::chrono::steady_clock::now();
  KF_TRY(ModelFile file, openChosenModel(options.choice, context));
  // Ids can be run without a tokenizer, so one that we do not support is only a loss of text.
  std::optional<Tokenizer> tokenizer;
  if (auto loaded = Tokenizer::load(file.tokenizer))
    tokenizer = std::move(*loaded);
  else if (options.promptIds.empty()) {
    Error error = loaded.error();
    error.hint += fmt::format("{}--prompt-ids needs no tokenizer", error.hint.empty() ? "" : "; ");
    return tl::unexpected<Error>(std::move(error));
  }
  const Tokenizer *usable = tokenizer ? &*tokenizer : nullptr;
  KF_CHECK(checkOptions(options.generate, usable));

  Inference inference;
  KF_TRY(const std::string text, readPrompt(options));
  KF_TRY(inference.promptIds, encodePrompt(file, usable, options, text));
  KF_TRY(inference.model, loadModel(std::move(file), secondsSince(start), options.choice, context,
                                    !options.logitsFile.empty(), choosesOnDevice(options)));
  Decoder &decoder = *inference.model.decoder;
  if (options.kernelTimes)
    decoder.enableKernelTimes();
  if (context.verbosity > 0)
    fmt::print(stderr, "{}", describePrograms(decoder));
  if (options.remote.isWanted() && !context.json)
    print(fmt::format("--- here, {}\n", inference.model.file->name));
  KF_TRY(inference.generation,
         explained(run(inference, usable, options, context), inference.model));
  if (outputFailed())
    return 0; // the frame says so, where it is an error
  if (!context.json)
    finishText(inference.generation, usable);
  if (options.measureBandwidth && inference.generation.finish != FinishReason::Interrupted) {
    KF_TRY(inference.readBandwidth, measureMemory(context));
  }
  // One after the other: neither is timed while the other runs.
  if (options.remote.isWanted() && inference.generation.finish != FinishReason::Interrupted) {
    inference.remote = askRemote(options.remote, messagesOf(options, text), options.generate);
    if (!context.json)
      printComparison(inference.model.file->name, inference.generation, options.remote,
                      *inference.remote);
  }
  if (context.json)
    printJson(toJson(inference, options));
  if (!context.json || context.verbosity > 0)
    printSummary(inference);
  if (options.kernelTimes && !context.json)
    printKernelTimes(decoder.kernelTimes());
  if (inference.remote && inference.remote->result.error)
    return report(*inference.remote->result.error, /*json=*/false);
  return inference.generation.finish == FinishReason::Interrupted
             ? static_cast<int>(ErrorKind::Interrupted)
             : 0;
}

} // namespace

void cli::addLlmInference(CLI::App &app, Context &context) {
  auto options = std::make_shared<InferenceOptions>();
  CLI::App &command = addCommand(
      app, context,
      {"llm-inference", "generates text after a prompt",
       "llm-inference -m smollm2 -p \"The capital of France is\" --temperature 0 -n 32\n"
       "  kernelforge llm-inference -m smollm2 --chat -p Hello --compare-cerebras MODEL"},
      [options, &context] {
        options->generate.sampling.seed = context.seed;
        return infer(*options, context);
      });
  addTargetOptions(command, context);
  addSeedOption(command, context);
  addModelOptions(command, options->choice);
  addRunOptions(command, options->choice);
  CLI::Option *prompt =
      command.add_option("-p,--prompt", options->prompt, "the text to go on from");
  CLI::Option *file =
      command.add_option("--prompt-file", options->promptFile, "a file with that text")
          ->excludes(prompt);
  addIntegers(command, "--prompt-ids", options->promptIds,
              "token ids instead of a text: 1,2,3 or 1 2 3", 0, INT32_MAX)
      ->excludes(prompt)
      ->excludes(file);
  command.add_flag("--chat", options->chat, "the text is a message, in the model's chat template");
  command.add_option("--system", options->system, "with --chat: the system message");

  addRemoteOptions(command, options->remote);

  GenerateOptions &generate = options->generate;
  addInteger(command, "-n,--max-tokens", generate.maxTokens, "most tokens to generate", 0,
             1'000'000'000)
      ->capture_default_str();
  addInteger(command, "-c,--context", options->choice.context,
             "positions of the cache (default: the smaller of the model's and 4,096)", 1,
             int64_t(1) << 31);
  SamplingOptions &sampling = generate.sampling;
  addNumber(command, "--temperature", sampling.temperature, "0: always the likeliest token", 0, 100)
      ->capture_default_str();
  addInteger(command, "--top-k", sampling.topK, "keep the K likeliest tokens; 0: all", 0, INT32_MAX)
      ->capture_default_str();
  addNumber(command, "--top-p", sampling.topP, "keep the fewest tokens with that probability", 0, 1)
      ->capture_default_str();
  addNumber(command, "--min-p", sampling.minP, "keep tokens with that share of the likeliest's", 0,
            1)
      ->capture_default_str();
  addNumber(command, "--repeat-penalty", sampling.repeatPenalty, "above 1: avoid recent tokens", 0,
            1e6)
      ->capture_default_str();
  addTexts(command, "--stop", generate.stop,
           "end at this text, or these; may also be given several times");
  command.add_flag("--ignore-eos", generate.ignoreEos, "go on where the model would end");
  command.add_option("--logits", options->logitsFile,
                     "write the logits of the prompt's positions to this .npy file");
  command.add_flag("--kernel-times", options->kernelTimes, "measure each kernel");
  command.add_flag("--measure-bandwidth", options->measureBandwidth,
                   "measure the machine's read bandwidth and compare decoding with it");
}
