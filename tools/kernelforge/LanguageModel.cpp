#include "LanguageModel.h"

#include "BlockOption.h"
#include "NumberOptions.h"
#include "NumericsOption.h"
#include "Usage.h"

#include "kernelforge/compiler/Targets.h"
#include "kernelforge/llm/Logits.h"
#include "kernelforge/llm/ModelNames.h"
#include "kernelforge/llm/ModelWeights.h"
#include "kernelforge/llm/RandomModel.h"
#include "kernelforge/support/Log.h"
#include "kernelforge/support/Progress.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>
#include <optional>
#include <sys/resource.h>
#include <utility>

using namespace kernelforge;
using namespace kernelforge::cli;

//===----------------------------------------------------------------------===//
// Options and loading
//===----------------------------------------------------------------------===//

void cli::addModelOptions(CLI::App &command, ModelChoice &choice) {
  CLI::Option *model =
      command.add_option("-m,--model", choice.model,
                         "a GGUF file, a folder with config.json and safetensors, or a name");
  command
      .add_option("--random-weights", choice.randomWeights,
                  "instead of a model: random weights for a config.json, a GGUF file's shape, or " +
                      builtInShapes())
      ->excludes(model);
  command.add_option("--random-type", choice.randomType, "type of random weights")
      ->capture_default_str();
}

void cli::addRunOptions(CLI::App &command, ModelChoice &choice) {
  command.add_flag("--no-fuse", choice.noFuse, "make every operation a kernel of its own");
  addChunkOption(command, choice);
  addCacheOption(command, choice);
  addNumericsOption(command, choice.numerics, "a row of the model");
}

void cli::addChunkOption(CLI::App &command, ModelChoice &choice) {
  addInteger(command, "--prefill-chunk", choice.prefillChunk,
             "most tokens of one run of the prompt (default: 512, of an NVIDIA GPU 2,048)", 1,
             int64_t(1) << 20);
}

Expected<int64_t> cli::prefillChunkOf(const ModelChoice &choice, const Context &context,
                                      bool allLogits) {
  constexpr int64_t mostWithLogits = 512;
  if (choice.prefillChunk > 0)
    return choice.prefillChunk;
  KF_TRY(const CodeGenerator *generator, findGenerator(context.target));
  const int64_t usual = generator->usualPrefillRows();
  return allLogits ? std::min(usual, mostWithLogits) : usual;
}

/// Element types of caches by their names on the command line, where blocks of 8-bit integers are
/// what users of other programs call them.
static constexpr std::pair<const char *, ElementType> cacheTypes[] = {{"f32", ElementType::F32},
                                                                      {"f16", ElementType::F16},
                                                                      {"bf16", ElementType::BF16},
                                                                      {"i8", ElementType::Q8_0}};

std::vector<std::string> cli::cacheNames() {
  std::vector<std::string> names;
  for (const auto &[name, type] : cacheTypes)
    names.emplace_back(name);
  return names;
}

void cli::addCacheOption(CLI::App &command, ModelChoice &choice) {
  command
      .add_option(
          "--kv-cache", choice.cacheType,
          fmt::format("type of keys and values in the cache: {}", fmt::join(cacheNames(), ", ")))
      ->check(oneOf(cacheNames()))
      ->capture_default_str();
}

ElementType cli::cacheTypeOf(const ModelChoice &choice) {
  for (const auto &[name, type] : cacheTypes)
    if (choice.cacheType == name)
      return type;
  return ElementType::F32; // the option takes no other name
}

std::string cli::cacheName(const Decoder &decoder) {
  for (const auto &[name, type] : cacheTypes)
    if (decoder.cacheType() == type)
      return name;
  return std::string(info(decoder.cacheType()).name);
}

std::string cli::numericsText(const Decoder &decoder) { return decoder.numerics(); }

Expected<ModelFile> cli::openChosenModel(const ModelChoice &choice, const Context &context) {
  Progress progress("opening the model", 0);
  if (!choice.randomWeights.empty()) {
    RandomModelOptions options;
    // The options' seed stays: --seed is that of sampling.
    KF_TRY(options.matrixType, parseWeightType(choice.randomType, "--random-type"));
    return makeRandomModel(choice.randomWeights, options);
  }
  if (choice.model.empty())
    return unusable("wrong usage", "kernelforge " + context.command, "no model is named",
                    "name one with -m, or use --random-weights");
  KF_TRY(std::string path, resolveModel(choice.model));
  KF_TRY(ModelFile file, openModel(path));
  for (const std::string &warning : file.warnings)
    logger().warn("{}", escapeControls(warning));
  return file;
}

Expected<LoadedModel> cli::loadModel(ModelFile file, double openSeconds, const ModelChoice &choice,
                                     const Context &context, bool allLogits, bool deviceSteps) {
  LoadedModel loaded;
  loaded.file = std::make_unique<ModelFile>(std::move(file));
  DecoderOptions options;
  KF_TRY(options.session, requestedSession(context));
  options.session.fuse = !choice.noFuse;
  options.context = choice.context;
  KF_TRY(options.prefillChunk, prefillChunkOf(choice, context, allLogits));
  options.allLogits = allLogits;
  options.deviceSteps = deviceSteps;
  options.cacheType = cacheTypeOf(choice);
  KF_TRY(options.numerics, requestedNumerics(choice.numerics, context));
  std::optional<Progress> progress;
  progress.emplace("compiling kernels", 0);
  bool areCompiled = false;
  options.onWeights = [&](int64_t done, int64_t all) {
    if (!std::exchange(areCompiled, true))
      progress.emplace("loading weights, MiB", all >> 20);
    progress->update(done >> 20);
  };
  KF_TRY(loaded.decoder, Decoder::create(*loaded.file, std::move(options)));
  loaded.loadSeconds = openSeconds + loaded.decoder->loadSeconds();
  return loaded;
}

Error cli::explained(Error error, const LoadedModel &model) {
  if (error.what != logitsError)
    return error;
  if (const std::string defect = describeNonFinite(model.file->weights); !defect.empty())
    error.hint = fmt::format("weight {}: the file is damaged or was converted badly", defect);
  else if (model.decoder->session().options().target.kind == referenceTarget().kind)
    error.hint = "all weights are numbers: with them, f32 overflows";
  else
    error.hint = fmt::format("all weights are numbers: look whether --target {} says the same",
                             referenceTarget().kind);
  return error;
}

double cli::secondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

//===----------------------------------------------------------------------===//
// Printing
//===----------------------------------------------------------------------===//

std::string cli::targetName(const Decoder &decoder) {
  const SessionOptions &options = decoder.session().options();
  return targetText(options.target);
}

static void describeProgram(const Program &program, std::string &out) {
  std::map<int, int> uses;
  for (const Launch &launch : program.launches)
    ++uses[launch.artifact];
  std::string sizes;
  for (const ProgramSize &size : program.sizes)
    sizes += fmt::format("{}{} {} to {}", sizes.empty() ? "" : ", ", size.name, size.min, size.max);
  out += fmt::format("function {} ({}): {} launches of {} kernels, {} of intermediates\n",
                     program.function, sizes, program.launches.size(), uses.size(),
                     printBytes(program.arenaBytes));
  for (const auto &[index, count] : uses) {
    const Artifact &artifact = program.artifacts[static_cast<size_t>(index)];
    const std::string from = artifact.library ? ", run by " + artifact.variant
                             : artifact.fromCache
                                 ? ", cached"
                                 : fmt::format(", compiled in {:.2f} s", artifact.compileSeconds);
    out += fmt::format("  kernel {:<40} x{:<3} {} ({}{})\n", artifact.kernel, count,
                       artifact.schedule, artifact.scheduleSource, from);
  }
  std::vector<int64_t> maxima;
  for (const ProgramSize &size : program.sizes)
    maxima.push_back(size.max);
  for (const Buffer &buffer : program.buffers)
    if (buffer.kind == BufferKind::Intermediate)
      out += fmt::format("  buffer {:<40} at {:>10}, {} bytes\n", buffer.name, buffer.offset,
                         buffer.bytes.evaluate(maxima.data()));
}

std::string cli::describePrograms(const Decoder &decoder) {
  std::string out;
  for (const char *function : {"prefill", "decode", "step"})
    if (const Program *program = decoder.session().program(function))
      describeProgram(*program, out);
  return out;
}

std::string cli::printBytes(int64_t bytes) {
  constexpr double unit = 1024;
  const auto value = static_cast<double>(bytes);
  if (value < unit)
    return fmt::format("{} B", bytes);
  if (value < unit * unit)
    return fmt::format("{:.1f} KiB", value / unit);
  if (value < unit * unit * unit)
    return fmt::format("{:.1f} MiB", value / (unit * unit));
  return fmt::format("{:.2f} GiB", value / (unit * unit * unit));
}

int64_t cli::peakResidentBytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}
