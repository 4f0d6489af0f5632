#!/usr/bin/env python3
"""Our fused kernels beside what torch.compile makes of the same operations, of bf16.

Products with what follows them (bias and gelu; gate and up with silu), and operations on rows (silu(gate) * up,
rms_norm, rope). torch.compile takes its default mode; --autotune gives it max-autotune without its own graphs,
which takes minutes.
"""

import sys

import cuda_turns
from cuda_turns import Problem

MODE = None  # of torch.compile, by --autotune


def compiled(torch, function):
    return torch.compile(function, mode=MODE, dynamic=False)


def normal(torch, *shape, scale=1.0):
    return (torch.randn(*shape, device="cuda") * scale).to(torch.bfloat16)


def rows_of(*shape):
    return f"tensor<{'x'.join(map(str, shape))}xbf16>"


def bias_gelu(m, n, k):
    x, w, b, y = rows_of(m, k), rows_of(n, k), rows_of(n), rows_of(m, n)
    module = (f'func.func @f(%x: {x}, %w: {w} {{transformer.weight = "w"}}, %b: {b}) -> {y} {{\n'
              f"  %p = transformer.matmul %x weights(%w) bias(%b) : ({x}, {w}, {b}) -> ({y})\n"
              f"  %y = transformer.activation %p <gelu_tanh> : {y}\n  return %y : {y}\n}}\n")  # fmt: skip

    def peers(torch):
        f = torch.nn.functional
        return {"torch.compile": compiled(torch, lambda x, w, b: f.gelu(f.linear(x, w, b), approximate="tanh"))}

    return Problem(f"bias gelu {m}x{n}x{k}", module,
                   lambda torch: [normal(torch, m, k), normal(torch, n, k, scale=k**-0.5), normal(torch, n)],
                   peers, flops=2 * m * n * k, bytes=2 * (m * k + n * k + m * n))  # fmt: skip


def gated(m, n, k):
    x, w, y = rows_of(m, k), rows_of(n, k), rows_of(m, n)
    weight = lambda name: f'%{name}: {w} {{transformer.weight = "{name}"}}'
    module = (f"func.func @f(%x: {x}, {weight('gate')}, {weight('up')}) -> {y} {{\n"
              f"  %p, %q = transformer.matmul %x weights(%gate, %up) : ({x}, {w}, {w}) -> ({y}, {y})\n"
              f"  %g = transformer.activation %p <silu> : {y}\n  %y = transformer.mul %g, %q : {y}\n"
              f"  return %y : {y}\n}}\n")  # fmt: skip

    def peers(torch):
        f = torch.nn.functional
        return {"torch.compile": compiled(torch, lambda x, g, u: f.silu(f.linear(x, g)) * f.linear(x, u))}

    return Problem(f"silu(gate) * up {m}x{n}x{k}", module,
                   lambda torch: [normal(torch, m, k), *(normal(torch, n, k, scale=k**-0.5) for _ in "gu")],
                   peers, flops=4 * m * n * k, bytes=2 * (m * k + 2 * n * k + m * n))  # fmt: skip


def silu_mul(m, n):
    y = rows_of(m, n)
    module = (f"func.func @f(%g: {y}, %u: {y}) -> {y} {{\n  %s = transformer.activation %g <silu> : {y}\n"
              f"  %y = transformer.mul %s, %u : {y}\n  return %y : {y}\n}}\n")  # fmt: skip
    return Problem(f"rows silu * up {m}x{n}", module, lambda torch: [normal(torch, m, n), normal(torch, m, n)],
                   lambda torch: {"torch.compile": compiled(
                       torch, lambda g, u: torch.nn.functional.silu(g) * u)},
                   bytes=6 * m * n)  # fmt: skip


def rms_norm(m, n):
    y, scale = rows_of(m, n), rows_of(n)
    module = (f"func.func @f(%x: {y}, %w: {scale}) -> {y} {{\n"
              f"  %y = transformer.rms_norm %x, %w {{epsilon = 1.0e-5}} : ({y}, {scale}) -> {y}\n"
              f"  return %y : {y}\n}}\n")  # fmt: skip
    return Problem(f"rms_norm {m}x{n}", module, lambda torch: [normal(torch, m, n), normal(torch, n)],
                   lambda torch: {"torch.compile": compiled(
                       torch, lambda x, w: torch.nn.functional.rms_norm(x, (n,), w, 1e-5))},
                   bytes=4 * m * n)  # fmt: skip


def rope(m, heads, dim):
    y, indices, table = rows_of(m, heads * dim), f"tensor<{m}xi32>", f"tensor<{m}x{dim}xf32>"
    module = (f"func.func @f(%x: {y}, %p: {indices}, %t: {table}) -> {y} {{\n"
              f"  %y = transformer.rope %x, %p, %t <half_split> {{headDim = {dim}}} : "
              f"({y}, {indices}, {table}) -> {y}\n  return %y : {y}\n}}\n")  # fmt: skip

    def arguments(torch):
        places = torch.arange(m, device="cuda", dtype=torch.float32)
        angles = places[:, None] * 500000.0 ** (-torch.arange(0, dim, 2, device="cuda") / dim)
        table = torch.cat([angles.cos(), angles.sin()], dim=1).contiguous()
        return [normal(torch, m, heads * dim), torch.arange(m, dtype=torch.int32, device="cuda"), table]

    def peers(torch):
        def rotated(x, positions, table):
            first, second = x.view(-1, heads, dim).float().chunk(2, dim=2)
            cos, sin = table[positions].unsqueeze(1).chunk(2, dim=2)
            halves = (first * cos - second * sin, second * cos + first * sin)
            return torch.cat(halves, dim=2).to(x.dtype)

        return {"torch.compile": compiled(torch, rotated)}

    return Problem(f"rope {m}x{heads}x{dim}", module, arguments, peers, bytes=4 * m * heads * dim)


def problems():
    return [bias_gelu(2048, 28672, 4096), bias_gelu(2048, 4096, 4096), bias_gelu(512, 4096, 4096),
            bias_gelu(1, 4096, 4096), gated(2048, 14336, 4096), gated(512, 14336, 4096), gated(1, 14336, 4096),
            silu_mul(2048, 14336), rms_norm(4096, 4096), rms_norm(8192, 4096), rms_norm(1, 4096),
            rope(4096, 32, 128), rope(8192, 32, 128)]  # fmt: skip


def main():
    global MODE
    parser = cuda_turns.parser(__doc__)
    parser.add_argument("--autotune", action="store_true", help="max-autotune for torch.compile")
    options = parser.parse_args()
    MODE = "max-autotune-no-cudagraphs" if options.autotune else None
    return cuda_turns.main(problems(), options)


if __name__ == "__main__":
    sys.exit(main())
