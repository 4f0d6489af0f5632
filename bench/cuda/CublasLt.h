// cuBLASLt, opened at run time: products of bf16 with sums in f32 by every algorithm that its
// heuristic names. Declared here, so that a build needs no toolkit.
#pragma once

#include "Products.h"

#include "kernelforge/backend/cuda/Api.h"
#include "kernelforge/support/Error.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace kernelforge::bench {

/// Where the operands of a product lie.
struct ProductOperands {
  cuda::CUdeviceptr a = 0, b = 0, bias = 0, c = 0;
};

class CublasLt {
public:
  /// Missing, naming what is not there, where the library cannot be had. `file` is the library's;
  /// empty: libcublasLt.so.13 or .12, as the system finds them.
  static Expected<CublasLt> open(const std::string &file);

  /// What the library says it is: "cuBLASLt 13.1.0".
  std::string version() const;

  /// A product as the library's descriptors, and what its heuristic answers.
  class Plan {
  public:
    size_t algorithms() const;
    /// Puts the product into the stream, by one of the algorithms.
    Status run(size_t algorithm, const ProductOperands &operands, cuda::CUdeviceptr workspace,
               cuda::CUstream stream) const;

  private:
    friend class CublasLt;
    struct Implementation;
    std::shared_ptr<Implementation> implementation;
  };

  /// The algorithms for a product, the first choice first, `most` at most. `bias` is where one
  /// will lie, as well aligned as all others. A context must be current. Unusable where it has
  /// none.
  Expected<Plan> plan(const Product &product, cuda::CUdeviceptr bias, int most) const;

  /// Bytes of the workspace that all plans are made for.
  static constexpr int64_t workspaceBytes = int64_t(64) << 20;

private:
  struct Library;
  std::shared_ptr<Library> library;
};

} // namespace kernelforge::bench
