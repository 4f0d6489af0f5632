// kernelforge llm-bench: rates of prefill and decode by llama-bench's rules: random tokens, one
// warm-up, no tokenization and no sampling in the measured time. Where the device chooses tokens by
// itself, decoding is steps that do: of those a host that knew all tokens would not wait for any.
#include "BenchRows.h"
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
  std::vector<std::pair<int64_t, int64_t>> both; ///< --pg: prompts with what is generated after
  int64_t repetitions = 5;
  std::string format;
};

std::vector<BenchTest> testsOf(const BenchOptions &options) {
  std::vector<BenchTest> tests;
  for (int64_t depth : options.depths) {
    for (int64_t tokens : options.prompts)
      if (tokens > 0)
        tests.push_back({tokens, 0, depth});
    for (int64_t tokens : options.generations)
      if (tokens > 0)
        tests.push_back({0, tokens, depth});
    for (const auto &[prompt, generate] : options.both)
      tests.push_back({prompt, generate, depth});
  }
  return tests;
}

/// The tests of one decoder.
class Bench {
public:
  Bench(Decoder &decoder, uint64_t seed) : decoder(decoder), seed(seed), cancel(interruptFlag()) {}

  Expected<BenchRow> run(const BenchTest &test, int64_t repetitions) {
    Progress progress(test.name(), repetitions);
    BenchRow row{test, timeOfNow(), {}};
    KF_CHECK(fill(test.depth));
    // As the measured run, but one step is enough to warm up decoding.
    KF_CHECK(measure({test.prompt, std::min(test.generate, int64_t(1)), test.depth}));
    for (int64_t i = 0; i < repetitions; ++i) {
      KF_TRY(int64_t nanoseconds, measure(test));
      row.nanoseconds.push_back(nanoseconds);
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

  /// Nanoseconds of a test on top of what fill() left, which is what remains afterwards.
  Expected<int64_t> measure(const BenchTest &test) {
    decoder.truncate(test.depth);
    const std::vector<TokenId> prompt = randomTokens(test.prompt);
    const std::vector<TokenId> steps = randomTokens(test.generate);
    std::span<const float> logits;
    const auto start = std::chrono::steady_clock::now();
    if (!prompt.empty()) {
      KF_TRY(logits, decoder.append(prompt, cancel));
    }
    const bool onDevice = !steps.empty() && decoder.hasDeviceSteps();
    if (onDevice) {
      KF_CHECK(decoder.beginSteps(steps.front(), {}, test.generate));
      for (int64_t i = 0; i < test.generate; ++i)
        KF_CHECK(decoder.nextToken(cancel));
    } else {
      for (const TokenId &token : steps) {
        KF_TRY(logits, decoder.append(std::span(&token, 1), cancel));
      }
    }
    const std::chrono::nanoseconds time = std::chrono::steady_clock::now() - start;
    if (onDevice) {
      KF_TRY(logits, decoder.endSteps());
    }
    KF_CHECK(checkLogits(logits, decoder.length())); // rates of no numbers are none
    return std::max(time.count(), int64_t(1));
  }

  Decoder &decoder;
  uint64_t seed;
  uint64_t drawn = 0;
  const std::atomic<bool> *cancel;
};

Expected<int> bench(BenchOptions options, const Context &context) {
  const std::vector<BenchTest> tests = testsOf(options);
  if (tests.empty())
    return unusable("wrong usage", "kernelforge llm-bench", "there is nothing to measure",
                    "give -p or -n above 0, or --pg");
  for (const BenchTest &test : tests)
    options.choice.context = std::max(options.choice.context, test.depth + test.tokens());
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
  KF_TRY(int64_t prefillChunk, prefillChunkOf(options.choice, context, false));
  printBenchRows(rows, model, prefillChunk, options.format, context);
  const DeviceInfo &device = model.decoder->session().device().info();
  if (device.software && !context.json && options.format == "table")
    print("not for timing: " + escapeControls(device.name) + " is emulated by the processor\n");
  return 0;
}

} // namespace

/// Adds --pg P,N, which may be given several times.
static void addBoth(CLI::App &command, BenchOptions &options, int64_t most) {
  auto read = [&options, most](const std::vector<std::string> &texts) -> std::string {
    for (const std::string &text : texts) {
      std::vector<int64_t> numbers;
      for (const std::string &part : splitList({text})) {
        const auto number = parseInteger<int64_t>(part, 1, most);
        if (!number)
          return number.error();
        numbers.push_back(*number);
      }
      if (numbers.size() != 2)
        return fmt::format("'{}' is no pair of numbers, as 512,128", text);
      options.both.emplace_back(numbers[0], numbers[1]);
    }
    return "";
  };
  addChecked(command, "--pg", "P,N",
             withLimits("a prompt of P tokens and N generated after it, timed together; also "
                        "written -pg; may be given several times",
                        "1", grouped(most)),
             read, nullptr)
      ->expected(1, CLI::detail::expected_max_vector_size)
      ->allow_extra_args(false);
}

void cli::addLlmBench(CLI::App &app, Context &context) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App &command = addCommand(app, context,
                                 {"llm-bench", "measures prefill and decode of a language model",
                                  "llm-bench -m smollm2 -p 512 -n 128 -r 5\n"
                                  "  kernelforge llm-bench -m smollm2 -pg 512,128 -d 0,4096 "
                                  "--format sql | sqlite3 bench.sqlite"},
                                 [options, &context] { return bench(*options, context); });
  addTargetOptions(command, context);
  addSeedOption(command, context);
  addModelOptions(command, options->choice);
  addRunOptions(command, options->choice);
  addFormatOption(command, options->format, {"table", "md", "csv", "jsonl", "sql"});
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
  addBoth(command, *options, mostTokens);
  addInteger(command, "-r,--repetitions", options->repetitions, "samples of each test", 1, 100'000)
      ->capture_default_str();
}
