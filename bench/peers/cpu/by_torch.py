"""torch: products (also packed ahead for the oneDNN and MKL in it), scaled_dot_product_attention, and what is done to
rows, as it comes and by torch.compile, which needs a C++ compiler. A call goes through Python: microseconds."""

import torch
from torch.nn import functional
from worker import repeated

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


class Peer:
    def __init__(self, name, threads):
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        parts = [line.strip(" -") for line in torch.__config__.show().splitlines()]
        dnnl = next((part.split(" (")[0] for part in parts if "MKL-DNN" in part), "no oneDNN")
        self.version = f"{torch.__version__}, {dnnl.replace('Intel(R) MKL-DNN', 'oneDNN')}"

    def candidates(self, row, operands):
        if operands.element not in DTYPES:
            return
        dtype = DTYPES[operands.element]
        for how, function, arrays in getattr(self, f"of_{row['family']}", self.of_rows)(row, operands):
            yield how, lambda f=function, a=arrays: measured(f, [torch.from_numpy(each).to(dtype) for each in a])

    def of_matmul(self, row, operands):
        arrays = [operands.x, operands.w]
        yield "linear", functional.linear, arrays
        yield "packed by oneDNN", PackedByOneDnn(row["m"]), arrays
        if operands.element == "f32":
            yield "packed by MKL", PackedByMkl(row["m"]), arrays

    def of_attention(self, row, operands):
        share = row["heads"] // row["kv_heads"]
        #: [1, head, row, width], contiguous.
        q, k, v = (each.transpose(1, 0, 2)[None].copy() for each in (operands.q, operands.k, operands.v))
        causal = row["rows"] > 1

        def attend(q, k, v):
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])
            return y[0].transpose(0, 1)

        def by_rows(q, k, v):
            return attend(q, k, v).transpose(0, 1)

        yield "scaled_dot_product_attention", attend, [q, k, v]
        if share > 1:
            yield "the same, keys and values repeated ahead", attend, [q, k.repeat(share, 1), v.repeat(share, 1)]
            if not causal:  # one row: heads that share keys are rows of a product
                grouped = q.reshape(1, row["kv_heads"], share, row["head_dim"])
                yield "the same, heads that share keys as rows", by_rows, [grouped, k, v]

    def of_rows(self, row, operands):
        x, w, b, up = operands.x, operands.w, operands.b, operands.up
        width = [row["width"]]
        function, arrays = {
            "rms_norm": (lambda x, w: functional.rms_norm(x, width, w, 1e-5), [x, w]),
            "layer_norm": (lambda x, w, b: functional.layer_norm(x, width, w, b, 1e-5), [x, w, b]),
            "softmax": (lambda x: functional.softmax(x, -1), [x]),
            "silu_mul": (lambda x, up: functional.silu(x) * up, [x, up]),
        }[row["family"]]
        yield "eager", function, arrays
        torch._dynamo.reset()
        yield "torch.compile", torch.compile(function), arrays


class PackedByOneDnn:
    def __init__(self, rows):
        self.rows, self.packed = rows, None

    def __call__(self, x, w):
        if self.packed is None:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(w, self.rows)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, None, "none", [], "")


class PackedByMkl:
    def __init__(self, rows):
        self.rows, self.packed = rows, None

    def __call__(self, x, w):
        if self.packed is None:
            self.packed = torch.ops.mkl._mkl_reorder_linear_weight(w, self.rows)
        return torch.ops.mkl._mkl_linear(x, self.packed, w, None, self.rows)


def measured(function, tensors):
    for _ in range(2):  # compiles and packs what is to be
        function(*tensors)
    return repeated(lambda: function(*tensors)), lambda: function(*tensors).float().numpy()
