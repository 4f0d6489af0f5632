// The `accuracy` of a measurement row.
#pragma once

#include "kernelforge/measure/Accuracy.h"
#include "kernelforge/support/Json.h"

#include <string_view>

namespace kernelforge {

/// All distances and the rule's verdict; `reference` names what was compared with. Distances that
/// are no finite number (from a reference of zeros) become the largest one.
Json accuracyJson(const Accuracy &accuracy, std::string_view reference = "f64");

} // namespace kernelforge
