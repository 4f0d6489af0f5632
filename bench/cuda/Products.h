// The products that are measured: those of a language model's layers and some others.
#pragma once

#include "Bf16.h"

#include "kernelforge/support/Error.h"

#include <cstdint>
#include <string>
#include <vector>

namespace kernelforge::bench {

/// What follows a product.
enum class Following { Nothing, Bias, BiasGelu };

/// C = A B^T (+ bias, then gelu by its tanh approximation) of bf16: A is m x k, B n x k.
struct Product {
  int64_t m = 1, n = 1, k = 1;
  Following following = Following::Nothing;

  double flops() const { return 2.0 * double(m) * double(n) * double(k); }
  double bytes() const { return 2.0 * (double(m * k) + double(n * k) + double(m * n)); }
};

struct NamedProduct {
  std::string group; ///< "llama", "square", "small", "decode", "epilogue"
  Product product;

  std::string name() const; ///< "2048x28672x4096 bias gelu"
};

/// The names of all groups, in order.
std::vector<std::string> productGroups();

/// The products of a group: the layers of Llama-3-8B in prefill, squares, small ones, one to
/// sixteen rows, and what follows a product.
std::vector<NamedProduct> productsOf(const std::string &group);

/// A product as text: "2048x28672x4096", with "+bias" or "+bias+gelu" behind it. Unusable
/// otherwise.
Expected<NamedProduct> parseProduct(const std::string &text);

/// The module that computes it.
std::string moduleOf(const Product &product);

/// About normal numbers of variance 1, and slices of them: what matrices are filled with. One pool
/// is enough, since no two matrices of a product begin at the same place.
class NumberPool {
public:
  explicit NumberPool(int64_t most);
  /// `count` numbers, other ones for each `which`.
  const uint16_t *slice(int64_t which, int64_t count) const;

private:
  std::vector<uint16_t> numbers;
};

/// ||C - expected|| / ||expected|| over elements drawn at random, in double precision; infinity
/// where any element of C at all is no number.
double errorOf(const Product &product, const uint16_t *a, const uint16_t *b, const uint16_t *bias,
               const std::vector<uint16_t> &c);

/// What error a product may have: results are rounded to bf16.
inline constexpr double mostError = 5e-3;

} // namespace kernelforge::bench
