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

static const simt::Plain plain(simtLimits);

namespace {

/// A method of any GPU, within what is declared and not asked for.
class Declared final : public Method {
public:
  explicit Declared(const Method &method) : method(method) {}

  std::string_view name() const override { return method.name(); }
  Status supports(const KernelAnalysis &kernel, const Target &target) const override {
    return method.supports(kernel, within(target));
  }
  ScheduleSpace space(const KernelAnalysis &kernel, const Target &target) const override {
    return method.space(kernel, within(target));
  }
  Expected<Launching> emit(mlir::ModuleOp module, const KernelAnalysis &kernel,
                           const Target &target, llvm::StringRef entry,
                           const KnobValues &schedule) const override {
    return method.emit(module, kernel, within(target), entry, schedule);
  }
  std::vector<std::string> describe(const KernelAnalysis &kernel,
                                    const KnobValues &schedule) const override {
    return method.describe(kernel, schedule);
  }

private:
  static Target within(Target target) {
    target.limits = simtLimits(target);
    return target;
  }

  const Method &method;
};

} // namespace

static llvm::ArrayRef<const Method *> ofFamily(KernelFamily family) {
  static const Declared split(simt::attentionSplit()), tiles(simt::attentionTiles()),
      quads(simt::rowwiseQuads()), groups(attentionGroups());
  static const Method *const matmuls[] = {&plain, &matmulMatrices()};
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
