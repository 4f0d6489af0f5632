// From one kernel in the LLVM dialect to machine code for one target.
#pragma once

#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/support/Error.h"

#include "mlir/IR/BuiltinOps.h"

#include <string>
#include <string_view>

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace kernelforge {

/// What translation to LLVM IR needs in a context. emitObject and emitAssembly add it to the
/// module's context where it lacks it; contexts that several threads share must have it before.
void registerCpuTranslations(mlir::DialectRegistry &registry);

/// Compiles `module`, in the LLVM dialect, to an ELF object that exports `entry` alone. The code is
/// already vectorized and blocked, so LLVM cleans up but neither vectorizes nor unrolls; it takes
/// no liberty with floating point that the operations do not allow. Failed, naming the entry, where
/// the module has no such function, LLVM refuses it, or the object would call anything but memcpy
/// and memset. The module is not changed.
Expected<std::string> emitObject(mlir::ModuleOp module, const Target &target,
                                 std::string_view entry);

/// The same code as assembly text, in LLVM's default (AT&T) syntax.
Expected<std::string> emitAssembly(mlir::ModuleOp module, const Target &target,
                                   std::string_view entry);

} // namespace kernelforge
