// What the pass refuses, and how it says so.
// RUN: %opt %s --kernelforge-fuse -verify-diagnostics -split-input-file

func.func @mlp(%x: tensor<4x64xf32>, %up: tensor<96x64xf32>, %down: tensor<64x96xf32>)
    -> tensor<4x64xf32> {
  // expected-error @+1 {{is composite: no kernel is made of it; give --kernelforge-decompose before --kernelforge-fuse}}
  %0 = transformer.mlp %x up(%up) down(%down) <silu>
    : (tensor<4x64xf32>, tensor<96x64xf32>, tensor<64x96xf32>) -> tensor<4x64xf32>
  return %0 : tensor<4x64xf32>
}

// -----

!x = tensor<?x8xf32, #transformer.dims<"tokens">>
func.func @size(%x: !x) -> !x {
  // expected-error @+1 {{uses rows of size 'tokens', which the function does not take; give it the leading argument %tokens: index {transformer.size = #transformer.size<"tokens", 1 to 512>}}}
  %0 = transformer.softmax %x : !x
  return %0 : !x
}

// -----

// expected-error @+1 {{kernels are formed in functions of one block}}
func.func @blocks(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %0 = transformer.softmax %x : tensor<4x8xf32>
  cf.br ^end
^end:
  return %0 : tensor<4x8xf32>
}

// -----

// A dynamic dimension follows a size, or nobody knows how large it may become.
func.func @unnamed(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error-re @+1 {{dimension 0 of 'tensor<?x8xf32>' has no name; write tensor<?x8xf32, #transformer.dims<"rows">> and alike in all types of the function and, as a leading argument, %rows: index {{.*}}"rows", 1 to 512>}}
  %0 = transformer.softmax %x : tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}
