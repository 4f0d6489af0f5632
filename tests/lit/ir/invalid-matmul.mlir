// What the verifiers of matmul and mlp say.
// RUN: %opt %s -verify-diagnostics -split-input-file

func.func @none(%x: tensor<4x64xf32>) {
  // expected-error @+1 {{needs at least one weight}}
  transformer.matmul %x weights() : (tensor<4x64xf32>) -> ()
  return
}

// -----

func.func @results(%x: tensor<4x64xf32>, %w: tensor<8x64xf32>) {
  // expected-error @+1 {{has 2 weights, but 1 results}}
  %0 = transformer.matmul %x weights(%w, %w)
    : (tensor<4x64xf32>, tensor<8x64xf32>, tensor<8x64xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @biases(%x: tensor<4x64xf32>, %w: tensor<8x64xf32>, %b: tensor<8xf32>) {
  // expected-error @+1 {{has 1 biases for 2 weights; give one for each or none}}
  %0:2 = transformer.matmul %x weights(%w, %w) bias(%b)
    : (tensor<4x64xf32>, tensor<8x64xf32>, tensor<8x64xf32>, tensor<8xf32>)
    -> (tensor<4x8xf32>, tensor<4x8xf32>)
  return
}

// -----

func.func @numerics(%x: tensor<4x64xf32>, %w: tensor<8x64xf32>) {
  // expected-error @+1 {{unknown multiply 'f64'; known: f32 tf32x3 bf16 f16 i8 i8x2 fp8}}
  %0 = transformer.matmul %x weights(%w) {numerics = #transformer.numerics<multiply = f64, accumulate = f32>}
    : (tensor<4x64xf32>, tensor<8x64xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @integers(%x: tensor<4x64xf32>, %w: tensor<8x64x!transformer.quant<q8_0>>, %v: tensor<8x64xf16>) {
  // expected-error @+1 {{multiplies in i8, which is for a matmul whose weights are all quantized}}
  %0:2 = transformer.matmul %x weights(%w, %v) {numerics = #transformer.numerics<multiply = i8>}
    : (tensor<4x64xf32>, tensor<8x64x!transformer.quant<q8_0>>, tensor<8x64xf16>)
    -> (tensor<4x8xf32>, tensor<4x8xf32>)
  return
}

// -----

func.func @integers_of_mlp(%x: tensor<4x32xf32>, %u: tensor<32x32x!transformer.quant<q8_0>>, %d: tensor<32x32xf32>) {
  // expected-error @+1 {{multiplies in i8x2, which is for a matmul whose weights are all quantized}}
  %0 = transformer.mlp %x up(%u) down(%d) <relu> {numerics = #transformer.numerics<multiply = i8x2>}
    : (tensor<4x32xf32>, tensor<32x32x!transformer.quant<q8_0>>, tensor<32x32xf32>) -> tensor<4x32xf32>
  return
}

// -----

func.func @transposed_quants(%x: tensor<4x64xf32>, %w: tensor<64x32x!transformer.quant<q8_0>>) {
  // expected-error @+1 {{cannot transpose a quantized weight: its blocks lie along K}}
  %0 = transformer.matmul %x weights(%w) {transpose}
    : (tensor<4x64xf32>, tensor<64x32x!transformer.quant<q8_0>>) -> tensor<4x32xf32>
  return
}

// -----

#layout = #transformer.layout<interleaved, rows = 16>
func.func @transposed_layout(%x: tensor<4x64xf32>, %w: tensor<64x8xf32, #layout>) {
  // expected-error @+1 {{cannot transpose a weight that has a layout}}
  %0 = transformer.matmul %x weights(%w) {transpose}
    : (tensor<4x64xf32>, tensor<64x8xf32, #layout>) -> tensor<4x8xf32>
  return
}

// -----

func.func @k(%x: tensor<4x64xf32>, %w: tensor<8x65xf32>) {
  // expected-error @+1 {{weight takes rows of 65, but its input is 64 wide}}
  %0 = transformer.matmul %x weights(%w) : (tensor<4x64xf32>, tensor<8x65xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @n(%x: tensor<4x64xf32>, %w: tensor<64x8xf32>) {
  // expected-error @+1 {{weight gives rows of 8, expected 9}}
  %0 = transformer.matmul %x weights(%w) {transpose}
    : (tensor<4x64xf32>, tensor<64x8xf32>) -> tensor<4x9xf32>
  return
}

// -----

func.func @blocks(%x: tensor<4x48xf32>, %w: tensor<8x48x!transformer.quant<q4_1>>) {
  // expected-error @+1 {{weight has rows of 48 elements, which is no multiple of the block of 32 of q4_1}}
  %0 = transformer.matmul %x weights(%w)
    : (tensor<4x48xf32>, tensor<8x48x!transformer.quant<q4_1>>) -> tensor<4x8xf32>
  return
}

// -----

func.func @super_blocks(%x: tensor<4x320xf32>, %w: tensor<8x320x!transformer.quant<q4_k>>) {
  // expected-error @+1 {{weight has rows of 320 elements, which is no multiple of the block of 256 of q4_k}}
  %0 = transformer.matmul %x weights(%w)
    : (tensor<4x320xf32>, tensor<8x320x!transformer.quant<q4_k>>) -> tensor<4x8xf32>
  return
}

// -----

func.func @bias(%x: tensor<4x64xf32>, %w: tensor<8x64xf32>, %b: tensor<7xf32>) {
  // expected-error @+1 {{bias has 7 elements, expected 8}}
  %0 = transformer.matmul %x weights(%w) bias(%b)
    : (tensor<4x64xf32>, tensor<8x64xf32>, tensor<7xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @rows(%x: tensor<?x64xf32, #transformer.dims<"tokens">>, %w: tensor<8x64xf32>) {
  // expected-error @+1 {{result has 'outputs' rows, but input has 'tokens'}}
  %0 = transformer.matmul %x weights(%w)
    : (tensor<?x64xf32, #transformer.dims<"tokens">>, tensor<8x64xf32>)
    -> tensor<?x8xf32, #transformer.dims<"outputs">>
  return
}

// -----

func.func @input(%x: tensor<64xf32>, %w: tensor<8x64xf32>) {
  // expected-error @+1 {{operand #0 must be rows of activations}}
  %0 = transformer.matmul %x weights(%w) : (tensor<64xf32>, tensor<8x64xf32>) -> tensor<1x8xf32>
  return
}

// -----

func.func @dynamic_k(%x: tensor<4x?xf32, #transformer.dims<"k">>, %w: tensor<8x64xf32>) {
  // expected-error @+1 {{operand #0 must be rows of activations of static width}}
  %0 = transformer.matmul %x weights(%w)
    : (tensor<4x?xf32, #transformer.dims<"k">>, tensor<8x64xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @dynamic_n(%x: tensor<4x64xf32>, %w: tensor<?x64xf32, #transformer.dims<"n">>) {
  // expected-error @+1 {{operand #1 must be variadic of a weight matrix of static shape}}
  %0 = transformer.matmul %x weights(%w)
    : (tensor<4x64xf32>, tensor<?x64xf32, #transformer.dims<"n">>) -> tensor<4x8xf32>
  return
}

// -----

func.func @mlp_gate_bias(%x: tensor<4x64xf32>, %up: tensor<96x64xf32>, %down: tensor<64x96xf32>,
                         %b: tensor<96xf32>) {
  // expected-error @+1 {{has a gate bias, but no gate}}
  %0 = transformer.mlp %x up(%up) down(%down) gate_bias(%b) <silu>
    : (tensor<4x64xf32>, tensor<96x64xf32>, tensor<64x96xf32>, tensor<96xf32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @mlp_gate(%x: tensor<4x64xf32>, %gate: tensor<95x64xf32>, %up: tensor<96x64xf32>,
                    %down: tensor<64x96xf32>) {
  // expected-error @+1 {{gate gives rows of 95, expected 96}}
  %0 = transformer.mlp %x gate(%gate) up(%up) down(%down) <silu>
    : (tensor<4x64xf32>, tensor<95x64xf32>, tensor<96x64xf32>, tensor<64x96xf32>)
    -> tensor<4x64xf32>
  return
}

// -----

func.func @mlp_up(%x: tensor<4x64xf32>, %up: tensor<96x63xf32>, %down: tensor<64x96xf32>) {
  // expected-error @+1 {{up takes rows of 63, but its input is 64 wide}}
  %0 = transformer.mlp %x up(%up) down(%down) <silu>
    : (tensor<4x64xf32>, tensor<96x63xf32>, tensor<64x96xf32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @mlp_down(%x: tensor<4x64xf32>, %up: tensor<96x64xf32>, %down: tensor<64x95xf32>) {
  // expected-error @+1 {{down takes rows of 95, but its input is 96 wide}}
  %0 = transformer.mlp %x up(%up) down(%down) <silu>
    : (tensor<4x64xf32>, tensor<96x64xf32>, tensor<64x95xf32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @mlp_rows(%x: tensor<4x64xf32>, %up: tensor<96x64xf32>, %down: tensor<64x96xf32>) {
  // expected-error @+1 {{result has 5 rows, but input has 4}}
  %0 = transformer.mlp %x up(%up) down(%down) <silu>
    : (tensor<4x64xf32>, tensor<96x64xf32>, tensor<64x96xf32>) -> tensor<5x64xf32>
  return
}
