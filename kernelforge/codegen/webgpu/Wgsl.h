// WGSL of the functions that plain SIMT code is emitted as: text that a person can read.
#pragma once

#include "kernelforge/codegen/Launching.h"
#include "kernelforge/support/Error.h"

#include "mlir/IR/BuiltinOps.h"

#include <functional>
#include <string>
#include <vector>

namespace kernelforge::webgpu {

/// What the text says beyond the functions.
struct WgslOptions {
  std::vector<std::string> comment; ///< lines at the top
  /// Whether a buffer of the launch, by index, is a weight: bound `read`.
  std::function<bool(int buffer)> isWeight;
  /// Bytes of a buffer that is bound in pieces.
  std::function<int64_t(int buffer)> bytesOf;
  bool f16 = false; ///< the device has shader-f16
  /// Matrices of a subgroup are printed as plain code (WgslMatrices.h).
  bool emulatesMatrices = false;
};

/// The module's functions, which are the phases of `launching` in order, as one WGSL module. Each
/// is a compute entry point of Phase::block threads. Its buffers and workspaces are storage
/// bindings
/// `@group(0) @binding(i)` in the order of its parameters: `read` where the phase only reads a
/// weight, `read_write` otherwise. A buffer whose parameter stands there several times is bound in
/// as many pieces (Pieces.h), and read through a function. After them a uniform binding holds its
/// sizes in order, the number of tasks and the number of workgroups in x, all u32: workgroup (x, y)
/// is task y * width + x, and ends at once where there is no such task.
///
/// Integers are u32; an operation of signed ones converts. Unusable where a function holds an
/// operation that has no WGSL here.
Expected<std::string> printWgsl(mlir::ModuleOp module, const Launching &launching,
                                const WgslOptions &options);

} // namespace kernelforge::webgpu
