// Which build of the compiler this is: objects made by another one are not to be trusted.
#pragma once

#include <optional>
#include <string>

namespace kernelforge {

/// The linker's hash (GNU build id, hexadecimal) of the executable or library that holds this
/// code, and with it our passes and code generators: any edit of them changes it. Nothing where it
/// was linked without one.
std::optional<std::string> buildId();

/// "19.1.7 libLLVM:HEX libMLIR:HEX": the version of LLVM and the build ids of its libraries as they
/// are loaded now, because a distribution may replace them without a new version.
std::string llvmBuild();

} // namespace kernelforge
