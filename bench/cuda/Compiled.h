// A function of a module as a program for the CUDA device, and the same many times over sets of
// buffers: what the benches of this folder time.
#pragma once

#include "kernelforge/backend/Program.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/records/RecordStore.h"

#include <optional>
#include <string>

namespace kernelforge::bench {

/// Compiles the only function of a module that stands in `text`; `where` names it in errors. With
/// `records`, kernels get their winners' schedules. Errors as those of the stages.
Expected<Program> compileText(const std::string &text, const std::string &where,
                              const Target &target, const std::optional<RecordStore> &records);

/// `once` as a program of `runs` runs, one behind another, over `sets` sets of arguments and
/// results in turns, so that no run finds in a cache what the one before it left there. Arguments
/// of the first set come first, then those of the next; results likewise. Intermediates are shared.
Program repeated(const Program &once, int sets, int runs);

} // namespace kernelforge::bench
