"""A product of bf16 with sums in f32 in Triton: what cuda_triton_matmul.py measures ours beside."""

import torch
import triton
import triton.language as tl

#: Rows and columns of a tile, of K in a stage, stages, warps.
TILES = [(128, 256, 64, 3, 8), (128, 256, 64, 4, 8), (256, 128, 64, 3, 8), (128, 128, 64, 4, 4),
         (128, 128, 64, 4, 8), (64, 256, 64, 4, 4), (64, 128, 64, 4, 4), (64, 64, 128, 4, 4),
         (16, 128, 128, 4, 4), (16, 64, 256, 4, 4)]  # fmt: skip


@triton.jit
def kernel(a, b, c, m, n, k, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    """c = a b^T, a tile each program. K is a multiple of BK."""
    tile = tl.program_id(0)
    down, across = tl.cdiv(m, BM), tl.cdiv(n, BN)
    # GROUP tiles downwards, then the next column: neighbours in time share rows and columns.
    band = tile // (GROUP * across)
    height = tl.minimum(down - band * GROUP, GROUP)
    within = tile % (GROUP * across)
    row, column = band * GROUP + within % height, within // height
    rows, columns, depth = row * BM + tl.arange(0, BM), column * BN + tl.arange(0, BN), tl.arange(0, BK)
    # Rows and columns that are not there read others' and are not stored.
    from_a = a + (rows % m)[:, None] * k + depth[None, :]
    from_b = b + (columns % n)[None, :] * k + depth[:, None]
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for _ in range(0, k, BK):
        total = tl.dot(tl.load(from_a), tl.load(from_b), total)
        from_a += BK
        from_b += BK
    here = (rows[:, None] < m) & (columns[None, :] < n)
    tl.store(c + rows[:, None] * n + columns[None, :], total.to(tl.bfloat16), mask=here)


tuned = triton.autotune(
    configs=[triton.Config({"BM": bm, "BN": bn, "BK": bk, "GROUP": 8}, num_stages=stages, num_warps=warps)
             for bm, bn, bk, stages, warps in TILES],
    key=["m", "n", "k"],
)(kernel)  # fmt: skip


def product(a, b):
    """a b^T of two matrices of bf16 whose width is a multiple of 256."""
    m, k, n = a.shape[0], a.shape[1], b.shape[0]
    c = torch.empty(m, n, dtype=a.dtype, device=a.device)
    tuned[lambda meta: (triton.cdiv(m, meta["BM"]) * triton.cdiv(n, meta["BN"]),)](a, b, c, m, n, k)
    return c
