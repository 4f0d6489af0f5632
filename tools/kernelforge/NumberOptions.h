// Options that take numbers, or lists: the only way to add one, so that each refuses what is no
// number, or is outside its limits, with its name and what was given. (CLI11's own conversions take
// octal and hexadecimal numbers, infinity and NaN.)
#pragma once

#include "Command.h"

#include "kernelforge/support/Numbers.h"

#include <type_traits>

namespace kernelforge::cli {

/// Values of a list, after one flag or several. As CLI11 counts, fewer than "any number": where
/// that is allowed it also takes brackets for a list of its own.
constexpr int mostListValues = 1 << 20;

/// Adds an option whose texts `read` takes; it answers with a complaint or nothing. `kind` is what
/// --help shows of a value, `shown` gives the default.
CLI::Option *addChecked(CLI::App &command, const std::string &names, const char *kind,
                        const std::string &help,
                        std::function<std::string(const std::vector<std::string> &)> read,
                        std::function<std::string()> shown);

/// "text of the option (1 to 1,024)".
std::string withLimits(const std::string &help, const std::string &low, const std::string &high);

/// The numbers of a list as people write it: 1,2,3 or, for `texts`, 1 2 3.
std::vector<std::string> splitList(const std::vector<std::string> &texts);

/// Adds an option that takes one decimal integer from `low` to `high`.
template <std::integral T>
CLI::Option *addInteger(CLI::App &command, const std::string &names, T &value,
                        const std::string &help, std::type_identity_t<T> low,
                        std::type_identity_t<T> high) {
  auto read = [&value, low, high](const std::vector<std::string> &texts) -> std::string {
    const auto number = parseInteger<T>(texts.front(), low, high);
    if (!number)
      return number.error();
    value = *number;
    return "";
  };
  return addChecked(command, names, "N", withLimits(help, grouped(low), grouped(high)), read,
                    [&value] { return std::to_string(value); });
}

/// Adds an option that takes decimal integers from `low` to `high`: 1,2,3 or 1 2 3.
template <std::integral T>
CLI::Option *addIntegers(CLI::App &command, const std::string &names, std::vector<T> &values,
                         const std::string &help, std::type_identity_t<T> low,
                         std::type_identity_t<T> high) {
  auto read = [&values, low, high](const std::vector<std::string> &texts) -> std::string {
    std::vector<T> numbers;
    for (const std::string &text : splitList(texts)) {
      const auto number = parseInteger<T>(text, low, high);
      if (!number)
        return number.error();
      numbers.push_back(*number);
    }
    values = std::move(numbers);
    return "";
  };
  auto shown = [&values] {
    std::string text;
    for (T value : values)
      text += (text.empty() ? "" : ",") + std::to_string(value);
    return text;
  };
  return addChecked(command, names, "N", withLimits(help, grouped(low), grouped(high)), read, shown)
      ->expected(1, mostListValues);
}

/// Adds an option that takes texts: a b, or one each time that it is given.
CLI::Option *addTexts(CLI::App &command, const std::string &names, std::vector<std::string> &texts,
                      const std::string &help);

/// Adds an option that takes one finite number from `low` to `high`.
template <std::floating_point T>
CLI::Option *addNumber(CLI::App &command, const std::string &names, T &value,
                       const std::string &help, double low, double high) {
  auto read = [&value, low, high](const std::vector<std::string> &texts) -> std::string {
    const auto number = parseNumber(texts.front(), low, high);
    if (!number)
      return number.error();
    value = static_cast<T>(*number);
    return "";
  };
  return addChecked(command, names, "NUMBER", withLimits(help, writtenOut(low), writtenOut(high)),
                    read, [&value] { return CLI::detail::to_string(value); });
}

} // namespace kernelforge::cli
