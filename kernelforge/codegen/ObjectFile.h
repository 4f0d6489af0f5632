// What object files of kernels say of themselves. One that cannot be read is an error: nothing is
// taken for nothing.
#pragma once

#include "kernelforge/support/Error.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// Names of the symbols that an object needs from outside, sorted. Unusable where the bytes are no
/// object file.
Expected<std::vector<std::string>> undefinedSymbols(std::string_view object);

/// Failed, naming the kernel and the symbols, where the object needs more than memcpy and memset.
Status checkSelfContained(std::string_view object, std::string_view kernel);

/// Bytes of the stack frame that an object's functions take, all together. Emitters keep nothing
/// on the stack, so it is what the compiler spilled, alignment included, but for up to 128 bytes
/// below the stack pointer (the red zone of functions that call none). Unusable where the bytes
/// are no object file, or one that does not say.
Expected<int64_t> stackBytes(std::string_view object);

} // namespace kernelforge
