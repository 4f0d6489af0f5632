// `sample` on the device: the reference's ids, whichever way the kernel takes to them.
#include "../../codegen/SampleRows.h"
#include "MethodFixture.h"

#include <cstring>

using namespace kernelforge;

namespace {

using SampleOnDevice = MethodTest;

TEST_F(SampleOnDevice, ChoosesTheReferencesIds) {
  // Longer than what threads read together, no multiple of it; rows whose equal logits no list
  // holds, filters that keep more than a list has, and greedy ones.
  constexpr int64_t rows = 63, vocabulary = 2500;
  const std::string text = R"mlir(
func.func @f(%x: tensor<63x2500xf32>, %s: tensor<63x5xf32>, %d: tensor<63x3xi32>, %p: tensor<63xi32>)
    -> tensor<63xi32> {
  %y = transformer.sample %x settings(%s) draws(%d) positions(%p) : (tensor<63x2500xf32>,
      tensor<63x5xf32>, tensor<63x3xi32>, tensor<63xi32>) -> tensor<63xi32>
  return %y : tensor<63xi32>
})mlir";
  const Sampled given = sampled(rows, vocabulary, /*window=*/0);
  FunctionInputs inputs;
  inputs.change = [&](FunctionData &data) {
    auto set = [&](size_t argument, const auto &values) {
      const auto bytes = std::as_bytes(std::span(values));
      ASSERT_EQ(data.arguments[argument].bytes(), bytes.size());
      std::memcpy(data.arguments[argument].memory.data(), bytes.data(), bytes.size());
    };
    set(0, given.logits);
    set(1, given.settings);
    set(2, given.draws);
    set(3, given.positions);
  };
  expectRight(text, inputs);
}

} // namespace
