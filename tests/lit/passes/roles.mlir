// What operations do in a model, and in which layer, goes through the passes to the launches; kernels
// are named after the role of all their launches.
// RUN: %opt %s --pass-pipeline='builtin.module(kernelforge-decompose,func.func(kernelforge-merge-matmuls))' | FileCheck %s --check-prefix=PARTS
// RUN: %opt %s --pass-pipeline='builtin.module(kernelforge-decompose,func.func(kernelforge-merge-matmuls),kernelforge-fuse)' | FileCheck %s

!x = tensor<?x8xf32, #transformer.dims<"tokens">>
!w = tensor<8x8xf32>

// PARTS-LABEL: func.func @parts
// PARTS: transformer.matmul %{{.*}} {transformer.layer = 3 : i64, transformer.role = "attn_qkv"}
// PARTS: transformer.matmul %{{.*}} {transformer.layer = 3 : i64, transformer.role = "ffn_gate_up"}
// PARTS: transformer.activation %{{.*}} {transformer.layer = 3 : i64, transformer.role = "ffn_activation"}
// PARTS: transformer.mul %{{.*}} {transformer.layer = 3 : i64, transformer.role = "ffn_gated"}
// PARTS: transformer.matmul %{{.*}} {transformer.layer = 3 : i64, transformer.role = "ffn_down"}

// CHECK-LABEL: transformer.kernel @parts.attn_qkv(
// CHECK-NOT: transformer.role
// CHECK-LABEL: transformer.kernel @parts.ffn_gate_up(
// CHECK-LABEL: transformer.kernel @parts.ffn_down(
// CHECK-LABEL: func.func @parts
// CHECK-NEXT: transformer.launch @parts.attn_qkv[3]({{.*}}) :
// CHECK-NEXT: transformer.launch @parts.ffn_gate_up[3]({{.*}}) :
// CHECK-NEXT: transformer.launch @parts.ffn_down[3]({{.*}}) :
// CHECK-NEXT: return
func.func @parts(%t: index {transformer.size = #transformer.size<"tokens", 1 to 4>}, %x: !x, %w: !w)
    -> (!x, !x, !x, !x) {
  %q = transformer.matmul %x weights(%w) {transformer.role = "attn_q", transformer.layer = 3} : (!x, !w) -> !x
  %k = transformer.matmul %x weights(%w) {transformer.role = "attn_k", transformer.layer = 3} : (!x, !w) -> !x
  %v = transformer.matmul %x weights(%w) {transformer.role = "attn_v", transformer.layer = 3} : (!x, !w) -> !x
  %y = transformer.mlp %k gate(%w) up(%w) down(%w) <silu> {transformer.role = "ffn", transformer.layer = 3}
    : (!x, !w, !w, !w) -> !x
  return %q, %k, %v, %y : !x, !x, !x, !x
}

// One body in two roles is one kernel, named after what it does; its launches say which is which.
// CHECK-LABEL: transformer.kernel @both_softmax(
// CHECK-LABEL: func.func @both
// CHECK-NEXT: transformer.launch @both_softmax[0]({{.*}}) as "a" :
// CHECK-NEXT: transformer.launch @both_softmax[1]({{.*}}) as "b" :
func.func @both(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %0 = transformer.softmax %x {transformer.role = "a", transformer.layer = 0} : tensor<4x8xf32>
  %1 = transformer.softmax %0 {transformer.role = "b", transformer.layer = 1} : tensor<4x8xf32>
  return %1 : tensor<4x8xf32>
}

// Two bodies of one role, here of other widths, are told apart.
// CHECK-LABEL: transformer.kernel @widths.norm(
// CHECK-LABEL: transformer.kernel @widths.norm_1(
// CHECK-LABEL: func.func @widths
// CHECK-NEXT: transformer.launch @widths.norm({{.*}}) :
// CHECK-NEXT: transformer.launch @widths.norm_1({{.*}}) as "norm" :
func.func @widths(%x: tensor<4x24xf32>, %y: tensor<4x16xf32>) -> (tensor<4x24xf32>, tensor<4x16xf32>) {
  %0 = transformer.softmax %x {transformer.role = "norm"} : tensor<4x24xf32>
  %1 = transformer.softmax %y {transformer.role = "norm"} : tensor<4x16xf32>
  return %0, %1 : tensor<4x24xf32>, tensor<4x16xf32>
}
