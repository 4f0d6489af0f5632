#include "SuiteOptions.h"

#include "kernelforge/support/Numbers.h"

using namespace kernelforge;
using namespace kernelforge::cli;

void cli::addSlowOption(CLI::App &command, std::vector<std::string> &slow) {
  command.add_option("--slow", slow, "for tests: calls of a row take a multiple: NAME=FACTOR")
      ->allow_extra_args(false)
      ->group(""); // not listed
}

Expected<std::map<std::string, double>> cli::parseSlow(const std::vector<std::string> &texts) {
  std::map<std::string, double> slow;
  for (const std::string &text : texts) {
    const size_t equals = text.rfind('=');
    if (equals == std::string::npos)
      return unusable("wrong usage", "--slow " + text, "it is no NAME=FACTOR");
    const auto factor = parseNumber(std::string_view(text).substr(equals + 1), 1, 1000);
    if (!factor)
      return unusable("wrong usage", "--slow " + text, factor.error());
    slow[text.substr(0, equals)] = *factor;
  }
  return slow;
}
