// What the verifiers of types and attributes say.
// RUN: %opt %s -verify-diagnostics -split-input-file

// expected-error @+1 {{names 2 dynamic dimensions, but the type has 1}}
func.func private @f(tensor<?x8xf32, #transformer.dims<"a", "b">>)

// -----

// expected-error @+1 {{unknown layout 'blocked'; known: interleaved, planes}}
func.func private @f(tensor<8x8xf32, #transformer.layout<blocked, rows = 16>>)

// -----

// expected-error @+1 {{layout interleaved takes rows = 16, not 8}}
func.func private @f(tensor<8x8xf32, #transformer.layout<interleaved, rows = 8>>)

// -----

// expected-error @+1 {{layout interleaved takes rows = 16, not 1}}
func.func private @f(tensor<8x8xf32, #transformer.layout<interleaved>>)

// -----

// expected-error @+1 {{layout planes has no groups of rows; leave rows out}}
func.func private @f(tensor<8x32x!transformer.quant<q8_0>, #transformer.layout<planes, rows = 16>>)

// -----

// expected-error @+1 {{planes are parts of quantized blocks, and 'f32' has none}}
func.func private @f(tensor<8x8xf32, #transformer.layout<planes>>)

// -----

// expected-error @+1 {{a layout belongs to a weight matrix of static shape}}
func.func private @f(tensor<8xf32, #transformer.layout<interleaved, rows = 16>>)

// -----

// expected-error @+1 {{a layout belongs to a weight matrix of static shape}}
func.func private @f(tensor<?x8xf32, #transformer.layout<interleaved, rows = 16>>)

// -----

// expected-error @+1 {{a size needs a name}}
func.func private @f(index {transformer.size = #transformer.size<"", 1 to 2>})

// -----

// expected-error @+1 {{size 'n' has the empty or non-positive range 3 to 2}}
func.func private @f(index {transformer.size = #transformer.size<"n", 3 to 2>})

// -----

// expected-error @+1 {{size 'n' has the empty or non-positive range 0 to 2}}
func.func private @f(index {transformer.size = #transformer.size<"n", 0 to 2>})

// -----

// expected-error @+1 {{threads must be at least 1, not 0}}
#t = #transformer.target<cpu, triple = "", cpu = "", features = [], threads = 0>

// -----

// expected-error @+1 {{feature 'avx2' must begin with + or -}}
#t = #transformer.target<cpu, triple = "", cpu = "", features = ["avx2"], threads = 1>

// -----

// expected-error @+1 {{unknown quantization scheme 'q3'; known: q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs mxfp4 f8_e4m3}}
func.func private @f(tensor<1x32x!transformer.quant<q3>>)

// -----

// A type of the table that is not quantized has its own MLIR type.
// expected-error @+1 {{unknown quantization scheme 'f16'; known: q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs mxfp4 f8_e4m3}}
func.func private @f(tensor<1x32x!transformer.quant<f16>>)

// -----

// expected-error @+1 {{a cache needs at least one head of at least one dimension}}
func.func private @f(!transformer.cache<0, 8, f32>)

// -----

// expected-error @+1 {{a cache needs at least one head of at least one dimension}}
func.func private @f(!transformer.cache<1, -8, f32>)

// -----

// expected-error @+1 {{cache element type must be f32, f16, bf16 or !transformer.quant<q8_0>, not 'i8'}}
func.func private @f(!transformer.cache<1, 8, i8>)

// -----

// expected-error @+1 {{page must be a power of two, not 12}}
func.func private @f(!transformer.cache<1, 8, f32, page = 12>)

// -----

// expected-error @+1 {{carries transformer.target, which belongs on the module}}
func.func private @f() attributes {
  transformer.target = #transformer.target<cpu, triple = "", cpu = "", features = [], threads = 1>}

// -----

// expected-error @+1 {{transformer.target must be a #transformer.target}}
module attributes {transformer.target = "cpu"} {
}

// -----

// expected-error @+1 {{argument 1: transformer.size must be a #transformer.size}}
func.func private @f(index, index {transformer.size = 4})

// -----

// expected-error @+1 {{argument 0 is a size and must be an index, not 'i32'}}
func.func private @f(i32 {transformer.size = #transformer.size<"n", 1 to 2>})

// -----

// expected-error @+1 {{argument 0: transformer.weight must be a string}}
func.func private @f(tensor<8xf32> {transformer.weight = 3})

// -----

// expected-error @+1 {{argument 0: transformer.input must be a string}}
func.func private @f(tensor<8xf32> {transformer.input})

// -----

// expected-error @+1 {{heads of 16 elements are no whole number of q8_0's blocks of 32}}
func.func private @f(!transformer.cache<2, 16, !transformer.quant<q8_0>>)

// -----

// expected-error @+1 {{unknown accumulate 'f16'; known: f32}}
func.func private @f() attributes {x = #transformer.numerics<multiply = f16, accumulate = f16>}
