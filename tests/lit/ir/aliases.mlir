// Types that modules repeat are named at the top; what is printed so reads back.
// RUN: %plain-opt %s | FileCheck %s
// RUN: %plain-opt %s | %plain-opt | FileCheck %s

// CHECK-DAG: !cache = !transformer.cache<1, 8, f32>
// CHECK-DAG: !cache1 = !transformer.cache<2, 4, f32>
// CHECK-DAG: #interleaved = #transformer.layout<interleaved, rows = 16>
// CHECK-DAG: #tokens_dims = #transformer.dims<"tokens">
// CHECK-DAG: !vector = tensor<32xf32>
// CHECK-DAG: !f16_vector = tensor<32xf16>
// CHECK-DAG: !tokens = tensor<?xi32, #tokens_dims>
// CHECK-DAG: !x32_tokens = tensor<?x32xf32, #tokens_dims>
// CHECK-DAG: !f16x32_tokens = tensor<?x32xf16, #tokens_dims>
// CHECK-DAG: !q4_0_ = tensor<8x32x!transformer.quant<q4_0>>
// CHECK-DAG: !q4_0_1 = tensor<8x32x!transformer.quant<q4_0>, #interleaved>
// CHECK-DAG: !launch = (index, !x32_tokens) -> !x32_tokens

!x = tensor<?x32xf32, #transformer.dims<"tokens">>

transformer.kernel @k(%t: index {transformer.size = #transformer.size<"tokens", 1 to 4>}, %x: !x) -> !x {
  %0 = transformer.softmax %x : !x
  transformer.yield %0 : !x
}

// CHECK: func.func @types({{.*}}, %arg1: !x32_tokens, %arg2: !f16x32_tokens, %arg3: !tokens, %arg4: !q4_0_, %arg5: !q4_0_1, %arg6: tensor<8x8xf32>, %arg7: !vector, %arg8: !cache, %arg9: !cache1, %arg10: !f16_vector)
func.func @types(%t: index {transformer.size = #transformer.size<"tokens", 1 to 4>}, %x: !x,
    %h: tensor<?x32xf16, #transformer.dims<"tokens">>, %i: tensor<?xi32, #transformer.dims<"tokens">>,
    %w: tensor<8x32x!transformer.quant<q4_0>>,
    %p: tensor<8x32x!transformer.quant<q4_0>, #transformer.layout<interleaved, rows = 16>>,
    %plain: tensor<8x8xf32>, %v: tensor<32xf32>, %k: !transformer.cache<1, 8, f32>,
    %l: !transformer.cache<2, 4, f32>, %b: tensor<32xf16>) -> !x {
  // CHECK: transformer.launch @k(%arg0, %arg1) : !launch
  %y = transformer.launch @k(%t, %x) : (index, !x) -> !x
  return %y : !x
}
