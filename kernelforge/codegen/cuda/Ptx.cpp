#include "kernelforge/codegen/cuda/Ptx.h"

#include "kernelforge/codegen/LlvmEmission.h"
#include "kernelforge/codegen/cuda/Lowering.h"
#include "kernelforge/codegen/cuda/Target.h"
#include "kernelforge/codegen/simt/Emit.h"

#include "llvm/Analysis/LoopInfo.h"
#include "llvm/IR/Dominators.h"
#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/Module.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Transforms/Utils/LoopUtils.h"

#include <algorithm>
#include <bit>

using namespace kernelforge;

/// Instructions that a loop's turns may have together where several are written out, and how many
/// turns that may be.
static constexpr size_t unrolledLength = 512, mostTurns = 8;

/// Pieces of assembly with effects are for all threads that come there together, which MLIR does
/// not carry.
static void markConvergent(llvm::Function &function) {
  for (llvm::Instruction &instruction : llvm::instructions(function))
    if (auto *call = llvm::dyn_cast<llvm::CallInst>(&instruction))
      if (const auto *text = llvm::dyn_cast<llvm::InlineAsm>(call->getCalledOperand()))
        if (text->hasSideEffects())
          call->setConvergent();
}

/// Whether a piece of assembly with effects stands in a loop.
static bool hasAssembly(const llvm::Loop &loop) {
  return llvm::any_of(loop.blocks(), [](const llvm::BasicBlock *block) {
    return llvm::any_of(*block, [](const llvm::Instruction &instruction) {
      const auto *call = llvm::dyn_cast<llvm::CallInst>(&instruction);
      return call && call->isInlineAsm() && call->isConvergent();
    });
  });
}

/// Says how each loop is unrolled: innermost ones as far as they are short, so that several loads
/// are under way, and no others. Left to the driver, one of 64 known turns is written out whole,
/// and takes all registers and more. Loops with barriers are LLVM's to unroll, those
/// with assembly stay as they were written.
static void chooseUnrolling(llvm::Function &function) {
  llvm::DominatorTree tree(function);
  llvm::LoopInfo loops(tree);
  for (llvm::Loop *loop : loops.getLoopsInPreorder()) {
    size_t length = 0;
    bool hasBarrier = false;
    for (const llvm::BasicBlock *block : loop->blocks()) {
      length += block->size();
      for (const llvm::Instruction &instruction : *block)
        if (const auto *call = llvm::dyn_cast<llvm::CallBase>(&instruction))
          hasBarrier = hasBarrier || call->isConvergent();
    }
    const size_t turns = std::min(std::bit_floor(unrolledLength / length), mostTurns);
    if (turns < 2 || !loop->isInnermost() || hasAssembly(*loop))
      loop->setLoopAlreadyUnrolled();
    else if (!hasBarrier)
      llvm::addStringMetadataToLoop(loop, "llvm.loop.unroll.count", static_cast<unsigned>(turns));
  }
}

Expected<std::string> cuda::printPtx(const EmittedKernel &lowered, const Target &target,
                                     const std::vector<std::string> &comment) {
  KF_TRY(auto machine, createTargetMachine(target));
  LlvmEmission emission;
  emission.registerTranslations = registerTranslations;
  emission.dialect = "nvvm";
  emission.prepare = [](llvm::Module &ir) {
    for (llvm::Function &function : ir) {
      if (function.isDeclaration())
        continue;
      function.setDoesNotThrow();
      markConvergent(function);
      chooseUnrolling(function);
    }
  };
  emission.level = llvm::OptimizationLevel::O3;
  emission.type = llvm::CodeGenFileType::AssemblyFile;
  std::vector<std::string> entries;
  for (const Phase &phase : lowered.launching.phases)
    entries.push_back(phase.entry);
  if (entries.empty()) // nothing has to be computed
    return simt::commentText(comment);
  KF_TRY(std::string text, emitWithLlvm(*lowered.module, *machine, entries, emission));
  // Shared memory that a launch asks for is the only thing that stands elsewhere.
  constexpr std::string_view asked = ".extern .shared";
  for (size_t at = text.find(".extern"); at != std::string::npos; at = text.find(".extern", at + 1))
    if (text.compare(at, asked.size(), asked) != 0)
      return failed("kernel is not self-contained", lowered.entry, "its code refers to other code",
                    "code generation must expand these operations itself");
  return simt::commentText(comment) + text;
}
