// Tables of ranges of code points, which scripts/goldens/unicode_classes.py writes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>

namespace kernelforge {

/// The row of a table, in order of `first`, whose range [first, last] has `c`; null where none has.
template <typename Row, size_t count> const Row *findRange(const Row (&rows)[count], char32_t c) {
  const Row *next = std::upper_bound(std::begin(rows), std::end(rows), c,
                                     [](char32_t c, const Row &row) { return c < row.first; });
  if (next == std::begin(rows) || c > std::prev(next)->last)
    return nullptr;
  return std::prev(next);
}

} // namespace kernelforge
