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

static llvm::ArrayRef<const Method *> ofFamily(KernelFamily family) {
  static const Method *const matmuls[] = {&plain, &matmulMatrices()};
  if (family == KernelFamily::Matmul)
    return matmuls;
  return {};
}

const simt::Methods &cuda::methods() {
  static const simt::Methods all{ofFamily, plain};
  return all;
}
