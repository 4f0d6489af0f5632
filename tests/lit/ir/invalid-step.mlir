// What the verifiers of sample and advance say.
// RUN: %opt %s -verify-diagnostics -split-input-file

func.func @bits(%x: tensor<2x9xf16>, %s: tensor<2x5xf32>, %d: tensor<2x3xi32>, %p: tensor<2xi32>) {
  // expected-error @+1 {{logits must be f32: what is chosen depends on each bit}}
  %0 = transformer.sample %x settings(%s) draws(%d) positions(%p)
    : (tensor<2x9xf16>, tensor<2x5xf32>, tensor<2x3xi32>, tensor<2xi32>) -> tensor<2xi32>
  return
}

// -----

func.func @settings(%x: tensor<2x9xf32>, %s: tensor<2x4xf32>, %d: tensor<2x3xi32>, %p: tensor<2xi32>) {
  // expected-error @+1 {{settings is 4 wide, expected 5}}
  %0 = transformer.sample %x settings(%s) draws(%d) positions(%p)
    : (tensor<2x9xf32>, tensor<2x4xf32>, tensor<2x3xi32>, tensor<2xi32>) -> tensor<2xi32>
  return
}

// -----

func.func @draws(%x: tensor<2x9xf32>, %s: tensor<2x5xf32>, %d: tensor<1x3xi32>, %p: tensor<2xi32>) {
  // expected-error @+1 {{draws has 1 rows, but logits has 2}}
  %0 = transformer.sample %x settings(%s) draws(%d) positions(%p)
    : (tensor<2x9xf32>, tensor<2x5xf32>, tensor<1x3xi32>, tensor<2xi32>) -> tensor<2xi32>
  return
}

// -----

func.func @recent(%x: tensor<2x9xf32>, %s: tensor<2x5xf32>, %d: tensor<2x3xi32>, %p: tensor<2xi32>,
                  %r: tensor<3x8xi32>) {
  // expected-error @+1 {{recent has 3 rows, but logits has 2}}
  %0 = transformer.sample %x settings(%s) draws(%d) positions(%p) recent(%r)
    : (tensor<2x9xf32>, tensor<2x5xf32>, tensor<2x3xi32>, tensor<2xi32>, tensor<3x8xi32>)
    -> tensor<2xi32>
  return
}

// -----

func.func @page(%i: tensor<2xi32>, %t: tensor<1x4xi32>, %l: tensor<1xi32>) {
  // expected-error @+1 {{page must be a power of two, not 3}}
  %0:4 = transformer.advance %i, %i, %i sequences(%i) table(%t) lengths(%l) limits(%l) {page = 3}
    : (tensor<2xi32>, tensor<2xi32>, tensor<2xi32>, tensor<2xi32>, tensor<1x4xi32>, tensor<1xi32>,
       tensor<1xi32>) -> (tensor<2xi32>, tensor<2xi32>, tensor<2xi32>, tensor<1xi32>)
  return
}

// -----

func.func @table(%i: tensor<2xi32>, %t: tensor<1x4xi32>, %l: tensor<1xi32>) {
  // expected-error @+1 {{has no page and needs a table [sequences] of first slots}}
  %0:4 = transformer.advance %i, %i, %i sequences(%i) table(%t) lengths(%l) limits(%l)
    : (tensor<2xi32>, tensor<2xi32>, tensor<2xi32>, tensor<2xi32>, tensor<1x4xi32>, tensor<1xi32>,
       tensor<1xi32>) -> (tensor<2xi32>, tensor<2xi32>, tensor<2xi32>, tensor<1xi32>)
  return
}

// -----

func.func @limits(%i: tensor<2xi32>, %l: tensor<1xi32>) {
  // expected-error @+1 {{limits has 2 rows, but lengths has 1}}
  %0:4 = transformer.advance %i, %i, %i sequences(%i) table(%l) lengths(%l) limits(%i)
    : (tensor<2xi32>, tensor<2xi32>, tensor<2xi32>, tensor<2xi32>, tensor<1xi32>, tensor<1xi32>,
       tensor<2xi32>) -> (tensor<2xi32>, tensor<2xi32>, tensor<2xi32>, tensor<1xi32>)
  return
}

// -----

func.func @recent_result(%i: tensor<2xi32>, %l: tensor<1xi32>, %r: tensor<2x8xi32>) {
  // expected-error @+1 {{has recent ids and gives none}}
  %0:4 = transformer.advance %i, %i, %i sequences(%i) table(%l) lengths(%l) limits(%l) recent(%r)
    : (tensor<2xi32>, tensor<2xi32>, tensor<2xi32>, tensor<2xi32>, tensor<1xi32>, tensor<1xi32>,
       tensor<1xi32>, tensor<2x8xi32>)
    -> (tensor<2xi32>, tensor<2xi32>, tensor<2xi32>, tensor<1xi32>)
  return
}

// -----

func.func @no_logits(%x: tensor<2x0xf32>, %s: tensor<2x5xf32>, %d: tensor<2x3xi32>, %p: tensor<2xi32>) {
  // expected-error @+1 {{has no logits to choose from}}
  %0 = transformer.sample %x settings(%s) draws(%d) positions(%p)
    : (tensor<2x0xf32>, tensor<2x5xf32>, tensor<2x3xi32>, tensor<2xi32>) -> tensor<2xi32>
  return
}

// -----

func.func @no_recent(%x: tensor<2x9xf32>, %s: tensor<2x5xf32>, %d: tensor<2x3xi32>, %p: tensor<2xi32>,
                     %r: tensor<2x0xi32>) {
  // expected-error @+1 {{has a window of no recent ids; leave it out}}
  %0 = transformer.sample %x settings(%s) draws(%d) positions(%p) recent(%r)
    : (tensor<2x9xf32>, tensor<2x5xf32>, tensor<2x3xi32>, tensor<2xi32>, tensor<2x0xi32>)
    -> tensor<2xi32>
  return
}
