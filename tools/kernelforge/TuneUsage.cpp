#include "TuneUsage.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

using namespace kernelforge;
using namespace kernelforge::cli;

namespace {

/// An option, and those of which it needs one, or of which it cannot have any.
struct Rule {
  const char *option;
  std::vector<const char *> others;
};

} // namespace

static const std::vector<Rule> &needs() {
  static const std::vector<Rule> rules = {
      {"-m", {"--family"}},
      {"-n", {"--family"}},
      {"-k", {"--family"}},
      {"--weights", {"--family"}},
      {"--transpose", {"--family"}},
      {"--kernel", {"file", "--model", "--random-weights"}},
      {"--depth", {"file", "--model", "--random-weights"}},
      {"--prefill-chunk", {"--model", "--random-weights"}},
      {"--kv-cache", {"--model", "--random-weights"}},
      {"--random-type", {"--random-weights"}},
      {"--points", {"--record-space"}},
      {"--seeds", {"--replay"}},
      {"--records", {"--replay"}},
  };
  return rules;
}

/// Options of a search: measuring a whole space has none.
static constexpr const char *searchOptions[] = {"--strategy", "--trials", "--seconds",
                                                "--early-stop", "--start"};

/// What --replay has a use for; it measures nothing.
static constexpr const char *replayOptions[] = {"--replay", "--seeds", "--records", "--json", "-v"};

static tl::unexpected<Error> useless(const std::string &option, const std::string &why) {
  return unusable("wrong usage", option, why, "leave it out");
}

Status cli::checkTuneUsage(const CLI::App &command) {
  auto given = [&](const char *name) { return command.get_option(name)->count() > 0; };
  if (given("--no-records"))
    return useless("--no-records", "what tune finds are records, and it goes on from those it has");
  if (given("--replay")) {
    for (const CLI::Option *option : command.get_options())
      if (option->count() > 0 && std::ranges::count(replayOptions, option->get_name()) == 0)
        return useless(option->get_name(), "it is of no use with --replay, which measures nothing");
    return {};
  }
  const int subjects =
      given("file") + given("--model") + given("--random-weights") + given("--family");
  if (subjects != 1)
    return unusable("wrong usage", "kernelforge tune", "what to tune is not said, or twice",
                    "give a module, --model, --random-weights or --family");
  for (const auto &[option, others] : needs())
    if (given(option) && std::ranges::none_of(others, given)) {
      std::string with = fmt::format("{}", fmt::join(others, " or "));
      if (with.starts_with("file"))
        with.replace(0, 4, "a module");
      return useless(option, "it is of use with " + with + " only");
    }
  if (given("--record-space"))
    for (const char *option : searchOptions)
      if (given(option))
        return useless(option, "it is of no use with --record-space, which searches nothing");
  if (given("--family"))
    for (const char *size : {"-m", "-n", "-k"})
      if (!given(size))
        return unusable("wrong usage", "kernelforge tune", std::string(size) + " is required",
                        "see kernelforge tune --help");
  return {};
}
