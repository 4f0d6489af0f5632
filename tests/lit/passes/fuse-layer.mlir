// A decoder layer becomes five kernels, each around one root; without fusion, one for each operation.
// RUN: %opt %s --kernelforge-fuse | FileCheck %s
// RUN: %opt %s --kernelforge-fuse='fuse=false' | FileCheck %s --check-prefix=SINGLE

!x = tensor<?x64xf32, #transformer.dims<"tokens">>
!n = tensor<?x32xf32, #transformer.dims<"tokens">>
!ids = tensor<?xi32, #transformer.dims<"tokens">>
!seq = tensor<?xi32, #transformer.dims<"sequences">>
!rope = tensor<?x16xf32, #transformer.dims<"context">>
!cache = !transformer.cache<2, 16, f32>

func.func @layer(%tokens: index {transformer.size = #transformer.size<"tokens", 1 to 512>},
    %sequences: index {transformer.size = #transformer.size<"sequences", 1 to 4>},
    %context: index {transformer.size = #transformer.size<"context", 1 to 64>},
    %cached: index {transformer.size = #transformer.size<"cached", 1 to 64>},
    %x: !x, %pos: !ids, %slots: !ids, %seq: !ids, %table: !seq, %lengths: !seq, %rope: !rope,
    %kc: !cache {transformer.input = "cache.7.k"}, %vc: !cache {transformer.input = "cache.7.v"},
    %n1: tensor<64xf32>, %wq: tensor<64x64xf16>, %wk: tensor<32x64xf16>, %wv: tensor<32x64xf16>,
    %wo: tensor<64x64xf16>, %n2: tensor<64xf32>, %wg: tensor<96x64xf16>, %wu: tensor<96x64xf16>,
    %wd: tensor<64x96xf16>) -> !x {
  %0 = transformer.rms_norm %x, %n1 {epsilon = 1.0e-5} : (!x, tensor<64xf32>) -> !x
  %q, %k, %v = transformer.matmul %0 weights(%wq, %wk, %wv)
    : (!x, tensor<64x64xf16>, tensor<32x64xf16>, tensor<32x64xf16>) -> (!x, !n, !n)
  %qr = transformer.rope %q, %pos, %rope <half_split> {headDim = 16} : (!x, !ids, !rope) -> !x
  %kr = transformer.rope %k, %pos, %rope <half_split> {headDim = 16} : (!n, !ids, !rope) -> !n
  transformer.cache_append %kr, %slots into %kc : !cache, !n, !ids
  transformer.cache_append %v, %slots into %vc : !cache, !n, !ids
  %a = transformer.attention %qr, %kc, %vc positions(%pos) sequences(%seq) table(%table)
    lengths(%lengths) {heads = 4, scale = 0.25, cached = "cached"}
    : (!x, !cache, !cache, !ids, !ids, !seq, !seq) -> !x
  %o = transformer.matmul %a weights(%wo) : (!x, tensor<64x64xf16>) -> !x
  %h = transformer.add %x, %o : !x
  %1 = transformer.rms_norm %h, %n2 {epsilon = 1.0e-5} : (!x, tensor<64xf32>) -> !x
  %g, %u = transformer.matmul %1 weights(%wg, %wu) : (!x, tensor<96x64xf16>, tensor<96x64xf16>)
    -> (tensor<?x96xf32, #transformer.dims<"tokens">>, tensor<?x96xf32, #transformer.dims<"tokens">>)
  %s = transformer.activation %g <silu> : tensor<?x96xf32, #transformer.dims<"tokens">>
  %m = transformer.mul %s, %u : tensor<?x96xf32, #transformer.dims<"tokens">>
  %d = transformer.matmul %m weights(%wd)
    : (tensor<?x96xf32, #transformer.dims<"tokens">>, tensor<64x96xf16>) -> !x
  %y = transformer.add %h, %d : !x
  return %y : !x
}

// Norm in front; RoPE and the appends behind; what attention reads comes out.
// CHECK-LABEL: transformer.kernel @layer_rms_norm_matmul_rope_cache_append(
// CHECK-SAME: %arg0: index {transformer.size = #transformer.size<"tokens", 1 to 512>}, %arg1: index {transformer.size = #transformer.size<"context", 1 to 64>}, %arg2: tensor<?x64xf32
// CHECK-SAME: ) -> tensor<?x64xf32, #transformer.dims<"tokens">> {
// CHECK-NEXT: %[[NORM:.*]] = transformer.rms_norm %arg2, %arg3
// CHECK-NEXT: %[[QKV:.*]]:3 = transformer.matmul %[[NORM]] weights(%arg4, %arg5, %arg6)
// CHECK-NEXT: %[[Q:.*]] = transformer.rope %[[QKV]]#0
// CHECK-NEXT: %[[K:.*]] = transformer.rope %[[QKV]]#1
// CHECK-NEXT: transformer.cache_append %[[K]], %[[SLOTS:.*]] into %{{.*}} :
// CHECK-NEXT: transformer.cache_append %[[QKV]]#2, %[[SLOTS]] into %{{.*}} :
// CHECK-NEXT: transformer.yield %[[Q]]

// What bounds its lengths comes after the sizes that rows follow.
// CHECK-LABEL: transformer.kernel @layer_attention(
// CHECK-SAME: "tokens", 1 to 512>}, %arg1: index {transformer.size = #transformer.size<"sequences", 1 to 4>}, %arg2: index {transformer.size = #transformer.size<"cached", 1 to 64>}, %arg3: tensor<?x64xf32
// CHECK-NEXT: transformer.attention
// CHECK-NEXT: transformer.yield

// The residual is an operand.
// CHECK-LABEL: transformer.kernel @layer_matmul_add(
// CHECK-NEXT: %[[O:.*]] = transformer.matmul %arg1 weights(%arg2)
// CHECK-NEXT: %[[H:.*]] = transformer.add %arg3, %[[O]]
// CHECK-NEXT: transformer.yield %[[H]]

// CHECK-LABEL: transformer.kernel @layer_rms_norm_matmul_activation_mul(
// CHECK-NEXT: transformer.rms_norm
// CHECK-NEXT: %[[GU:.*]]:2 = transformer.matmul
// CHECK-NEXT: %[[S:.*]] = transformer.activation %[[GU]]#0 <silu>
// CHECK-NEXT: %[[M:.*]] = transformer.mul %[[S]], %[[GU]]#1
// CHECK-NEXT: transformer.yield %[[M]]

// Another K is another kernel of the same name's family.
// CHECK-LABEL: transformer.kernel @layer_matmul_add_1(
// CHECK-NEXT: transformer.matmul {{.*}} (tensor<?x96xf32
// CHECK-NEXT: transformer.add

// CHECK-LABEL: func.func @layer(
// CHECK-NEXT: %[[A:.*]] = transformer.launch @layer_rms_norm_matmul_rope_cache_append(%arg0, %arg2, %arg4, {{.*}}) :
// CHECK-NEXT: %[[B:.*]] = transformer.launch @layer_attention(%arg0, %arg1, %arg3, %[[A]], {{.*}}) :
// CHECK-NEXT: %[[C:.*]] = transformer.launch @layer_matmul_add(%arg0, %[[B]], %arg17, %arg4)
// CHECK-NEXT: %[[D:.*]] = transformer.launch @layer_rms_norm_matmul_activation_mul(%arg0, %[[C]],
// CHECK-NEXT: %[[E:.*]] = transformer.launch @layer_matmul_add_1(%arg0, %[[D]], %arg21, %[[C]])
// CHECK-NEXT: return %[[E]]

// The two norms, appends and adds are equal and share a kernel; the ropes differ in width.
// SINGLE-COUNT-12: transformer.kernel @
// SINGLE-NOT: transformer.kernel @
// SINGLE-LABEL: func.func @layer(
// SINGLE-NEXT: launch @layer_rms_norm(
// SINGLE-NEXT: launch @layer_matmul(
// SINGLE-NEXT: launch @layer_rope(
// SINGLE-NEXT: launch @layer_rope_1(
// SINGLE-NEXT: launch @layer_cache_append(
// SINGLE-NEXT: launch @layer_cache_append(
// SINGLE-NEXT: launch @layer_attention(
// SINGLE-NEXT: launch @layer_matmul_1(
// SINGLE-NEXT: launch @layer_add(
// SINGLE-NEXT: launch @layer_rms_norm(
// SINGLE-NEXT: launch @layer_matmul_2(
// SINGLE-NEXT: launch @layer_activation(
// SINGLE-NEXT: launch @layer_mul(
// SINGLE-NEXT: launch @layer_matmul_3(
// SINGLE-NEXT: launch @layer_add(
// SINGLE-NEXT: return
