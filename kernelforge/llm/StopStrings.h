// Ends a stream of text at a stop string, which may be spread over several pieces.
#pragma once

#include "kernelforge/support/Error.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

class StopStrings {
public:
  static constexpr size_t maxStrings = 16;
  static constexpr size_t maxStringBytes = 1024;

  /// Errors: too many, too long, empty, or not valid UTF-8.
  static Expected<StopStrings> create(std::vector<std::string> strings);

  struct Result {
    std::string text; ///< may be shown now
    bool stopped = false;
    size_t index = 0; ///< which string stopped it
  };
  /// Takes the next piece. The first place where a stop string ends stops the stream, whatever the
  /// pieces; the longest that ends there is cut off. After a stop nothing more is given out.
  Result put(std::string_view piece);
  /// What was held back because it could have begun a stop string.
  std::string finish();
  bool stopped() const { return done; }

private:
  std::vector<std::string> strings;
  std::string held; ///< a proper prefix of a stop string, always
  bool done = false;
};

} // namespace kernelforge
