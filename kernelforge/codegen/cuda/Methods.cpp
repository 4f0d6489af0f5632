#include "kernelforge/codegen/cuda/Methods.h"

#include "kernelforge/codegen/cuda/Convention.h"

#include <algorithm>

using namespace kernelforge;
using namespace kernelforge::cuda;

Limits cuda::simtLimits(const Target &target) {
  Limits limits = target.limits;
  // Shared memory is declared, not asked for at a launch.
  limits.sharedBytes = std::min(limits.sharedBytes, mostStaticSharedBytes);
  limits.bindingBytes = mostBufferBytes;
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

/// A method of plain SIMT code.
class OfSimt final : public Method {
public:
  explicit OfSimt(const Method &method) : method(method) {}

  std::string_view name() const override { return method.name(); }
  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    return method.supports(kernel, simtTarget(target));
  }
  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override {
    return method.space(kernel, simtTarget(target));
  }
  Expected<Launching> emit(mlir::ModuleOp module, const KernelAnalysis &kernel,
                           const Target &target, llvm::StringRef entry,
                           const KnobValues &schedule) const override {
    return method.emit(module, kernel, simtTarget(target), entry, schedule);
  }
  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override {
    return method.describe(kernel, schedule);
  }

private:
  const Method &method;
};

} // namespace

static const simt::Plain plain(simtLimits);

static llvm::ArrayRef<const Method *> ofFamily(KernelFamily family) {
  static const OfSimt tiles(simt::matmulTiles()), rows(simt::matmulRows());
  static const Method *const matmuls[] = {&plain, &matmulMatrices(), &tiles, &rows,
                                          &matmulNarrow()};
  if (family == KernelFamily::Matmul)
    return matmuls;
  return {};
}

const simt::Methods &cuda::methods() {
  static const simt::Methods all{ofFamily, plain};
  return all;
}
