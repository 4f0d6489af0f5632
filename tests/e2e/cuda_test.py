#!/usr/bin/env python3
"""The CUDA target from the command line, on a driver that is made up (tests/unit/backend/cuda/driver):
what runs, and each way in which a GPU or its driver is not as it should be: one line, and its exit code.

    cuda_test.py --bin build/release/bin --driver FILE
"""

import os
import re
import sys

import cli
import gpu_modules
from cli import CliTest, kernelforge

#: Set by main.
DRIVER = None
#: A model that is small enough to be emulated.
MODEL = ("--random-weights", "mixed", "--temperature", "0", "-n", "4", "--prompt", "a", "--no-records",
         "--numerics", "exact", "--kv-cache", "f32")  # fmt: skip


class Cuda(CliTest):
    def tearDown(self):
        os.environ.pop("FAKE_DRIVER", None)

    @staticmethod
    def driver(**numbers):
        """The driver of the following commands is, or does, this."""
        os.environ["FAKE_DRIVER"] = " ".join(f"{name}={number}" for name, number in numbers.items())

    @staticmethod
    def module():
        function = gpu_modules.modules("rowwise")[0][2]
        return function.text(), gpu_modules.run_options(2, function.size)

    def line(self, *more):
        return "compile", "-", "--run", "--target", "cuda", "--cuda-library", DRIVER, *more

    def test_runs(self):
        text, options = self.module()
        answer = self.answer(*self.line(*options), text=text)
        self.assertTrue(answer["pass"])
        # From the cache of compiled kernels.
        self.assertTrue(all(kernel["from_cache"] for kernel in
                            self.answer(*self.line(*options), text=text)["kernels"]))

    def test_an_old_driver(self):
        text, _ = self.module()
        self.driver(version=11080)
        self.refused(3, *self.line(), text=text, says="it is of CUDA 11.8; use a driver of CUDA 12 or newer")

    def test_a_gpu_that_is_too_old(self):
        text, _ = self.module()
        self.driver(capability=70)
        self.refused(3, *self.line(), text=text, says="it is a sm_70; use a device of sm_75 or newer")
        self.refused(3, *self.line("--target-cpu", "sm_90a"), text=text, says="is a sm_70, and older")

    def test_code_for_another_gpu(self):
        text, _ = self.module()
        self.driver(capability=100)
        self.refused(3, *self.line("--target-cpu", "sm_90a"), text=text, says="runs on that chip alone")

    def test_a_kernel_that_faults(self):
        text, options = self.module()
        self.driver(fault=2)
        self.refused(4, *self.line(*options), text=text, says="GPU was lost (made-up GPU): ")
        # The next command knows nothing of it, nor does the processor.
        os.environ.pop("FAKE_DRIVER")
        self.ok(*self.line(*options), text=text)

    def test_memory_that_is_not_there(self):
        text, options = self.module()
        self.driver(memory=4096)
        done = kernelforge(*self.line(*options), text=text)
        self.assertEqual(done.returncode, 4, cli.shown(done))
        self.assertRegex(done.stderr, r"bytes of memory cannot be had \(made-up GPU\): .*CUDA_ERROR_OUT_OF_MEMORY")
        # Intermediates are known before any is allocated.
        kind = "tensor<4096x4096xf32>"
        module = (f"func.func @f(%x: {kind}) -> {kind} {{\n  %0 = transformer.softmax %x : {kind}\n"
                  f"  %1 = transformer.softmax %0 : {kind}\n  return %1 : {kind}\n}}\n")
        self.driver(memory=60 << 20)
        self.refused(2, *self.line("--no-fuse"), text=module, says="its intermediate results take 67108864 "
                     "bytes, made-up GPU has 62914560 free")

    def test_tuning(self):
        x, w = "tensor<3x64xbf16>", "tensor<64x64xbf16>"
        text = (f'func.func @f(%x: {x}, %w: {w} {{transformer.weight = "w"}}) -> {x} {{\n'
                f"  %y = transformer.matmul %x weights(%w) : ({x}, {w}) -> ({x})\n  return %y : {x}\n}}\n")
        target = ("-", "--target", "cuda", "--cuda-library", DRIVER)
        tuned = self.answer("tune", *target, "--trials", "2", text=text)
        self.assertEqual(tuned["device"], {"name": "made-up GPU", "software": False})
        (kernel,) = tuned["kernels"]
        self.assertEqual((kernel["trials"], kernel["failed"]), (2, 0))
        records = self.answer("records", "list")["records"]
        self.assertEqual({record["mode"] for record in records}, {"streamed"}, "weights came from a cache")
        self.assertTrue(all(record["status"] == "ok" for record in records))
        (compiled,) = self.answer("compile", *target, text=text)["kernels"]
        self.assertEqual(compiled["schedule"], kernel["schedule"])
        # Where none was better, the analytic one may have a record, too: which wins is a matter of times.
        self.assertIn(compiled["schedule_source"], ["record"] if kernel["better_found"] else ["record", "analytic"])

    def generate(self, *more, **options):
        return kernelforge("llm-inference", *MODEL, "--target", "cuda", "--cuda-library", DRIVER, *more, **options)

    def test_a_model_that_does_not_fit(self):
        self.driver(memory=100_000)
        done = self.generate()
        self.assertEqual(done.returncode, 2, cli.shown(done))
        need, free = map(int, re.search(
            r"\Akernelforge: error: model does not fit in memory \([^\n]*\): it needs (\d+) bytes: \d+ for packed "
            r"weights, \d+ for a key/value cache of \d+ positions and \d+ for rows and logits; made-up GPU has "
            r"(\d+) free; [^\n]*\n\Z", done.stderr).groups())
        self.assertEqual(free, 100_000)
        self.assertGreater(need, free)

    def test_a_model_runs_as_on_the_processor(self):
        done = self.generate("--json")
        self.assertEqual(done.returncode, 0, cli.shown(done))
        expected = self.answer("llm-inference", *MODEL)
        self.assertEqual(cli.json.loads(done.stdout)["token_ids"], expected["token_ids"])


if __name__ == "__main__":
    at = sys.argv.index("--driver")
    DRIVER = sys.argv[at + 1]
    cli.run(sys.argv[:at] + sys.argv[at + 2:])
