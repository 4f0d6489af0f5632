// Caches of the dialect as they lie in memory.
#pragma once

#include "kernelforge/ir/Transformer.h"
#include "kernelforge/support/CacheSlot.h"

namespace kernelforge {

/// What a slot of a cache of that type is.
CacheSlot slotOf(transformer::CacheType type);

} // namespace kernelforge
