"""oneDNN: products of f32, bf16 and int8 (s8 by s8, sums to f32, neither scales nor zero points), the weights in the
layout that it chooses, reordered ahead."""

import ctypes
import sys
from pathlib import Path

import numpy as np
from install import shared_library
from operands import bf16_bits

#: dnnl_data_type_t.
TYPES = {"f32": 3, "bf16": 2, "int8": 5}
STATUSES = {1: "out of memory", 2: "invalid arguments", 3: "oneDNN has no such product for this processor"}


class Peer:
    def __init__(self, name, threads):
        prefix = Path(sys.prefix)
        path = shared_library("onednn.c", f"-I{prefix}/include", f"-I{prefix}/include/oneapi/dnnl", f"-L{prefix}/lib",
                              "-ldnnl", "-Wl,--allow-shlib-undefined")  # fmt: skip
        self.library = ctypes.CDLL(str(path))
        self.library.product_seconds.restype = ctypes.c_double
        version = ctypes.create_string_buffer(64)
        self.library.version(version, 64)
        self.version = version.value.decode()

    def candidates(self, row, operands):
        if row["family"] == "matmul":
            yield "packed ahead", lambda: self.product(operands)

    def product(self, operands):
        x, w = operands.x, np.ascontiguousarray(operands.w.T)
        if operands.element == "bf16":
            x, w = bf16_bits(x), bf16_bits(w)
        y = np.full(operands.shape, np.nan, np.float32)
        made, name = ctypes.c_void_p(), ctypes.c_char_p()
        sizes = [ctypes.c_int64(each) for each in (*operands.shape, x.shape[1])]
        status = self.library.product_create(ctypes.byref(made), *sizes, TYPES[operands.element],
                                             *(ctypes.c_void_p(each.ctypes.data) for each in (x, w, y)),
                                             ctypes.byref(name))  # fmt: skip
        if status:
            raise RuntimeError(STATUSES.get(status, f"status {status} of oneDNN"))
        kernel = name.value.decode()
        if kernel.startswith("ref"):
            self.library.product_destroy(made)
            raise RuntimeError(f"oneDNN has only {kernel} for it")
        return Product(self.library, made, kernel, (x, w, y)), lambda: y


class Product:
    """Seconds of some calls; keeps the operands for as long as it lives."""

    def __init__(self, library, made, kernel, kept):
        self.library, self.made, self.kernel, self.kept = library, made, kernel, kept

    def __call__(self, runs):
        spent = self.library.product_seconds(self.made, ctypes.c_int64(runs))
        if spent < 0:
            raise RuntimeError("oneDNN failed to run it")
        return spent

    def __del__(self):
        self.library.product_destroy(self.made)
