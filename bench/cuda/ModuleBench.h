// One function of a module on the GPU, timed whenever standard input asks for it: our side of a
// comparison whose other side is another process.
#pragma once

#include "kernelforge/records/RecordStore.h"
#include "kernelforge/support/Error.h"

#include <map>
#include <optional>
#include <string>

namespace kernelforge::bench {

struct ModuleOptions {
  std::string file;
  std::string data; ///< folder with argument0.bin, ...: the bytes of each argument of the function
  std::map<std::string, int64_t> sizes;
  std::string cudaLibrary;
  std::optional<RecordStore> records;
};

/// Compiles the function, runs it once, writes result0.bin, ... into the folder, and prints one
/// line of JSON: {"device", "kernels", "sets", "runs"}. Then each line of standard input,
/// "back-to-back" or "idle-gaps", is answered by the seconds of one run: a sample of `runs` of them
/// over `sets` sets of all buffers. Ends with standard input.
Status serveModule(const ModuleOptions &options);

} // namespace kernelforge::bench
