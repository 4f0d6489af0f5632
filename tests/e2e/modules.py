"""Modules that several end-to-end tests write."""

ROWS = 'tensor<?x%dxf32, #transformer.dims<"rows">>'

#: What the README's reader writes: a norm, a product with bias, an activation, a residual.
BLOCK = """!x = tensor<?x64xf32, #transformer.dims<"rows">>
!h = tensor<?x96xf32, #transformer.dims<"rows">>
func.func @block(%rows: index {transformer.size = #transformer.size<"rows", 1 to 64>}, %x: !x,
                 %norm: tensor<64xf32>, %w: tensor<96x64xf32>, %b: tensor<96xf32>, %r: !h) -> !h {
  %n = transformer.rms_norm %x, %norm {epsilon = 1.0e-5} : (!x, tensor<64xf32>) -> !x
  %y = transformer.matmul %n weights(%w) bias(%b)
    : (!x, tensor<96x64xf32>, tensor<96xf32>) -> !h
  %g = transformer.activation %y <gelu> : !h
  %z = transformer.add %g, %r : !h
  return %z : !h
}
"""


def pinned(variant):
    """A kernel that a variant is to run, with a function that launches it."""
    size = '%rows: index {transformer.size = #transformer.size<"rows", 1 to 64>}'
    types = {"x": ROWS % 40, "w": "tensor<24x40xf32>", "y": ROWS % 24, "v": variant, "s": size}
    return """transformer.kernel @k(%(s)s, %%x: %(x)s, %%w: %(w)s) -> %(y)s
    attributes {variant = "%(v)s"} {
  %%0 = transformer.matmul %%x weights(%%w) : (%(x)s, %(w)s) -> (%(y)s)
  transformer.yield %%0 : %(y)s
}
func.func @f(%(s)s, %%x: %(x)s, %%w: %(w)s {transformer.weight = "w"}) -> %(y)s {
  %%0 = transformer.launch @k(%%rows, %%x, %%w) : (index, %(x)s, %(w)s) -> %(y)s
  return %%0 : %(y)s
}
""" % types
