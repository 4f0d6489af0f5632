// Numerics are part of what is computed: no pass loses them, and what differs in them stays apart.
// RUN: %opt %s --kernelforge-decompose | FileCheck %s --check-prefix=PARTS
// RUN: %opt %s --pass-pipeline='builtin.module(kernelforge-decompose,func.func(kernelforge-merge-matmuls,canonicalize),kernelforge-fuse)' | FileCheck %s

!x = tensor<?x64xf32, #transformer.dims<"tokens">>
!w = tensor<64x64x!transformer.quant<q8_0>>
#i8 = #transformer.numerics<multiply = i8>
#i8x2 = #transformer.numerics<multiply = i8x2, accumulate = f32>

// PARTS-LABEL: func.func @feed_forward
// PARTS-COUNT-3: transformer.matmul {{.*}} {numerics = #transformer.numerics<multiply = i8>}
// CHECK-LABEL: transformer.kernel @feed_forward_
// CHECK: transformer.matmul {{.*}} weights(%{{.*}}, %{{.*}}) {numerics = #transformer.numerics<multiply = i8>}
// CHECK-NEXT: transformer.activation
// CHECK-LABEL: transformer.kernel @feed_forward_
// CHECK-NEXT: transformer.matmul {{.*}} {numerics = #transformer.numerics<multiply = i8>}
func.func @feed_forward(%t: index {transformer.size = #transformer.size<"tokens", 1 to 4>},
    %x: !x, %g: !w, %u: !w, %d: !w) -> !x {
  %y = transformer.mlp %x gate(%g) up(%u) down(%d) <silu> {numerics = #i8} : (!x, !w, !w, !w) -> !x
  return %y : !x
}

// Those of one kind are merged, the other is a kernel of its own. A segment that nobody reads goes.
// CHECK-LABEL: transformer.kernel @kinds_
// CHECK-NEXT: transformer.matmul {{.*}} weights(%{{.*}}, %{{.*}}) {numerics = #transformer.numerics<multiply = i8x2>}
// CHECK-LABEL: transformer.kernel @kinds_
// CHECK-NEXT: transformer.matmul {{.*}} weights(%{{[a-z0-9]*}}) :
func.func @kinds(%t: index {transformer.size = #transformer.size<"tokens", 1 to 4>},
    %x: !x, %u: !w, %v: !w, %w: !w) -> (!x, !x, !x) {
  %0:2 = transformer.matmul %x weights(%u, %w) {numerics = #i8x2} : (!x, !w, !w) -> (!x, !x)
  %1 = transformer.matmul %x weights(%v) : (!x, !w) -> !x
  %2 = transformer.matmul %x weights(%w) {numerics = #i8x2} : (!x, !w) -> !x
  return %0#0, %1, %2 : !x, !x, !x
}
