#include "NumericsOption.h"

#include "kernelforge/compiler/Targets.h"

#include <fmt/format.h>

using namespace kernelforge;
using namespace kernelforge::cli;

void cli::addNumericsOption(CLI::App &command, std::string &word, const std::string &what) {
  command
      .add_option(
          "--numerics", word,
          fmt::format("what {} is rounded to before it is multiplied: exact (f32), f16 or "
                      "bf16, i8 or i8x2 (by quantized weights; all else stays f32), or fast: "
                      "what the target is fast with",
                      what))
      ->capture_default_str();
}

Expected<ChosenNumerics> cli::requestedNumerics(const std::string &word, const Context &context) {
  if (word == "fast") {
    KF_TRY(const Target target, requestedTarget(context));
    return ChosenNumerics([target](const ProductTraits &product) {
      return generatorOf(target).fastNumerics(target, product);
    });
  }
  auto numerics = parseNumerics(word);
  if (numerics)
    return *numerics;
  Error error = numerics.error();
  error.where = "--numerics " + word;
  error.hint += ", fast";
  return tl::unexpected(std::move(error));
}
