// Matmuls of one input become segments of one, each with its own width and type.
// RUN: %opt %s --pass-pipeline='builtin.module(func.func(kernelforge-merge-matmuls))' | FileCheck %s

!x = tensor<?x64xf32, #transformer.dims<"tokens">>
!n = tensor<?x32xf32, #transformer.dims<"tokens">>

// CHECK-LABEL: func.func @qkv
// CHECK-SAME: (%[[X:arg0]]: {{.*}}, %[[Q:arg1]]: {{.*}}, %[[K:arg2]]: {{.*}}, %[[V:arg3]]: {{.*}})
func.func @qkv(%x: !x, %q: tensor<64x64x!transformer.quant<q4_1>>, %k: tensor<32x64xf16>,
               %v: tensor<32x64xf32>) -> (!x, !n, !n) {
  // CHECK-NEXT: %[[Y:.*]]:3 = transformer.matmul %[[X]] weights(%[[Q]], %[[K]], %[[V]])
  // CHECK-NEXT: %[[A:.*]] = transformer.activation %[[Y]]#0 <relu>
  // CHECK-NEXT: return %[[A]], %[[Y]]#1, %[[Y]]#2
  %0 = transformer.matmul %x weights(%q) : (!x, tensor<64x64x!transformer.quant<q4_1>>) -> !x
  %1 = transformer.activation %0 <relu> : !x
  %2 = transformer.matmul %x weights(%k) : (!x, tensor<32x64xf16>) -> !n
  %3 = transformer.matmul %x weights(%v) : (!x, tensor<32x64xf32>) -> !n
  return %1, %2, %3 : !x, !n, !n
}

// CHECK-LABEL: func.func @biases
// CHECK-SAME: (%[[X:arg0]]: {{.*}}, %[[W:arg1]]: {{.*}}, %[[A:arg2]]: {{.*}}, %[[B:arg3]]: {{.*}})
func.func @biases(%x: !x, %w: tensor<32x64xf32>, %a: tensor<32xf32>, %b: tensor<32xf32>)
    -> (!n, !n, !n) {
  // With biases and without are two: a bias is for all segments or none.
  // CHECK-NEXT: %[[Y:.*]]:2 = transformer.matmul %[[X]] weights(%[[W]], %[[W]]) bias(%[[A]], %[[B]])
  // CHECK-NEXT: %[[Z:.*]] = transformer.matmul %[[X]] weights(%[[W]]) :
  // CHECK-NEXT: return %[[Y]]#0, %[[Z]], %[[Y]]#1
  %0 = transformer.matmul %x weights(%w) bias(%a) : (!x, tensor<32x64xf32>, tensor<32xf32>) -> !n
  %1 = transformer.matmul %x weights(%w) : (!x, tensor<32x64xf32>) -> !n
  %2 = transformer.matmul %x weights(%w) bias(%b) : (!x, tensor<32x64xf32>, tensor<32xf32>) -> !n
  return %0, %1, %2 : !n, !n, !n
}

// CHECK-LABEL: func.func @element_types
func.func @element_types(%x: tensor<2x64xbf16>, %w: tensor<32x64xf16>, %v: tensor<32x64xf32>)
    -> (tensor<2x32xf32>, tensor<2x32xbf16>) {
  // Each segment keeps its own.
  // CHECK-NEXT: %[[Y:.*]]:2 = transformer.matmul
  // CHECK-SAME: (tensor<2x64xbf16>, tensor<32x64xf16>, tensor<32x64xf32>) -> (tensor<2x32xf32>, tensor<2x32xbf16>)
  // CHECK-NEXT: return %[[Y]]#0, %[[Y]]#1
  %0 = transformer.matmul %x weights(%w) : (tensor<2x64xbf16>, tensor<32x64xf16>) -> tensor<2x32xf32>
  %1 = transformer.matmul %x weights(%v) : (tensor<2x64xbf16>, tensor<32x64xf32>) -> tensor<2x32xbf16>
  return %0, %1 : tensor<2x32xf32>, tensor<2x32xbf16>
}

// CHECK-LABEL: func.func @stay_apart
func.func @stay_apart(%x: !x, %y: !x, %w: tensor<64x64xf32>) -> (!x, !x, !x) {
  // Another input, and weights the other way round.
  // CHECK-COUNT-3: = transformer.matmul %{{[a-z0-9]*}} weights(%{{[a-z0-9]*}})
  %0 = transformer.matmul %x weights(%w) : (!x, tensor<64x64xf32>) -> !x
  %1 = transformer.matmul %y weights(%w) : (!x, tensor<64x64xf32>) -> !x
  %2 = transformer.matmul %x weights(%w) {transpose} : (!x, tensor<64x64xf32>) -> !x
  return %0, %1, %2 : !x, !x, !x
}

// CHECK-LABEL: func.func @late_weight
func.func @late_weight(%x: !x, %w: tensor<64x64xf32>) -> (!x, !x) {
  // The second weight is made after the first matmul, which therefore cannot take it.
  // CHECK: transformer.matmul
  // CHECK: transformer.pack
  // CHECK: transformer.matmul
  %0 = transformer.matmul %x weights(%w) : (!x, tensor<64x64xf32>) -> !x
  %p = transformer.pack %w
    : tensor<64x64xf32> to tensor<64x64xf32, #transformer.layout<interleaved, rows = 16>>
  %1 = transformer.matmul %x weights(%p)
    : (!x, tensor<64x64xf32, #transformer.layout<interleaved, rows = 16>>) -> !x
  return %0, %1 : !x, !x
}
