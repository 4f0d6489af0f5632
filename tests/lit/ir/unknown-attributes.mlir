// Attributes that nobody knows are errors: a misspelt one must not be ignored.
// RUN: %opt %s -verify-diagnostics -split-input-file

func.func @scale(%x: tensor<4x8xf32>) {
  // expected-error @+1 {{'transformer.scale' op has no attribute 'facter'; known: factor, softcap; did you mean 'factor'?}}
  %y = transformer.scale %x {facter = 0.5} : tensor<4x8xf32>
  return
}

// -----

// The one that is misspelt is named, not the one that is missing for it.
func.func @norm(%x: tensor<4x8xf32>, %v: tensor<8xf32>) {
  // expected-error @+1 {{has no attribute 'eps'; known: epsilon, heads, offset; did you mean 'epsilon'?}}
  %y = transformer.rms_norm %x, %v {eps = 1.0e-5} : (tensor<4x8xf32>, tensor<8xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @matmul(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>) {
  // expected-error @+1 {{has no attribute 'transposed'; known: numerics, transpose; did you mean 'transpose'?}}
  %y = transformer.matmul %x weights(%w) {transposed} : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @add(%x: tensor<4x8xf32>) {
  // expected-error @+1 {{'transformer.add' op has no attribute 'factor'; it has none}}
  %y = transformer.add %x, %x {factor = 2.0} : tensor<4x8xf32>
  return
}

// -----

// In the generic form, too.
func.func @generic(%x: tensor<4x8xf32>) {
  // expected-error @+1 {{has no attribute 'funktion'; known: function; did you mean 'function'?}}
  %y = "transformer.activation"(%x) {funktion = #transformer.fn<relu>} : (tensor<4x8xf32>) -> tensor<4x8xf32>
  return
}

// -----

// expected-error-re @+1 {{'transformer.kernel' op has no attribute 'shedule'; known: {{.*}}; did you mean 'schedule'?}}
transformer.kernel @k(%x: tensor<4x8xf32>) -> tensor<4x8xf32>
    attributes {shedule = #transformer.schedule<{rows_per_task = 4 : i64}>} {
  %y = transformer.softmax %x : tensor<4x8xf32>
  transformer.yield %y : tensor<4x8xf32>
}

// -----

transformer.kernel @k(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %y = transformer.softmax %x : tensor<4x8xf32>
  // expected-error @+1 {{'transformer.yield' op has no attribute 'layer'; it has none}}
  transformer.yield %y : tensor<4x8xf32> {layer = 1 : i64}
}

// -----

transformer.kernel @k(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %y = transformer.softmax %x : tensor<4x8xf32>
  transformer.yield %y : tensor<4x8xf32>
}
func.func @f(%x: tensor<4x8xf32>) {
  // expected-error @+1 {{'transformer.launch' op has no attribute 'layr'; known: kernel, layer, role; did you mean 'layer'?}}
  %y = transformer.launch @k(%x) {layr = 3 : i64} : (tensor<4x8xf32>) -> tensor<4x8xf32>
  return
}

// -----

// expected-error @+1 {{argument 1 has no attribute 'transformer.weigth'; known: transformer.size, transformer.weight, transformer.input; did you mean 'transformer.weight'?}}
func.func @f(%x: tensor<4x8xf32>, %w: tensor<8x8xf32> {transformer.weigth = "w"}) { return }

// -----

// expected-error-re @+1 {{argument 0 has no attribute 'transformer.sizes'; known: {{.*}}; did you mean 'transformer.size'?}}
transformer.kernel @k(%n: index {transformer.sizes = #transformer.size<"n", 1 to 2>}, %x: tensor<4x8xf32>)
    -> tensor<4x8xf32> {
  %y = transformer.softmax %x : tensor<4x8xf32>
  transformer.yield %y : tensor<4x8xf32>
}

// -----

// expected-error @+1 {{argument 0: transformer.weight must be a string: the name that it is bound by}}
func.func @f(%w: tensor<8x8xf32> {transformer.weight}) { return }

// -----

// expected-error @+1 {{result 0 has no attribute 'transformer.input'; it has none}}
func.func @f(%x: tensor<8x8xf32>) -> (tensor<8x8xf32> {transformer.input = "x"}) {
  return %x : tensor<8x8xf32>
}

// -----

// expected-error @+1 {{has no attribute 'transformer.targt'; known: transformer.target; did you mean 'transformer.target'?}}
module attributes {transformer.targt = "cpu"} {}

// -----

// expected-error @+1 {{carries transformer.weight, which belongs on an argument}}
func.func @f(%x: tensor<8x8xf32>) attributes {transformer.weight = "w"} { return }

// -----

// A weight is bound once, an input changes from run to run.
func.func @both(%x: tensor<4x8xf32>,
                // expected-error @+1 {{'func.func' op argument 1 is a transformer.weight and a transformer.input}}
                %w: tensor<8x8xf32> {transformer.weight = "w", transformer.input = "w"}) {
  return
}
