// Plain arguments that are multiplied by are weights.
// RUN: %opt %s --kernelforge-mark-weights | FileCheck %s
// RUN: %opt %s --kernelforge-mark-weights --kernelforge-mark-weights | FileCheck %s

!x = tensor<4x8xf32>
!w = tensor<8x8xf32>

// CHECK-LABEL: func.func @f
// CHECK-SAME: %arg0: tensor<4x8xf32>, %arg1: tensor<8x8xf32> {transformer.weight = "f.arg1"}
// Also gathered from: one weight.
// CHECK-SAME: %arg2: tensor<8x8xf32> {transformer.weight = "f.arg2"}
// What is marked stays, and so does what is called an input.
// CHECK-SAME: %arg3: tensor<8x8xf32> {transformer.weight = "w"}, %arg4: tensor<8x8xf32> {transformer.input = "i"}
// Read as rows, too, or returned: no weight. Nor are vectors, indices, and what nobody multiplies by.
// CHECK-SAME: %arg5: tensor<8x8xf32>, %arg6: tensor<8x8xf32>, %arg7: tensor<8xf32>, %arg8: tensor<4xi32>, %arg9: tensor<8x8xf32>)
func.func @f(%x: !x, %a: !w, %b: !w, %c: !w {transformer.weight = "w"},
    %d: !w {transformer.input = "i"}, %e: !w, %g: !w, %v: tensor<8xf32>, %i: tensor<4xi32>,
    %unused: !w) -> (!x, !x, !x, !x, !x, !w, !w, !x) {
  %0 = transformer.matmul %x weights(%a) bias(%v) : (!x, !w, tensor<8xf32>) -> !x
  %1 = transformer.matmul %x weights(%b) {transpose} : (!x, !w) -> !x
  %2 = transformer.embedding %i, %b : (tensor<4xi32>, !w) -> !x
  %3 = transformer.matmul %x weights(%c) : (!x, !w) -> !x
  %4 = transformer.matmul %x weights(%d) : (!x, !w) -> !x
  %5 = transformer.matmul %e weights(%e) : (!w, !w) -> !w
  %6 = transformer.matmul %x weights(%g) : (!x, !w) -> !x
  return %0, %1, %2, %3, %4, %5, %g, %6 : !x, !x, !x, !x, !x, !w, !w, !x
}

// A name means one thing in the whole module.
// CHECK-LABEL: func.func @g
// CHECK-SAME: %arg0: tensor<4x8xf32>, %arg1: tensor<6x8xf32> {transformer.weight = "g.arg1"}
func.func @g(%x: !x, %w: tensor<6x8xf32>) -> tensor<4x6xf32> {
  %0 = transformer.matmul %x weights(%w) : (!x, tensor<6x8xf32>) -> tensor<4x6xf32>
  return %0 : tensor<4x6xf32>
}

// Through launches, and of composites.
transformer.kernel @k(%x: !x, %w: !w) -> !x {
  %y = transformer.matmul %x weights(%w) : (!x, !w) -> !x
  transformer.yield %y : !x
}
// CHECK-LABEL: func.func @launches
// CHECK-SAME: %arg1: tensor<4x8xf32>, %arg2: tensor<8x8xf32> {transformer.weight = "launches.arg2"}, %arg3: tensor<8x8xf32> {transformer.weight = "arg3"})
func.func @launches(%p0: index {transformer.size = #transformer.size<"n", 1 to 2>}, %x: !x, %y: !w,
    %w: !w) -> (!x, !x) {
  %0 = transformer.launch @k(%x, %w) : (!x, !w) -> !x
  %1 = transformer.mlp %x up(%y) down(%y) <relu> : (!x, !w, !w) -> !x
  return %0, %1 : !x, !x
}
