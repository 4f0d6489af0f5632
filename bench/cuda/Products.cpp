#include "Products.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <random>
#include <sstream>

#include <fmt/format.h>

using namespace kernelforge;
using namespace kernelforge::bench;

static std::string_view wordsOf(Following following) {
  switch (following) {
  case Following::Nothing:
    return "";
  case Following::Bias:
    return " bias";
  case Following::BiasGelu:
    return " bias gelu";
  }
  return "";
}

std::string NamedProduct::name() const {
  return fmt::format("{}x{}x{}{}", product.m, product.n, product.k, wordsOf(product.following));
}

std::vector<std::string> bench::productGroups() {
  return {"llama", "square", "small", "decode", "epilogue"};
}

std::vector<NamedProduct> bench::productsOf(const std::string &group) {
  std::vector<NamedProduct> products;
  auto add = [&](int64_t m, int64_t n, int64_t k, Following following = Following::Nothing) {
    products.push_back({group, {m, n, k, following}});
  };
  // Columns and depth of a layer's weights: q, k and v; what follows attention; gate and up; down.
  constexpr std::array<std::array<int64_t, 2>, 4> layer = {
      {{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}}};
  if (group == "llama")
    for (int64_t m : {512, 2048, 8192})
      for (const auto &[n, k] : layer)
        add(m, n, k);
  if (group == "square")
    for (int64_t side : {4096, 8192})
      add(side, side, side);
  if (group == "small") {
    add(512, 512, 1024);
    add(1024, 4096, 1024);
    for (int64_t m : {16, 32, 64, 128})
      add(m, 4096, 4096);
  }
  if (group == "decode")
    for (int64_t n : {4096, 28672})
      for (int64_t m : {1, 2, 4, 8, 16})
        if (n != 4096 || m < 16) // which is among the small ones
          add(m, n, 4096);
  if (group == "epilogue")
    for (Following following : {Following::Bias, Following::BiasGelu})
      for (int64_t m : {1, 16, 512, 2048})
        add(m, m == 2048 ? 28672 : 4096, 4096, following);
  return products;
}

Expected<NamedProduct> bench::parseProduct(const std::string &text) {
  const size_t plus = text.find('+');
  const std::string following = plus == text.npos ? "" : text.substr(plus);
  NamedProduct made{"given", {}};
  char first = 0, second = 0, rest = 0;
  std::istringstream in(text.substr(0, plus));
  Product &product = made.product;
  constexpr int64_t most = int64_t(1) << 17;
  const bool isRead = bool(in >> product.m >> first >> product.n >> second >> product.k) &&
                      first == 'x' && second == 'x' && !(in >> rest);
  auto inRange = [](int64_t value) { return value >= 1 && value <= most; };
  const bool isKnown = following.empty() || following == "+bias" || following == "+bias+gelu";
  if (!isRead || !isKnown || !inRange(product.m) || !inRange(product.n) || !inRange(product.k))
    return unusable(
        "product is not usable", text,
        fmt::format("it is no MxNxK of 1 to {}, with +bias or +bias+gelu behind", most));
  product.following = following.empty()      ? Following::Nothing
                      : following == "+bias" ? Following::Bias
                                             : Following::BiasGelu;
  return made;
}

std::string bench::moduleOf(const Product &product) {
  const std::string x = fmt::format("tensor<{}x{}xbf16>", product.m, product.k),
                    w = fmt::format("tensor<{}x{}xbf16>", product.n, product.k),
                    y = fmt::format("tensor<{}x{}xbf16>", product.m, product.n),
                    b = fmt::format("tensor<{}xbf16>", product.n);
  const bool hasBias = product.following != Following::Nothing;
  std::string text =
      fmt::format("func.func @f(%x: {}, %w: {} {{transformer.weight = \"w\"}}{}) -> {} {{\n", x, w,
                  hasBias ? fmt::format(", %b: {}", b) : "", y);
  text += fmt::format("  %p = transformer.matmul %x weights(%w){} : ({}, {}{}) -> ({})\n",
                      hasBias ? " bias(%b)" : "", x, w, hasBias ? ", " + b : "", y);
  const bool hasGelu = product.following == Following::BiasGelu;
  if (hasGelu)
    text += fmt::format("  %y = transformer.activation %p <gelu_tanh> : {}\n", y);
  return text + fmt::format("  return {} : {}\n}}\n", hasGelu ? "%y" : "%p", y);
}

//===--------------------------------------------------------------------------------------------===
// Numbers
//===--------------------------------------------------------------------------------------------===

/// So far apart begin the slices, and so many there are before the first comes again.
static constexpr int64_t apart = 12'345, slices = 256;

NumberPool::NumberPool(int64_t most)
    : numbers(randomBf16(most + apart * slices, 0x9e3779b97f4a7c15)) {}

const uint16_t *NumberPool::slice(int64_t which, int64_t count) const {
  const int64_t begin = apart * (which % slices);
  return begin + count <= int64_t(numbers.size()) ? numbers.data() + begin : nullptr;
}

double bench::errorOf(const Product &product, const uint16_t *a, const uint16_t *b,
                      const uint16_t *bias, const std::vector<uint16_t> &c) {
  for (uint16_t value : c)
    if (!std::isfinite(fromBf16(value)))
      return INFINITY;
  std::mt19937_64 random(7);
  double difference = 0, norm = 0;
  for (int sample = 0; sample < 2048; ++sample) {
    const auto row = int64_t(random() % uint64_t(product.m)),
               column = int64_t(random() % uint64_t(product.n));
    double sum = product.following == Following::Nothing ? 0 : double(fromBf16(bias[column]));
    for (int64_t i = 0; i < product.k; ++i)
      sum += double(fromBf16(a[row * product.k + i])) * double(fromBf16(b[column * product.k + i]));
    if (product.following == Following::BiasGelu)
      sum = 0.5 * sum *
            (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (sum + 0.044715 * sum * sum * sum)));
    const double got = fromBf16(c[size_t(row * product.n + column)]);
    difference += (got - sum) * (got - sum);
    norm += sum * sum;
  }
  return std::sqrt(difference / norm);
}
