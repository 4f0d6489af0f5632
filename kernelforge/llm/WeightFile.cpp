#include "kernelforge/llm/WeightFile.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace kernelforge {

std::string printShape(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

} // namespace kernelforge
