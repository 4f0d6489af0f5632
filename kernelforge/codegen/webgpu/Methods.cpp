#include "kernelforge/codegen/webgpu/Methods.h"

using namespace kernelforge;
using namespace kernelforge::webgpu;

static const simt::Plain plain([](const Target &target) { return target.limits; });

static llvm::ArrayRef<const Method *> ofFamily(KernelFamily family) {
  static const Method *const matmuls[] = {&plain, &simt::matmulTiles(), &matmulMatrices(),
                                          &simt::matmulRows()};
  static const Method *const attentions[] = {&plain, &simt::attentionSplit(),
                                             &simt::attentionTiles(), &attentionMatrices()};
  static const Method *const rowwises[] = {&plain, &simt::rowwiseQuads()};
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

/// A processor in the place of a GPU, which is what says how many workers it has, runs plain code
/// where it can: it pays for each barrier, and for compiling what is written out.
static bool isProcessor(const Target &target) { return target.limits.workers > 0; }

const simt::Methods &webgpu::methods() {
  static const simt::Methods all{ofFamily, plain, isProcessor};
  return all;
}
