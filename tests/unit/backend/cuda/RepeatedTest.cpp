// Programs that bench/cuda times: one run many times over sets of buffers, and how their results
// are held against products in double precision.
#include "Compiled.h"
#include "EmulatedCudaDevice.h"
#include "Products.h"

#include "kernelforge/compiler/Targets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

using namespace kernelforge;
using namespace kernelforge::bench;

namespace {

struct SetOfProduct {
  std::vector<uint16_t> a, b, bias, c;
};

/// The results of `runs` runs over `sets` sets, into memory of NaN.
std::vector<SetOfProduct> run(const Product &product, int sets, int runs) {
  const auto target = parseTarget("cuda", "sm_90a", "");
  EXPECT_TRUE(target);
  const auto once = compileText(moduleOf(product), "test", *target, std::nullopt);
  EXPECT_TRUE(once) << once.error().line();
  const auto program = std::make_shared<const Program>(repeated(*once, sets, runs));
  EXPECT_EQ(program->launches.size(), once->launches.size() * size_t(runs));
  const std::unique_ptr<Device> device = createEmulatedCudaDevice();
  const auto loaded = device->load(std::span(&program, 1));
  EXPECT_TRUE(loaded) << loaded.error().line();
  const NumberPool pool(std::max(product.m, product.n) * product.k);
  std::vector<SetOfProduct> all;
  ProgramBuffers buffers;
  for (int set = 0; set < sets; ++set) {
    auto slice = [&](int64_t which, int64_t count) {
      const uint16_t *numbers = pool.slice(3 * set + which, count);
      return std::vector<uint16_t>(numbers, numbers + count);
    };
    SetOfProduct &made = all.emplace_back();
    made = {slice(0, product.m * product.k), slice(1, product.n * product.k), slice(2, product.n),
            std::vector<uint16_t>(size_t(product.m * product.n), 0xffff)};
    std::vector<const std::vector<uint16_t> *> arguments{&made.a, &made.b};
    if (product.following != Following::Nothing)
      arguments.push_back(&made.bias);
    auto upload = [&](const std::vector<uint16_t> &numbers) {
      const auto bytes = std::as_bytes(std::span(numbers));
      const BufferRef buffer = *device->allocate(int64_t(bytes.size()), MemoryUse::Transfer);
      EXPECT_TRUE(device->upload(bytes, buffer));
      return buffer;
    };
    for (const std::vector<uint16_t> *argument : arguments)
      buffers.arguments.push_back(upload(*argument));
    buffers.results.push_back(upload(made.c));
  }
  buffers.arena = *device->allocate(program->arenaBytes, MemoryUse::Arena);
  const std::vector<BufferRef> results = buffers.results;
  const auto bound = loaded->front()->bind(std::move(buffers));
  EXPECT_TRUE(bound) << bound.error().line();
  const auto ticket = (*bound)->submit({});
  EXPECT_TRUE(ticket) << ticket.error().line();
  EXPECT_TRUE(device->wait(*ticket));
  for (size_t set = 0; set < all.size(); ++set) {
    const auto over = device->download(results[set], std::as_writable_bytes(std::span(all[set].c)));
    EXPECT_TRUE(over && device->wait(*over));
  }
  return all;
}

double errorOfSet(const Product &product, const SetOfProduct &in, const SetOfProduct &out) {
  return errorOf(product, in.a.data(), in.b.data(), in.bias.data(), out.c);
}

TEST(Repeated, EverySetHasItsOwnOperandsAndResults) {
  for (const Product &product :
       {Product{5, 72, 64, Following::Nothing}, Product{70, 64, 128, Following::BiasGelu}}) {
    const std::vector<SetOfProduct> all = run(product, 3, 4);
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_LT(errorOfSet(product, all[i], all[i]), mostError);
      EXPECT_GT(errorOfSet(product, all[(i + 1) % 3], all[i]), 0.1) << "results of another set";
    }
  }
}

TEST(Repeated, SetsThatNoRunReachesStayAsTheyWere) {
  const Product product{3, 64, 64, Following::Bias};
  const std::vector<SetOfProduct> all = run(product, 3, 2);
  EXPECT_LT(errorOfSet(product, all[1], all[1]), mostError);
  EXPECT_EQ(errorOfSet(product, all[2], all[2]), INFINITY);
}

TEST(Products, GroupsNameEachProductOnce) {
  std::set<std::string> names;
  for (const std::string &group : productGroups()) {
    EXPECT_FALSE(productsOf(group).empty()) << group;
    for (const NamedProduct &named : productsOf(group))
      EXPECT_TRUE(names.insert(named.name()).second) << named.name();
  }
  EXPECT_TRUE(productsOf("none").empty());
}

TEST(Products, TextIsReadOrRefused) {
  const auto product = parseProduct("16x4096x14336+bias+gelu");
  ASSERT_TRUE(product);
  EXPECT_EQ(product->name(), "16x4096x14336 bias gelu");
  EXPECT_EQ(parseProduct("1x2x3")->product.following, Following::Nothing);
  for (const char *text :
       {"", "1x2", "1x2x3x4", "0x2x3", "1x-2x3", "1x2x3+gelu", "1x2x1000000", "axbxc"})
    EXPECT_FALSE(parseProduct(text)) << text;
}

TEST(Products, AnErrorShows) {
  const Product product{4, 8, 16, Following::Bias};
  const NumberPool pool(product.n * product.k);
  const uint16_t *a = pool.slice(0, 64), *b = pool.slice(1, 128), *bias = pool.slice(2, 8);
  std::vector<uint16_t> c(32, 0);
  EXPECT_NEAR(errorOf(product, a, b, bias, c), 1, 1e-9); // nothing but zeros
  c[31] = 0x7fc0;
  EXPECT_EQ(errorOf(product, a, b, bias, c), INFINITY);
}

} // namespace
