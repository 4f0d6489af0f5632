// What the commands that run a language model share: their options, loading, and printing.
#pragma once

#include "Command.h"

#include "kernelforge/llm/ModelFile.h"
#include "kernelforge/llm/Tokenizer.h"
#include "kernelforge/llm/runtime/Decoder.h"

#include <memory>
#include <optional>
#include <string>

namespace kernelforge::cli {

/// Which model, and how it is run.
struct ModelChoice {
  std::string model;         ///< -m: name, file or folder
  std::string randomWeights; ///< --random-weights: a configuration instead of a model
  std::string randomType = "q4_1";
  int64_t context = 0;      ///< 0: the smaller of the model's and 4,096
  int64_t prefillChunk = 0; ///< 0: as prefillChunkOf() says
  bool noFuse = false;
  std::string cacheType = "bf16"; ///< --kv-cache
  std::string numerics = "fast";  ///< --numerics
};

/// Adds -m, and --random-weights with --random-type.
void addModelOptions(CLI::App &command, ModelChoice &choice);

/// Adds --no-fuse, --prefill-chunk, --kv-cache and --numerics.
void addRunOptions(CLI::App &command, ModelChoice &choice);
/// Adds --prefill-chunk alone.
void addChunkOption(CLI::App &command, ModelChoice &choice);
/// What it says, or as many as the target is fast with, of which a program that gives the logits of
/// all takes 512 at most.
Expected<int64_t> prefillChunkOf(const ModelChoice &choice, const Context &context, bool allLogits);
/// What --kv-cache takes.
std::vector<std::string> cacheNames();
/// Adds --kv-cache alone.
void addCacheOption(CLI::App &command, ModelChoice &choice);

/// What --kv-cache says, and what is written for it.
ElementType cacheTypeOf(const ModelChoice &choice);
std::string cacheName(const Decoder &decoder);

/// The decoder's numerics as --numerics takes them.
std::string numericsText(const Decoder &decoder);

/// The files of the chosen model, opened and checked, or random weights in its place.
Expected<ModelFile> openChosenModel(const ModelChoice &choice, const Context &context);

/// A model ready to run.
struct LoadedModel {
  std::unique_ptr<ModelFile> file;
  std::unique_ptr<Decoder> decoder;
  double loadSeconds = 0; ///< opening, binding and packing
};

/// Makes a decoder of an opened model, showing progress. `openSeconds` is what opening took;
/// `deviceSteps`: as in DecoderOptions.
Expected<LoadedModel> loadModel(ModelFile file, double openSeconds, const ModelChoice &choice,
                                const Context &context, bool allLogits, bool deviceSteps = false);

/// An error as it is; one that logits are no numbers gets the hint what to look at, for which all
/// weights are read.
Error explained(Error error, const LoadedModel &model);
template <typename T> Expected<T> explained(Expected<T> result, const LoadedModel &model) {
  return std::move(result).map_error(
      [&](Error error) { return explained(std::move(error), model); });
}

/// Seconds since `start`.
double secondsSince(std::chrono::steady_clock::time_point start);

/// The processor and features that a decoder's code is for; "reference" where it is interpreted.
std::string targetName(const Decoder &decoder);

/// For -v: every function's kernels with schedules, and its memory plan.
std::string describePrograms(const Decoder &decoder);

/// "93.8 MiB"
std::string printBytes(int64_t bytes);

/// Most memory that this process ever held.
int64_t peakResidentBytes();

} // namespace kernelforge::cli
