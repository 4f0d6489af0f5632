// What the verifiers of the rowwise operations and of pack say.
// RUN: %opt %s -verify-diagnostics -split-input-file

func.func @embedding_width(%i: tensor<4xi32>, %t: tensor<9x64xf32>) {
  // expected-error @+1 {{result is 63 wide, expected 64}}
  %0 = transformer.embedding %i, %t : (tensor<4xi32>, tensor<9x64xf32>) -> tensor<4x63xf32>
  return
}

// -----

func.func @embedding_rows(%i: tensor<5xi32>, %t: tensor<9x64xf32>) {
  // expected-error @+1 {{result has 4 rows, but ids has 5}}
  %0 = transformer.embedding %i, %t : (tensor<5xi32>, tensor<9x64xf32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @embedding_blocks(%i: tensor<4xi32>, %t: tensor<9x48x!transformer.quant<q8_0>>) {
  // expected-error @+1 {{table has rows of 48 elements, which is no multiple of the block of 32 of q8_0}}
  %0 = transformer.embedding %i, %t
    : (tensor<4xi32>, tensor<9x48x!transformer.quant<q8_0>>) -> tensor<4x48xf32>
  return
}

// -----

func.func @gather_width(%x: tensor<4x64xf32>, %r: tensor<2xi32>) {
  // expected-error @+1 {{result is 63 wide, expected 64}}
  %0 = transformer.gather_rows %x, %r : (tensor<4x64xf32>, tensor<2xi32>) -> tensor<2x63xf32>
  return
}

// -----

func.func @gather_rows(%x: tensor<4x64xf32>, %r: tensor<2xi32>) {
  // expected-error @+1 {{result has 4 rows, but rows has 2}}
  %0 = transformer.gather_rows %x, %r : (tensor<4x64xf32>, tensor<2xi32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @unnamed_rows(%x: tensor<?x64xf32>, %r: tensor<2xi32>) {
  // expected-error @+1 {{result has unnamed rows, but rows has 2; write tensor<?x}}
  %0 = transformer.gather_rows %x, %r : (tensor<?x64xf32>, tensor<2xi32>) -> tensor<?x64xf32>
  return
}

// -----

func.func @rms_type(%x: tensor<4x64xf32>, %w: tensor<64xf32>) {
  // expected-error @+1 {{result type 'tensor<4x63xf32>' differs from 'tensor<4x64xf32>'}}
  %0 = transformer.rms_norm %x, %w {epsilon = 1.0e-5} : (tensor<4x64xf32>, tensor<64xf32>) -> tensor<4x63xf32>
  return
}

// -----

func.func @rms_epsilon(%x: tensor<4x64xf32>, %w: tensor<64xf32>) {
  // expected-error @+1 {{epsilon must be finite and not negative}}
  %0 = transformer.rms_norm %x, %w {epsilon = -1.0e-5} : (tensor<4x64xf32>, tensor<64xf32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @rms_weight(%x: tensor<4x64xf32>, %w: tensor<63xf32>) {
  // expected-error @+1 {{weight has 63 elements, expected 64}}
  %0 = transformer.rms_norm %x, %w {epsilon = 1.0e-5} : (tensor<4x64xf32>, tensor<63xf32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @layer_bias(%x: tensor<4x64xf32>, %w: tensor<64xf32>, %b: tensor<63xf32>) {
  // expected-error @+1 {{bias has 63 elements, expected 64}}
  %0 = transformer.layer_norm %x, %w, %b {epsilon = 1.0e-5}
    : (tensor<4x64xf32>, tensor<64xf32>, tensor<63xf32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @layer_weight(%x: tensor<4x64xf32>, %w: tensor<65xf32>) {
  // expected-error @+1 {{weight has 65 elements, expected 64}}
  %0 = transformer.layer_norm %x, %w {epsilon = 1.0e-5} : (tensor<4x64xf32>, tensor<65xf32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @layer_epsilon(%x: tensor<4x64xf32>, %w: tensor<64xf32>) {
  // expected-error @+1 {{epsilon must be finite and not negative}}
  %0 = transformer.layer_norm %x, %w {epsilon = 0x7FF8000000000000 : f64} : (tensor<4x64xf32>, tensor<64xf32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @rope_heads(%x: tensor<4x64xf32>, %p: tensor<4xi32>, %t: tensor<9x16xf32>) {
  // expected-error @+1 {{input is 64 wide, which is no whole number of heads of 20}}
  %0 = transformer.rope %x, %p, %t <half_split> {headDim = 20}
    : (tensor<4x64xf32>, tensor<4xi32>, tensor<9x16xf32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @rope_odd(%x: tensor<4x64xf32>, %p: tensor<4xi32>, %t: tensor<9x15xf32>) {
  // expected-error @+1 {{table is 15 wide; an even number of rotary dimensions up to the head's 16 is needed}}
  %0 = transformer.rope %x, %p, %t <half_split> {headDim = 16}
    : (tensor<4x64xf32>, tensor<4xi32>, tensor<9x15xf32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @rope_wide(%x: tensor<4x64xf32>, %p: tensor<4xi32>, %t: tensor<9x18xf32>) {
  // expected-error @+1 {{table is 18 wide; an even number of rotary dimensions up to the head's 16 is needed}}
  %0 = transformer.rope %x, %p, %t <half_split> {headDim = 16}
    : (tensor<4x64xf32>, tensor<4xi32>, tensor<9x18xf32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @rope_type(%x: tensor<4x64xf32>, %p: tensor<4xi32>, %t: tensor<9x16xf32>) {
  // expected-error @+1 {{result type 'tensor<4x32xf32>' differs from 'tensor<4x64xf32>'}}
  %0 = transformer.rope %x, %p, %t <half_split> {headDim = 16}
    : (tensor<4x64xf32>, tensor<4xi32>, tensor<9x16xf32>) -> tensor<4x32xf32>
  return
}

// -----

func.func @rope_positions(%x: tensor<4x64xf32>, %p: tensor<5xi32>, %t: tensor<9x16xf32>) {
  // expected-error @+1 {{positions has 5 rows, but input has 4}}
  %0 = transformer.rope %x, %p, %t <half_split> {headDim = 16}
    : (tensor<4x64xf32>, tensor<5xi32>, tensor<9x16xf32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @scale_factor(%x: tensor<4x64xf32>) {
  // expected-error @+1 {{factor must be finite}}
  %0 = transformer.scale %x {factor = 0x7FF0000000000000 : f64} : tensor<4x64xf32>
  return
}

// -----

func.func @scale_softcap(%x: tensor<4x64xf32>) {
  // expected-error @+1 {{softcap must be finite and not negative}}
  %0 = transformer.scale %x {softcap = -2.0} : tensor<4x64xf32>
  return
}

// -----

func.func @pack_type(%w: tensor<8x64xf32>) {
  // expected-error @+1 {{changes more than the layout}}
  %0 = transformer.pack %w : tensor<8x64xf32> to tensor<8x64xf16, #transformer.layout<interleaved, rows = 16>>
  return
}

// -----

func.func @pack_back(%w: tensor<8x64xf32, #transformer.layout<interleaved, rows = 16>>) {
  // expected-error @+1 {{packs from the file's row-major layout only}}
  %0 = transformer.pack %w : tensor<8x64xf32, #transformer.layout<interleaved, rows = 16>> to tensor<8x64xf32>
  return
}

// -----

func.func @pack_blocks(%w: tensor<8x48x!transformer.quant<q4_0>>) {
  // expected-error @+1 {{input has rows of 48 elements, which is no multiple of the block of 32 of q4_0}}
  %0 = transformer.pack %w : tensor<8x48x!transformer.quant<q4_0>>
    to tensor<8x48x!transformer.quant<q4_0>, #transformer.layout<interleaved, rows = 16>>
  return
}

// -----

func.func @norm_heads(%x: tensor<4x64xf32>, %w: tensor<64xf32>) {
  // expected-error @+1 {{has rows of 64, which are no 3 heads of equal width}}
  %0 = transformer.rms_norm %x, %w {epsilon = 1.0e-5, heads = 3} : (tensor<4x64xf32>, tensor<64xf32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @norm_of_heads(%x: tensor<4x64xf32>, %w: tensor<64xf32>, %b: tensor<64xf32>) {
  // expected-error @+1 {{weight has 64 elements, expected 16}}
  %0 = transformer.layer_norm %x, %w, %b {epsilon = 1.0e-5, heads = 4} : (tensor<4x64xf32>, tensor<64xf32>, tensor<64xf32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @norm_offset(%x: tensor<4x64xf32>, %w: tensor<64xf32>) {
  // expected-error @+1 {{offset must be finite}}
  %0 = transformer.rms_norm %x, %w {epsilon = 1.0e-5, offset = 0x7FF0000000000000 : f64} : (tensor<4x64xf32>, tensor<64xf32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @cast_shape(%x: tensor<4x64xf32>) {
  // expected-error @+1 {{result is 32 wide, expected 64}}
  %0 = transformer.cast %x : tensor<4x64xf32> to tensor<4x32xf16>
  return
}
