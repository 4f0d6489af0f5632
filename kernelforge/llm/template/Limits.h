// What a template may cost, and how it fails. A template is untrusted: it came with a model.
//
// Inside this folder a failure is thrown (an expression fails many calls deep, and each of them
// would have to pass it on); parseTemplate() and renderTemplate() catch it and return an Error, so
// none leaves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace kernelforge::chat {

struct Limits {
  size_t templateBytes = size_t(256) << 10;
  uint64_t steps = 2'000'000;              ///< nodes evaluated, plus one for each 256 bytes made
  size_t createdBytes = size_t(128) << 20; ///< text and list items made in all: bounds memory
  size_t outputBytes = size_t(16) << 20;
  size_t nesting = 100;    ///< of brackets, tags and operators in the template
  size_t depth = 400;      ///< of evaluation, calls of macros included
  size_t valueDepth = 100; ///< of lists in lists
  size_t rangeLength = 100'000;
};

/// Where something stands in a template, counted from 1; line 0: unknown.
struct Position {
  uint32_t line = 0, column = 0;
};

struct TemplateError {
  std::string message;
  Position at;
};

/// Counts what a rendering has cost; throws TemplateError over a limit.
class Budget {
public:
  explicit Budget(const Limits &limits) : limits(limits) {}

  void step(uint64_t count = 1) {
    if (count > limits.steps - steps)
      throw TemplateError{"it takes more than " + std::to_string(limits.steps) + " steps", {}};
    steps += count;
  }
  /// Call before `bytes` are allocated.
  void make(size_t bytes) {
    step(1 + bytes / 256);
    if (bytes > limits.createdBytes - created)
      throw TemplateError{
          "it makes more than " + std::to_string(limits.createdBytes) + " bytes of text", {}};
    created += bytes;
  }

  const Limits limits;

private:
  uint64_t steps = 0;
  size_t created = 0;
};

} // namespace kernelforge::chat
