// How kernels and tuning records find each other.
#pragma once

#include "kernelforge/backend/Device.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/ir/Transformer.h"
#include "kernelforge/records/Record.h"

namespace kernelforge {

/// The key of measurements of `kernel` on the target's device (this processor, where it names none)
/// with that thread count, which is 1 where it is no processor.
RecordKey recordKey(transformer::KernelOp kernel, const Target &target, int threads);

/// The part of such a key that says what code is made for and what runs it.
RecordKey machineKey(const Target &target, int threads);

/// What a kernel computes, as the JSON object that records are keyed by and compared by for
/// transfer: the most rows of its range, the extents of its operands, types and layouts, the
/// operations and their numerics. Numbers are positive.
std::string problemText(transformer::KernelOp kernel);

/// What a record says that a kernel's code takes up, of what the device says of it.
RecordResources recordResources(const Artifact &artifact, const KernelResources &resources);

/// Record::baseline of what was measured beside the generated variant with `schedule` (canonical
/// JSON), and back: nothing where a record was measured beside something else.
std::string baselineOf(std::string_view schedule);
std::optional<std::string> scheduleOfBaseline(const Record &record);

} // namespace kernelforge
