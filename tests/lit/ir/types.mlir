// Types and attributes read back what they print.
// RUN: %opt %s | %opt | FileCheck %s

// CHECK: module attributes {transformer.target = #transformer.target<cpu, triple = "x86_64-pc-linux-gnu", cpu = "znver4", features = ["+avx512f", "-avx512vnni"], threads = 2>}
module attributes {transformer.target = #transformer.target<cpu, triple = "x86_64-pc-linux-gnu",
    cpu = "znver4", features = ["+avx512f", "-avx512vnni"], threads = 2>} {

  // CHECK: func.func private @quants(tensor<4x32x!transformer.quant<q4_0>>, tensor<4x32x!transformer.quant<q4_1>>, tensor<4x32x!transformer.quant<q8_0>>, tensor<4x32x!transformer.quant<q5_0>>, tensor<4x256x!transformer.quant<q4_k>>, tensor<4x256x!transformer.quant<q6_k>>)
  func.func private @quants(tensor<4x32x!transformer.quant<q4_0>>,
      tensor<4x32x!transformer.quant<"q4_1">>, tensor<4x32x!transformer.quant<q8_0>>,
      tensor<4x32x!transformer.quant<q5_0>>, tensor<4x256x!transformer.quant<q4_k>>,
      tensor<4x256x!transformer.quant<q6_k>>)

  // CHECK: func.func private @caches(!transformer.cache<3, 64, f32>, !transformer.cache<3, 64, f16>, !transformer.cache<1, 128, bf16, page = 16>)
  func.func private @caches(!transformer.cache<3, 64, f32>, !transformer.cache<3, 64, f16>,
      !transformer.cache<1, 128, bf16, page = 16>)

  // CHECK: func.func private @layouts(tensor<5x64x!transformer.quant<q8_0>, #transformer.layout<interleaved, rows = 16>>, tensor<5x64x!transformer.quant<q8_0>, #transformer.layout<planes>>)
  func.func private @layouts(
      tensor<5x64x!transformer.quant<q8_0>, #transformer.layout<interleaved, rows = 16>>,
      tensor<5x64x!transformer.quant<q8_0>, #transformer.layout<planes>>)

  // CHECK: func.func private @dims(tensor<?x8xf32, #transformer.dims<"tokens">>, tensor<?x?xi32, #transformer.dims<"sequences", "pages">>)
  func.func private @dims(tensor<?x8xf32, #transformer.dims<"tokens">>,
      tensor<?x?xi32, #transformer.dims<"sequences", "pages">>)

  // CHECK: func.func private @arguments(index {transformer.size = #transformer.size<"tokens", 1 to 512>}, tensor<?xi32, #transformer.dims<"tokens">> {transformer.input = "ids"}, tensor<8xf32> {transformer.weight = "output_norm.weight"})
  func.func private @arguments(
      index {transformer.size = #transformer.size<"tokens", 1 to 512>},
      tensor<?xi32, #transformer.dims<"tokens">> {transformer.input = "ids"},
      tensor<8xf32> {transformer.weight = "output_norm.weight"})

  // CHECK: func.func private @others() attributes {cuda = #transformer.target<cuda, triple = "nvptx64", cpu = "sm_90a", features = [], threads = 1>, schedule = #transformer.schedule<{kc = 256 : i64, order = "mnk"}>}
  func.func private @others() attributes {
    cuda = #transformer.target<cuda, triple = "nvptx64", cpu = "sm_90a", features = [], threads = 1>,
    schedule = #transformer.schedule<{kc = 256, order = "mnk"}>}

  // Quantized elements can stand in a memref, which the code generators need.
  // CHECK: func.func private @memref(memref<4x32x!transformer.quant<q8_0>>)
  func.func private @memref(memref<4x32x!transformer.quant<q8_0>>)
}
