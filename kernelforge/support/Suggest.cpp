#include "kernelforge/support/Suggest.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace kernelforge {

/// Lower case, and one kind of separator.
static std::string simplified(std::string_view name) {
  std::string text(name);
  for (char &c : text)
    c = c == '_' ? '-' : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

/// The least number of letters to change, add, leave out or swap with their neighbour.
static size_t slips(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i)
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1,
                             cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  return cost[a.size()][b.size()];
}

std::string nearestName(std::string_view given, std::span<const std::string> names) {
  constexpr size_t longest = 100; // nobody means a name with a longer one
  const std::string wrong = simplified(given);
  if (wrong.size() < 3 || wrong.size() > longest) // any two letters are near any others
    return "";
  std::string best;
  size_t least = std::max<size_t>(1, wrong.size() / 3) + 1;
  for (const std::string &name : names) {
    const std::string right = simplified(name);
    const bool begins = wrong.size() >= 3 && right.starts_with(wrong);
    const size_t count = right.size() > longest ? least : begins ? 1 : slips(wrong, right);
    if (count < std::min(least, right.size())) { // of equals the first
      least = count;
      best = name;
    }
  }
  return best;
}

/// Names that have `given` as a whole part at their beginning or end: mkl of vendor:mkl.
static std::vector<std::string> namesWithPart(std::string_view given,
                                              std::span<const std::string> names) {
  const std::string part =
      simplified(given.substr(std::min(given.find_first_not_of('-'), given.size())));
  auto separates = [](char c) { return c == '-' || c == ':' || c == '.'; };
  std::vector<std::string> found;
  for (const std::string &name : names) {
    const std::string whole = simplified(name);
    if (part.size() < 2 || whole.size() <= part.size())
      continue;
    if ((whole.starts_with(part) && separates(whole[part.size()])) ||
        (whole.ends_with(part) && separates(whole[whole.size() - part.size() - 1])))
      found.push_back(name);
  }
  return found;
}

std::string didYouMean(std::string_view given, std::span<const std::string> names) {
  constexpr size_t most = 3; // more are no guess
  std::vector<std::string> guesses = {nearestName(given, names)};
  if (guesses.front().empty())
    guesses = namesWithPart(given, names);
  if (guesses.empty() || guesses.size() > most)
    return "";
  return fmt::format("did you mean '{}'?", fmt::join(guesses, "' or '"));
}

std::string namesHint(std::string_view given, std::span<const std::string> names) {
  const std::string guess = didYouMean(given, names);
  return fmt::format("{}{}known: {}", guess, guess.empty() ? "" : " ", fmt::join(names, ", "));
}

} // namespace kernelforge
