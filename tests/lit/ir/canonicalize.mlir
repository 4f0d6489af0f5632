// Folders and canonicalisations, and what must stay.
// RUN: %opt %s --canonicalize | FileCheck %s

!x = tensor<?x8xf32, #transformer.dims<"tokens">>

// CHECK-LABEL: func.func @relu_of_relu
func.func @relu_of_relu(%x: !x) -> (!x, !x) {
  // CHECK: %[[A:.*]] = transformer.activation %{{.*}} <relu>
  // CHECK: %[[B:.*]] = transformer.activation %[[A]] <silu>
  // CHECK: return %[[A]], %[[B]]
  %a = transformer.activation %x <relu> : !x
  %b = transformer.activation %a <relu> : !x
  %c = transformer.activation %b <silu> : !x
  return %b, %c : !x, !x
}

// CHECK-LABEL: func.func @silu_of_silu
func.func @silu_of_silu(%x: !x) -> !x {
  // CHECK-COUNT-2: transformer.activation
  %a = transformer.activation %x <silu> : !x
  %b = transformer.activation %a <silu> : !x
  return %b : !x
}

// CHECK-LABEL: func.func @scale
// CHECK-SAME: (%[[X:.*]]: tensor
func.func @scale(%x: !x) -> (!x, !x, !x) {
  // CHECK: %[[TWICE:.*]] = transformer.scale %[[X]] {factor = 2.0{{.*}}}
  // CHECK: %[[CAPPED:.*]] = transformer.scale %[[X]] {softcap = 3.0{{.*}}}
  // CHECK: return %[[X]], %[[TWICE]], %[[CAPPED]]
  %a = transformer.scale %x {factor = 1.0} : !x
  %b = transformer.scale %a {factor = 2.0} : !x
  %c = transformer.scale %x {softcap = 3.0} : !x
  return %a, %b, %c : !x, !x, !x
}

// CHECK-LABEL: func.func @pack
// CHECK-SAME: (%[[W:.*]]: tensor
func.func @pack(%w: tensor<8x8xf32>) -> tensor<8x8xf32> {
  // CHECK-NOT: transformer.pack
  // CHECK: return %[[W]]
  %a = transformer.pack %w : tensor<8x8xf32> to tensor<8x8xf32>
  return %a : tensor<8x8xf32>
}

// A segment whose result nobody uses goes, with its bias.
// CHECK-LABEL: func.func @unused_segment
// CHECK-SAME: (%[[X:.*]]: tensor<?x8xf32, #{{[^ ]*}}, %[[A:.*]]: tensor<8x8xf32>, %[[B:.*]]: tensor<4x8xf32>, %[[C:.*]]: tensor<8x8xf32>, %[[BA:.*]]: tensor<8xf32>, %[[BB:.*]]: tensor<4xf32>)
func.func @unused_segment(%x: !x, %a: tensor<8x8xf32>, %b: tensor<4x8xf32>, %c: tensor<8x8xf32>,
                          %ba: tensor<8xf32>, %bb: tensor<4xf32>) -> (!x, !x) {
  // CHECK: %[[Y:.*]]:2 = transformer.matmul %[[X]] weights(%[[A]], %[[C]]) bias(%[[BA]], %[[BA]])
  // CHECK: return %[[Y]]#0, %[[Y]]#1
  %0:3 = transformer.matmul %x weights(%a, %b, %c) bias(%ba, %bb, %ba)
    : (!x, tensor<8x8xf32>, tensor<4x8xf32>, tensor<8x8xf32>, tensor<8xf32>, tensor<4xf32>,
       tensor<8xf32>) -> (!x, tensor<?x4xf32, #transformer.dims<"tokens">>, !x)
  return %0#0, %0#2 : !x, !x
}

// What nobody uses at all goes; what writes a cache or may write one stays.
// CHECK-LABEL: func.func @dead
func.func @dead(%x: !x, %w: tensor<8x8xf32>, %k: !transformer.cache<1, 8, f32>,
                %slots: tensor<?xi32, #transformer.dims<"tokens">>, %row: tensor<1x8xf32>,
                %slot: tensor<1xi32>) {
  // CHECK-NOT: transformer.matmul
  // CHECK: transformer.cache_append
  // CHECK-NOT: transformer.softmax
  // CHECK: transformer.launch @append
  // CHECK-NOT: transformer.launch @pure
  %0 = transformer.matmul %x weights(%w) : (!x, tensor<8x8xf32>) -> !x
  transformer.cache_append %x, %slots into %k
    : !transformer.cache<1, 8, f32>, !x, tensor<?xi32, #transformer.dims<"tokens">>
  %1 = transformer.softmax %x : !x
  %c = transformer.launch @append(%k, %row, %slot)
    : (!transformer.cache<1, 8, f32>, tensor<1x8xf32>, tensor<1xi32>) -> tensor<1x8xf32>
  %p = transformer.launch @pure(%w) : (tensor<8x8xf32>) -> tensor<8x8xf32>
  return
}
transformer.kernel @append(%k: !transformer.cache<1, 8, f32>, %x: tensor<1x8xf32>,
                           %s: tensor<1xi32>) -> tensor<1x8xf32> {
  transformer.cache_append %x, %s into %k
    : !transformer.cache<1, 8, f32>, tensor<1x8xf32>, tensor<1xi32>
  %y = transformer.softmax %x : tensor<1x8xf32>
  transformer.yield %y : tensor<1x8xf32>
}
transformer.kernel @pure(%w: tensor<8x8xf32>) -> tensor<8x8xf32> {
  %y = transformer.softmax %w : tensor<8x8xf32>
  transformer.yield %y : tensor<8x8xf32>
}
