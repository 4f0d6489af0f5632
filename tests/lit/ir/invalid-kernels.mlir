// What the verifiers of kernels and launches say.
// RUN: %opt %s -verify-diagnostics -split-input-file

// expected-error @+1 {{argument 0 is an index without transformer.size}}
transformer.kernel @k(%n: index, %x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %y = transformer.softmax %x : tensor<4x8xf32>
  transformer.yield %y : tensor<4x8xf32>
}

// -----

// expected-error @+1 {{takes 'f32'; after the sizes, arguments are tensors and caches}}
transformer.kernel @k(%x: tensor<4x8xf32>, %f: f32) -> tensor<4x8xf32> {
  %y = transformer.softmax %x : tensor<4x8xf32>
  transformer.yield %y : tensor<4x8xf32>
}

// -----

// A size that does not lead is no size.
// expected-error @+1 {{takes 'index'; after the sizes, arguments are tensors and caches}}
transformer.kernel @k(%x: tensor<4x8xf32>,
    %n: index {transformer.size = #transformer.size<"n", 1 to 2>}) -> tensor<4x8xf32> {
  %y = transformer.softmax %x : tensor<4x8xf32>
  transformer.yield %y : tensor<4x8xf32>
}

// -----

// expected-error @+1 {{must end with transformer.yield}}
transformer.kernel @k(%x: tensor<4x8xf32>) {
  %y = transformer.softmax %x : tensor<4x8xf32>
  llvm.unreachable
}

// -----

transformer.kernel @k(%x: tensor<4x8xf32>) {
  // expected-error @+1 {{block with no terminator}}
  %y = transformer.softmax %x : tensor<4x8xf32>
}

// -----

// expected-error @+1 {{yields other types than it declares as results}}
transformer.kernel @k(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %y = transformer.softmax %x : tensor<4x8xf32>
  transformer.yield
}

// -----

transformer.kernel @k(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>) -> tensor<4x8xf32> {
  %y = transformer.matmul %x weights(%w) : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  // expected-error @+1 {{is a second root; a kernel has one matmul or attention}}
  %z = transformer.matmul %y weights(%w) : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  transformer.yield %z : tensor<4x8xf32>
}

// -----

transformer.kernel @k() -> tensor<4x8xf32> {
  // expected-error @+1 {{cannot stand in a kernel}}
  %y = arith.constant dense<0.0> : tensor<4x8xf32>
  transformer.yield %y : tensor<4x8xf32>
}

// -----

transformer.kernel @k(%x: tensor<?x8xf32, #transformer.dims<"n">>)
    -> tensor<?x8xf32, #transformer.dims<"n">> {
  // expected-error @+1 {{uses rows of size 'n', which the kernel does not take as a leading argument}}
  %y = transformer.softmax %x : tensor<?x8xf32, #transformer.dims<"n">>
  transformer.yield %y : tensor<?x8xf32, #transformer.dims<"n">>
}

// -----

// expected-error @+1 {{has an empty body}}
transformer.kernel @k(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  transformer.yield %x : tensor<4x8xf32>
}

// -----

// A kernel sees its arguments only, and stands in a module only.
func.func @f() {
  // expected-error @+1 {{expects parent op 'builtin.module'}}
  transformer.kernel @k(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
    %y = transformer.softmax %x : tensor<4x8xf32>
    transformer.yield %y : tensor<4x8xf32>
  }
  return
}

// -----

func.func @f(%x: tensor<4x8xf32>) {
  // expected-error @+1 {{launches @k, which is no kernel of this module}}
  %y = transformer.launch @k(%x) : (tensor<4x8xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func private @k(%x: tensor<4x8xf32>) -> tensor<4x8xf32>
func.func @f(%x: tensor<4x8xf32>) {
  // expected-error @+1 {{launches @k, which is no kernel of this module}}
  %y = transformer.launch @k(%x) : (tensor<4x8xf32>) -> tensor<4x8xf32>
  return
}

// -----

transformer.kernel @k(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %y = transformer.softmax %x : tensor<4x8xf32>
  transformer.yield %y : tensor<4x8xf32>
}
func.func @f(%x: tensor<4x9xf32>) {
  // expected-error @+1 {{gives other operand types than @k takes}}
  %y = transformer.launch @k(%x) : (tensor<4x9xf32>) -> tensor<4x8xf32>
  return
}

// -----

transformer.kernel @k(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %y = transformer.softmax %x : tensor<4x8xf32>
  transformer.yield %y : tensor<4x8xf32>
}
func.func @f(%x: tensor<4x8xf32>) {
  // expected-error @+1 {{takes other result types than @k gives}}
  transformer.launch @k(%x) : (tensor<4x8xf32>) -> ()
  return
}

// -----

func.func @f(%x: tensor<4x8xf32>) {
  // expected-error @+1 {{expects parent op 'transformer.kernel'}}
  transformer.yield %x : tensor<4x8xf32>
}

// -----

// expected-error @+1 {{has a variant without a name}}
transformer.kernel @k(%x: tensor<4x8xf32>) -> tensor<4x8xf32> attributes {variant = ""} {
  %y = transformer.softmax %x : tensor<4x8xf32>
  transformer.yield %y : tensor<4x8xf32>
}

// -----

// expected-error @+1 {{is no matmul, but is to be run by variant 'blocked'}}
transformer.kernel @k(%x: tensor<4x8xf32>) -> tensor<4x8xf32> attributes {variant = "blocked"} {
  %y = transformer.softmax %x : tensor<4x8xf32>
  transformer.yield %y : tensor<4x8xf32>
}

// -----

// expected-error @+1 {{has code and is run by variant 'blocked'}}
transformer.kernel @k(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>) -> tensor<4x8xf32>
    attributes {variant = "blocked", code = @code} {
  %y = transformer.matmul %x weights(%w) : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  transformer.yield %y : tensor<4x8xf32>
}

// -----

transformer.kernel @k(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error-re @+1 {{dimension 0 of 'tensor<?x8xf32>' has no name; write tensor<?x8xf32, #transformer.dims<"rows">> and alike in all types of the function and, as a leading argument, %rows: index {{.*}}"rows", 1 to 512>}}
  %y = transformer.softmax %x : tensor<?x8xf32>
  transformer.yield %y : tensor<?x8xf32>
}
