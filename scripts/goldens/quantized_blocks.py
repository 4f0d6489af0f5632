#!/usr/bin/env python3
"""Writes tests/golden/data/quantized_blocks.json: blocks of every quantized type and their values.

The blocks are random bits with finite scales; the values are those of the `gguf` package, an
implementation of ggml's formats that shares no code with ours, and of `torch` for e4m3. Needs the
packages of scripts/goldens/requirements.txt:

    python scripts/goldens/quantized_blocks.py
"""
import json
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, quants
from gguf.constants import GGML_QUANT_SIZES

OUTPUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "data" / "quantized_blocks.json"
BLOCKS = 2
# Where a block has its f16 fields; and those of MXFP4, whose scale is a byte.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q8_0": [0], "Q4_K": [0, 2], "Q6_K": [208],
    "Q5_1": [0, 2], "Q5_K": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "IQ4_NL": [0], "IQ4_XS": [0],
    "MXFP4": [],
}  # fmt: skip
E8M0 = {"MXFP4": 0}


def blocks_of_e4m3(random):
    """An f32 and 128 numbers e4m3, every one of them: the NaNs are apart, as their bits are free."""
    numbers = np.arange(256, dtype=np.uint8).reshape(BLOCKS, 128)
    numbers[numbers & 127 == 127] = 0
    scales = random.normal(0, 0.1, (BLOCKS, 1)).astype("<f4")
    values = torch.from_numpy(numbers).view(torch.float8_e4m3fn).float().numpy() * scales
    return {
        "blocks": np.hstack([scales.view(np.uint8), numbers]).tobytes().hex(),
        "values": values.astype("<f4").tobytes().hex(),
    }


def main():
    random = np.random.default_rng(20)
    golden = {}
    for name, halves in HALVES.items():
        kind = GGMLQuantizationType[name]
        blocks = random.integers(0, 256, (BLOCKS, GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
        for offset in halves:
            scales = random.normal(0, 0.1, BLOCKS).astype("<f2")
            blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(BLOCKS, 2)
        if name in E8M0:  # the second block's is below the normal numbers
            blocks[:, E8M0[name]] = [120, 1]
        values = quants.dequantize(blocks, kind).astype("<f4").reshape(-1)
        golden[name.lower()] = {
            "blocks": blocks.tobytes().hex(),
            "values": values.tobytes().hex(),
        }
    golden["f8_e4m3"] = blocks_of_e4m3(random)
    OUTPUT.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
