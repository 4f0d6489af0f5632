// What schedules a kernel can have: the knobs that its emitter declares, the values that a search
// tries, and the rule that says which combinations are legal. Plain data, without IR, so that
// tuners and workers need none.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kernelforge {

/// Values of a schedule's knobs, by name.
using KnobValues = std::map<std::string, int64_t>;

/// One knob: its name and the values that a search tries. A user may pin others, as long as the
/// space's rule allows them.
struct Knob {
  std::string name;
  std::vector<int64_t> values; ///< ascending, not empty
  std::string meaning;         ///< one line, for people
};

/// All schedules of one kernel on one target.
struct ScheduleSpace {
  std::vector<Knob> knobs;
  KnobValues analytic; ///< the schedule that is taken without measuring

  /// A schedule that a user wrote in part, with analytic values for the knobs left open that suit
  /// those given. Not checked.
  std::function<KnobValues(const KnobValues &)> complete;

  /// Unusable where a schedule is not legal, naming the knob, the limit, the value and the nearest
  /// legal value. Covers what `knobs` does not list, too.
  std::function<Status(const KnobValues &)> check;

  /// Time that a legal schedule is expected to take, in seconds by a coarse model: good for order,
  /// not for reports.
  std::function<double(const KnobValues &)> predict;

  /// The order in which a legal schedule adds sums up: schedules of equal classes give equal bits.
  /// Not there where schedules are not the emitter's, as in recorded spaces.
  std::function<std::string(const KnobValues &)> orderClass;

  /// Number of combinations of the knobs' values, legal or not; saturates.
  uint64_t size() const;

  /// Combination `index` of size(), the last knob varying fastest; nothing where it is not legal.
  std::optional<KnobValues> at(uint64_t index) const;

  /// All legal combinations, in the order of at(); at most `limit`, then evenly spread ones.
  std::vector<KnobValues> legal(uint64_t limit) const;
};

/// A schedule as canonical JSON: knobs sorted by name, no white space. Equal texts are equal
/// schedules; ties are broken by its order.
std::string knobsText(const KnobValues &values);

/// What knobsText printed or a user wrote: one object of integers. Unusable, naming `where`,
/// otherwise.
Expected<KnobValues> parseKnobs(std::string_view text, std::string_view where);

} // namespace kernelforge
