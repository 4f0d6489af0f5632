#!/usr/bin/env python3
"""Targets on the command line: stages of each, running and verifying, what is refused.

    targets_test.py --bin build/release/bin
"""

import sys

import cli
from cli import CliTest, call, kernelforge
from modules import BLOCK as BLOCK_TEXT

BLOCK = "d_model=64,heads=4,kv_heads=2,d_ff=96"
MATMUL = ["benchmark-matmul", "-m", 7, "-n", 96, "-k", 64, "--weights", "q4_1"]
#: Adapters are not needed to make the code.
WGSL = ["--target", "webgpu", "--target-cpu", "portable"]


class Targets(CliTest):
    """What holds for each target of the build."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        help_text = kernelforge("emit-mlir", "--help").stdout
        cls.kinds = help_text.split("what to make code for: ")[1].split("\n")[0].split(" or ")
        found = kernelforge("diagnose", "--json")
        cls.devices = {d["kind"]: d for d in cli.json.loads(found.stdout)["devices"]}

    def need(self, kind):
        """Ends the test where the build or the machine has no such target."""
        if self.devices[kind]["status"] == "unavailable":
            self.skipTest(f"{kind}: {self.devices[kind]['detail']}")

    def test_every_target_is_diagnosed(self):
        self.assertEqual(list(self.devices)[: len(self.kinds)], self.kinds)
        for kind, device in self.devices.items():
            with self.subTest(kind):
                self.assertIn(device["status"], ("ok", "unavailable"), device)
                if device["status"] == "ok":
                    self.assertTrue(device["name"])
                    self.assertNotIn(0, device["limits"].values())
                elif kind not in self.kinds:
                    self.assertEqual(device["detail"], "not part of this build")

    def test_one_that_is_not_here_ends_diagnose_with_3(self):
        done = kernelforge("diagnose", "--target", "cuda")
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn("target is not available (--target cuda)", done.stderr)
        self.assertRegex(done.stdout, r"\ncuda +unavailable +not part of this build\n")

    def test_stages_of_a_processor(self):
        self.refused(2, "emit-mlir", "--block", BLOCK, "--stage", "text",
                     says="the target cpu has no such stage; known: transformer, fused, scheduled, "
                     "target, llvm, asm")  # fmt: skip

    def test_stages_of_the_reference(self):
        emit = ["emit-mlir", "--block", BLOCK, "--target", "reference", "--stage"]
        self.assertIn("// kernel prefill_", self.ok(*emit, "text"))
        self.refused(2, *emit, "llvm", says="the target reference has no such stage")
        text = self.ok(*emit, "target")
        self.assertEqual(call("kernelforge-opt", "-", text=text).stdout, text)
        done = call("kernelforge-opt", "-", "--kernelforge-pipeline=llvm", text=text)
        self.assertIn("--kernelforge-pipeline=transformer, fused, scheduled or target", done.stderr)
        # It takes what was made for another target.
        lowered = self.ok("emit-mlir", "--block", BLOCK, "--stage", "llvm")
        self.assertIn("// kernel prefill_", self.ok("emit-mlir", "-", *emit[3:], "text", text=lowered))

    def test_wgsl_needs_no_adapter(self):
        if "webgpu" not in self.kinds:
            self.skipTest("not part of this build")
        emit = ["emit-mlir", "--block", BLOCK, *WGSL, "--stage"]
        fused = self.ok(*emit, "fused")
        text = self.ok(*emit, "wgsl")
        kernels = fused.count("transformer.kernel @")
        self.assertEqual(text.count("// kernel "), kernels)
        self.assertGreaterEqual(text.count("@compute @workgroup_size("), kernels)
        name = fused.split("transformer.kernel @")[1].split("(")[0]
        self.assertEqual(self.ok(*emit, "wgsl", "--kernel", name).count("// kernel "), 1)
        self.refused(2, *emit, "asm", says="the target webgpu has no such stage; known: transformer, "
                     "fused, scheduled, target, wgsl")  # fmt: skip
        self.refused(2, *emit, "wgls", says="did you mean 'wgsl'?")
        scheduled = self.ok(*emit, "scheduled")
        done = call("kernelforge-opt", "-", "--kernelforge-pipeline=wgsl", text=scheduled)
        self.assertIn("kernelforge emit-mlir FILE --stage wgsl", done.stderr)
        done = call("kernelforge-opt", "-", "--kernelforge-pipeline=target", text=scheduled)
        self.assertEqual(done.stdout, self.ok(*emit, "target"))
        self.assertEqual(self.answer("compile", "-", *WGSL, text=BLOCK_TEXT)["target"],
                         "webgpu portable")  # fmt: skip
        self.refused(2, "compile", "-", text=text, says="this is WGSL")

    def test_a_module_runs_on_each(self):
        for kind in self.kinds:
            with self.subTest(kind):
                self.need(kind)
                answer = self.answer("compile", "-", "--run", "--size", "rows=5", "--target", kind,
                                     text=BLOCK_TEXT)  # fmt: skip
                self.assertTrue(answer["pass"], answer)

    def test_a_matmul_is_verified_on_each_and_trusted_where_times_are_its_own(self):
        for kind in self.kinds:
            with self.subTest(kind):
                self.need(kind)
                row = self.answer(*MATMUL, "--target", kind, "--min-time", 0.01)
                self.assertEqual((row["status"], row["accuracy"]["pass"]), ("ok", True), row)
                device = self.devices[kind]
                timed = device["shares_host_memory"] and not device["software"]
                self.assertEqual("why_untrusted" not in row, timed, row)
                self.assertEqual("pct_roofline" in row, timed, row)
                if not timed:
                    self.assertFalse(row["trusted"])
                    table = self.ok(*MATMUL, "--target", kind, "--min-time", 0.01)
                    self.assertIn("not for timing: ", table)

    def test_what_cannot_be_measured_is_refused_at_once(self):
        report = self.folder / "report.json"
        records = self.folder / "records.jsonl"
        for kind in self.kinds[1:]:
            for command in (
                ["tune", "--family", "matmul", "-m", 4, "-n", 32, "-k", 32, "--trials", 1],
                ["benchmark-suite", "--suite", "smoke", "--out", report],
                [*MATMUL, "--profile", records],
            ):
                with self.subTest(kind=kind, command=command[0]):
                    self.refused(3, *command, "--target", kind,
                                 says=f"measuring is not available (--target {kind})")  # fmt: skip
        self.assertFalse(report.exists() or records.exists())

    def test_a_suite_is_verified_on_each(self):
        for kind in self.kinds:
            with self.subTest(kind):
                self.need(kind)
                self.ok("benchmark-suite", "--suite", "smoke", "--filter", "odd", "--mode",
                        "correctness", "--out", self.folder / f"{kind}.json", "--target", kind)  # fmt: skip


if __name__ == "__main__":
    cli.run(sys.argv)
