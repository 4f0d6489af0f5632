// Our products beside cuBLASLt's, in one process and in turns.
#pragma once

#include "CublasLt.h"
#include "Turns.h"

#include "kernelforge/compiler/Targets.h"
#include "kernelforge/records/RecordStore.h"

#include <optional>

namespace kernelforge::bench {

struct MatmulOptions {
  std::vector<NamedProduct> products;
  std::string cublas; ///< file of the library; empty: as the system finds it
  std::string cudaLibrary;
  std::optional<RecordStore> records;
  int rounds = 20;
  double sampleMilliseconds = 3; ///< about how long a sample is
  int algorithms = 16;           ///< that the library's heuristic is asked for
  uint64_t seed = 1;
  bool json = false;
};

/// Compiles all products for a chip and prints which schedule each gets, without a GPU.
Status compileProducts(const MatmulOptions &options, const std::string &chip);

/// Measures them; a row each, and the geometric means of all groups at the end. Missing where there
/// is no GPU or no library, No where a result is wrong.
Status compareProducts(const MatmulOptions &options);

} // namespace kernelforge::bench
