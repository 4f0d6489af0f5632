#!/usr/bin/env python3
"""What a target for GPUs computes, against the reference: each family at forty shapes, odd ones among
them. `compile --run` poisons results and intermediates first.

    gpu_test.py --bin build/release/bin --target webgpu
    gpu_test.py --bin build/release/bin --target cuda             # on a GPU
    gpu_test.py --bin build/release/bin --target cuda --emulated  # its PTX on this processor, of a quarter
    gpu_test.py ... --emulated --all                              # of all shapes

Without the device, tests are skipped, or fail where KERNELFORGE_REQUIRE_CUDA (or _WEBGPU) is set.
"""

import concurrent.futures
import json
import os
import sys
import unittest

import numpy as np

import cli
import gpu_modules
from cli import CliTest

#: Few, as software drivers take cores of their own.
JOBS = min(2, os.cpu_count())
#: Set by main.
TARGET, EMULATED = None, False
#: Emulated, one of so many shapes, without --all: e2e-ptxas emulates those whose kernels no GPU has verified.
SHARE = 4


class Gpu(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if EMULATED:
            return
        text = gpu_modules.step(1, 1, 1, 0, 0).text()
        done = cli.kernelforge("compile", "-", "--run", "--target", TARGET, text=text)
        if done.returncode == 3:
            why = done.stderr.strip()
            if f"KERNELFORGE_REQUIRE_{TARGET.upper()}" in os.environ:
                raise AssertionError(why)
            raise unittest.SkipTest(why)

    def run_module(self, text, options):
        """How a run of a module ended."""
        if EMULATED:
            return cli.call("ptx-run", *options, text=text)
        return cli.kernelforge("compile", "-", "--run", "--json", "--target", TARGET, "--no-cache",
                               "--no-records", *options, text=text)

    def verify(self, index, function):
        """What is wrong with a module's run; empty where all results are right."""
        done = self.run_module(function.text(), gpu_modules.run_options(index, function.size))
        if done.returncode not in (0, 1):
            return cli.shown(done)
        answer = json.loads(done.stdout)
        wrong = [each for each in answer["accuracy"] if not each["pass"]]
        if wrong or not answer["pass"]:
            return f"wrong: {wrong}"
        if len(answer["accuracy"]) < len(function.results):
            return f"{len(answer['accuracy'])} of {len(function.results)} results are verified"
        return ""

    def verify_all(self, family):
        """What was used of each type of weights."""
        functions, used = gpu_modules.modules(family)
        self.assertEqual(len(functions), {"halves": 10, "projections": 4}.get(family, 40))
        work = list(enumerate(functions))[:: SHARE if EMULATED else 1]
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            verdicts = pool.map(lambda each: self.verify(*each), work)
            for (i, function), wrong in zip(work, verdicts):
                with self.subTest(shape=i):
                    self.assertEqual(wrong, "", f"\n{function.text()}")
        return used

    def verify_with_weights(self, family):
        """The same of modules with weights, of which there are all types."""
        used = self.verify_all(family)
        for element in [*gpu_modules.PLAIN, *gpu_modules.QUANTIZED]:
            self.assertGreater(used[element], 1, f"weights of {element} are hardly there")

    def test_rowwise(self):
        self.verify_with_weights("rowwise")

    def test_matmul(self):
        self.verify_with_weights("matmul")

    def test_attention(self):
        self.verify_all("attention")

    def test_halves(self):
        if TARGET == "webgpu":
            self.skipTest("matrix units are another test's there")
        self.verify_all("halves")

    def test_projections(self):
        if TARGET == "webgpu":
            self.skipTest("matrix units are another test's there")
        self.verify_all("projections")

    def test_weights_are_expanded_for_matrix_units(self):
        if TARGET == "webgpu":
            self.skipTest("matrix units are another test's there")
        for text in gpu_modules.expanded_modules():
            done = self.run_module(text, [])
            self.assertEqual(done.returncode, 0, f"{text}\n{cli.shown(done)}")

    def test_blocks_share_the_depth_of_a_tile(self):
        """In clusters, of which some blocks have one stage more than others, and tiles of which columns
        fill no panel."""
        if TARGET == "webgpu":
            self.skipTest("blocks have whole tiles there")
        for tile, stages, split, shape in (("bm = 128, bn = 128", 4, 2, (130, 200, 200, "bf16")),
                                           ("bm = 64, bn = 128", 4, 4, (70, 264, 520, "f32")),
                                           ("bm = 64, bn = 64", 8, 8, (16, 65, 1096, "f16")),
                                           ("bm = 64, bn = 96", 3, 1, (70, 264, 136, "f16"))):
            schedule = (f"method = 1, {tile}, stages = {stages}, group = 1, resident = 1, blocks = 2, "
                        f"split = {split}, early = 1")
            done = self.run_module(gpu_modules.scheduled(schedule, *shape), [])
            self.assertEqual(done.returncode, 0, cli.shown(done))

    def test_blocks_go_on_to_further_tiles(self):
        """With what stages and panels of shared memory were left by the tile before."""
        if TARGET == "webgpu":
            self.skipTest("blocks have one tile there")
        for tile, stages, blocks, number in (("bm = 128, bn = 192", 3, 1, "bf16"),
                                             ("bm = 128, bn = 128", 2, 2, "f32"),
                                             ("bm = 64, bn = 64", 4, 3, "f16")):
            schedule = f"method = 1, {tile}, stages = {stages}, group = 1, resident = 1, blocks = {blocks}, split = 1, early = 1"
            done = self.run_module(gpu_modules.scheduled(schedule, 250, 392, 200, number), [])
            self.assertEqual(done.returncode, 0, cli.shown(done))

    def steps(self, function, arrays, target):
        """Results of a step on a target, as arrays."""
        outputs = [self.folder / f"{target}{i}.npy" for i in range(len(function.results))]
        options = [o for name in arrays for o in ("--input", self.folder / f"{name}.npy")]
        options += [o for file in outputs for o in ("--output", file)]
        self.ok("compile", "-", "--target", target, "--no-cache", "--no-records", *options,
                text=function.text())
        return [np.load(file) for file in outputs]

    def test_steps(self):
        """Tokens are not close but equal: with all filters, ties, and logits that are no numbers."""
        if EMULATED:  # which takes no arrays
            steps = [gpu_modules.step(*shape) for shape in ((1, 1, 1, 0, 0), (3, 2, 37, 3, 0), (5, 3, 300, 2, 4))]
            for i, function in enumerate(steps):
                self.assertEqual(self.verify(i, function), "", f"\n{function.text()}")
            return
        shapes = [(1, 1, 1, 0), (2, 2, 3, 4), (3, 3, 0, 0), (21, 255, 64, 16), (28, 1003, 9, 4),
                  (2, 70000, 3, 0)]  # so many ids that some share a mark of the recent ones
        for rows, vocabulary, window, page in shapes:
            random = np.random.default_rng(vocabulary)
            sequences = (rows + 1) // 2
            x = (random.standard_normal((rows, vocabulary)) * 4).astype(np.float32)
            x[1::7] = np.round(x[1::7])  # many equal ones
            x[2::7] *= np.float32(1e-39)
            for row, value in ((3, np.nan), (4, -np.inf), (5, np.inf)):
                x[row::7, ::3] = value
            x[6::7] = np.nan
            pick = lambda *values: random.choice(np.array(values, np.float32), rows)  # noqa: E731
            penalty = pick(1, 1.7)
            integers = lambda low, end, *shape: random.integers(low, end, shape, np.int32)  # noqa: E731
            arrays = {
                "x": x,
                "settings": np.stack([pick(0, 0.5, 1, 1.25, 90), pick(1, 0.9, 0.3), pick(0, 0.1),
                                      1 / penalty, penalty], axis=1),
                "draws": np.stack([integers(-1, vocabulary + 2, rows), integers(-9, 9, rows),
                                   integers(-9, 9, rows)], axis=1),
                "positions": integers(0, 20, rows), "slots": integers(-1, 5, rows),
                "sequences": integers(0, sequences, rows),
                "table": integers(-1, 9, sequences, 4) if page else integers(0, 99, sequences),
                "lengths": integers(1, 9, sequences), "limits": integers(10, 30, sequences)}
            if window:
                arrays["recent"] = integers(-1, vocabulary, rows, window)
            for name, array in arrays.items():
                np.save(self.folder / f"{name}.npy", array)
            function = gpu_modules.step(rows, sequences, vocabulary, window, page)
            expected = self.steps(function, arrays, "reference")
            for i, (got, right) in enumerate(zip(self.steps(function, arrays, TARGET), expected)):
                np.testing.assert_array_equal(got, right, f"{vocabulary} ids, result {i}")

    def test_activations_as_weights(self):
        """They lie in one memory with the result."""
        f = gpu_modules.Function(5)
        x, kind = f.rows(7)
        square, result = "tensor<5x5xf32>", "tensor<5x7xf32>"
        y = f.op(f"add {x}, {x} : {kind}", kind, returned=False)
        z = f.op(f"softmax {x} : {kind}", kind, returned=False)
        scores = f.op(f"matmul {y} weights({z}) : ({kind}, {kind}) -> ({square})", square,
                      returned=False)
        scores = f.op(f"softmax {scores} : {square}", square, returned=False)
        f.op(f"matmul {scores} weights({z}) {{transpose}} : ({square}, {kind}) -> ({result})", result)
        ids = f.argument("tensor<5xi32>")
        f.op(f"embedding {ids}, {z} : (tensor<5xi32>, {kind}) -> {kind}", kind)
        for index in (0, 3):  # fused or not
            self.assertEqual(self.verify(index, f), "", f"\n{f.text()}")

    @staticmethod
    def compiled(text):
        """How compiling a module ended, for a device that needs not be here where it is emulated."""
        chip = ["--target-cpu", "sm_90a"] if EMULATED else []
        return cli.kernelforge("compile", "-", "--target", TARGET, *chip, text=text)

    def test_what_is_not_computed_is_refused_by_name(self):
        x, w = "tensor<3x32xf32>", "tensor<8x32xf32>"
        packed = "tensor<8x32xf32, #transformer.layout<interleaved, rows = 16>>"
        for arguments, body, kind, op, why in (
            (f"%w: {w}", f"transformer.pack %w : {w} to {packed}", packed, "pack", "has the layout interleaved"),
            (f"%x: {x}, %w: {w}", "transformer.matmul %x weights(%w) {numerics = "
             f"#transformer.numerics<multiply = tf32x3, accumulate = f32>}} : ({x}, {w}) -> "
             "(tensor<3x8xf32>)", "tensor<3x8xf32>", "matmul", "tf32x3")):
            text = f"func.func @f({arguments}) -> {kind} {{\n  %0 = {body}\n  return %0 : {kind}\n}}\n"
            for done in (self.run_module(text, []), self.compiled(text)):
                self.assertEqual(done.returncode, 2, cli.shown(done))
                self.assertRegex(done.stderr, rf"\Akernelforge: error: [^\n]*transformer\.{op}[^\n]*\n\Z")
                self.assertIn(why, done.stderr)


if __name__ == "__main__":
    words = sys.argv
    EMULATED = "--emulated" in words
    if "--all" in words:
        SHARE = 1
    words = [word for word in words if word not in ("--emulated", "--all")]
    at = words.index("--target") if "--target" in words else None
    if at is None or at + 1 == len(words):
        raise SystemExit(f"usage: {words[0]} --bin FOLDER --target KIND [--emulated [--all]] [unittest options]")
    TARGET = words[at + 1]
    cli.run(words[:at] + words[at + 2:])
