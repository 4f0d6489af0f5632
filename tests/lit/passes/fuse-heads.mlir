// Norms of heads are fused where norms of rows are not.
// RUN: %opt %s --kernelforge-fuse | FileCheck %s

// A norm of heads needs whole heads, not whole rows: it follows the matmul, and what follows it does,
// too. One of whole rows, which would need them all, does not.
// CHECK-LABEL: transformer.kernel @heads_matmul_rms_norm_cache_append(
// CHECK-NEXT: %[[M:.*]]:2 = transformer.matmul
// CHECK-NEXT: %[[K:.*]] = transformer.rms_norm %[[M]]#0, %{{.*}} {epsilon = {{.*}}, heads = 2 : i64}
// CHECK-NEXT: transformer.cache_append %[[K]]
// CHECK-NEXT: yield %[[M]]#1
// CHECK-LABEL: transformer.kernel @heads_rms_norm(
func.func @heads(%x: tensor<4x8xf32>, %v: tensor<8x8xf32>, %w: tensor<8x8xf32>, %h: tensor<4xf32>,
    %n: tensor<8xf32>, %s: tensor<4xi32>, %c: !transformer.cache<2, 4, f32>) -> tensor<4x8xf32> {
  %0:2 = transformer.matmul %x weights(%v, %w) : (tensor<4x8xf32>, tensor<8x8xf32>, tensor<8x8xf32>)
    -> (tensor<4x8xf32>, tensor<4x8xf32>)
  %1 = transformer.rms_norm %0#0, %h {epsilon = 0.0, heads = 2} : (tensor<4x8xf32>, tensor<4xf32>)
    -> tensor<4x8xf32>
  %2 = transformer.rms_norm %0#1, %n {epsilon = 0.0} : (tensor<4x8xf32>, tensor<8xf32>)
    -> tensor<4x8xf32>
  transformer.cache_append %1, %s into %c : !transformer.cache<2, 4, f32>, tensor<4x8xf32>, tensor<4xi32>
  return %2 : tensor<4x8xf32>
}
