// The compiler as a few short lists: what runs to reach each stage.
#pragma once

#include "kernelforge/codegen/KernelAnalysis.h"
#include "kernelforge/codegen/Target.h"
#include "kernelforge/records/RecordStore.h"
#include "kernelforge/support/Error.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// Stages of a module on its way to code; each contains what the one before it said. The names of
/// those after Scheduled are the target's own (CodeGenerator::stages).
enum class Stage {
  Transformer, ///< operations as they were written
  Fused,       ///< kernels and launches
  Scheduled,   ///< kernels with schedules
  Target,      ///< each kernel with its functions as they were emitted
  Llvm,        ///< those functions in the LLVM dialect; not every target has it
  Text,        ///< no module any more: assembly, WGSL
};

/// Names of the stages of a target of `kind`, in order. Errors as findGenerator's.
Expected<std::vector<std::string>> stageNames(std::string_view kind);

/// The stage of a target of `kind` with that name. Unusable, naming those that the target has,
/// where it has no such stage; else errors as findGenerator's.
Expected<Stage> parseStage(std::string_view name, std::string_view kind);

/// The stage that `module` has reached: that of its furthest kernel; Transformer where it has none.
Stage reachedStage(mlir::ModuleOp module);

/// Unusable, naming the stage, where `module` is beyond `stage` of a target of `kind`: no pass goes
/// back. A target that takes any stage begins anew with the kernels.
Status checkNotBeyond(mlir::ModuleOp module, Stage stage, std::string_view kind);

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

/// Brings `module` to a stage before Text, in place, from whatever stage it has reached. Llvm of a
/// target that has no such stage is its stage Target.
Status runToStage(mlir::ModuleOp module, Stage stage, const PipelineOptions &options);
/// The same for who goes on with the kernels, and with what was found out about them.
Status runToStage(mlir::ModuleOp module, Stage stage, const PipelineOptions &options,
                  KernelAnalyses &analyses);

/// Stage Text: the code of the kernels as the target prints it, each under a comment with its name;
/// of one that another variant runs, only comments. `module` must have reached Scheduled; it is not
/// changed.
Expected<std::string> printCode(mlir::ModuleOp module, const PipelineOptions &options);

/// Registers dialects and passes that modules of any stage need.
void registerAllStages(mlir::DialectRegistry &registry);

/// Makes `context` hold those of one target: what its compilation needs.
void loadStages(mlir::MLIRContext *context, const Target &target);

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
