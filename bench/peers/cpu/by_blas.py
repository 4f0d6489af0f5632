"""OpenBLAS and MKL: f32 products by cblas_sgemm, with the weights as models keep them, transposed ahead or, by MKL,
packed ahead."""

import ctypes
import sys
from pathlib import Path

import numpy as np
from install import shared_library

TRANSPOSED, ROW_MAJOR, B_MATRIX, PLAIN = 112, 101, 162, 111


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


class Peer:
    def __init__(self, name, threads):
        self.loops = ctypes.CDLL(str(shared_library("sgemm.c")))
        self.loops.sgemm_seconds.restype = self.loops.packed_seconds.restype = ctypes.c_double
        getattr(self, name)()

    def openblas(self):
        import scipy_openblas64

        path = Path(scipy_openblas64.get_lib_dir()) / "libscipy_openblas64_.so"
        self.library = ctypes.CDLL(str(path))
        self.sgemm = self.library.scipy_cblas_sgemm64_
        config = self.library.scipy_openblas_get_config64_
        config.restype = ctypes.c_char_p
        self.version = config().decode()

    def mkl(self):
        self.library = ctypes.CDLL(str(Path(sys.prefix) / "lib" / "libmkl_rt.so.3"))
        self.sgemm = self.library.cblas_sgemm
        text = ctypes.create_string_buffer(256)
        self.library.mkl_get_version_string(text, 256)
        self.version = text.value.decode().strip()

    def candidates(self, row, operands):
        if row["family"] == "matmul" and operands.element == "f32":
            yield "weights [n, k]", lambda: self.product(operands, operands.w, transposed=True)
            yield "weights [k, n]", lambda: self.product(operands, np.ascontiguousarray(operands.w.T), transposed=False)
            if hasattr(self.library, "cblas_sgemm_compute"):
                yield "packed ahead", lambda: self.packed(operands)

    def product(self, operands, w, transposed):
        m, n, k, x, y = sizes(operands)

        def seconds(runs):
            return self.loops.sgemm_seconds(self.sgemm, int(transposed), m, n, k, pointer(x), pointer(w), pointer(y),
                                            ctypes.c_int64(runs))  # fmt: skip

        return seconds, lambda: y

    def packed(self, operands):
        m, n, k, x, y = sizes(operands)
        size = self.library.cblas_sgemm_pack_get_size
        size.restype = ctypes.c_size_t
        w = np.empty(size(B_MATRIX, m, n, k) + 64, np.uint8)
        w = w[-w.ctypes.data % 64 :]
        self.library.cblas_sgemm_pack(ROW_MAJOR, B_MATRIX, TRANSPOSED, m, n, k, ctypes.c_float(1),
                                      pointer(operands.w), k, pointer(w))  # fmt: skip

        def seconds(runs):
            return self.loops.packed_seconds(self.library.cblas_sgemm_compute, m, n, k, pointer(x), pointer(w),
                                             pointer(y), ctypes.c_int64(runs))  # fmt: skip

        return seconds, lambda: y


def sizes(operands):
    """m, n and k as 64 bits, the input, and memory of numbers that are none for the result."""
    (m, k), (n, _) = operands.x.shape, operands.w.shape
    made = np.full((m, n), np.nan, np.float32)
    return ctypes.c_int64(m), ctypes.c_int64(n), ctypes.c_int64(k), operands.x, made
