// kernelforge llm-bench: rates of prefill and decode by llama-bench's rules: random tokens, one
// warm-up, no tokenization and no sampling in the measured time. Where the device chooses tokens by
// itself, decoding is steps that do: of those a host that knew all tokens would not wait for any.
#include "Commands.h"
#include "LanguageModel.h"
#include "NumberOptions.h"
#include "Rows.h"

#include "kernelforge/llm/Logits.h"
#include "kernelforge/support/CounterRandom.h"
#include "kernelforge/support/Progress.h"

#include <algorithm>
#include <fmt/format.h>

using namespace kernelforge;
using namespace kernelforge::cli;

namespace {

struct BenchOptions {
  ModelChoice choice;
  std::vector<int64_t> prompts{512}, generations{128}, depths{0};
  int64_t repetitions = 5;
  std::string format;
};

struct BenchTest {
  bool isPrompt = true;
  int64_t tokens = 0;
  int64_t depth = 0; ///< tokens in the cache before the measured ones

  std::string name() const {
    return fmt::format("{}{}", isPrompt ? "pp" : "tg", tokens) +
           (depth > 0 ? fmt::format("@d{}", depth) : "");
  }
};

struct BenchRow {
  std::string test;
  std::vector<double> samples; ///< tokens per second
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

std::vector<BenchTest> testsOf(const BenchOptions &options) {
  std::vector<BenchTest> tests;
  for (int64_t depth : options.depths) {
    for (int64_t tokens : options.prompts)
      if (tokens > 0)
        tests.push_back({true, tokens, depth});
    for (int64_t tokens : options.generations)
      if (tokens > 0)
        tests.push_back({false, tokens, depth});
  }
  return tests;
}

/// The tests of one decoder.
class Bench {
public:
  Bench(Decoder &decoder, uint64_t seed) : decoder(decoder), seed(seed), cancel(interruptFlag()) {}

  Expected<BenchRow> run(const BenchTest &test, int64_t repetitions) {
    Progress progress(test.name(), repetitions);
    BenchRow row{test.name(), {}};
    KF_CHECK(fill(test.depth));
    // As the measured run, but one step is enough to warm up decoding.
    KF_CHECK(measure(test, test.isPrompt ? test.tokens : 1));
    for (int64_t i = 0; i < repetitions; ++i) {
      KF_TRY(double seconds, measure(test, test.tokens));
      row.samples.push_back(static_cast<double>(test.tokens) / seconds);
      progress.update(i + 1);
    }
    return row;
  }

private:
  /// Random tokens, other ones at each call.
  std::vector<TokenId> randomTokens(int64_t count) {
    const auto vocabulary = static_cast<uint64_t>(decoder.description().vocabSize);
    std::vector<TokenId> tokens(static_cast<size_t>(count));
    for (TokenId &token : tokens)
      token = static_cast<TokenId>(randomBits(seed, drawn++) % vocabulary);
    return tokens;
  }

  Status fill(int64_t depth) {
    decoder.truncate(0);
    if (depth > 0)
      KF_CHECK(decoder.append(randomTokens(depth), cancel));
    return {};
  }

  /// Seconds for `tokens` tokens on top of what fill() left, which is what remains afterwards.
  Expected<double> measure(const BenchTest &test, int64_t tokens) {
    decoder.truncate(test.depth);
    const std::vector<TokenId> ids = randomTokens(tokens);
    const size_t step = test.isPrompt ? ids.size() : 1;
    std::span<const float> logits;
    const auto start = std::chrono::steady_clock::now();
    if (!test.isPrompt && decoder.hasDeviceSteps()) {
      KF_CHECK(decoder.beginSteps(ids.front(), {}, tokens));
      for (int64_t i = 0; i < tokens; ++i)
        KF_CHECK(decoder.nextToken(cancel));
      const double seconds = secondsSince(start);
      KF_TRY(logits, decoder.endSteps());
      KF_CHECK(checkLogits(logits, decoder.length()));
      return seconds;
    }
    for (size_t at = 0; at < ids.size(); at += step) {
      KF_TRY(logits, decoder.append(std::span(ids).subspan(at, step), cancel));
    }
    const double seconds = secondsSince(start);
    KF_CHECK(checkLogits(logits, decoder.length())); // rates of no numbers are none
    return seconds;
  }

  Decoder &decoder;
  uint64_t seed;
  uint64_t drawn = 0;
  const std::atomic<bool> *cancel;
};

Json toJson(const BenchRow &row, const LoadedModel &model, const Context &context) {
  return {{"test", row.test},
          {"median_tokens_per_s", median(row.samples)},
          {"samples", row.samples},
          {"model", model.file->name},
          {"target", targetName(*model.decoder)},
          {"kv_cache", cacheName(*model.decoder)},
          {"numerics", numericsText(*model.decoder)},
          {"software", model.decoder->session().device().info().software},
          {"threads", requestedThreads(context)}};
}

RowTable toTable(const std::vector<BenchRow> &rows, const LoadedModel &model,
                 const Context &context) {
  RowTable table{
      {"test", "tokens/s", "lowest", "highest", "model", "kv cache", "numerics", "threads"}, {}};
  for (const BenchRow &row : rows) {
    const auto [low, high] = std::minmax_element(row.samples.begin(), row.samples.end());
    table.rows.push_back({row.test, fmt::format("{:.2f}", median(row.samples)),
                          fmt::format("{:.2f}", *low), fmt::format("{:.2f}", *high),
                          model.file->name, cacheName(*model.decoder), numericsText(*model.decoder),
                          std::to_string(requestedThreads(context))});
  }
  return table;
}

Expected<int> bench(BenchOptions options, const Context &context) {
  const std::vector<BenchTest> tests = testsOf(options);
  if (tests.empty())
    return unusable("wrong usage", "kernelforge llm-bench", "there is nothing to measure",
                    "give -p or -n above 0");
  for (const BenchTest &test : tests)
    options.choice.context = std::max(options.choice.context, test.depth + test.tokens);
  const auto start = std::chrono::steady_clock::now();
  KF_TRY(ModelFile file, openChosenModel(options.choice, context));
  KF_TRY(LoadedModel model,
         loadModel(std::move(file), secondsSince(start), options.choice, context, false, true));
  if (context.verbosity > 0)
    fmt::print(stderr, "{}", describePrograms(*model.decoder));
  Bench bench(*model.decoder, context.seed);
  std::vector<BenchRow> rows;
  for (const BenchTest &test : tests) {
    KF_TRY(BenchRow row, explained(bench.run(test, options.repetitions), model));
    rows.push_back(std::move(row));
  }
  std::vector<Json> json;
  for (const BenchRow &row : rows)
    json.push_back(toJson(row, model, context));
  if (context.json)
    printJson({{"rows", json}});
  else
    printRows(toTable(rows, model, context), json, options.format);
  const DeviceInfo &device = model.decoder->session().device().info();
  if (device.software && !context.json && options.format == "table")
    print("not for timing: " + escapeControls(device.name) + " is emulated by the processor\n");
  return 0;
}

} // namespace

void cli::addLlmBench(CLI::App &app, Context &context) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App &command = addCommand(app, context,
                                 {"llm-bench", "measures prefill and decode of a language model",
                                  "llm-bench -m smollm2 -p 512 -n 128 -r 5"},
                                 [options, &context] { return bench(*options, context); });
  addTargetOptions(command, context);
  addSeedOption(command, context);
  addModelOptions(command, options->choice);
  addRunOptions(command, options->choice);
  addFormatOption(command, options->format);
  constexpr int64_t mostTokens = int64_t(1) << 27;
  addIntegers(command, "-p,--prompt-tokens", options->prompts,
              "lengths of prompts: 512,2048 or 512 2048", 0, mostTokens)
      ->capture_default_str();
  addIntegers(command, "-n,--max-tokens", options->generations, "numbers of tokens to generate", 0,
              mostTokens)
      ->capture_default_str();
  addIntegers(command, "-d,--depth", options->depths,
              "tokens in the cache before the measured ones", 0, mostTokens)
      ->capture_default_str();
  addInteger(command, "-r,--repetitions", options->repetitions, "samples of each test", 1, 100'000)
      ->capture_default_str();
}
