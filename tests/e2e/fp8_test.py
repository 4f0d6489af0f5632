#!/usr/bin/env python3
"""Checkpoints of FP8 compute what their numbers times their scales do as f32.

    fp8_test.py --bin FOLDER
"""

import argparse
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
for folder in ("error", "golden"):
    sys.path.insert(0, str(ROOT / "tests" / folder))
import bad_fp8  # noqa: E402

IDS = "5,9,20,33,100,7,250"


def in_f32(tensors):
    """The same weights without scales."""
    result = {}
    for name, tensor in tensors.items():
        found = [tensors[name + s].data for s in ("_scale_inv", "_scale") if name + s in tensors]
        scales = found[0] if found else None
        if scales is None:
            if "_scale" not in name:
                result[name] = tensor
            continue
        codes = tensor.data
        numbers = bad_fp8.NUMBERS[codes & 127] * np.where(codes & 128, -1, 1)
        if scales.dtype == np.uint16:  # bf16
            scales = (scales.astype("<u4") << 16).view("<f4")
        if scales.ndim == 2:
            steps = [-(-size // count) for size, count in zip(numbers.shape, scales.shape)]
            scales = np.kron(scales, np.ones(steps))[: numbers.shape[0], : numbers.shape[1]]
        result[name] = bad_fp8.f32(numbers * scales)
    return result


class Fp8Test(unittest.TestCase):
    program = None

    def logits(self, model, *arguments):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "logits.npy"
            command = [self.program, "llm-inference", "-m", model, "--prompt-ids", IDS, "-n", "0",
                       "--kv-cache", "f32", "--numerics", "exact", "--logits", path, *arguments]  # fmt: skip
            done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            return np.load(path)

    def test_numbers_and_scales_are_weights(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            written = []
            bad_fp8.write_sound(folder, lambda *case: written.append(case))
            self.assertEqual(len(written), 1 + len(bad_fp8.SOUND))
            for number in range(len(bad_fp8.SOUND)):
                model = folder / f"valid-{number}"
                plain = folder / f"plain-{number}"
                bad_fp8.put(folder, plain, in_f32(bad_fp8.load(model)), bad_fp8.config_of(folder))
                expected = self.logits(plain)
                for target in ("cpu", "reference"):
                    actual = self.logits(model, "--target", target)
                    error = np.abs(actual - expected).max() / np.abs(expected).max()
                    self.assertLess(error, 1e-5, (number, target))
                difference = np.abs(expected - self.logits(folder / "plain")).max()
                self.assertGreater(difference, 1e-3)  # e4m3 is not f32


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bin", type=Path, required=True)
    options, rest = parser.parse_known_args()
    Fp8Test.program = options.bin / "kernelforge"
    unittest.main(argv=[sys.argv[0], *rest])
