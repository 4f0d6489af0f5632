#include "kernelforge/codegen/Launching.h"

#include <cassert>

namespace kernelforge {

Extent operator*(const Extent &a, const Extent &b) {
  assert(!a.atMost && !b.atMost && "a bound is of the whole product");
  Extent product = a;
  product.product.insert(product.product.end(), b.product.begin(), b.product.end());
  if (a.multiplier < 0 || b.multiplier < 0 ||
      __builtin_mul_overflow(a.multiplier, b.multiplier, &product.multiplier))
    product.multiplier = -1;
  return product;
}

} // namespace kernelforge
