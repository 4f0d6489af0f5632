// Role and layer belong on what a kernel is made of, and are a word and a number.
// RUN: %opt %s -split-input-file -verify-diagnostics

func.func @word(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  // expected-error@+1 {{transformer.role must be a word of letters, digits and _}}
  %0 = transformer.softmax %x {transformer.role = "ffn down"} : tensor<4x8xf32>
  return %0 : tensor<4x8xf32>
}

// -----

func.func @number(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  // expected-error@+1 {{transformer.layer must be an i64 from 0 on}}
  %0 = transformer.softmax %x {transformer.layer = -1} : tensor<4x8xf32>
  return %0 : tensor<4x8xf32>
}

// -----

// expected-error@+1 {{'func.func' op carries transformer.role, which belongs on what a kernel is made of}}
func.func @place(%x: tensor<4x8xf32>) -> tensor<4x8xf32> attributes {transformer.role = "ffn"} {
  return %x : tensor<4x8xf32>
}

// -----

transformer.kernel @k(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %0 = transformer.softmax %x : tensor<4x8xf32>
  transformer.yield %0 : tensor<4x8xf32>
}
func.func @launches(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  // expected-error@+1 {{carries transformer.role; a launch has 'layer' and 'role'}}
  %0 = transformer.launch @k(%x) {transformer.role = "ffn"} : (tensor<4x8xf32>) -> tensor<4x8xf32>
  return %0 : tensor<4x8xf32>
}

// -----

func.func @misspelt(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  // expected-error@+1 {{has no attribute 'transformer.rule'; known: transformer.role, transformer.layer; did you mean 'transformer.role'?}}
  %0 = transformer.softmax %x {transformer.rule = "ffn"} : tensor<4x8xf32>
  return %0 : tensor<4x8xf32>
}
