#include "kernelforge/codegen/cuda/Generator.h"

#include "kernelforge/codegen/cuda/Lowering.h"
#include "kernelforge/codegen/cuda/Methods.h"
#include "kernelforge/codegen/cuda/OwnFunctions.h"
#include "kernelforge/codegen/cuda/Ptx.h"
#include "kernelforge/codegen/cuda/Target.h"
#include "kernelforge/codegen/simt/Generator.h"
#include "kernelforge/ir/Transformer.h"

using namespace mlir;
using namespace kernelforge;

namespace {

/// Whether all that a kernel without a root stores is rounded to 16 bits.
bool storesHalves(const KernelAnalysis &kernel) {
  return kernel.family() == KernelFamily::Rowwise &&
         llvm::all_of(kernel.sinks(), [](const Sink &sink) {
           Type stored = sink.value.getType();
           if (auto append = dyn_cast<transformer::CacheAppendOp>(sink.op))
             stored = append.getCache().getType().getElementType();
           const Type element = getElementTypeOrSelf(stored);
           return element.isBF16() || element.isF16();
         });
}

class CudaGenerator final : public simt::Generator {
public:
  std::string_view kind() const override { return "cuda"; }

  Expected<Target> parse(std::string_view chip, std::string_view features,
                         const DeviceInfo *device) const override {
    return cuda::parseTarget(chip, features, device);
  }

  Status checkRunnable(const Target &target, const DeviceInfo &device) const override {
    return cuda::checkRunnable(target, device);
  }

  int64_t usualPrefillRows() const override { return 2048; }
  /// Quants as bytes by one row or two; of more rows matrix units, which chips before 9.0a have no
  /// code for here. One row of plain numbers waits for them alone.
  Numerics fastNumerics(const Target &target, const ProductTraits &product) const override {
    constexpr int64_t rowsOfBytes = 2;
    if (product.byQuantized && product.rows <= rowsOfBytes)
      return Numerics::I8;
    return target.has("sm_90a") && product.rows > 1 ? Numerics::BF16 : Numerics::F32;
  }

  /// Quants by 16 bytes; plain numbers are read so as they lie.
  WeightLayout layoutFor(RankedTensorType weight) const override {
    return info(*elementTypeOf(weight)).isQuantized() ? WeightLayout::Planes
                                                      : WeightLayout::RowMajor;
  }

  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    return cuda::methods().supports(kernel, target);
  }

  Expected<ScheduleSpace> scheduleSpace(const KernelAnalysis &kernel, const Target &target,
                                        int64_t workers) const override {
    return cuda::methods().scheduleSpace(kernel, target);
  }

  Expected<Launching> emit(ModuleOp module, const KernelAnalysis &kernel, const Target &target,
                           StringRef entry) const override {
    KF_TRY(Launching launching, cuda::methods().emit(module, kernel, target, entry));
    if (storesHalves(kernel))
      for (const Phase &phase : launching.phases)
        if (Operation *function = module.lookupSymbol(phase.entry))
          function->setAttr(cuda::ownFunctionsName, UnitAttr::get(module.getContext()));
    cuda::markBlocks(module, launching);
    if (cuda::simtTarget(target).has("dependent-launch"))
      cuda::letNextStart(module, launching);
    return launching;
  }

  Status lower(ModuleOp module) const override { return cuda::lower(module); }

  Expected<std::string> compile(const EmittedKernel &emitted, const KernelAnalysis &kernel,
                                const Target &target) const override {
    return cuda::printPtx(emitted, target, cuda::methods().describe(kernel, target));
  }

  std::span<const std::string_view> stages() const override {
    static constexpr std::string_view names[] = {"target", "llvm", "ptx"};
    return names;
  }

  void registerDialects(DialectRegistry &registry) const override {
    simt::Generator::registerDialects(registry);
    cuda::registerLoweringDialects(registry);
  }
};

} // namespace

std::unique_ptr<CodeGenerator> cuda::createGenerator() { return std::make_unique<CudaGenerator>(); }
