// What belongs together, and what must stay apart.
// RUN: %opt %s --kernelforge-fuse -split-input-file | FileCheck %s
// Fused modules are left as they are.
// RUN: %opt %s --kernelforge-fuse --kernelforge-fuse -split-input-file | FileCheck %s

// Rows are picked before the norm and the head's matmul, whose other rows are never computed. The
// logits' cap comes behind.
!x = tensor<?x8xf32, #transformer.dims<"tokens">>
!y = tensor<?x8xf32, #transformer.dims<"outputs">>
// CHECK-LABEL: transformer.kernel @head_gather_rows_layer_norm_matmul_scale(
// CHECK-SAME: "tokens", 1 to 4{{.*}}"outputs", 1 to 2
// CHECK: gather_rows
// CHECK-NEXT: layer_norm
// CHECK-NEXT: matmul
// CHECK-NEXT: scale
// CHECK-NEXT: yield
// CHECK-LABEL: func.func @head
// CHECK-NEXT: launch
// CHECK-NEXT: return
func.func @head(%t: index {transformer.size = #transformer.size<"tokens", 1 to 4>},
    %o: index {transformer.size = #transformer.size<"outputs", 1 to 2>}, %x: !x,
    %rows: tensor<?xi32, #transformer.dims<"outputs">>, %n: tensor<8xf32>, %w: tensor<8x8xf32>)
    -> !y {
  %0 = transformer.gather_rows %x, %rows : (!x, tensor<?xi32, #transformer.dims<"outputs">>) -> !y
  %1 = transformer.layer_norm %0, %n {epsilon = 0.0} : (!y, tensor<8xf32>) -> !y
  %2 = transformer.matmul %1 weights(%w) : (!y, tensor<8x8xf32>) -> !y
  %3 = transformer.scale %2 {softcap = 30.0} : !y
  return %3 : !y
}

// -----

// A norm that two matmuls read is a kernel of its own; equal matmuls are one kernel.
// CHECK-LABEL: transformer.kernel @shared_rms_norm(
// CHECK-LABEL: transformer.kernel @shared_matmul(
// CHECK-NOT: transformer.kernel
// CHECK-LABEL: func.func @shared
// CHECK-NEXT: %[[N:.*]] = transformer.launch @shared_rms_norm(
// CHECK-NEXT: %[[A:.*]] = transformer.launch @shared_matmul(%[[N]], %[[W:.*]]) :
// CHECK-NEXT: %[[B:.*]] = transformer.launch @shared_matmul(%[[N]], %{{.*}}) :
// CHECK-NEXT: return %[[A]], %[[B]]
func.func @shared(%x: tensor<4x8xf32>, %n: tensor<8xf32>, %v: tensor<8x8xf32>,
    %w: tensor<8x8xf32>) -> (tensor<4x8xf32>, tensor<4x8xf32>) {
  %0 = transformer.rms_norm %x, %n {epsilon = 0.0} : (tensor<4x8xf32>, tensor<8xf32>)
    -> tensor<4x8xf32>
  %1 = transformer.matmul %0 weights(%v) : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %2 = transformer.matmul %0 weights(%w) : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  return %1, %2 : tensor<4x8xf32>, tensor<4x8xf32>
}

// -----

// An intermediate that is also returned is yielded; a sum of two products goes to the later one.
// CHECK-LABEL: transformer.kernel @both_matmul(
// CHECK-LABEL: transformer.kernel @both_matmul_add_activation(
// CHECK-SAME: -> (tensor<4x8xf32>, tensor<4x8xf32>)
// CHECK-NEXT: %[[M:.*]] = transformer.matmul
// CHECK-NEXT: %[[S:.*]] = transformer.add %{{.*}}, %[[M]]
// CHECK-NEXT: %[[A:.*]] = transformer.activation %[[S]]
// CHECK-NEXT: yield %[[S]], %[[A]]
// CHECK-LABEL: func.func @both
// CHECK-NEXT: %[[X:.*]] = transformer.launch @both_matmul(
// CHECK-NEXT: %[[Y:.*]]:2 = transformer.launch @both_matmul_add_activation(
// CHECK-NEXT: return %[[Y]]#1, %[[Y]]#0
func.func @both(%x: tensor<4x8xf32>, %v: tensor<8x8xf32>, %w: tensor<8x8xf16>)
    -> (tensor<4x8xf32>, tensor<4x8xf32>) {
  %0 = transformer.matmul %x weights(%v) : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %1 = transformer.matmul %x weights(%w) : (tensor<4x8xf32>, tensor<8x8xf16>) -> tensor<4x8xf32>
  %2 = transformer.add %0, %1 : tensor<4x8xf32>
  %3 = transformer.activation %2 <gelu_tanh> : tensor<4x8xf32>
  return %3, %2 : tensor<4x8xf32>, tensor<4x8xf32>
}

// -----

// An append may not move before a read of its cache, though it could be computed earlier.
// CHECK-LABEL: func.func @order
// CHECK-NEXT: %[[K:.*]] = transformer.launch @order_matmul(
// CHECK-NEXT: %[[A:.*]] = transformer.launch @order_attention(
// CHECK-NEXT: transformer.launch @order_cache_append(%{{.*}}, %[[K]],
// CHECK-NEXT: return %[[A]]
!c = !transformer.cache<1, 8, f32>
func.func @order(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>, %c: !c, %i: tensor<4xi32>,
                 %s: tensor<1xi32>) -> tensor<4x8xf32> {
  %k = transformer.matmul %x weights(%w) : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %a = transformer.attention %x, %c, %c positions(%i) sequences(%i) table(%s) lengths(%s)
    {heads = 1, scale = 1.0}
    : (tensor<4x8xf32>, !c, !c, tensor<4xi32>, tensor<4xi32>, tensor<1xi32>, tensor<1xi32>)
    -> tensor<4x8xf32>
  transformer.cache_append %k, %i into %c : !c, tensor<4x8xf32>, tensor<4xi32>
  return %a : tensor<4x8xf32>
}

// -----

// Rowwise operations that follow each other are one kernel; a softmax, which needs whole rows,
// begins another. An existing kernel of the same body is used, with its schedule.
// CHECK-LABEL: transformer.kernel @pinned(
// CHECK-LABEL: transformer.kernel @chain_softmax_mul(
// CHECK-NOT: transformer.kernel
// CHECK-LABEL: func.func @chain
// CHECK-NEXT: %[[A:.*]] = transformer.launch @pinned(%arg0)
// CHECK-NEXT: %[[B:.*]] = transformer.launch @chain_softmax_mul(%[[A]], %arg0)
// CHECK-NEXT: return %[[B]]
transformer.kernel @pinned(%x: tensor<4x8xf32>) -> tensor<4x8xf32>
    attributes {schedule = #transformer.schedule<{rows = 4}>, schedule_source = "pinned"} {
  %0 = transformer.activation %x <relu> : tensor<4x8xf32>
  %1 = transformer.add %x, %0 : tensor<4x8xf32>
  transformer.yield %1 : tensor<4x8xf32>
}
func.func @chain(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %0 = transformer.activation %x <relu> : tensor<4x8xf32>
  %1 = transformer.add %x, %0 : tensor<4x8xf32>
  %2 = transformer.softmax %1 : tensor<4x8xf32>
  %3 = transformer.mul %2, %x : tensor<4x8xf32>
  return %3 : tensor<4x8xf32>
}

// -----

// A rotation's table that is computed is no input to follow: its rows are others than the rotated.
// CHECK-LABEL: transformer.kernel @table_scale(
// CHECK-LABEL: transformer.kernel @table_rope(
// CHECK-LABEL: func.func @table
// CHECK-NEXT: launch @table_scale
// CHECK-NEXT: launch @table_rope
func.func @table(%x: tensor<6x4xf32>, %a: tensor<6x4xf32>, %p: tensor<6xi32>) -> tensor<6x4xf32> {
  %t = transformer.scale %a {factor = 0.5} : tensor<6x4xf32>
  %y = transformer.rope %x, %p, %t <half_split> {headDim = 4}
    : (tensor<6x4xf32>, tensor<6xi32>, tensor<6x4xf32>) -> tensor<6x4xf32>
  return %y : tensor<6x4xf32>
}

// -----

// Rows of other types than f32 are fused as those are, casts between them as well.
// CHECK-LABEL: transformer.kernel @narrow_rms_norm_matmul_cast_add(
// CHECK-SAME: %{{.*}}: tensor<5x8xbf16>{{.*}}) -> tensor<5x8xf16>
// CHECK: transformer.cast %{{.*}} : tensor<5x8xbf16> to tensor<5x8xf16>
// CHECK-LABEL: func.func @narrow
// CHECK-NEXT: launch @narrow_rms_norm_matmul_cast_add
// CHECK-NEXT: return
func.func @narrow(%x: tensor<5x8xbf16>, %n: tensor<8xf16>, %w: tensor<8x8xf32>, %r: tensor<5x8xf16>)
    -> tensor<5x8xf16> {
  %z = transformer.rms_norm %x, %n {epsilon = 1.0e-5} : (tensor<5x8xbf16>, tensor<8xf16>) -> tensor<5x8xbf16>
  %m = transformer.matmul %z weights(%w) {transpose} : (tensor<5x8xbf16>, tensor<8x8xf32>) -> tensor<5x8xbf16>
  %c = transformer.cast %m : tensor<5x8xbf16> to tensor<5x8xf16>
  %y = transformer.add %c, %r : tensor<5x8xf16>
  return %y : tensor<5x8xf16>
}
