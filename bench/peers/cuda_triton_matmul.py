#!/usr/bin/env python3
"""Our matmuls beside a plain one in Triton, of bf16 with sums in f32, tiles chosen by its autotuner.

The kernel is a usual one: a program computes a tile, neighbours in time share rows and columns, the compiler
pipelines the loads. cuBLASLt's figures are cuda-peers' (bench/cuda); torch.matmul stands beside it here.
"""

import sys

import cuda_turns
from cuda_turns import Problem

SHAPES = [(512, 6144, 4096), (512, 4096, 4096), (512, 28672, 4096), (512, 4096, 14336), (2048, 4096, 4096),
          (2048, 28672, 4096), (8192, 8192, 8192), (512, 512, 1024), (64, 4096, 4096), (16, 4096, 4096)]  # fmt: skip

def problem(m, n, k):
    x, w, y = (f"tensor<{a}x{b}xbf16>" for a, b in ((m, k), (n, k), (m, n)))
    module = (f'func.func @f(%x: {x}, %w: {w} {{transformer.weight = "w"}}) -> {y} {{\n'
              f"  %y = transformer.matmul %x weights(%w) : ({x}, {w}) -> ({y})\n  return %y : {y}\n}}\n")  # fmt: skip

    def arguments(torch):
        return [torch.randn(rows, k, device="cuda").to(torch.bfloat16) for rows in (m, n)]

    def peers(torch):
        peers = {"torch.matmul": torch.nn.functional.linear}
        try:
            from triton_product import product
        except ImportError:
            return peers
        return {"triton": product} | peers

    return Problem(f"{m}x{n}x{k}", module, arguments, peers, flops=2 * m * n * k,
                   bytes=2 * (m * k + n * k + m * n))  # fmt: skip


def main():
    options = cuda_turns.parser(__doc__).parse_args()
    return cuda_turns.main([problem(*shape) for shape in SHAPES], options)


if __name__ == "__main__":
    sys.exit(main())
