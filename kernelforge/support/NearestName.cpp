#include "kernelforge/support/NearestName.h"

#include <algorithm>
#include <vector>

namespace kernelforge {

namespace {

std::string lowered(std::string_view text) {
  std::string lower(text);
  for (char &letter : lower)
    if (letter >= 'A' && letter <= 'Z')
      letter = static_cast<char>(letter - 'A' + 'a');
  return lower;
}

/// Letters to change, add, remove or swap with their neighbour to make one text of the other.
size_t distanceOf(const std::string &a, const std::string &b) {
  std::vector<size_t> beforeLast(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j)
    row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    std::swap(beforeLast, last);
    std::swap(last, row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], beforeLast[j - 2] + 1);
    }
  }
  return row[b.size()];
}

} // namespace

std::string nearestName(std::string_view word, std::span<const std::string> known) {
  constexpr size_t longest = 64; // what is longer is no slip of a name
  const std::string given = lowered(word.substr(0, longest + 1));
  std::string nearest;
  size_t least = std::min<size_t>((given.size() + 1) / 3, 2) + 1;
  for (const std::string &name : known) {
    const std::string other = lowered(name);
    const bool begins = std::min(given.size(), other.size()) >= 3 &&
                        (given.starts_with(other) || other.starts_with(given));
    const size_t distance =
        given.size() > longest ? least : std::min(distanceOf(given, other), begins ? 1 : least);
    if (distance < least) {
      least = distance;
      nearest = name;
    }
  }
  return nearest;
}

std::string didYouMean(std::string_view word, std::span<const std::string> known) {
  const std::string nearest = nearestName(word, known);
  return nearest.empty() ? "" : "did you mean '" + nearest + "'?";
}

} // namespace kernelforge
