// The compiler as a few short lists: what runs to reach each stage.
#pragma once

#include "kernelforge/codegen/Target.h"
#include "kernelforge/records/RecordStore.h"
#include "kernelforge/support/Error.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"

#include <filesystem>
#include <optional>
#include <string_view>

namespace kernelforge {

/// Stages of a module on its way to machine code; each contains what the one before it said.
enum class Stage {
  Transformer, ///< operations as they were written
  Fused,       ///< kernels and launches
  Scheduled,   ///< kernels with schedules
  Target,      ///< each kernel with its function in scf, vector and pointers
  Llvm,        ///< those functions in the LLVM dialect
  Asm,         ///< assembly text
};

/// Unusable, naming the stages, where `name` is none.
Expected<Stage> parseStage(std::string_view name);

/// The stage that `module` has reached: that of its furthest kernel; Transformer where it has none.
Stage reachedStage(mlir::ModuleOp module);

/// Unusable, naming the stage, where `module` is beyond `stage`: no pass goes back.
Status checkNotBeyond(mlir::ModuleOp module, Stage stage);

struct PipelineOptions {
  Target target;
  int64_t threads = 1;
  bool fuse = true;                   ///< false: every operation is a kernel of its own
  std::filesystem::path dumpFolder;   ///< where set: the module after each pass that changed it
  std::optional<RecordStore> records; ///< where set: whose winners kernels get
};

/// The passes from operations to kernels of a target.
void buildFusePipeline(mlir::OpPassManager &passes, const Target &target, bool fuse);

/// Runs the passes from operations to kernels on `module`, after setting its target. Functions that
/// already consist of launches are left alone. Unusable with MLIR's diagnostics.
Status runFuse(mlir::ModuleOp module, const PipelineOptions &options);

/// Brings `module` to a stage up to Llvm, in place, from whatever stage it has reached.
Status runToStage(mlir::ModuleOp module, Stage stage, const PipelineOptions &options);

/// Assembly of the kernels, each under a comment with its name; of one that another variant runs,
/// only comments. `module` must have reached Scheduled; it is not changed.
Expected<std::string> printAssembly(mlir::ModuleOp module, const PipelineOptions &options);

/// Registers dialects and passes that modules of any stage need.
void registerAllStages(mlir::DialectRegistry &registry);

/// Makes `context` hold all of them. What compiles in several threads must do so before.
void loadAllStages(mlir::MLIRContext *context);

/// Collects a context's diagnostics as text while it lives, instead of printing them.
class DiagnosticText {
public:
  explicit DiagnosticText(mlir::MLIRContext *context);
  /// What was said, joined by "; ", or `otherwise` where nothing was.
  std::string take(std::string_view otherwise);

private:
  std::string text;
  mlir::ScopedDiagnosticHandler handler;
};

} // namespace kernelforge
