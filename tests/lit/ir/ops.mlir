// Every operation in every form reads back what it prints.
// RUN: %opt %s | %opt | FileCheck %s
// RUN: %opt %s --mlir-print-op-generic | %opt | FileCheck %s
// RUN: %opt %s --mlir-print-op-generic | FileCheck %s --check-prefix=GENERIC

#rows = #transformer.dims<"tokens">
!x = tensor<?x64xf32, #rows>
!ids = tensor<?xi32, #rows>

// CHECK-LABEL: func.func @matmul
func.func @matmul(%x: !x, %q: tensor<64x64x!transformer.quant<q4_1>>, %k: tensor<32x64xf16>,
                  %t: tensor<64x48xbf16>, %bq: tensor<64xf32>, %bk: tensor<32xf32>) {
  // CHECK: transformer.matmul %{{.*}} weights(%{{.*}}) : (tensor<?x64xf32, #transformer.dims<"tokens">>, tensor<64x64x!transformer.quant<q4_1>>) -> tensor<?x64xf32, #transformer.dims<"tokens">>
  %0 = transformer.matmul %x weights(%q) : (!x, tensor<64x64x!transformer.quant<q4_1>>) -> !x
  // CHECK: %{{.*}}:2 = transformer.matmul %{{.*}} weights(%{{.*}}, %{{.*}}) bias(%{{.*}}, %{{.*}}) {numerics = #transformer.numerics<multiply = bf16>} :
  %1:2 = transformer.matmul %x weights(%q, %k) bias(%bq, %bk) {numerics = #transformer.numerics<multiply = bf16, accumulate = f32>} :
    (!x, tensor<64x64x!transformer.quant<q4_1>>, tensor<32x64xf16>, tensor<64xf32>, tensor<32xf32>)
    -> (!x, tensor<?x32xf32, #rows>)
  // CHECK: transformer.matmul %{{.*}} weights(%{{.*}}) {transpose} : ({{.*}}, tensor<64x48xbf16>) -> tensor<?x48xf32
  %2 = transformer.matmul %x weights(%t) {transpose} : (!x, tensor<64x48xbf16>)
    -> tensor<?x48xf32, #rows>
  return
}

// CHECK-LABEL: func.func @mlp
func.func @mlp(%x: !x, %up: tensor<96x64xf32>, %down: tensor<64x96xf32>, %bias: tensor<96xf32>,
               %downBias: tensor<64xf32>) {
  // CHECK: transformer.mlp %{{.*}} up(%{{.*}}) down(%{{.*}}) <relu> :
  %0 = transformer.mlp %x up(%up) down(%down) <relu>
    : (!x, tensor<96x64xf32>, tensor<64x96xf32>) -> !x
  // CHECK: transformer.mlp %{{.*}} gate(%{{.*}}) up(%{{.*}}) down(%{{.*}}) gate_bias(%{{.*}}) up_bias(%{{.*}}) down_bias(%{{.*}}) <silu> :
  %1 = transformer.mlp %x gate(%up) up(%up) down(%down) gate_bias(%bias) up_bias(%bias)
    down_bias(%downBias) <silu> : (!x, tensor<96x64xf32>, tensor<96x64xf32>, tensor<64x96xf32>,
    tensor<96xf32>, tensor<96xf32>, tensor<64xf32>) -> !x
  return
}

// CHECK-LABEL: func.func @attention
func.func @attention(%bound: index {transformer.size = #transformer.size<"cached", 1 to 64>},
    %x: !x, %kv: tensor<?x32xf32, #rows>, %slots: !ids,
    %k: !transformer.cache<2, 16, f32>, %v: !transformer.cache<2, 16, f16>,
    %first: tensor<?xi32, #transformer.dims<"sequences">>,
    %pk: !transformer.cache<2, 16, bf16, page = 32>,
    %pages: tensor<?x?xi32, #transformer.dims<"sequences", "pages">>,
    %lengths: tensor<?xi32, #transformer.dims<"sequences">>, %sinks: tensor<4xf32>,
    %blocks: !transformer.cache<1, 32, !transformer.quant<q8_0>>) {
  // CHECK: transformer.cache_append {{.*}} : !transformer.cache<1, 32, !transformer.quant<q8_0>>, tensor<?x32xf32
  transformer.cache_append %kv, %slots into %blocks
    : !transformer.cache<1, 32, !transformer.quant<q8_0>>, tensor<?x32xf32, #rows>, !ids
  // CHECK: transformer.cache_append %{{.*}}, %{{.*}} into %{{.*}} : !transformer.cache<2, 16, f32>, tensor<?x32xf32
  transformer.cache_append %kv, %slots into %k
    : !transformer.cache<2, 16, f32>, tensor<?x32xf32, #rows>, !ids
  // CHECK: transformer.attention %{{.*}}, %{{.*}}, %{{.*}} positions(%{{.*}}) sequences(%{{.*}}) table(%{{.*}}) lengths(%{{.*}}) {heads = 4 : i64, scale = 2.500000e-01 : f64} :
  %0 = transformer.attention %x, %k, %v positions(%slots) sequences(%slots) table(%first)
    lengths(%lengths) {heads = 4, scale = 0.25} : (!x, !transformer.cache<2, 16, f32>,
    !transformer.cache<2, 16, f16>, !ids, !ids, tensor<?xi32, #transformer.dims<"sequences">>,
    tensor<?xi32, #transformer.dims<"sequences">>) -> !x
  // CHECK: transformer.attention {{.*}} {cached = "cached", causal = false, heads = 4 : i64, scale = 1.000000e+00 : f64, softcap = 5.000000e+01 : f64, window = 128 : i64} : {{.*}}tensor<?x?xi32, #transformer.dims<"sequences", "pages">>
  %1 = transformer.attention %x, %pk, %pk positions(%slots) sequences(%slots) table(%pages)
    lengths(%lengths) {heads = 4, scale = 1.0, causal = false, window = 128, softcap = 50.0,
     cached = "cached"}
    : (!x, !transformer.cache<2, 16, bf16, page = 32>, !transformer.cache<2, 16, bf16, page = 32>,
    !ids, !ids, tensor<?x?xi32, #transformer.dims<"sequences", "pages">>,
    tensor<?xi32, #transformer.dims<"sequences">>) -> !x
  // CHECK: transformer.attention {{.*}} lengths(%{{.*}}) sinks(%{{.*}}) {heads = 4 : i64, numerics = #transformer.numerics<multiply = f16>, scale
  %2 = transformer.attention %x, %k, %v positions(%slots) sequences(%slots) table(%first)
    lengths(%lengths) sinks(%sinks) {heads = 4, scale = 0.25,
     numerics = #transformer.numerics<multiply = f16, accumulate = f32>}
    : (!x, !transformer.cache<2, 16, f32>, !transformer.cache<2, 16, f16>, !ids, !ids,
    tensor<?xi32, #transformer.dims<"sequences">>, tensor<?xi32, #transformer.dims<"sequences">>,
    tensor<4xf32>) -> !x
  return
}

// CHECK-LABEL: func.func @rowwise
func.func @rowwise(%x: !x, %ids: !ids, %wanted: tensor<3xi32>, %table: tensor<50x64xf32>,
    %w: tensor<64xf32>, %b: tensor<64xf32>, %head: tensor<16xf32>,
    %rope: tensor<?x8xf32, #transformer.dims<"context">>) {
  // CHECK: transformer.embedding %{{.*}}, %{{.*}} : (tensor<?xi32, #transformer.dims<"tokens">>, tensor<50x64xf32>)
  %0 = transformer.embedding %ids, %table : (!ids, tensor<50x64xf32>) -> !x
  // CHECK: transformer.embedding %{{.*}}, %{{.*}} {scale = 8.000000e+00 : f64} :
  %1 = transformer.embedding %ids, %table {scale = 8.0} : (!ids, tensor<50x64xf32>) -> !x
  // CHECK: transformer.gather_rows %{{.*}}, %{{.*}} : ({{.*}}, tensor<3xi32>) -> tensor<3x64xf32>
  %2 = transformer.gather_rows %x, %wanted : (!x, tensor<3xi32>) -> tensor<3x64xf32>
  // CHECK: transformer.rms_norm %{{.*}}, %{{.*}} {epsilon = {{.*}} : f64} :
  %3 = transformer.rms_norm %x, %w {epsilon = 1.0e-5} : (!x, tensor<64xf32>) -> !x
  // CHECK: transformer.rms_norm %{{.*}}, %{{.*}} {epsilon = {{.*}} : f64, heads = 4 : i64, offset = 1.000000e+00 : f64} :
  %17 = transformer.rms_norm %x, %head {epsilon = 1.0e-5, heads = 4, offset = 1.0} : (!x, tensor<16xf32>) -> !x
  // CHECK: transformer.cast %{{.*}} : tensor<?x64xf32, #transformer.dims<"tokens">> to tensor<?x64xbf16, #transformer.dims<"tokens">>
  %18 = transformer.cast %x : !x to tensor<?x64xbf16, #rows>
  // CHECK: transformer.layer_norm %{{.*}}, %{{[^,]*}} {epsilon = {{.*}} : f64} :
  %4 = transformer.layer_norm %x, %w {epsilon = 1.0e-5} : (!x, tensor<64xf32>) -> !x
  // CHECK: transformer.layer_norm %{{.*}}, %{{.*}}, %{{.*}} {epsilon = {{.*}} : f64} :
  %5 = transformer.layer_norm %x, %w, %b {epsilon = 1.0e-5}
    : (!x, tensor<64xf32>, tensor<64xf32>) -> !x
  // CHECK: transformer.rope %{{.*}}, %{{.*}}, %{{.*}} <half_split> {headDim = 16 : i64} :
  %6 = transformer.rope %x, %ids, %rope <half_split> {headDim = 16}
    : (!x, !ids, tensor<?x8xf32, #transformer.dims<"context">>) -> !x
  // CHECK: transformer.rope %{{.*}}, %{{.*}}, %{{.*}} <interleaved> {headDim = 8 : i64} :
  %7 = transformer.rope %x, %ids, %rope <interleaved> {headDim = 8}
    : (!x, !ids, tensor<?x8xf32, #transformer.dims<"context">>) -> !x
  // CHECK: transformer.softmax %{{.*}} : tensor<?x64xf32, #transformer.dims<"tokens">>
  %8 = transformer.softmax %x : !x
  // CHECK: transformer.activation %{{.*}} <silu> :
  %9 = transformer.activation %x <silu> : !x
  // CHECK: transformer.activation %{{.*}} <gelu> :
  %10 = transformer.activation %x <gelu> : !x
  // CHECK: transformer.activation %{{.*}} <gelu_tanh> :
  %11 = transformer.activation %x <gelu_tanh> : !x
  // CHECK: transformer.activation %{{.*}} <relu> :
  %12 = transformer.activation %x <relu> : !x
  // CHECK: transformer.add %{{.*}}, %{{.*}} : tensor<?x64xf32
  %13 = transformer.add %8, %9 : !x
  // CHECK: transformer.mul %{{.*}}, %{{.*}} : tensor<?x64xf32
  %14 = transformer.mul %8, %9 : !x
  // CHECK: transformer.scale %{{.*}} : tensor<?x64xf32
  %15 = transformer.scale %x : !x
  // CHECK: transformer.scale %{{.*}} {factor = 5.000000e-01 : f64, softcap = 3.000000e+01 : f64} :
  %16 = transformer.scale %x {factor = 0.5, softcap = 30.0} : !x
  return
}

// CHECK-LABEL: func.func @step
func.func @step(%logits: !x, %settings: tensor<?x5xf32, #rows>, %draws: tensor<?x3xi32, #rows>,
                %positions: !ids, %slots: !ids, %recent: tensor<?x7xi32, #rows>,
                %first: tensor<?xi32, #transformer.dims<"sequences">>,
                %pages: tensor<?x4xi32, #transformer.dims<"sequences">>) {
  // CHECK: transformer.sample %{{.*}} settings(%{{.*}}) draws(%{{.*}}) positions(%{{.*}}) : (tensor<?x64xf32, #transformer.dims<"tokens">>, tensor<?x5xf32, #transformer.dims<"tokens">>, tensor<?x3xi32, #transformer.dims<"tokens">>, tensor<?xi32, #transformer.dims<"tokens">>) -> tensor<?xi32, #transformer.dims<"tokens">>
  %0 = transformer.sample %logits settings(%settings) draws(%draws) positions(%positions)
    : (!x, tensor<?x5xf32, #rows>, tensor<?x3xi32, #rows>, !ids) -> !ids
  // CHECK: transformer.sample {{.*}} recent(%{{.*}}) : {{.*}}, tensor<?x7xi32, #transformer.dims<"tokens">>) ->
  %1 = transformer.sample %logits settings(%settings) draws(%draws) positions(%positions)
    recent(%recent) : (!x, tensor<?x5xf32, #rows>, tensor<?x3xi32, #rows>, !ids,
    tensor<?x7xi32, #rows>) -> !ids
  // CHECK: %nextIds, %nextPositions, %nextSlots, %nextLengths = transformer.advance %{{.*}}, %{{.*}}, %{{.*}} sequences(%{{.*}}) table(%{{.*}}) lengths(%{{.*}}) limits(%{{.*}}) : (
  %2:4 = transformer.advance %0, %positions, %slots sequences(%positions) table(%first)
    lengths(%first) limits(%first) : (!ids, !ids, !ids, !ids,
    tensor<?xi32, #transformer.dims<"sequences">>, tensor<?xi32, #transformer.dims<"sequences">>,
    tensor<?xi32, #transformer.dims<"sequences">>)
    -> (!ids, !ids, !ids, tensor<?xi32, #transformer.dims<"sequences">>)
  // CHECK: %nextRecent = transformer.advance {{.*}} limits(%{{.*}}) recent(%{{.*}}) {page = 16 : i64} : (
  %3:5 = transformer.advance %1, %positions, %slots sequences(%positions) table(%pages)
    lengths(%first) limits(%first) recent(%recent) {page = 16} : (!ids, !ids, !ids, !ids,
    tensor<?x4xi32, #transformer.dims<"sequences">>, tensor<?xi32, #transformer.dims<"sequences">>,
    tensor<?xi32, #transformer.dims<"sequences">>, tensor<?x7xi32, #rows>)
    -> (!ids, !ids, !ids, tensor<?xi32, #transformer.dims<"sequences">>, tensor<?x7xi32, #rows>)
  return
}

// CHECK-LABEL: func.func @pack
func.func @pack(%w: tensor<5x64xf32>) {
  // CHECK: transformer.pack %{{.*}} : tensor<5x64xf32> to tensor<5x64xf32, #transformer.layout<interleaved, rows = 16>>
  %0 = transformer.pack %w
    : tensor<5x64xf32> to tensor<5x64xf32, #transformer.layout<interleaved, rows = 16>>
  return
}

// CHECK-LABEL: transformer.kernel @relu(%arg0: index {transformer.size = #transformer.size<"tokens", 1 to 512>}, %arg1: tensor<?x64xf32, #transformer.dims<"tokens">>) -> tensor<?x64xf32, #transformer.dims<"tokens">>
// CHECK-SAME: attributes {code = @code, launching = {workspaces = []}, schedule = #transformer.schedule<{rows = 4 : i64}>, schedule_source = "pinned"}
transformer.kernel @relu(%n: index {transformer.size = #transformer.size<"tokens", 1 to 512>},
                         %x: !x) -> !x
    attributes {schedule = #transformer.schedule<{rows = 4}>, schedule_source = "pinned",
                code = @code, launching = {workspaces = []}} {
  %y = transformer.activation %x <relu> : !x
  // CHECK: transformer.yield %{{.*}} : tensor<?x64xf32
  transformer.yield %y : !x
}

// What else than generated code runs a kernel.
// CHECK-LABEL: transformer.kernel @library
// CHECK-SAME: attributes {schedule_reason = "for a test", schedule_source = "pinned", variant = "vendor:openblas"}
transformer.kernel @library(%n: index {transformer.size = #transformer.size<"tokens", 1 to 512>},
                            %x: !x, %w: tensor<64x64xf32>) -> !x
    attributes {variant = "vendor:openblas", schedule_source = "pinned",
                schedule_reason = "for a test"} {
  %y = transformer.matmul %x weights(%w) : (!x, tensor<64x64xf32>) -> !x
  transformer.yield %y : !x
}

// A kernel that only stores has no results.
// CHECK-LABEL: transformer.kernel @append
transformer.kernel @append(%n: index {transformer.size = #transformer.size<"tokens", 1 to 512>},
    %k: !transformer.cache<4, 16, f32>, %x: !x, %slots: !ids) {
  transformer.cache_append %x, %slots into %k : !transformer.cache<4, 16, f32>, !x, !ids
  // CHECK: transformer.yield{{$}}
  transformer.yield
}

// CHECK-LABEL: func.func @launches
func.func @launches(%n: index {transformer.size = #transformer.size<"tokens", 1 to 512>}, %x: !x,
                    %k: !transformer.cache<4, 16, f32>, %slots: !ids) {
  // CHECK: transformer.launch @relu[3](%{{.*}}, %{{.*}}) as "ffn_activation" : (index, tensor<?x64xf32{{.*}}>) -> tensor<?x64xf32
  %y = transformer.launch @relu[3](%n, %x) as "ffn_activation" : (index, !x) -> !x
  // CHECK: transformer.launch @append(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) : (index, !transformer.cache<4, 16, f32>, {{.*}}) -> ()
  transformer.launch @append(%n, %k, %y, %slots)
    : (index, !transformer.cache<4, 16, f32>, !x, !ids) -> ()
  return
}

// A role in the kernel's name is not repeated; another one is, and none is stated.
transformer.kernel @f.norm(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %y = transformer.softmax %x : tensor<4x8xf32>
  transformer.yield %y : tensor<4x8xf32>
}
// CHECK-LABEL: func.func @roles
func.func @roles(%x: tensor<4x8xf32>) {
  // CHECK: transformer.launch @f.norm(%{{.*}}) :
  // GENERIC: kernel = @f.norm, role = "norm"
  %0 = transformer.launch @f.norm(%x) : (tensor<4x8xf32>) -> tensor<4x8xf32>
  // CHECK: transformer.launch @f.norm(%{{.*}}) as "other" :
  %1 = transformer.launch @f.norm(%x) as "other" : (tensor<4x8xf32>) -> tensor<4x8xf32>
  // CHECK: transformer.launch @f.norm(%{{.*}}) as "" :
  // GENERIC: kernel = @f.norm}
  %2 = transformer.launch @f.norm(%x) as "" : (tensor<4x8xf32>) -> tensor<4x8xf32>
  return
}
