"""What is measured beside the libraries for processors: rows of a suite as `benchmark-suite` reads them
(docs/evaluation.md), in the groups that have a geometric mean of their own.

Names of products are M x N x K: rows of the input, columns of the result, columns of the input.
"""

#: The layers of small models, and squares.
SUITE = [(512, 1536, 576), (512, 576, 1536), (512, 512, 1024), (128, 576, 576), (1024, 1024, 1024),
         (2048, 2048, 2048), (512, 4096, 4096)]  # fmt: skip
#: Sizes that no tile divides, and one that is over before threads wake.
ODD = [(13, 577, 1021), (7, 333, 129), (16, 16, 16)]
#: Few rows, whose time is that of reading the weights.
ROWS = [(m, 4096, 4096) for m in (1, 2, 4, 8, 16)]
#: Query heads, heads of keys and values, width of a head.
HEADS = [(9, 3, 64), (8, 8, 128)]
PROMPTS, CACHED = (512, 2048, 8192), 16384
NORMS = ["rms_norm", "layer_norm", "softmax", "silu_mul"]
#: Of products by numerics: the type of weights, and what a row of the input is rounded to.
PRODUCTS = {"f32": ("f32", "exact"), "bf16": ("bf16", "bf16"), "int8": ("q8_0", "i8")}

QUICK = {
    "f32": [(512, 1536, 576), (1024, 1024, 1024)],
    "f32 odd": [(7, 333, 129)],
    "f32 rows": [(8, 4096, 4096)],
    "bf16": [(512, 1536, 576)],
    "int8": [(512, 1536, 576)],
}


def products(kind, shapes):
    weights, numerics = PRODUCTS[kind]
    return [{"name": f"{m}x{n}x{k}", "family": "matmul", "m": m, "n": n, "k": k, "weights": weights,
             "numerics": numerics} for m, n, k in shapes]  # fmt: skip


def attention(element, quick):
    """Prompts over themselves, and one row over a cache. One row waits for memory: its products are exact."""
    rows = []
    for heads, kv_heads, dim in HEADS[:1] if quick else HEADS:
        sizes = {"heads": heads, "kv_heads": kv_heads, "head_dim": dim, "cache": element}
        for prompt in PROMPTS[:1] if quick else PROMPTS:
            rows.append({"name": f"prefill {prompt}, {heads}/{kv_heads} heads of {dim}", "family": "attention",
                         **sizes, "rows": prompt, "past": 0,
                         "numerics": "exact" if element == "f32" else element})  # fmt: skip
        rows.append({"name": f"decode {CACHED}, {heads}/{kv_heads} heads of {dim}", "family": "attention",
                     **sizes, "rows": 1, "past": CACHED - 1, "numerics": "exact"})  # fmt: skip
    return rows


def groups(quick=False):
    """Rows by group, in the order in which they are measured."""
    few = QUICK if quick else {}
    return {
        "f32": products("f32", few.get("f32", SUITE)),
        "f32 odd": products("f32", few.get("f32 odd", ODD)),
        "f32 rows": products("f32", few.get("f32 rows", ROWS)),
        "bf16": products("bf16", few.get("bf16", SUITE + ROWS)),
        "int8": products("int8", few.get("int8", SUITE + ROWS)),
        "attention f32": attention("f32", quick),
        "attention bf16": attention("bf16", quick),
        "rowwise": [{"name": f"{family} 512x4096", "family": family, "rows": 512, "width": 4096}
                    for family in (NORMS[:1] + NORMS[-1:] if quick else NORMS)],  # fmt: skip
    }


def flops(row):
    """Multiplications and additions of a row that is bound by them, else 0."""
    if row["family"] == "matmul":
        return 2 * row["m"] * row["n"] * row["k"]
    if row["family"] == "attention" and row["rows"] > 1:
        return 2 * row["rows"] * (row["rows"] + 1) * row["heads"] * row["head_dim"]
    return 0
