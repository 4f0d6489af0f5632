// A feed-forward layer becomes its operations.
// RUN: %opt %s --kernelforge-decompose | FileCheck %s

!x = tensor<?x64xf32, #transformer.dims<"tokens">>
!q = !transformer.quant<q4_1>

// CHECK-LABEL: func.func @plain
// CHECK-SAME: (%[[X:arg0]]: {{.*}}, %[[UP:arg1]]: tensor<96x64xf32>, %[[DOWN:arg2]]: tensor<64x96xf32>)
func.func @plain(%x: !x, %up: tensor<96x64xf32>, %down: tensor<64x96xf32>) -> !x {
  // CHECK-NEXT: %[[H:.*]] = transformer.matmul %[[X]] weights(%[[UP]]) : {{.*}} -> tensor<?x96xf32, #transformer.dims<"tokens">>
  // CHECK-NEXT: %[[A:.*]] = transformer.activation %[[H]] <gelu> :
  // CHECK-NEXT: %[[Y:.*]] = transformer.matmul %[[A]] weights(%[[DOWN]]) : {{.*}} -> tensor<?x64xf32, #transformer.dims<"tokens">>
  // CHECK-NEXT: return %[[Y]]
  %y = transformer.mlp %x up(%up) down(%down) <gelu>
    : (!x, tensor<96x64xf32>, tensor<64x96xf32>) -> !x
  return %y : !x
}

// CHECK-LABEL: func.func @gated
// CHECK-SAME: (%[[X:arg0]]: {{.*}}, %[[GATE:arg1]]: {{.*}}, %[[UP:arg2]]: {{.*}}, %[[DOWN:arg3]]: {{.*}}, %[[GB:arg4]]: {{.*}}, %[[UB:arg5]]: {{.*}}, %[[DB:arg6]]: {{.*}})
func.func @gated(%x: !x, %gate: tensor<96x64x!q>, %up: tensor<96x64xbf16>, %down: tensor<64x96x!q>,
                 %gb: tensor<96xf32>, %ub: tensor<96xf32>, %db: tensor<64xf32>) -> !x {
  // CHECK-NEXT: %[[G:.*]] = transformer.matmul %[[X]] weights(%[[GATE]]) bias(%[[GB]])
  // CHECK-NEXT: %[[U:.*]] = transformer.matmul %[[X]] weights(%[[UP]]) bias(%[[UB]])
  // CHECK-NEXT: %[[A:.*]] = transformer.activation %[[G]] <silu>
  // CHECK-NEXT: %[[M:.*]] = transformer.mul %[[A]], %[[U]]
  // CHECK-NEXT: %[[Y:.*]] = transformer.matmul %[[M]] weights(%[[DOWN]]) bias(%[[DB]])
  // CHECK-NEXT: return %[[Y]]
  %y = transformer.mlp %x gate(%gate) up(%up) down(%down) gate_bias(%gb) up_bias(%ub)
    down_bias(%db) <silu> : (!x, tensor<96x64x!q>, tensor<96x64xbf16>, tensor<64x96x!q>,
    tensor<96xf32>, tensor<96xf32>, tensor<64xf32>) -> !x
  return %y : !x
}
