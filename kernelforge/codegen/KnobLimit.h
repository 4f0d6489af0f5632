// The legal values of one knob, and what is said of a value that is none of them.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstdint>
#include <string>

namespace kernelforge {

/// The multiples of `multipleOf` from `min` to `max`.
struct KnobLimit {
  int64_t min = 0;
  int64_t max = 0;
  int64_t multipleOf = 1;
  const char *with = nullptr; ///< the other knob that makes it so, and its value; null: none does
  int64_t withValue = 0;

  /// "a multiple of 8 from 8 to 4096"; "from 1 to 6 with groups 4"; "0 with panel 1".
  std::string text() const;

  /// The legal value that is nearest to `value`.
  int64_t nearest(int64_t value) const;

  /// Unusable, naming `where`, the knob, its value, this limit and the nearest legal value, where
  /// `value` is not legal.
  Status check(const std::string &where, const std::string &knob, int64_t value) const;

  /// The error of a schedule that lacks the knob.
  Error lacking(const std::string &where, const std::string &knob) const;
};

} // namespace kernelforge
