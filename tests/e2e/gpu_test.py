#!/usr/bin/env python3
"""What a GPU target computes, against the reference: each family at forty shapes, odd ones among them.
`compile --run` poisons results and intermediates first.

    gpu_test.py --bin build/release/bin --target webgpu
"""

import concurrent.futures
import os
import sys
from collections import Counter

import cli
import gpu_modules
from cli import CliTest

#: Few, as the software driver takes cores of its own.
JOBS = min(2, os.cpu_count())


def count(size):
    """How many rows a run has: a number, or one from within a range."""
    return size if isinstance(size, int) else (size[0] + size[1]) // 2


def sizes(shapes):
    """Shapes whose rows are now and then a size that only the run gives."""
    return [((1, 2 * shape[0] + 1) if i % 3 == 1 else shape[0], *shape[1:])
            for i, shape in enumerate(shapes)]


ROWS = [1, 2, 3, 5, 1, 7, 8, 13]
WIDTHS = [1, 2, 3, 5, 6, 7, 10, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 100, 127, 128]
ROWWISE = [(ROWS[i % 8], width) for i, width in enumerate(
    WIDTHS + [4, 8, 9, 224, 288, 15, 512, 20, 1024, 256, 66, 129, 160, 192, 255, 256, 257, 320, 512, 768])]
MATMULS = [(1, 1, 1), (1, 2, 3), (1, 64, 32), (1, 65, 33), (1, 63, 64), (1, 100, 96), (1, 17, 256),
           (1, 128, 512), (1, 5, 768), (1, 129, 257), (2, 64, 512), (2, 7, 5), (2, 66, 31),
           (3, 33, 32), (3, 64, 1), (3, 1, 64), (3, 70, 160), (4, 64, 256), (4, 12, 15), (4, 31, 512),
           (5, 64, 32), (5, 9, 256), (5, 130, 7), (6, 3, 96), (7, 64, 17), (7, 61, 256), (8, 65, 64),
           (8, 16, 16), (9, 20, 288), (11, 11, 11), (12, 48, 256), (13, 40, 256), (15, 17, 19),
           (16, 32, 256), (16, 5, 512), (17, 33, 65), (23, 24, 128), (31, 10, 64), (33, 66, 32),
           (64, 8, 512)]
HEADS = [(1, 1), (1, 2), (2, 1), (2, 3), (3, 1), (1, 4), (2, 2), (4, 1)]
ATTENTIONS = [(rows, *HEADS[i % 8], dim, value_dim, 1 + i % 3 if rows >= 3 else 1)
              for i, (rows, dim, value_dim) in enumerate(
    [(1, 1, 1), (1, 2, 2), (1, 8, 8), (1, 16, 16), (1, 32, 32), (1, 64, 64), (1, 80, 80), (1, 7, 3),
     (1, 96, 65), (1, 128, 128), (2, 4, 4), (2, 17, 17), (2, 64, 32), (2, 33, 5), (3, 8, 8), (3, 3, 7),
     (3, 64, 64), (3, 40, 40), (4, 16, 16), (4, 5, 9), (4, 48, 48), (5, 32, 32), (5, 65, 66), (5, 1, 2),
     (6, 24, 24), (7, 10, 10), (7, 64, 64), (7, 2, 100), (8, 16, 16), (8, 31, 31), (9, 12, 12),
     (11, 6, 6), (12, 32, 16), (13, 20, 20), (16, 64, 64), (16, 15, 15), (17, 9, 8), (23, 16, 16),
     (31, 4, 4), (33, 8, 8)])]


class Gpu(CliTest):
    def verify(self, index, function):
        """What is wrong with a module's run; empty where all results are right."""
        size = function.size
        options = ["--target", TARGET, "--no-cache", "--no-records", "--seed", index]
        options += [] if isinstance(size, int) else ["--size", f"rows={count(size)}"]
        options += ["--no-fuse"] if index % 4 == 3 else []
        try:
            answer = self.answer("compile", "-", "--run", *options, text=function.text())
        except AssertionError as error:
            return str(error)
        wrong = [each for each in answer["accuracy"] if not each["pass"]]
        if wrong or not answer["pass"]:
            return f"wrong: {wrong}"
        if len(answer["accuracy"]) < len(function.results):
            return f"{len(answer['accuracy'])} of {len(function.results)} results are verified"
        return ""

    def verifyAll(self, functions):
        self.assertEqual(len(functions), 40)
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            verdicts = pool.map(self.verify, range(len(functions)), functions)
            for i, (function, wrong) in enumerate(zip(functions, verdicts)):
                with self.subTest(shape=i):
                    self.assertEqual(wrong, "", f"\n{function.text()}")

    def verifyWithWeights(self, make, shapes):
        """The same of modules with weights, of which there are all types."""
        used = Counter()
        self.verifyAll([make(i, used, *shape) for i, shape in enumerate(sizes(shapes))])
        for element in [*gpu_modules.PLAIN, *gpu_modules.QUANTIZED]:
            self.assertGreater(used[element], 1, f"weights of {element} are hardly there")

    def test_rowwise(self):
        self.verifyWithWeights(gpu_modules.rowwise, ROWWISE)

    def test_matmul(self):
        self.verifyWithWeights(gpu_modules.matmul, MATMULS)

    def test_attention(self):
        self.verifyAll([gpu_modules.attention(i, *shape) for i, shape in enumerate(sizes(ATTENTIONS))])

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

    def test_what_is_not_computed_is_refused_by_name(self):
        x, w = "tensor<3x32xf32>", "tensor<8x32xf32>"
        packed = "tensor<8x32xf32, #transformer.layout<interleaved, rows = 16>>"
        for arguments, body, kind, op, why in (
            (f"%w: {w}", f"transformer.pack %w : {w} to {packed}", packed, "pack", "row-major"),
            ("%x: tensor<3x32xf16>", "transformer.softmax %x : tensor<3x32xf16>", "tensor<3x32xf16>",
             "softmax", "f16"),
            (f"%x: {x}, %w: {w}", f"transformer.matmul %x weights(%w) : ({x}, {w}) -> "
             "(tensor<3x8xbf16>)", "tensor<3x8xbf16>", "matmul", "bf16")):
            text = f"func.func @f({arguments}) -> {kind} {{\n  %0 = {body}\n  return %0 : {kind}\n}}\n"
            for run in (["--run"], []):
                done = cli.kernelforge("compile", "-", *run, "--target", TARGET, text=text)
                self.assertEqual(done.returncode, 2, cli.shown(done))
                self.assertRegex(done.stderr, rf"\Akernelforge: error: [^\n]*transformer\.{op}[^\n]*\n\Z")
                self.assertIn(why, done.stderr)


if __name__ == "__main__":
    if len(sys.argv) < 5 or sys.argv[3] != "--target":
        raise SystemExit(f"usage: {sys.argv[0]} --bin FOLDER --target NAME [unittest options]")
    TARGET = sys.argv[4]
    cli.run([*sys.argv[:3], *sys.argv[5:]])
