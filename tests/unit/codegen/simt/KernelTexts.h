// Kernels as MLIR text.
#pragma once

#include "kernelforge/support/ElementType.h"

#include <fmt/format.h>

#include <string>

namespace kernelforge {

/// Rows of `width` that follow the size `tokens`, as a type.
inline std::string rowsText(int64_t width, const std::string &element = "f32") {
  return fmt::format("tensor<?x{}x{}, #transformer.dims<\"tokens\">>", width, element);
}

/// A kernel of up to `most` rows: its arguments after the size, its results and its body.
inline std::string kernelText(const std::string &arguments, const std::string &results,
                              const std::string &body, int64_t most = 64) {
  return fmt::format("!indices = tensor<?xi32, #transformer.dims<\"tokens\">>\n"
                     "transformer.kernel @k(%n: index {{transformer.size = "
                     "#transformer.size<\"tokens\", 1 to {}>}}, {}) {} {{\n{}\n}}\n",
                     most, arguments, results.empty() ? "" : "-> (" + results + ")", body);
}

/// A weight type.
inline std::string weightText(ElementType type, int64_t rows, int64_t width) {
  const std::string name(info(type).name);
  return fmt::format("tensor<{}x{}x{}>", rows, width,
                     info(type).isQuantized() ? "!transformer.quant<" + name + ">" : name);
}

} // namespace kernelforge
