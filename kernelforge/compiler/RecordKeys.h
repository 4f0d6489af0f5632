// How kernels and tuning records find each other.
#pragma once

#include "kernelforge/codegen/Target.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/records/Record.h"

namespace kernelforge {

/// The key of measurements of `kernel` on this machine with that target and thread count.
RecordKey recordKey(transformer::KernelOp kernel, const Target &target, int threads);

/// Record::baseline of what was measured beside the generated variant with `schedule` (canonical
/// JSON), and back: nothing where a record was measured beside something else.
std::string baselineOf(std::string_view schedule);
std::optional<std::string> scheduleOfBaseline(const Record &record);

} // namespace kernelforge
