#!/usr/bin/env python3
"""emit-mlir and compile: every stage parses again and runs, arrays go in and come out.

    compile_test.py --bin build/release/bin
"""

import math
import sys

import numpy as np

import cli
from cli import CliTest, call, kernelforge
from modules import BLOCK, ROWS, pinned

LLAMA = "d_model=64,heads=4,kv_heads=2,d_ff=96,norm=rms,activation=silu,gated=true,rope=true"
GPT = "d_model=48,heads=3,norm=layer,activation=gelu,gated=false,rope=false,vocab=70,layers=2"
STAGES = ["transformer", "fused", "scheduled", "target", "llvm"]

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

    def test_a_kernel_by_itself_is_a_module_again(self):
        module = self.folder / "block.mlir"
        module.write_text(BLOCK)
        whole = self.ok("compile", module)
        for stage in ("fused", "scheduled", "target", "llvm"):
            text = self.ok("emit-mlir", module, "--stage", stage)
            name = text.split("transformer.kernel @")[1].split("(")[0]
            alone = self.folder / f"{stage}.mlir"
            self.ok("emit-mlir", module, "--stage", stage, "--kernel", name, "-o", alone)
            self.assertEqual(alone.read_text().count("transformer.kernel @"), 1)
            self.assertIn(name, self.ok("compile", alone))
            answer = self.answer("compile", alone, "--run", "--size", "rows=5")
            self.assertTrue(answer["pass"])
            self.assertEqual((answer["function"], answer["sizes"]), ("run_" + name, {"rows": 5}))
            self.assertIn(name, whole)
            self.assertIn(f"# kernel {name}\n", self.ok("emit-mlir", alone, "--stage", "asm"))
            home = {"KERNELFORGE_HOME": str(self.folder / "home")}
            tuned = self.answer("tune", alone, "--trials", 1, env=home)
            self.assertEqual([kernel["kernel"] for kernel in tuned["kernels"]], [name])
        self.assertIn("# kernel " + name, self.ok("emit-mlir", module, "--stage", "asm",
                                                  "--kernel", name))
        self.refused(2, "emit-mlir", module, "--stage", "asm", "--kernel", name[:-1],
                     says=f"did you mean '{name}'?")
        self.refused(2, "emit-mlir", module, "--kernel", name, says="give --stage fused")
        self.refused(2, "emit-mlir", module, "--phase", "decode", says="--phase")
        self.refused(2, "emit-mlir", module, "--weights", "q4_1", says="--weights")
        self.refused(2, "emit-mlir", module, "--block", LLAMA, says="said twice")

    def test_no_stage_is_taken_back(self):
        module = self.folder / "there.mlir"
        for i, reached in enumerate(STAGES):
            module.write_text(self.ok("emit-mlir", "-", "--stage", reached, text=BLOCK))
            for j, stage in enumerate(STAGES):
                with self.subTest(f"{reached} to {stage}"):
                    if j >= i:
                        text = self.ok("emit-mlir", module, "--stage", stage)
                        if reached != "target":  # whose constants are sorted anew
                            self.assertEqual(
                                text, self.ok("emit-mlir", "-", "--stage", stage, text=BLOCK))
                        continue
                    says = f"({stage}): it is at stage {reached} already"
                    self.refused(2, "emit-mlir", module, "--stage", stage, says=says)
                    done = cli.call("kernelforge-opt", module, f"--kernelforge-pipeline={stage}")
                    self.assertEqual((done.returncode, done.stdout), (1, ""))
                    self.assertIn(says, done.stderr)
            self.assertIn("vfmadd", self.ok("emit-mlir", module, "--stage", "asm"))

    def test_a_file_is_printed_at_every_stage(self):
        module = self.folder / "block.mlir"
        module.write_text(self.ok("emit-mlir", "--block", LLAMA))
        for stage in STAGES + ["asm"]:
            self.assertEqual(self.ok("emit-mlir", module, "--stage", stage),
                             self.ok("emit-mlir", "--block", LLAMA, "--stage", stage))
        self.assertEqual(self.ok("emit-mlir", "-", "--stage", "fused", text=module.read_text()),
                         self.ok("emit-mlir", module, "--stage", "fused"))

    def test_the_pass_driver_names_commands_that_work(self):
        module = self.folder / "block.mlir"
        module.write_text(BLOCK)
        done = call("kernelforge-opt", "--kernelforge-pipeline=asm", module)
        self.assertIn("kernelforge emit-mlir FILE --stage asm", done.stderr)
        self.assertNotIn("see current operation", done.stderr)
        done = call("kernelforge-opt", "--kernelforge-pipeline=wgsl", module)
        self.assertIn("--kernelforge-pipeline=transformer, fused, scheduled, target or llvm",
                      done.stderr)
        mlp = ("func.func @f(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>) -> tensor<4x8xf32> {\n"
               "  %y = transformer.mlp %x up(%w) down(%w) <silu> : (tensor<4x8xf32>, "
               "tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>\n"
               "  return %y : tensor<4x8xf32>\n}\n")
        done = call("kernelforge-opt", "--kernelforge-fuse", "-", text=mlp)
        self.assertIn("give --kernelforge-decompose before --kernelforge-fuse", done.stderr)
        done = call("kernelforge-opt", "--kernelforge-decompose", "--kernelforge-fuse", "-", text=mlp)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_launches_out_of_a_kernels_range_are_refused_unrun(self):
        text = self.ok("emit-mlir", "-", "--stage", "fused", text=BLOCK)
        head, tail = text.split("func.func", 1)
        wide = head + "func.func" + tail.replace('"rows", 1 to 64', '"rows", 1 to 65')
        self.assertNotEqual(wide, text)
        for arguments in ((), ("--run",)):
            self.refused(2, "compile", "-", *arguments, text=wide, says="(1 to 64) and is given")

    def test_nothing_to_compile(self):
        for text in ("", "func.func @f() { return }", "func.func private @g(tensor<4xf32>)"):
            self.refused(2, "compile", "-", text=text)
        x = "tensor<2x3xf32>"
        same = f"func.func @f(%x: {x}) -> {x} {{ return %x : {x} }}"
        self.assertIn("no kernels", self.ok("compile", "-", text=same))
        self.assertEqual(self.answer("compile", "-", "--run", text=same)["kernels"], [])
        self.refused(2, "tune", "-", text=same, says="compute nothing")

    def test_heads_of_odd_width_without_rope(self):
        for block in ("d_model=60,heads=4,rope=false", "d_model=9,heads=3,rope=false,d_ff=7"):
            text = self.ok("emit-mlir", "--block", block)
            for phase in ("prefill", "decode"):
                self.assertTrue(self.answer("compile", "-", "--function", phase, "--run",
                                            text=text)["pass"], block)

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

    def test_plain_weights_are_inputs_like_others(self):
        random = np.random.default_rng(6)
        arrays = [random.standard_normal(shape).astype(np.float32)
                  for shape in ((5, 64), (64,), (96, 64), (96,), (5, 96))]
        x, norm, w, b, r = (array.astype(np.float64) for array in arrays)
        n = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-5) * norm
        y = n @ w.T + b
        gelu = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
        got = self.run_module(BLOCK, *arrays)
        np.testing.assert_allclose(got, gelu + r, rtol=1e-4, atol=1e-4)

    def test_what_a_function_gives(self):
        x = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
        slots = np.array([1, 0], np.int32)
        module = """!t = tensor<?x3xf32, #transformer.dims<"rows">>
!i = tensor<?xi32, #transformer.dims<"rows">>
func.func @f(%rows: index {transformer.size = #transformer.size<"rows", 1 to 8>},
             %x: !t, %i: !i, %c: !transformer.cache<1, 3, f32>) -> (!t, !t, !t, !i) {
  %unneeded = arith.constant dense<1.0> : tensor<4xf32>
  transformer.cache_append %x, %i into %c : !transformer.cache<1, 3, f32>, !t, !i
  %y = transformer.activation %x <relu> : !t
  %z = transformer.activation %y <relu> : !t
  %same = transformer.scale %x : !t
  return %y, %z, %same, %i : !t, !t, !t, !i
}
"""
        files = [self.save("x", x), self.save("i", slots), self.save("c", np.zeros((2, 1, 3), "f4"))]
        outputs = [self.folder / f"out{i}.npy" for i in range(5)]
        arguments = [a for f in files for a in ("--input", f)]
        arguments += [a for f in outputs for a in ("--output", f)]
        text = module
        for stage in STAGES:
            text = self.ok("emit-mlir", "-", "--stage", stage, text=module)
            self.ok("compile", "-", *arguments, text=text)
            for file, expected in zip(outputs, (np.maximum(x, 0), np.maximum(x, 0), x, slots,
                                                x[::-1].reshape(2, 1, 3))):
                np.testing.assert_array_equal(np.load(file), expected)

    def test_sizes_that_a_run_chose_are_printed(self):
        self.assertIn("size rows = 8, chosen from 1 to 64", self.ok("compile", "-", "--run",
                                                                     text=SOFTMAX))
        self.assertNotIn("chosen", self.ok("compile", "-", "--size", "rows=3", text=SOFTMAX))
        self.assertNotIn("chosen", self.ok("compile", "-", "--input",
                                           self.save("x", np.zeros((2, 12), "f4")), text=SOFTMAX))

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

    def test_numerics_are_given_to_what_does_not_say_its_own(self):
        text = matmul(24, 64, "!transformer.quant<q8_0>")
        for numerics in ("f16", "i8", "i8x2"):
            options = ["--numerics", numerics]
            said = kernelforge("emit-mlir", "-", "--stage", "fused", *options, text=text)
            self.assertIn(f"#transformer.numerics<multiply = {numerics}>", said.stdout)
            answer = self.answer("compile", "-", "--run", "--target", "reference", *options, text=text)
            self.assertTrue(answer["pass"], answer)
            # Four times what rounding costs is allowed, and no more.
            tolerance = answer["accuracy"][0]["tolerance"]
            self.assertGreaterEqual(tolerance, 1e-4)
            self.assertLess(tolerance, 0.2 if numerics == "i8" else 0.01)
            if numerics == "i8":
                self.assertTrue(self.answer("compile", "-", "--run", *options, text=text)["pass"])
            else:
                self.refused(2, "compile", "-", *options, text=text, says=f"multiply in {numerics},")
        # What each target is fast with.
        plain = matmul(24, 64, "bf16")
        for module, target, numerics in (
            (text, ["cpu"], "i8"), (plain, ["cpu"], None), (plain, ["reference"], None),
            (plain, ["cuda", "--target-cpu", "sm_90a"], "bf16"),
            (text, ["cuda", "--target-cpu", "sm_90a"], "bf16"),
            (plain, ["cuda", "--target-cpu", "sm_80"], None)):  # fmt: skip
            said = kernelforge("emit-mlir", "-", "--stage", "fused", "--numerics", "fast",
                               "--target", *target, text=module)  # fmt: skip
            self.assertEqual(said.returncode, 0, said.stderr)
            self.assertEqual("#transformer.numerics" in said.stdout, numerics is not None, target)
            self.assertIn(f"<multiply = {numerics}>" if numerics else "matmul", said.stdout)
        # A program has its tolerances with it.
        program = self.folder / "program.kfp"
        self.answer("compile", "-", "--emit", "program", "-o", program, "--target", "reference",
                    "--numerics", "i8", text=text)  # fmt: skip
        answer = self.answer("run", program)
        self.assertTrue(answer["pass"], answer)
        self.assertGreater(answer["accuracy"][0]["max_abs"], 1e-4 * 1.0)

    def test_rows_of_16_bits_travel_as_such(self):
        random = np.random.default_rng(4)
        x = random.standard_normal((5, 37)).astype(np.float16)
        w, r = ((random.standard_normal(s).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
                for s in ((24, 37), (5, 24)))
        widened = lambda a: (a.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        module = """!y = tensor<5x24xbf16>
func.func @f(%x: tensor<5x37xf16>, %w: tensor<24x37xbf16>, %r: !y) -> (!y, tensor<5x24xf16>) {
  %m = transformer.matmul %x weights(%w) : (tensor<5x37xf16>, tensor<24x37xbf16>) -> !y
  %y = transformer.add %m, %r : !y
  %z = transformer.cast %y : !y to tensor<5x24xf16>
  return %y, %z : !y, tensor<5x24xf16>
}
"""
        files = [self.save(name, a) for name, a in (("x", x), ("w", w), ("r", r))]
        outputs = [self.folder / "y.npy", self.folder / "z.npy"]
        arguments = [a for f in files for a in ("--input", f)]
        arguments += [a for f in outputs for a in ("--output", f)]
        expected = x.astype(np.float64) @ widened(w).T + widened(r)
        for options in ([], ["--no-fuse"], ["--target", "reference"]):
            self.ok("compile", "-", *arguments, *options, text=module)
            y, z = map(np.load, outputs)
            self.assertEqual((y.dtype, z.dtype), (np.uint16, np.float16))
            # Not fused, the product is rounded before the sum, too.
            for out, digits in ((widened(y), 8), (z.astype(np.float64), 11 if not options else 8)):
                error = np.abs(out - expected).max() / np.abs(expected).max()
                self.assertLess(error, 2.0**-digits, (options, digits))

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
        self.assertIn("12 not numbers, 7 of them on one side only; worst at element 17\n", done.stdout)
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

    def test_bench_fails_below_the_share_of_the_roofline_that_is_demanded(self):
        # Two thousand operations are over long before they have begun.
        for share, code in ((1, 1), (1e-9, 0)):
            demands = f"demands = #transformer.demands<{{min_roofline = {share:.9f}}}>"
            text = pinned("blocked").replace("{variant", "{%s, variant" % demands)
            (kernel,) = self.answer("compile", "-", "--bench", text=text, code=code)["kernels"]
            self.assertGreater(kernel["pct_roofline"], 0)
            self.assertLess(kernel["pct_roofline"], 100)
            done = kernelforge("compile", "-", "--bench", text=text)
            self.assertEqual(done.returncode, code)
            self.assertIn("% of the roofline", done.stdout)
            self.assertEqual("(@k, min_roofline): a launch takes" in done.stderr, code == 1)
            self.assertEqual("100.0 % are demanded" in done.stderr, code == 1)
            # Nothing is timed without it.
            self.ok("compile", "-", "--run", text=text)

    def test_compiling_fails_with_what_a_kernel_does_not_keep_to(self):
        text = """transformer.kernel @k(%x: tensor<8x96xf32>) -> tensor<8x96xf32>
    attributes {demands = #transformer.demands<{no_spills, max_registers = MOST}>} {
  %y = transformer.softmax %x : tensor<8x96xf32>
  transformer.yield %y : tensor<8x96xf32>
}
"""
        self.ok("compile", "-", "--target-cpu", "avx512", text=text.replace("MOST", "32"))
        self.refused(1, "compile", "-", "--target-cpu", "avx512", text=text.replace("MOST", "1"),
                     says="registers, and 1 are the most")  # fmt: skip


if __name__ == "__main__":
    cli.run(sys.argv)
