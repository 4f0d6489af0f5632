// Targets as JSON and back, for files that outlive the process.
#pragma once

#include "kernelforge/codegen/Target.h"
#include "kernelforge/support/Json.h"

namespace kernelforge {

/// Every field of a target.
Json targetJson(const Target &target);

/// The same back. Unusable, naming the field, where the JSON is of another form. Whether there is
/// such a target, and a device for it, is the registry's to say.
Expected<Target> targetFrom(const JsonView &json);

} // namespace kernelforge
