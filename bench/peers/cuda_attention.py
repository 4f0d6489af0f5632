#!/usr/bin/env python3
"""Our attention beside scaled_dot_product_attention of torch, by its cuDNN and FlashAttention backends.

Prompts of 2,048 to 16,384 rows over themselves, causal and whole, heads of 64 and 128, as many heads as make
rows times heads times width 2^25 (batches of the usual tables); and one row over 32,768 cached ones. Both sides read
the same bytes: rows are [row, head, width]. Row names: d WIDTH h HEADS[/HEADS OF THE CACHE] ROWS MASK.
"""

import sys

import cuda_turns
from cuda_turns import Problem

BACKENDS = {"cudnn": "CUDNN_ATTENTION", "flash": "FLASH_ATTENTION"}


def module(rows, cached, heads, kv_heads, dim, causal, element):
    query = f"tensor<{rows}x{heads * dim}x{element}>"
    cache = f"!transformer.cache<{kv_heads}, {dim}, {element}>"
    each, one = f"tensor<{rows}xi32>", "tensor<1xi32>"
    size = f'%cached: index {{transformer.size = #transformer.size<"cached", 1 to {cached}>}}'
    # One row waits for memory: its products are exact.
    numerics = f", numerics = #transformer.numerics<multiply = {element}>" if rows > 1 else ""
    return (f"func.func @f({size}, %q: {query}, %k: {cache}, %v: {cache}, %p: {each}, %s: {each}, %t: {one}, "
            f"%l: {one}) -> {query} {{\n"
            f"  %y = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l) "
            f'{{heads = {heads}, scale = {dim**-0.5!r}, causal = {str(causal).lower()}, cached = "cached"'
            f"{numerics}}} : ({query}, {cache}, {cache}, {each}, {each}, {one}, {one}) -> {query}\n"
            f"  return %y : {query}\n}}\n")  # fmt: skip


def problem(rows, cached, heads, kv_heads, dim, causal, element):
    def arguments(torch):
        dtype = {"bf16": torch.bfloat16, "f16": torch.float16}[element]
        made = [torch.randn(n, h, dim, dtype=dtype, device="cuda")
                for n, h in ((rows, heads), (cached, kv_heads), (cached, kv_heads))]  # fmt: skip
        positions = torch.arange(cached - rows, cached, dtype=torch.int32, device="cuda")
        zeros = torch.zeros(rows, dtype=torch.int32, device="cuda")
        table = torch.zeros(1, dtype=torch.int32, device="cuda")
        return [*made, positions, zeros, table, table + cached]

    def peers(torch):
        from torch.nn.attention import SDPBackend, sdpa_kernel

        def by(backend):
            def run(q, k, v, *_):
                q, k, v = (each.unsqueeze(0).transpose(1, 2) for each in (q, k, v))
                with sdpa_kernel(getattr(SDPBackend, backend)):
                    y = torch.nn.functional.scaled_dot_product_attention(
                        q, k, v, is_causal=causal and rows > 1, enable_gqa=heads != kv_heads
                    )
                return y.transpose(1, 2)

            return run

        return {name: by(backend) for name, backend in BACKENDS.items()}

    share = f"/{kv_heads}" if kv_heads != heads else ""
    mask = "decode" if rows == 1 else "causal" if causal else "full"
    flops = 4 * rows * cached * heads * dim / (2 if causal and rows > 1 else 1)
    moved = 2 * dim * (2 * rows * heads + 2 * cached * kv_heads)
    return Problem(f"d{dim} h{heads}{share} {cached} {mask}",
                   module(rows, cached, heads, kv_heads, dim, causal, element), arguments, peers,
                   flops=flops if rows > 1 else 0, bytes=0 if rows > 1 else moved,
                   sizes={"cached": cached})  # fmt: skip


def problems(element):
    made = [problem(rows, rows, (1 << 25) // rows // dim, (1 << 25) // rows // dim, dim, causal, element)
            for dim in (128, 64) for causal in (True, False)
            for rows in (2048, 4096, 8192, 16384)]  # fmt: skip
    made += [problem(2048, 2048, 32, 8, 128, True, element), problem(8192, 8192, 32, 8, 128, True, element)]
    return made + [problem(1, 32768, heads, kv_heads, dim, True, element)
                   for heads, kv_heads, dim in ((32, 32, 64), (32, 32, 128), (32, 8, 128))]  # fmt: skip


def main():
    parser = cuda_turns.parser(__doc__)
    parser.add_argument("--element", choices=["bf16", "f16"], default="bf16")
    options = parser.parse_args()
    return cuda_turns.main(problems(options.element), options)


if __name__ == "__main__":
    sys.exit(main())
