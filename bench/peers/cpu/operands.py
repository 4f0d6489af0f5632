"""The operands of a row of the suite for a peer, and what its result is held against: numpy in f64, of a few rows
of the result. The operands are random; a peer whose result is wrong is not timed."""

import numpy as np

#: ||theirs - reference|| / ||reference|| that a peer may have: f32 sums, results rounded to bf16, sums of int8.
MOST_ERROR = {"f32": 1e-5, "bf16": 1e-2, "int8": 1e-5}
CHECKED = 8


def bf16_bits(values):
    """f32 rounded to bf16, to nearest even, as 16 bits."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bits(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


class Operands:
    """Arrays by name. `element` is f32, bf16 or int8; bf16 is kept as f32 of the same value."""

    def __init__(self, row, seed):
        self.row, self.random = row, np.random.default_rng(seed)
        getattr(self, f"of_{row['family']}", self.of_rows)()

    def numbers(self, *shape):
        if self.element == "int8":
            # Below 64: without VNNI pairs of products are summed in 16 bits, which saturate beyond that.
            return self.random.integers(-63, 64, shape, dtype=np.int8)
        made = self.random.standard_normal(shape, dtype=np.float32)
        return from_bits(bf16_bits(made)) if self.element == "bf16" else made

    def of_matmul(self):
        row = self.row
        self.element = {"f32": "f32", "bf16": "bf16", "q8_0": "int8"}[row["weights"]]
        self.x, self.w = self.numbers(row["m"], row["k"]), self.numbers(row["n"], row["k"])
        self.shape = (row["m"], row["n"])

    def of_attention(self):
        row = self.row
        self.element = row["cache"]
        cached = row["past"] + row["rows"]
        self.q = self.numbers(row["rows"], row["heads"], row["head_dim"])
        self.k, self.v = (self.numbers(cached, row["kv_heads"], row["head_dim"]) for _ in range(2))
        self.shape = self.q.shape

    def of_rows(self):
        self.element = "f32"
        self.shape = (self.row["rows"], self.row["width"])
        self.x, self.up = self.numbers(*self.shape), self.numbers(*self.shape)
        self.w, self.b = self.numbers(self.shape[1]), self.numbers(self.shape[1])

    def error(self, result):
        """||result - reference|| / ||reference|| over some rows; infinity where anything is no number."""
        result = np.asarray(result).reshape(self.shape)
        rows = np.unique(np.linspace(0, self.shape[0] - 1, CHECKED).astype(int))
        wanted = getattr(self, f"rows_of_{self.row['family']}")(rows)
        difference = np.linalg.norm(result[rows].astype(np.float64) - wanted) / np.linalg.norm(wanted)
        return float(difference) if np.isfinite(result).all() else float("inf")

    def is_right(self, error):
        return error <= MOST_ERROR[self.element]

    def rows_of_matmul(self, rows):
        return self.x[rows].astype(np.float64) @ self.w.astype(np.float64).T

    def rows_of_attention(self, rows):
        share = self.row["heads"] // self.row["kv_heads"]
        made = np.empty((len(rows), *self.shape[1:]))
        for i, row in enumerate(rows):
            seen = self.row["past"] + row + 1
            for head in range(self.row["heads"]):
                k, v = (each[:seen, head // share].astype(np.float64) for each in (self.k, self.v))
                scores = k @ self.q[row, head] * self.row["head_dim"] ** -0.5
                weights = np.exp(scores - scores.max())
                made[i, head] = weights @ v / weights.sum()
        return made

    def rows_of_rms_norm(self, rows):
        x = self.x[rows].astype(np.float64)
        return x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-5) * self.w

    def rows_of_layer_norm(self, rows):
        x = self.x[rows].astype(np.float64)
        x = x - x.mean(1, keepdims=True)
        return x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-5) * self.w + self.b

    def rows_of_softmax(self, rows):
        x = self.x[rows].astype(np.float64)
        x = np.exp(x - x.max(1, keepdims=True))
        return x / x.sum(1, keepdims=True)

    def rows_of_silu_mul(self, rows):
        x = self.x[rows].astype(np.float64)
        return x / (1 + np.exp(-x)) * self.up[rows]
