// Attributes of other dialects are theirs: they stay, at every stage.
// RUN: %opt %s --allow-unregistered-dialect | FileCheck %s
// RUN: %opt %s --allow-unregistered-dialect --kernelforge-pipeline=fused | FileCheck %s --check-prefix=FUSED
// RUN: %opt %s --allow-unregistered-dialect --kernelforge-pipeline=target 2>/dev/null | sed '/^\[/d' > %t
// RUN: %opt %t --allow-unregistered-dialect | FileCheck %s --check-prefix=FUSED
// RUN: %if target-cpu %{ %opt %s --allow-unregistered-dialect --kernelforge-pipeline=llvm 2>/dev/null | sed '/^\[/d' > %t.llvm %}
// RUN: %if target-cpu %{ %opt %t.llvm --allow-unregistered-dialect | FileCheck %s --check-prefix=FUSED %}

!x = tensor<4x8xf32>

// CHECK: transformer.kernel private @k(%{{.*}}: tensor<4x8xf32> {foo.note = "x"})
// CHECK-SAME: attributes {foo.note = 1 : i64}
// FUSED: transformer.kernel private @k(%{{.*}}: tensor<4x8xf32> {foo.note = "x"})
// FUSED-SAME: foo.note = 1 : i64
transformer.kernel private @k(%x: !x {foo.note = "x"}) -> !x attributes {foo.note = 1 : i64} {
  // CHECK: transformer.scale %{{.*}} {factor = 5.000000e-01 : f64, foo.note = "half"}
  // FUSED: transformer.scale %{{.*}} {factor = 5.000000e-01 : f64, foo.note = "half"}
  %y = transformer.scale %x {factor = 0.5, foo.note = "half"} : !x
  transformer.yield %y : !x
}
// CHECK: func.func @f(%{{.*}}: tensor<4x8xf32> {foo.note = "a", transformer.input = "x"})
// FUSED: func.func @f(%{{.*}}: tensor<4x8xf32> {foo.note = "a", transformer.input = "x"})
func.func @f(%x: !x {foo.note = "a", transformer.input = "x"}) -> !x {
  // CHECK: transformer.launch @k[2](%{{.*}}) {foo.note}
  // FUSED: transformer.launch @k[2](%{{.*}}) {foo.note}
  %y = transformer.launch @k(%x) {layer = 2 : i64, foo.note} : (!x) -> !x
  return %y : !x
}
