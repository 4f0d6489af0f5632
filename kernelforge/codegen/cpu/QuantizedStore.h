// How values get into the slots of a quantized cache.
#pragma once

#include "kernelforge/codegen/cpu/KernelBuilder.h"
#include "kernelforge/support/CacheSlot.h"

namespace kernelforge::cpu {

/// Stores a block of a quantized slot: the elements from `col` (i64) on, a multiple of the block,
/// rounded as CacheSlot::write() does it. `x` are the block's vectors of 16 f32, `to` points at the
/// slot.
void emitBlockStore(KernelBuilder &k, const CacheSlot &slot, llvm::ArrayRef<mlir::Value> x,
                    mlir::Value to, mlir::Value col);

} // namespace kernelforge::cpu
