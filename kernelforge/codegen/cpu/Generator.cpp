#include "kernelforge/codegen/cpu/Generator.h"

#include "kernelforge/codegen/LowerToLLVM.h"
#include "kernelforge/codegen/ObjectFile.h"
#include "kernelforge/codegen/cpu/Emit.h"
#include "kernelforge/codegen/cpu/MachineCode.h"
#include "kernelforge/codegen/cpu/MatmulSchedule.h"
#include "kernelforge/codegen/cpu/ObjectEmitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Pass/PassManager.h"

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::transformer;

namespace {

class CpuGenerator final : public CodeGenerator {
public:
  std::string_view kind() const override { return "cpu"; }

  Expected<Target> parse(std::string_view chip, std::string_view features,
                         const DeviceInfo *device) const override {
    return parseTarget(chip, features);
  }

  Status checkRunnable(const Target &target, const DeviceInfo &device) const override {
    return kernelforge::checkRunnable(target);
  }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    return cpu::supports(kernel);
  }

  WeightLayout layoutFor(RankedTensorType) const override { return WeightLayout::Interleaved; }
  bool needsLayouts() const override { return true; }
  /// Quants as bytes; of many rows bf16, where AMX multiplies it three times as fast, or where two
  /// are multiplied in place of one f32.
  Numerics fastNumerics(const Target &target, const ProductTraits &product) const override {
    constexpr int64_t fewRows = 32;
    using Unit = cpu::PanelForm::Unit;
    const Unit unit = cpu::PanelForm::of(Numerics::BF16, target).unit;
    if (product.byQuantized && !product.isAttention &&
        (unit != Unit::Tiles || product.rows <= fewRows))
      return Numerics::I8;
    return unit != Unit::Floats && product.rows > fewRows ? Numerics::BF16 : Numerics::F32;
  }

  Expected<ScheduleSpace> scheduleSpace(const KernelAnalysis &kernel, const Target &target,
                                        int64_t workers) const override {
    return cpu::scheduleSpace(kernel, target, workers);
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry) const override {
    return cpu::emitKernel(module, kernel, target, entry);
  }

  Status lower(ModuleOp module) const override { return lowerToLLVM(module); }

  Expected<std::string> compile(const EmittedKernel &emitted, const KernelAnalysis &kernel,
                                const Target &target) const override {
    return emitObject(*emitted.module, target, emitted.entry);
  }

  Expected<KernelResources> resources(std::string_view code, const Target &target) const override {
    KF_TRY(MachineCode machine, readMachineCode(code, target));
    KF_TRY(const int64_t stack, stackBytes(code));
    KernelResources resources{.registers = machine.vectorRegisters, .spillBytes = stack};
    resources.loopSpills.emplace();
    for (const SpillingLoop &loop : machine.spillingLoops)
      resources.loopSpills->insert(resources.loopSpills->end(), loop.spills.begin(),
                                   loop.spills.end());
    return resources;
  }

  Expected<std::string> print(const EmittedKernel &emitted, const KernelAnalysis &kernel,
                              const Target &target) const override {
    return emitAssembly(*emitted.module, target, emitted.entry);
  }

  std::string_view commentLeader() const override { return "#"; }

  std::span<const std::string_view> stages() const override {
    static constexpr std::string_view names[] = {"target", "llvm", "asm"};
    return names;
  }

  void registerDialects(DialectRegistry &registry) const override {
    registry.insert<func::FuncDialect, arith::ArithDialect, cf::ControlFlowDialect, scf::SCFDialect,
                    vector::VectorDialect, LLVM::LLVMDialect>();
    // What the lowering passes bring along, too: kernels are compiled in parallel, and loading a
    // dialect while another thread reads the context is a race.
    OpPassManager lowering(ModuleOp::getOperationName());
    buildLowerToLLVM(lowering);
    lowering.getDependentDialects(registry);
    registerCpuTranslations(registry);
  }
};

} // namespace

std::unique_ptr<CodeGenerator> cpu::createGenerator() { return std::make_unique<CpuGenerator>(); }
