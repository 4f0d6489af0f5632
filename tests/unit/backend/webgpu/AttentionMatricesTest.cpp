// Attention by the matrices of a subgroup, which tests have as plain code.
#include "AttentionFixture.h"

#include "kernelforge/codegen/webgpu/Methods.h"

#include <algorithm>
#include <tuple>

using namespace kernelforge;

// On a device without them, functions that do the same stand for matrices. The first case has
// scores that grow from block to block, so that outputs must be scaled. Heads are narrow: what a
// compiler makes of such functions takes long.
TEST_F(AttentionMethods, MultiplyMatrices) {
  options.target.enabled.emplace_back("subgroup-matrix-f16-16x16x16");
  options.target.enabled.emplace_back(webgpu::emulatedMatrices);
  std::ranges::sort(options.target.enabled);
  const std::string small = "method = 3, rows = 16, subgroups = 1, keys = 16";
  const std::tuple<AttentionCase, std::string> all[] = {
      {{.dim = 16, .valueDim = 16, .scale = 16.0, .query = "f16", .result = "f16"}, small},
      {{.dim = 32, .valueDim = 16, .page = 8, .softcap = 9.0, .keys = "q8_0", .values = "bf16"},
       "method = 3, rows = 16, subgroups = 2, keys = 16"},
      {{.dim = 16, .valueDim = 32, .window = 9, .causal = false, .sinks = true, .keys = "f32"},
       "method = 3, rows = 32, subgroups = 1, keys = 16"}};
  for (auto [test, schedule] : all) {
    test.numerics = "multiply = f16";
    test.heads = 2;
    test.rows = 19;
    test.sequences = 2;
    test.past = 21;
    expectRight(test, {schedule});
  }
}
