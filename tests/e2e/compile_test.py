#!/usr/bin/env python3
"""emit-mlir and compile: every stage parses again and runs, arrays go in and come out.

    compile_test.py --bin build/release/bin
"""

import sys

import numpy as np

import cli
from cli import CliTest, call, kernelforge

LLAMA = "d_model=64,heads=4,kv_heads=2,d_ff=96,norm=rms,activation=silu,gated=true,rope=true"
GPT = "d_model=48,heads=3,norm=layer,activation=gelu,gated=false,rope=false,vocab=70,layers=2"
STAGES = ["transformer", "fused", "scheduled", "target", "llvm"]

ROWS = 'tensor<?x%dxf32, #transformer.dims<"rows">>'
INDICES = 'tensor<?xi32, #transformer.dims<"rows">>'
SOFTMAX = """func.func @softmax(
    %%rows: index {transformer.size = #transformer.size<"rows", 1 to 64>},
    %%x: %(t)s) -> %(t)s {
  %%0 = transformer.softmax %%x : %(t)s
  return %%0 : %(t)s
}
""" % {"t": ROWS % 12}


def matmul(n, k, element):
    """A product of rows with a weight [n, k]."""
    types = {"x": ROWS % k, "w": f"tensor<{n}x{k}x{element}>", "y": ROWS % n}
    return """func.func @matmul(
    %%rows: index {transformer.size = #transformer.size<"rows", 1 to 64>},
    %%x: %(x)s {transformer.input = "x"}, %%w: %(w)s {transformer.weight = "w"}) -> %(y)s {
  %%0 = transformer.matmul %%x weights(%%w) : (%(x)s, %(w)s) -> (%(y)s)
  return %%0 : %(y)s
}
""" % types


def pinned(variant):
    """A kernel that a variant is to run, with a function that launches it."""
    size = '%rows: index {transformer.size = #transformer.size<"rows", 1 to 64>}'
    types = {"x": ROWS % 40, "w": "tensor<24x40xf32>", "y": ROWS % 24, "v": variant, "s": size}
    return """transformer.kernel @k(%(s)s, %%x: %(x)s, %%w: %(w)s) -> %(y)s
    attributes {variant = "%(v)s"} {
  %%0 = transformer.matmul %%x weights(%%w) : (%(x)s, %(w)s) -> (%(y)s)
  transformer.yield %%0 : %(y)s
}
func.func @f(%(s)s, %%x: %(x)s, %%w: %(w)s {transformer.weight = "w"}) -> %(y)s {
  %%0 = transformer.launch @k(%%rows, %%x, %%w) : (index, %(x)s, %(w)s) -> %(y)s
  return %%0 : %(y)s
}
""" % types


def scheduled(knobs, variant):
    """The same with a schedule given in part."""
    attributes = f'{{variant = "{variant}", schedule = #transformer.schedule<{{{knobs}}}>}}'
    return pinned(variant).replace(f'{{variant = "{variant}"}}', attributes)


class Variants(CliTest):
    def test_a_schedule_may_be_given_in_part(self):
        for variant, knobs in (("blocked", "mc = 16"), ("parallel", "split_k = 2")):
            name, value = knobs.split(" = ")
            (kernel,) = self.answer("compile", "-", "--run", text=scheduled(knobs, variant))["kernels"]
            self.assertEqual(kernel["schedule"][name], int(value))
            self.refused(2, "compile", "-", text=scheduled(f"{name} = -3", variant),
                         says=f"knob {name}): it is -3, but must be")  # fmt: skip

    def test_a_module_may_name_the_variant(self):
        for variant in ("blocked", "parallel", "reference"):
            answer = self.answer("compile", "-", "--run", text=pinned(variant))
            self.assertTrue(answer["pass"], answer)
            (kernel,) = answer["kernels"]
            self.assertEqual((kernel["variant"], kernel["schedule_source"]), (variant, "pinned"))
            self.assertEqual((kernel["phases"], kernel["from_cache"]), (0, False))
            self.assertIn(variant, self.ok("compile", "-", "--run", text=pinned(variant)))
            compiled = self.answer("compile", "-", text=pinned(variant))
            self.assertEqual(compiled["kernels"][0]["variant"], variant)

    def test_one_that_cannot_run_is_refused(self):
        self.refused(2, "compile", "-", text=pinned("blokced"), says="@k, variant 'blokced'")
        softmax = pinned("blocked").replace("yield %0", "yield %1").replace(
            "  transformer.yield", f"  %1 = transformer.softmax %0 : {ROWS % 24}\n  transformer.yield")
        self.refused(2, "compile", "-", text=softmax, says="more than one matmul")


class Stages(CliTest):
    def test_every_stage_parses_again_and_runs(self):
        for block, weights in ((LLAMA, "q4_0"), (GPT, "f32")):
            modules = {}
            for stage in STAGES:
                text = self.ok("emit-mlir", "--block", block, "--weights", weights, "--stage", stage)
                modules[stage] = text
                again = call("kernelforge-opt", "-", text=text)
                self.assertEqual(again.returncode, 0, again.stderr)
                self.assertEqual(again.stdout, text, f"{stage} changes when it is parsed again")
                for phase in ("prefill", "decode"):
                    answer = self.answer("compile", "-", "--function", phase, "--run", text=text)
                    self.assertTrue(answer["pass"], answer)
            for stage in STAGES[1:]:
                done = call("kernelforge-opt", f"--kernelforge-pipeline={stage}", "-",
                            text=modules["transformer"])
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("transformer.kernel", done.stdout)

    def test_assembly_for_any_processor(self):
        for cpu, register in (("haswell", "%ymm"), ("znver5", "%zmm"), ("sapphirerapids", "%zmm")):
            text = self.ok("emit-mlir", "--block", LLAMA, "--stage", "asm", "--target-cpu", cpu)
            self.assertIn("# kernel ", text)
            self.assertIn(register, text)
            self.assertEqual("%zmm" in text, register == "%zmm")

    def test_one_kernel(self):
        fused = self.ok("emit-mlir", "--block", LLAMA, "--stage", "fused", "--phase", "decode")
        name = fused.split("transformer.kernel @")[1].split("(")[0]
        self.assertGreater(fused.count("transformer.kernel @"), 2)
        for stage in ("fused", "scheduled", "target", "llvm"):
            text = self.ok("emit-mlir", "--block", LLAMA, "--phase", "decode", "--stage", stage,
                           "--kernel", name)
            self.assertEqual(text.count("transformer.kernel @"), 1)
            self.assertEqual(call("kernelforge-opt", "-", text=text).returncode, 0)
        self.assertIn(f"# kernel {name}",
                      self.ok("emit-mlir", "--block", LLAMA, "--phase", "decode", "--stage", "asm",
                              "--kernel", name))

    def test_a_decoder_layer_is_few_kernels(self):
        for block in (LLAMA, GPT.replace(",vocab=70", "")):
            fused = self.ok("emit-mlir", "--block", block, "--stage", "fused", "--phase", "decode")
            self.assertIn(fused.count("transformer.kernel @"), range(3, 9))

    def test_no_fuse_gives_the_same(self):
        text = self.ok("emit-mlir", "--block", LLAMA, "--phase", "prefill")
        results = []
        for options in ([], ["--no-fuse"]):
            file = self.folder / "y.npy"
            self.ok("compile", "-", "--output", file, *options, text=text)
            results.append(np.load(file))
        error = np.abs(results[0] - results[1]).max() / np.abs(results[0]).max()
        self.assertLess(error, 1e-5)

    def test_output_file_and_dumps(self):
        file, dumps = self.folder / "block.mlir", self.folder / "dumps"
        answer = self.answer("emit-mlir", "--block", LLAMA, "--stage", "scheduled", "-o", file,
                             "--dump-passes", dumps)
        self.assertEqual(answer["file"], str(file))
        self.assertEqual(file.stat().st_size, answer["bytes"])
        self.assertTrue(list(dumps.glob("*.mlir")))
        self.assertEqual(self.ok("emit-mlir", "--block", LLAMA, "--stage", "scheduled"),
                         file.read_text())

    def test_pinned_schedules_are_left_alone(self):
        text = self.ok("emit-mlir", "--block", LLAMA, "--stage", "scheduled", "--phase", "decode")
        pinned = text.replace('schedule_source = "analytic"', 'schedule_source = "pinned"')
        self.assertNotEqual(pinned, text)
        for kernel in self.answer("compile", "-", text=pinned)["kernels"]:
            self.assertEqual(kernel["schedule_source"], "pinned")

    def test_compiling_for_another_machine(self):
        text = self.ok("emit-mlir", "--block", LLAMA)
        answer = self.answer("compile", "-", "--target-cpu", "sapphirerapids", text=text)
        self.assertEqual(answer["target"], "sapphirerapids")
        self.assertGreater(len(answer["kernels"]), 2)


class Arrays(CliTest):
    def save(self, name, array):
        file = self.folder / f"{name}.npy"
        np.save(file, array)
        return file

    def run_module(self, text, *inputs, options=()):
        """The results of a module on arrays."""
        output = self.folder / "out.npy"
        files = [self.save(f"in{i}", array) for i, array in enumerate(inputs)]
        arguments = [argument for file in files for argument in ("--input", file)]
        self.ok("compile", "-", *arguments, "--output", output, *options, text=text)
        return np.load(output)

    def test_softmax_agrees_with_numpy(self):
        x = np.random.default_rng(1).standard_normal((7, 12)).astype(np.float32) * 5
        wide = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
        expected = wide / wide.sum(axis=1, keepdims=True)
        y = self.run_module(SOFTMAX, x)
        self.assertEqual((y.dtype, y.shape), (np.float32, x.shape))
        np.testing.assert_allclose(y, expected, rtol=1e-5)

    def test_matmul_agrees_with_numpy(self):
        random = np.random.default_rng(2)
        x = random.standard_normal((5, 64)).astype(np.float32)
        w = random.standard_normal((24, 64)).astype(np.float32)
        bf16 = (w.view(np.uint32) >> 16).astype(np.uint16)
        cases = {
            "f32": (w, w),
            "f16": (w.astype(np.float16), w.astype(np.float16).astype(np.float32)),
            "bf16": (bf16, (bf16.astype(np.uint32) << 16).view(np.float32)),
        }
        for element, (array, meaning) in cases.items():
            y = self.run_module(matmul(24, 64, element), x, array)
            expected = x.astype(np.float64) @ meaning.astype(np.float64).T
            self.assertLess(np.abs(y - expected).max(), 1e-4 * np.abs(expected).max(), element)

    def test_quantized_weights_travel_as_bytes(self):
        random = np.random.default_rng(3)
        x = random.standard_normal((3, 64)).astype(np.float32)
        # q8_0: a half for the scale, then 32 signed bytes.
        scales = random.uniform(0.01, 0.1, (24, 2)).astype(np.float16)
        quants = random.integers(-127, 128, (24, 2, 32)).astype(np.int8)
        blocks = np.concatenate([scales.view(np.uint8).reshape(24, 2, 2), quants.view(np.uint8)], 2)
        w = (scales.astype(np.float64)[:, :, None] * quants).reshape(24, 64)
        y = self.run_module(matmul(24, 64, "!transformer.quant<q8_0>"), x, blocks.reshape(24, 68))
        expected = x.astype(np.float64) @ w.T
        self.assertLess(np.abs(y - expected).max(), 1e-4 * np.abs(expected).max())

    def test_written_caches_follow_the_results(self):
        types = {"c": "!transformer.cache<2, 4, f32>", "x": ROWS % 8, "s": INDICES}
        module = """func.func @append(
    %%rows: index {transformer.size = #transformer.size<"rows", 1 to 8>},
    %%c: %(c)s, %%x: %(x)s, %%s: %(s)s) {
  transformer.cache_append %%x, %%s into %%c : %(c)s, %(x)s, %(s)s
  return
}
""" % types
        x = np.arange(24, dtype=np.float32).reshape(3, 8)
        before = np.full((5, 2, 4), 9, np.float32)
        after = self.run_module(module, before, x, np.array([4, -1, 0], np.int32))
        expected = before.copy()
        expected[4], expected[0] = x[0].reshape(2, 4), x[2].reshape(2, 4)
        np.testing.assert_array_equal(after, expected)
        self.save("in2", np.array([5, -1, 0], np.int32))
        inputs = [f"--input={self.folder}/in{i}.npy" for i in range(3)]
        self.refused(2, "compile", "-", *inputs, text=module, says="out of the range")

    def test_indices_out_of_range_are_refused(self):
        types = {"t": "tensor<6x8xf32>", "x": ROWS % 8, "s": INDICES}
        module = """func.func @embed(
    %%rows: index {transformer.size = #transformer.size<"rows", 1 to 8>},
    %%t: %(t)s, %%s: %(s)s) -> %(x)s {
  %%0 = transformer.embedding %%s, %%t : (%(s)s, %(t)s) -> %(x)s
  return %%0 : %(x)s
}
""" % types
        table = np.random.default_rng(5).standard_normal((6, 8)).astype(np.float32)
        ids = np.array([5, 0, 5], np.int32)
        np.testing.assert_array_equal(self.run_module(module, table, ids), table[ids])
        for bad in (6, -1, 2**31 - 1):
            self.save("in1", np.array([0, bad, 0], np.int32))
            inputs = [f"--input={self.folder}/in{i}.npy" for i in range(2)]
            self.refused(2, "compile", "-", *inputs, text=module, says="out of the range")

    def test_expectations(self):
        x = np.random.default_rng(4).standard_normal((2, 12)).astype(np.float32)
        y = self.run_module(SOFTMAX, x)
        right, wrong = self.save("right", y), self.save("wrong", np.zeros_like(y))
        file = self.save("x", x)
        answer = self.answer("compile", "-", "--input", file, "--expect", right, text=SOFTMAX)
        self.assertTrue(answer["pass"])
        answer = self.answer("compile", "-", "--input", file, "--expect", wrong, text=SOFTMAX,
                             code=1)
        self.assertFalse(answer["pass"])
        done = kernelforge("compile", "-", "--input", file, "--expect", wrong, text=SOFTMAX)
        self.assertRegex(done.stderr, r"\Akernelforge: error: verification failed [^\n]+\n\Z")

    def test_what_is_no_number_in_both_is_right_and_said(self):
        x = np.ones((3, 12), np.float32)
        x[1, 4] = np.nan
        file = self.save("nan", x)
        done = kernelforge("compile", "-", "--input", file, text=SOFTMAX)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("12 not numbers, as in the reference\n", done.stdout)  # one row
        (accuracy,) = self.answer("compile", "-", "--input", file, text=SOFTMAX)["accuracy"]
        self.assertEqual((accuracy["nan"], accuracy["nan_in_both"]), (0, 12))
        expected = np.full((3, 12), 1 / 12, np.float32)
        expected[1, :5] = np.nan
        line = ("compile", "-", "--input", file, "--expect", self.save("some", expected))
        done = kernelforge(*line, text=SOFTMAX)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("WRONG against expected", done.stdout)
        self.assertIn("12 not numbers, 5 of them as in the reference\n", done.stdout)
        (accuracy,) = self.answer(*line, text=SOFTMAX, code=1)["accuracy"]
        self.assertEqual((accuracy["nan"], accuracy["nan_in_both"]), (7, 5))

    def test_arrays_that_do_not_fit(self):
        good = np.zeros((2, 12), np.float32)
        bad = {
            "width": np.zeros((2, 13), np.float32),
            "rank": np.zeros((24,), np.float32),
            "type": np.zeros((2, 12), np.float64),
            "fortran": np.asfortranarray(np.ones((2, 12), np.float32)),
            "rows": np.zeros((65, 12), np.float32),
            "none": np.zeros((0, 12), np.float32),
        }
        for name, array in bad.items():
            with self.subTest(name):
                file = self.save(name, array)
                self.refused(2, "compile", "-", "--input", file, text=SOFTMAX)
        file = self.save("good", good)
        self.ok("compile", "-", "--input", file, text=SOFTMAX)
        for arguments in (
            ["--input", file, "--input", file],
            ["--input", "/nonexistent.npy"],
            ["--input", __file__],
            ["--input", file, "--size", "rows=3"],
            ["--size", "rows"],
            ["--size", "rows=x"],
            ["--size", "rows=65"],
            ["--size", "columns=3"],
            ["--size", "rows=1", "--size", "rows=1"],
            ["--input", file, "--expect", self.save("short", good[:1])],
            ["--input", file, "--expect", file, "--expect", file],
            ["--input", file, "--output", "a", "--output", "b"],
            ["--run", "--function", "nobody"],
        ):
            with self.subTest(arguments):
                self.refused(2, "compile", "-", *arguments, text=SOFTMAX)

    def test_bench_times_every_kernel(self):
        answer = self.answer("compile", "-", "--bench", text=SOFTMAX)
        for kernel in answer["kernels"]:
            self.assertGreater(kernel["median_ns"], 0)


if __name__ == "__main__":
    cli.run(sys.argv)
