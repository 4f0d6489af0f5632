#include "kernelforge/codegen/cuda/Methods.h"

#include "kernelforge/codegen/cuda/Convention.h"
#include "kernelforge/codegen/cuda/Lowering.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

#include <algorithm>

using namespace kernelforge;
using namespace kernelforge::cuda;

Limits cuda::simtLimits(const Target &target) {
  Limits limits = target.limits;
  // Shared memory is declared, not asked for at a launch.
  limits.sharedBytes = std::min(limits.sharedBytes, mostStaticSharedBytes);
  limits.bindingBytes = mostBufferBytes;
  limits.registers = usualRegisters;
  return limits;
}

Target cuda::simtTarget(const Target &target) {
  Target seen = target;
  seen.limits = simtLimits(target);
  seen.enabled.insert(seen.enabled.end(), {"packed-dot", "strict-memory", "subgroups"});
  if (target.has("sm_90") || target.has("sm_90a"))
    seen.enabled.emplace_back("dependent-launch");
  std::ranges::sort(seen.enabled);
  return seen;
}

namespace {

/// A method of plain SIMT code. Where it `keepsMuch` in registers, a thread may have as many as
/// fit; where it `asksForShared` memory, it may have what no block can declare. Predictions are for
/// WebGPU: `launches` are the seconds that launches take more or less here.
class OfSimt final : public Method {
public:
  explicit OfSimt(const Method &method, double launches = 0, bool keepsMuch = false,
                  bool asksForShared = false)
      : method(method), launches(launches), keepsMuch(keepsMuch), asksForShared(asksForShared) {}

  std::string_view name() const override { return method.name(); }
  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    return method.supports(kernel, seen(target));
  }
  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override {
    ScheduleSpace space = method.space(kernel, seen(target));
    space.predict = [predict = space.predict, launches = launches](const KnobValues &values) {
      return predict(values) + launches;
    };
    return space;
  }
  Expected<Launching> emit(mlir::ModuleOp module, const KernelAnalysis &kernel,
                           const Target &target, llvm::StringRef entry,
                           const KnobValues &schedule) const override {
    KF_TRY(Launching launching, method.emit(module, kernel, seen(target), entry, schedule));
    constexpr int64_t ofMultiprocessor = 65536;
    for (const Phase &phase : launching.phases)
      if (keepsMuch)
        module.lookupSymbol(phase.entry)
            ->setAttr(mlir::NVVM::NVVMDialect::getMaxnregAttrName(),
                      mlir::IntegerAttr::get(
                          mlir::IntegerType::get(module.getContext(), 32),
                          std::min(ofMultiprocessor / phase.block[0] / 8 * 8, mostRegisters)));
    return launching;
  }
  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override {
    return method.describe(kernel, schedule);
  }

private:
  Target seen(const Target &target) const {
    Target seen = simtTarget(target);
    if (asksForShared)
      seen.limits.sharedBytes = target.limits.sharedBytes;
    if (keepsMuch)
      seen.limits.registers = mostRegisters;
    return seen;
  }

  static constexpr int64_t mostRegisters = 255;
  const Method &method;
  double launches;
  bool keepsMuch, asksForShared;
};

} // namespace

static const simt::Plain plain(simtLimits);

static llvm::ArrayRef<const Method *> ofFamily(KernelFamily family) {
  static const OfSimt matmulTiles(simt::matmulTiles(), 2e-6, /*keepsMuch=*/true),
      rows(simt::matmulRows(), -0.5e-6, /*keepsMuch=*/false, /*asksForShared=*/true),
      split(simt::attentionSplit()), tiles(simt::attentionTiles(), 0, /*keepsMuch=*/true),
      groups(attentionGroups()), quads(simt::rowwiseQuads());
  static const Method *const matmuls[] = {&plain, &matmulMatrices(), &matmulTiles,
                                          &rows,  &matmulNarrow(),   &matmulParts()};
  static const Method *const attentions[] = {&plain, &split, &tiles, &attentionMatrices(), &groups};
  static const Method *const rowwises[] = {&plain, &quads};
  switch (family) {
  case KernelFamily::Matmul:
    return matmuls;
  case KernelFamily::Attention:
    return attentions;
  case KernelFamily::Rowwise:
    return rowwises;
  case KernelFamily::Step:
    return {};
  }
  llvm_unreachable("a family without methods");
}

const simt::Methods &cuda::methods() {
  static const simt::Methods all{ofFamily, plain};
  return all;
}
