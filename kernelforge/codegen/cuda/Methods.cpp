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
  static const OfSimt matmulTiles(simt::matmulTiles()), rows(simt::matmulRows()),
      split(simt::attentionSplit()), tiles(simt::attentionTiles()), groups(attentionGroups()),
      quads(simt::rowwiseQuads());
  static const Method *const matmuls[] = {&plain, &matmulMatrices(), &matmulTiles, &rows,
                                          &matmulNarrow()};
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
