// What the verifiers of attention and cache_append say.
// RUN: %opt %s -verify-diagnostics -split-input-file

func.func @heads_differ(%q: tensor<4x64xf32>, %k: !transformer.cache<2, 16, f32>,
    %v: !transformer.cache<4, 16, f32>, %p: tensor<4xi32>, %s: tensor<4xi32>, %t: tensor<2xi32>, %l: tensor<2xi32>) {
  // expected-error @+1 {{keys and values differ in heads or paging: '!transformer.cache<2, 16, f32>' and '!transformer.cache<4, 16, f32>'}}
  %0 = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
    {heads = 4, scale = 1.0} : (tensor<4x64xf32>, !transformer.cache<2, 16, f32>, !transformer.cache<4, 16, f32>,
    tensor<4xi32>, tensor<4xi32>, tensor<2xi32>, tensor<2xi32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @pages_differ(%q: tensor<4x64xf32>, %k: !transformer.cache<2, 16, f32>,
    %v: !transformer.cache<2, 16, f32, page = 8>, %p: tensor<4xi32>, %s: tensor<4xi32>, %t: tensor<2xi32>, %l: tensor<2xi32>) {
  // expected-error @+1 {{keys and values differ in heads or paging}}
  %0 = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
    {heads = 4, scale = 1.0} : (tensor<4x64xf32>, !transformer.cache<2, 16, f32>, !transformer.cache<2, 16, f32, page = 8>,
    tensor<4xi32>, tensor<4xi32>, tensor<2xi32>, tensor<2xi32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @query_heads(%q: tensor<4x64xf32>, %k: !transformer.cache<2, 16, f32>,
    %v: !transformer.cache<2, 16, f32>, %p: tensor<4xi32>, %s: tensor<4xi32>, %t: tensor<2xi32>, %l: tensor<2xi32>) {
  // expected-error @+1 {{has 3 query heads, which is no multiple of the cache's 2}}
  %0 = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
    {heads = 3, scale = 1.0} : (tensor<4x64xf32>, !transformer.cache<2, 16, f32>, !transformer.cache<2, 16, f32>,
    tensor<4xi32>, tensor<4xi32>, tensor<2xi32>, tensor<2xi32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @no_heads(%q: tensor<4x64xf32>, %k: !transformer.cache<2, 16, f32>,
    %v: !transformer.cache<2, 16, f32>, %p: tensor<4xi32>, %s: tensor<4xi32>, %t: tensor<2xi32>, %l: tensor<2xi32>) {
  // expected-error @+1 {{has 0 query heads, which is no multiple of the cache's 2}}
  %0 = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
    {heads = 0, scale = 1.0} : (tensor<4x64xf32>, !transformer.cache<2, 16, f32>, !transformer.cache<2, 16, f32>,
    tensor<4xi32>, tensor<4xi32>, tensor<2xi32>, tensor<2xi32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @query_width(%q: tensor<4x60xf32>, %k: !transformer.cache<2, 16, f32>,
    %v: !transformer.cache<2, 16, f32>, %p: tensor<4xi32>, %s: tensor<4xi32>, %t: tensor<2xi32>, %l: tensor<2xi32>) {
  // expected-error @+1 {{query is 60 wide, expected 64}}
  %0 = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
    {heads = 4, scale = 1.0} : (tensor<4x60xf32>, !transformer.cache<2, 16, f32>, !transformer.cache<2, 16, f32>,
    tensor<4xi32>, tensor<4xi32>, tensor<2xi32>, tensor<2xi32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @result_width(%q: tensor<4x64xf32>, %k: !transformer.cache<2, 16, f32>,
    %v: !transformer.cache<2, 8, f32>, %p: tensor<4xi32>, %s: tensor<4xi32>, %t: tensor<2xi32>, %l: tensor<2xi32>) {
  // expected-error @+1 {{result is 64 wide, expected 32}}
  %0 = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
    {heads = 4, scale = 1.0} : (tensor<4x64xf32>, !transformer.cache<2, 16, f32>, !transformer.cache<2, 8, f32>,
    tensor<4xi32>, tensor<4xi32>, tensor<2xi32>, tensor<2xi32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @result_rows(%q: tensor<4x64xf32>, %k: !transformer.cache<2, 16, f32>,
    %v: !transformer.cache<2, 16, f32>, %p: tensor<4xi32>, %s: tensor<4xi32>, %t: tensor<2xi32>, %l: tensor<2xi32>) {
  // expected-error @+1 {{result has 5 rows, but query has 4}}
  %0 = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
    {heads = 4, scale = 1.0} : (tensor<4x64xf32>, !transformer.cache<2, 16, f32>, !transformer.cache<2, 16, f32>,
    tensor<4xi32>, tensor<4xi32>, tensor<2xi32>, tensor<2xi32>) -> tensor<5x64xf32>
  return
}

// -----

func.func @positions(%q: tensor<4x64xf32>, %k: !transformer.cache<2, 16, f32>,
    %v: !transformer.cache<2, 16, f32>, %p: tensor<3xi32>, %s: tensor<4xi32>, %t: tensor<2xi32>, %l: tensor<2xi32>) {
  // expected-error @+1 {{positions has 3 rows, but query has 4}}
  %0 = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
    {heads = 4, scale = 1.0} : (tensor<4x64xf32>, !transformer.cache<2, 16, f32>, !transformer.cache<2, 16, f32>,
    tensor<3xi32>, tensor<4xi32>, tensor<2xi32>, tensor<2xi32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @sequences(%q: tensor<4x64xf32>, %k: !transformer.cache<2, 16, f32>,
    %v: !transformer.cache<2, 16, f32>, %p: tensor<4xi32>, %s: tensor<3xi32>, %t: tensor<2xi32>, %l: tensor<2xi32>) {
  // expected-error @+1 {{sequences has 3 rows, but query has 4}}
  %0 = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
    {heads = 4, scale = 1.0} : (tensor<4x64xf32>, !transformer.cache<2, 16, f32>, !transformer.cache<2, 16, f32>,
    tensor<4xi32>, tensor<3xi32>, tensor<2xi32>, tensor<2xi32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @lengths(%q: tensor<4x64xf32>, %k: !transformer.cache<2, 16, f32>,
    %v: !transformer.cache<2, 16, f32>, %p: tensor<4xi32>, %s: tensor<4xi32>, %t: tensor<2xi32>, %l: tensor<3xi32>) {
  // expected-error @+1 {{lengths has 3 rows, but table has 2}}
  %0 = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
    {heads = 4, scale = 1.0} : (tensor<4x64xf32>, !transformer.cache<2, 16, f32>, !transformer.cache<2, 16, f32>,
    tensor<4xi32>, tensor<4xi32>, tensor<2xi32>, tensor<3xi32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @table_of_pages(%q: tensor<4x64xf32>, %k: !transformer.cache<2, 16, f32, page = 8>,
    %v: !transformer.cache<2, 16, f32, page = 8>, %p: tensor<4xi32>, %s: tensor<4xi32>, %t: tensor<2xi32>, %l: tensor<2xi32>) {
  // expected-error @+1 {{reads a paged cache and needs a table [sequences, pages]}}
  %0 = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
    {heads = 4, scale = 1.0} : (tensor<4x64xf32>, !transformer.cache<2, 16, f32, page = 8>, !transformer.cache<2, 16, f32, page = 8>,
    tensor<4xi32>, tensor<4xi32>, tensor<2xi32>, tensor<2xi32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @table_of_slots(%q: tensor<4x64xf32>, %k: !transformer.cache<2, 16, f32>,
    %v: !transformer.cache<2, 16, f32>, %p: tensor<4xi32>, %s: tensor<4xi32>, %t: tensor<2x5xi32>, %l: tensor<2xi32>) {
  // expected-error @+1 {{reads a contiguous cache and needs a table [sequences] of first slots}}
  %0 = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
    {heads = 4, scale = 1.0} : (tensor<4x64xf32>, !transformer.cache<2, 16, f32>, !transformer.cache<2, 16, f32>,
    tensor<4xi32>, tensor<4xi32>, tensor<2x5xi32>, tensor<2xi32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @scale(%q: tensor<4x64xf32>, %k: !transformer.cache<2, 16, f32>,
    %v: !transformer.cache<2, 16, f32>, %p: tensor<4xi32>, %s: tensor<4xi32>, %t: tensor<2xi32>, %l: tensor<2xi32>) {
  // expected-error @+1 {{scale must be finite}}
  %0 = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
    {heads = 4, scale = 0x7FF0000000000000 : f64} : (tensor<4x64xf32>, !transformer.cache<2, 16, f32>, !transformer.cache<2, 16, f32>,
    tensor<4xi32>, tensor<4xi32>, tensor<2xi32>, tensor<2xi32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @window(%q: tensor<4x64xf32>, %k: !transformer.cache<2, 16, f32>,
    %v: !transformer.cache<2, 16, f32>, %p: tensor<4xi32>, %s: tensor<4xi32>, %t: tensor<2xi32>, %l: tensor<2xi32>) {
  // expected-error @+1 {{window must not be negative}}
  %0 = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
    {heads = 4, scale = 1.0, window = -1} : (tensor<4x64xf32>, !transformer.cache<2, 16, f32>, !transformer.cache<2, 16, f32>,
    tensor<4xi32>, tensor<4xi32>, tensor<2xi32>, tensor<2xi32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @softcap(%q: tensor<4x64xf32>, %k: !transformer.cache<2, 16, f32>,
    %v: !transformer.cache<2, 16, f32>, %p: tensor<4xi32>, %s: tensor<4xi32>, %t: tensor<2xi32>, %l: tensor<2xi32>) {
  // expected-error @+1 {{softcap must be finite and not negative}}
  %0 = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
    {heads = 4, scale = 1.0, softcap = -1.0} : (tensor<4x64xf32>, !transformer.cache<2, 16, f32>, !transformer.cache<2, 16, f32>,
    tensor<4xi32>, tensor<4xi32>, tensor<2xi32>, tensor<2xi32>) -> tensor<4x64xf32>
  return
}

// -----

func.func @append_width(%x: tensor<4x31xf32>, %s: tensor<4xi32>, %k: !transformer.cache<2, 16, f32>) {
  // expected-error @+1 {{values is 31 wide, expected 32}}
  transformer.cache_append %x, %s into %k : !transformer.cache<2, 16, f32>, tensor<4x31xf32>, tensor<4xi32>
  return
}

// -----

func.func @append_slots(%x: tensor<4x32xf32>, %s: tensor<5xi32>, %k: !transformer.cache<2, 16, f32>) {
  // expected-error @+1 {{slots has 5 rows, but values has 4}}
  transformer.cache_append %x, %s into %k : !transformer.cache<2, 16, f32>, tensor<4x32xf32>, tensor<5xi32>
  return
}

// -----

func.func @no_such_bound(%n: index {transformer.size = #transformer.size<"context", 1 to 8>},
    %q: tensor<4x64xf32>, %k: !transformer.cache<2, 16, f32>,
    %v: !transformer.cache<2, 16, f32>, %p: tensor<4xi32>, %s: tensor<4xi32>, %t: tensor<2xi32>, %l: tensor<2xi32>) {
  // expected-error @+1 {{is bounded by size 'cached', which 'func.func' around it does not take; give it the leading argument}}
  %0 = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
    {heads = 4, scale = 1.0, cached = "cached"} : (tensor<4x64xf32>, !transformer.cache<2, 16, f32>, !transformer.cache<2, 16, f32>,
    tensor<4xi32>, tensor<4xi32>, tensor<2xi32>, tensor<2xi32>) -> tensor<4x64xf32>
  return
}

// -----

transformer.kernel @no_such_bound(%q: tensor<4x64xf32>, %k: !transformer.cache<2, 16, f32>,
    %v: !transformer.cache<2, 16, f32>, %p: tensor<4xi32>, %s: tensor<4xi32>, %t: tensor<2xi32>, %l: tensor<2xi32>) -> tensor<4x64xf32> {
  // expected-error @+1 {{is bounded by size 'cached', which 'transformer.kernel' around it does not take}}
  %0 = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)
    {heads = 4, scale = 1.0, cached = "cached"} : (tensor<4x64xf32>, !transformer.cache<2, 16, f32>, !transformer.cache<2, 16, f32>,
    tensor<4xi32>, tensor<4xi32>, tensor<2xi32>, tensor<2xi32>) -> tensor<4x64xf32>
  transformer.yield %0 : tensor<4x64xf32>
}

// -----

func.func @sinks(%q: tensor<4x64xf32>, %k: !transformer.cache<2, 16, f32>, %p: tensor<4xi32>, %s: tensor<4xi32>,
    %t: tensor<2xi32>, %l: tensor<2xi32>, %sinks: tensor<2xf32>) {
  // expected-error @+1 {{sinks has 2 elements, expected 4}}
  %0 = transformer.attention %q, %k, %k positions(%p) sequences(%s) table(%t) lengths(%l) sinks(%sinks)
    {heads = 4, scale = 1.0} : (tensor<4x64xf32>, !transformer.cache<2, 16, f32>, !transformer.cache<2, 16, f32>,
    tensor<4xi32>, tensor<4xi32>, tensor<2xi32>, tensor<2xi32>, tensor<2xf32>) -> tensor<4x64xf32>
  return
}
