#include "SuiteOptions.h"

#include <charconv>

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
    double factor = 0;
    const char *begin = text.data() + std::min(equals, text.size() - 1) + 1;
    const char *end = text.data() + text.size();
    auto [stop, error] = std::from_chars(begin, end, factor);
    if (equals == std::string::npos || error != std::errc() || stop != end || !(factor >= 1) ||
        factor > 1000)
      return unusable("wrong usage", "--slow " + text, "it is no NAME=FACTOR from 1 to 1000");
    slow[text.substr(0, equals)] = factor;
  }
  return slow;
}
