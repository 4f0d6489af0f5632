// Launchings and costs as JSON and back: the one form in which object cache, modules, messages and
// program files hold them.
#pragma once

#include "kernelforge/codegen/KernelCost.h"
#include "kernelforge/codegen/Launching.h"
#include "kernelforge/support/Json.h"

namespace kernelforge {

/// A constant is a number; any other extent an object with "multiplier", "product" (pairs of size
/// and divisor) and, where it is bounded, "at_most".
Json extentJson(const Extent &extent);
Json launchingJson(const Launching &launching);
Json costJson(const KernelCost &cost);

/// The same back. Unusable, naming what is wrong, where the JSON is of another form or a number is
/// out of its range. Indices are looked at by checkLaunching(), which knows the kernel.
Expected<Extent> extentFrom(const Json &json);
Expected<Launching> launchingFrom(const Json &json);
Expected<KernelCost> costFrom(const Json &json);

/// Unusable where a phase names a buffer, workspace or size that a kernel with so many buffers and
/// sizes has not, or has no entry.
Status checkLaunching(const Launching &launching, int buffers, int sizes);

} // namespace kernelforge
