// Programs by the reference semantics of their operations: slow, in wide precision, and right. An
// artifact's code is a module, as text, with a function of its entry's name that launches the
// kernel.
#pragma once

#include "kernelforge/backend/Device.h"

namespace kernelforge {

/// A device whose memory is the host's, and whose runs are over when submit() returns.
std::unique_ptr<Device> createReferenceDevice();

} // namespace kernelforge
