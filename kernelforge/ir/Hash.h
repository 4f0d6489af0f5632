// The one hash that identifies kernels, objects and layouts. It is here and not in support because
// LLVM has it and support is built without LLVM.
#pragma once

#include <string>
#include <string_view>

namespace kernelforge {

/// SHA-256 of `bytes` as 64 lower-case hexadecimal digits.
std::string sha256Hex(std::string_view bytes);

} // namespace kernelforge
