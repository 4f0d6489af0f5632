#include "Usage.h"

#include "kernelforge/support/Suggest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

using namespace kernelforge;
using namespace kernelforge::cli;

std::string HelpFormatter::make_option_opts(const CLI::Option *option) const {
  std::string text = Formatter::make_option_opts(option);
  const std::string several = " ...";
  const size_t at = text.find(several);
  const bool isList = option->get_type_size() != 0 && option->get_expected_max() > 1;
  const bool isAnyNumber = option->get_expected_max() >= CLI::detail::expected_max_vector_size;
  if (isAnyNumber && !option->get_allow_extra_args() && at != text.npos)
    text.erase(at, several.size()); // one value each time that it is given
  else if (isList && !isAnyNumber)
    text.insert(std::min({text.size(), text.find(" REQUIRED"), text.find(" Needs:"),
                          text.find(" Excludes:")}),
                several);
  return text;
}

CLI::Validator cli::oneOf(std::vector<std::string> words) {
  const std::string shown = fmt::format("{{{}}}", fmt::join(words, ","));
  auto check = [words = std::move(words)](const std::string &text) -> std::string {
    if (std::ranges::find(words, text) != words.end())
      return "";
    const std::string guess = didYouMean(text, words);
    return fmt::format("'{}' is none of {}{}{}", text, fmt::join(words, ", "),
                       guess.empty() ? "" : "; ", guess);
  };
  return CLI::Validator(check, shown);
}

/// The command that was chosen, down to its own command: records list.
static const CLI::App *chosenCommand(const CLI::App &app) {
  const CLI::App *chosen = &app;
  for (auto below = app.get_subcommands(); !below.empty(); below = chosen->get_subcommands())
    chosen = below.front();
  return chosen;
}

static std::vector<std::string> commandsOf(const CLI::App &app) {
  std::vector<std::string> names;
  for (const CLI::App *command : app.get_subcommands([](const CLI::App *) { return true; }))
    if (!command->get_group().empty()) // those of workers are not listed
      names.push_back(command->get_name());
  return names;
}

static std::vector<std::string> optionsOf(const CLI::App &app) {
  std::vector<std::string> names;
  for (const CLI::Option *option : app.get_options())
    if (!option->get_group().empty()) {
      for (const std::string &name : option->get_lnames())
        names.push_back("--" + name);
      for (const std::string &name : option->get_snames())
        names.push_back("-" + name);
    }
  return names;
}

/// The first argument that `command` has no use for; empty where there is none.
static std::string firstExtra(const CLI::App &command) {
  for (const std::string &extra : command.remaining())
    if (extra != "--")
      return extra;
  return "";
}

static bool hasCommands(const CLI::App &app) {
  return !app.get_subcommands([](const CLI::App *) { return true; }).empty();
}

bool cli::isOfNoCommand(const CLI::App &app) {
  const CLI::App *command = chosenCommand(app);
  const std::string extra = firstExtra(*command);
  return hasCommands(*command) && !extra.empty() && !extra.starts_with("-");
}

void cli::refuseEmptyTexts(CLI::App &app) {
  static constexpr std::string_view maybeEmpty[] = {"--prompt", "--system", "--stop", "--epilogue",
                                                    "text"};
  const CLI::Validator isSaid(
      [](const std::string &text) { return text.empty() ? "an empty text is none" : ""; }, "");
  for (CLI::Option *option : app.get_options())
    if (option->get_type_name() == "TEXT" &&
        std::ranges::find(maybeEmpty, option->get_name()) == std::end(maybeEmpty))
      option->check(isSaid);
  for (CLI::App *command : app.get_subcommands([](CLI::App *) { return true; }))
    refuseEmptyTexts(*command);
}

Error cli::usageError(const CLI::App &app, const CLI::ParseError &error) {
  const CLI::App *command = chosenCommand(app);
  std::string name = "kernelforge";
  for (const CLI::App *at = &app; at != command; name += " " + at->get_name())
    at = at->get_subcommands().front();
  Error result{ErrorKind::Unusable, "wrong usage", name, error.what(), "see " + name + " --help"};
  const std::string extra = firstExtra(*command);
  std::string guess;
  if (extra.starts_with("-") && extra.size() > 1) {
    const std::string option = extra.substr(0, extra.find('='));
    result.why = "there is no option " + option;
    guess = didYouMean(option, optionsOf(*command));
  } else if (!extra.empty() && hasCommands(*command)) {
    result.why = "there is no command '" + extra + "'";
    guess = didYouMean(extra, commandsOf(*command));
  } else if (!extra.empty()) {
    result.why = "'" + extra + "' is not expected";
  } else if (hasCommands(*command) && dynamic_cast<const CLI::RequiredError *>(&error)) {
    result.why = "a command is missing";
  }
  if (!guess.empty())
    result.hint = guess + " " + result.hint;
  return result;
}
