#!/usr/bin/env python3
"""Writes tests/golden/data/quantized_blocks.json: blocks of every quantized type and their values.

The blocks are random bits with finite scales; the values are those of the `gguf` package, an
implementation of ggml's formats that shares no code with ours. Needs the packages of
scripts/requirements.txt only:

    .venv/bin/python scripts/goldens/quantized_blocks.py
"""
import json
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, quants
from gguf.constants import GGML_QUANT_SIZES

OUTPUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "data" / "quantized_blocks.json"
BLOCKS = 2
# Where a block has its f16 fields.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q8_0": [0], "Q4_K": [0, 2], "Q6_K": [208]}


def main():
    random = np.random.default_rng(20)
    golden = {}
    for name, halves in HALVES.items():
        kind = GGMLQuantizationType[name]
        blocks = random.integers(0, 256, (BLOCKS, GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
        for offset in halves:
            scales = random.normal(0, 0.1, BLOCKS).astype("<f2")
            blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(BLOCKS, 2)
        values = quants.dequantize(blocks, kind).astype("<f4").reshape(-1)
        golden[name.lower()] = {
            "blocks": blocks.tobytes().hex(),
            "values": values.tobytes().hex(),
        }
    OUTPUT.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
