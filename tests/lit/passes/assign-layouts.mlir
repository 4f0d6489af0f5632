// A weight gets one layout over all functions that use it.
// RUN: %opt %s --kernelforge-assign-layouts | FileCheck %s
// RUN: %opt %s --kernelforge-assign-layouts --kernelforge-assign-layouts | FileCheck %s
// RUN: %opt %s --kernelforge-assign-layouts=layout=planes | FileCheck %s --check-prefix=PLANES

!x = tensor<?x64xf32, #transformer.dims<"tokens">>
!ids = tensor<?xi32, #transformer.dims<"tokens">>

// Planes are of quantized weights; all others are read as they lie, and nothing is packed in a run.
// PLANES-LABEL: func.func @prefill
// PLANES-SAME: tensor<64x64x!transformer.quant<q4_1>, #transformer.layout<planes>> {transformer.weight = "multiplied"}
// PLANES-SAME: tensor<64x64xf32> {transformer.weight = "tied"}
// PLANES-NOT: transformer.pack
// PLANES-NOT: layout<interleaved

// CHECK-LABEL: func.func @prefill
// Multiplied with: interleaved.
// CHECK-SAME: tensor<64x64x!transformer.quant<q4_1>, #transformer.layout<interleaved, rows = 16>> {transformer.weight = "multiplied"}
// Gathered from and multiplied with, in another function: interleaved here too.
// CHECK-SAME: tensor<64x64xf32, #transformer.layout<interleaved, rows = 16>> {transformer.weight = "tied"}
// Only gathered from: as in the file.
// CHECK-SAME: tensor<64x64xf32> {transformer.weight = "gathered"}
// Read by a transposed matmul: as in the file, though another one multiplies with it.
// CHECK-SAME: tensor<64x64xf32> {transformer.weight = "transposed"}
// A vector has no layout.
// CHECK-SAME: tensor<64xf32> {transformer.weight = "norm"}
// An input is no weight.
// CHECK-SAME: %[[INPUT:.*]]: tensor<64x64xf32> {transformer.input = "matrix"}
// It is packed in each run, as is what is multiplied by and transposed elsewhere.
// CHECK: %[[PACKED:.*]] = transformer.pack %[[INPUT]]
// CHECK-SAME: to tensor<64x64xf32, #transformer.layout<interleaved, rows = 16>>
func.func @prefill(%x: !x, %ids: !ids,
    %multiplied: tensor<64x64x!transformer.quant<q4_1>> {transformer.weight = "multiplied"},
    %tied: tensor<64x64xf32> {transformer.weight = "tied"},
    %gathered: tensor<64x64xf32> {transformer.weight = "gathered"},
    %transposed: tensor<64x64xf32> {transformer.weight = "transposed"},
    %norm: tensor<64xf32> {transformer.weight = "norm"},
    %input: tensor<64x64xf32> {transformer.input = "matrix"}) -> (!x, !x, !x, !x) {
  // CHECK: transformer.matmul {{.*}}tensor<64x64x!transformer.quant<q4_1>, #transformer.layout<interleaved, rows = 16>>
  %0 = transformer.matmul %x weights(%multiplied)
    : (!x, tensor<64x64x!transformer.quant<q4_1>>) -> !x
  // CHECK: transformer.embedding {{.*}}tensor<64x64xf32, #transformer.layout<interleaved, rows = 16>>
  %1 = transformer.embedding %ids, %tied : (!ids, tensor<64x64xf32>) -> !x
  // CHECK: transformer.embedding {{.*}}tensor<64x64xf32>)
  %2 = transformer.embedding %ids, %gathered : (!ids, tensor<64x64xf32>) -> !x
  %3 = transformer.matmul %0 weights(%transposed) {transpose} : (!x, tensor<64x64xf32>) -> !x
  %4 = transformer.rms_norm %3, %norm {epsilon = 0.0} : (!x, tensor<64xf32>) -> !x
  // CHECK: transformer.matmul %{{.*}} weights(%[[PACKED]])
  %5 = transformer.matmul %4 weights(%input) : (!x, tensor<64x64xf32>) -> !x
  return %1, %2, %4, %5 : !x, !x, !x, !x
}

// CHECK-LABEL: func.func @decode
// CHECK-SAME: tensor<64x64xf32, #transformer.layout<interleaved, rows = 16>> {transformer.weight = "tied"}
// CHECK-SAME: tensor<64x64xf32> {transformer.weight = "transposed"}
// CHECK-SAME: tensor<96x64xf32, #transformer.layout<interleaved, rows = 16>> {transformer.weight = "up"}
func.func @decode(%x: !x, %tied: tensor<64x64xf32> {transformer.weight = "tied"},
    %transposed: tensor<64x64xf32> {transformer.weight = "transposed"},
    %up: tensor<96x64xf32> {transformer.weight = "up"},
    %down: tensor<64x96xf32> {transformer.weight = "down"}) -> (!x, !x, !x) {
  %0 = transformer.matmul %x weights(%tied) : (!x, tensor<64x64xf32>) -> !x
  // CHECK: %[[COPY:.*]] = transformer.pack
  // CHECK: transformer.matmul %{{.*}} weights(%[[COPY]])
  %1 = transformer.matmul %x weights(%transposed) : (!x, tensor<64x64xf32>) -> !x
  // Layouts may be assigned before or after the composite is taken apart.
  // CHECK: transformer.mlp {{.*}}tensor<64x96xf32, #transformer.layout<interleaved, rows = 16>>
  %2 = transformer.mlp %x up(%up) down(%down) <relu>
    : (!x, tensor<96x64xf32>, tensor<64x96xf32>) -> !x
  return %0, %1, %2 : !x, !x, !x
}

// CHECK-LABEL: func.func private @external(tensor<64x64xf32> {transformer.weight = "tied"})
func.func private @external(tensor<64x64xf32> {transformer.weight = "tied"})
