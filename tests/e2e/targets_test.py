#!/usr/bin/env python3
"""Targets on the command line: stages of each, running and verifying, what is refused.

    targets_test.py --bin build/release/bin
"""

import os
import sys

import cli
from cli import CliTest, call, kernelforge
from modules import BLOCK as BLOCK_TEXT

BLOCK = "d_model=64,heads=4,kv_heads=2,d_ff=96"
MATMUL = ["benchmark-matmul", "-m", 7, "-n", 96, "-k", 64, "--weights", "q4_1"]
#: Adapters are not needed to make the code.
WGSL = ["--target", "webgpu", "--target-cpu", "portable"]
PTX = ["--target", "cuda", "--target-cpu", "sm_90a"]


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
        for kind, device in self.devices.items():
            if device["status"] == "unavailable":
                with self.subTest(kind):
                    done = kernelforge("diagnose", "--target", kind)
                    self.assertEqual(done.returncode, 3, done.stderr)
                    self.assertRegex(done.stderr, r"\Akernelforge: error: [^\n]+\n\Z")
                    self.assertRegex(done.stdout, rf"\n{kind} +unavailable +[^\n]+\n")

    def test_stages_of_a_processor(self):
        self.need("cpu")
        self.refused(2, "emit-mlir", "--block", BLOCK, "--stage", "text",
                     says="the target cpu has no such stage; known: transformer, fused, scheduled, "
                     "target, llvm, asm")  # fmt: skip

    def test_stages_of_the_reference(self):
        emit = ["emit-mlir", "--block", BLOCK, "--target", "reference", "--stage"]
        self.assertIn("// kernel prefill.", self.ok(*emit, "text"))
        self.refused(2, *emit, "llvm", says="the target reference has no such stage")
        text = self.ok(*emit, "target")
        self.assertEqual(call("kernelforge-opt", "-", text=text).stdout, text)
        done = call("kernelforge-opt", "-", "--kernelforge-pipeline=llvm", text=text)
        self.assertIn("--kernelforge-pipeline=transformer, fused, scheduled or target", done.stderr)
        # It takes what was made for another target.
        self.need("cpu")
        lowered = self.ok("emit-mlir", "--block", BLOCK, "--stage", "llvm")
        self.assertIn("// kernel prefill.", self.ok("emit-mlir", "-", *emit[3:], "text", text=lowered))

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

    def test_features_of_adapters(self):
        if "webgpu" not in self.kinds:
            self.skipTest("not part of this build")
        compile_ = ["compile", "-", *WGSL, "--target-features"]
        self.assertEqual(self.answer(*compile_, "+shader-f16,+subgroups,-shader-f16", text=BLOCK_TEXT)["target"],
                         "webgpu portable +subgroups")  # fmt: skip
        self.refused(2, *compile_, "+subgrups", text=BLOCK_TEXT, says="did you mean 'subgroups'?")
        # No adapter that runs kernels as they are has this shape.
        self.need("webgpu")
        device = self.devices["webgpu"]
        self.assertRegex(device["driver"], r"\A(wgpu-native 29\.|Dawn)")
        self.assertNotIn(device["name"], device["others"])
        self.assertEqual("subgroups" in device["features"], "subgroup_max" in device["limits"])
        self.refused(3, *compile_, "+subgroup-matrix-f16-3x5x7", "--run", text=BLOCK_TEXT,
                     says="subgroup-matrix-f16-3x5x7, which the adapter does not have")  # fmt: skip
        native = ["compile", "-", "--target", "webgpu", "--target-features"]
        self.refused(3, *native, "+subgroup-matrix-f16-3x5x7", text=BLOCK_TEXT, says="does not have it")
        none = "-shader-f16,-subgroups,-packed-dot"
        self.assertEqual(self.answer(*native, none, text=BLOCK_TEXT)["target"], "webgpu native")
        self.assertTrue(self.answer(*native, none, "--run", text=BLOCK_TEXT)["pass"])

    def test_ptx_needs_no_gpu(self):
        if "cuda" not in self.kinds:
            self.skipTest("not part of this build")
        emit = ["emit-mlir", "--block", BLOCK, *PTX, "--stage"]
        fused = self.ok(*emit, "fused")
        text = self.ok(*emit, "ptx")
        kernels = fused.count("transformer.kernel @")
        self.assertEqual(text.count("// kernel "), kernels)
        self.assertEqual(text.count(".target sm_90a"), kernels)
        self.assertGreaterEqual(text.count(".visible .entry kf_"), kernels)
        name = fused.split("transformer.kernel @")[1].split("(")[0]
        self.assertEqual(self.ok(*emit, "ptx", "--kernel", name).count("// kernel "), 1)
        # What was printed at a stage is taken up there.
        for stage in ("scheduled", "target", "llvm"):
            module = self.ok(*emit, stage)
            self.assertEqual(call("kernelforge-opt", "-", text=module).returncode, 0)
            again = self.ok("emit-mlir", "-", *PTX, "--stage", "ptx", text=module)
            self.assertEqual(again.count(".visible .entry kf_"), text.count(".visible .entry kf_"), stage)
            self.assertEqual(again.count(".shared"), text.count(".shared"), stage)
        self.assertNotIn("memref.", module.split("llvm.func")[1])
        self.refused(2, *emit, "asm", says="the target cuda has no such stage; known: transformer, "
                     "fused, scheduled, target, llvm, ptx")  # fmt: skip
        self.assertIn(".version 8.3", self.ok(*emit, "ptx", "--target-features", "+ptx83"))
        self.refused(2, "emit-mlir", "--block", BLOCK, "--target", "cuda", "--target-cpu", "sm_91",
                     "--stage", "ptx", says="did you mean 'sm_90'?")  # fmt: skip
        self.assertEqual(self.answer("compile", "-", *PTX, text=BLOCK_TEXT)["target"], "cuda sm_90a")

    def test_a_module_runs_on_each(self):
        for kind in self.kinds:
            with self.subTest(kind):
                self.need(kind)
                answer = self.answer("compile", "-", "--run", "--size", "rows=5", "--target", kind,
                                     text=BLOCK_TEXT)  # fmt: skip
                self.assertTrue(answer["pass"], answer)

    def test_a_matmul_is_verified_on_each_and_trusted_where_it_may_be_timed(self):
        for kind in self.kinds:
            with self.subTest(kind):
                self.need(kind)
                row = self.answer(*MATMUL, "--target", kind, "--min-time", 0.01, "--rounds", 2)
                self.assertEqual((row["status"], row["accuracy"]["pass"]), ("ok", True), row)
                device = self.devices[kind]
                self.assertEqual("why_untrusted" not in row, not device["software"], row)
                self.assertEqual(row.get("software", False), device["software"])
                self.assertEqual("pct_roofline" in row, not device["software"], row)
                for ceiling in ("fma_gflops", "read_gb_per_s"):
                    self.assertGreater(row["ceilings"]["before"][ceiling], 0)
                if device["software"]:
                    self.assertFalse(row["trusted"])
                    table = self.ok(*MATMUL, "--target", kind, "--min-time", 0.01, "--rounds", 2)
                    self.assertIn("not for timing: ", table)

    def test_devices_have_ceilings_or_say_that_they_were_not_measured(self):
        for kind in self.kinds:
            with self.subTest(kind):
                self.need(kind)
                ceilings = self.devices[kind]["ceilings"]
                self.assertNotIn("why", ceilings)
                self.assertGreater(ceilings["copy_gb_per_s"], 0)
                self.assertGreater(ceilings["launch_ns"], 0)
                self.assertGreater(ceilings["arithmetic_gops"]["fma_f32"], 0)

    def test_whoever_times_says_whether_a_device_is_software(self):
        for kind in self.kinds:
            with self.subTest(kind):
                self.need(kind)
                software = self.devices[kind]["software"]
                compiled = self.answer("compile", "-", "--run", "--bench", "--size", "rows=2",
                                       "--target", kind, text=BLOCK_TEXT)  # fmt: skip
                self.assertEqual(compiled["software"], software)
                self.assertGreater(compiled["kernels"][0]["median_ns"], 0)
                bench = self.answer("llm-bench", "--random-weights", "tiny", "-p", 4, "-n", 2,
                                    "-r", 1, "--target", kind)  # fmt: skip
                self.assertEqual([row["software"] for row in bench["rows"]], [software] * 2)
                cold = self.answer(*MATMUL, "--target", kind, "--cache", "cold", "--rounds", 2,
                                   "--min-time", 0.01)  # fmt: skip
                self.assertEqual((cold["status"], cold["mode"]), ("ok", "cold"))
                self.assertEqual(cold.get("software", False), software)

    def test_each_is_tuned_and_software_never_wins(self):
        for kind in self.kinds:
            with self.subTest(kind):
                self.need(kind)
                device = self.devices[kind]
                env = {**os.environ, "KERNELFORGE_HOME": str(self.folder / kind)}
                tune = ["tune", "--family", "matmul", "-m", 4, "-n", 32, "-k", 32, "--trials", 2,
                        "--target", kind, "--json"]  # fmt: skip
                done = kernelforge(*tune, env=env)
                self.assertEqual(done.returncode, 0, done.stderr)
                kernel = cli.json.loads(done.stdout)["kernels"][0]
                self.assertEqual(kernel["failed"], 0, kernel)
                self.assertIn("is emulated by the processor" if device["software"] else "",
                              done.stderr)  # fmt: skip
                log = self.folder / kind / "records" / "records.jsonl"
                records = [cli.json.loads(line) for line in log.read_text().splitlines()]
                own = [r for r in records if r["variant"] == "generated"]
                self.assertTrue(own)
                for record in own:
                    self.assertEqual((record["status"], record["accuracy"]["pass"]), ("ok", True))
                    self.assertEqual(record.get("software", False), device["software"], record)
                    self.assertTrue(record["samples_ns"] and record["baseline_ns"])
                    self.assertIn(device["name"] if kind != self.kinds[0] else "",
                                  record["cpu_model"])  # fmt: skip
                    self.assertIn(device["driver"], record["cpu_model"])
                if kind != self.kinds[0]:  # plain code has one schedule, however many trials
                    self.assertEqual(len({str(r["schedule"]) for r in own}), 1)
                    self.assertFalse(kernel["better_found"])
                # What is known is not measured again.
                again = cli.json.loads(kernelforge(*tune, env=env).stdout)["kernels"][0]
                self.assertEqual(again["measured"], 0, again)
                best = cli.json.loads(kernelforge("records", "list", "--best", "--json", env=env).stdout)
                winners = [r for r in best["records"] if r["variant"] == "generated"]
                if device["software"]:
                    self.assertEqual(winners, [])

    def test_a_suites_report_is_of_its_device(self):
        reports = {}
        for kind in self.kinds:
            if self.devices[kind]["status"] == "unavailable":
                continue
            with self.subTest(kind):
                out = reports[kind] = self.folder / f"timed-{kind}.json"
                self.ok("benchmark-suite", "--suite", "smoke", "--filter", "odd", "--rounds", 2,
                        "--patience", 0, "--no-vendors", "--out", out, "--target", kind)  # fmt: skip
                report = cli.json.loads(out.read_text())
                device = self.devices[kind]
                self.assertEqual((report["device"]["target"], report["device"]["software"]),
                                 (kind, device["software"]))  # fmt: skip
                self.assertEqual((report["device"]["name"], report["device"]["driver"]),
                                 (device["name"], device["driver"]))  # fmt: skip
                apart = not device["shares_host_memory"]
                self.assertEqual(list(report["anchors"]["units"]) == ["copy_memory", "fma_f32"], apart)
                self.assertTrue(report["rows"])
                for row in report["rows"]:
                    self.assertEqual((row["status"], row["accuracy"]["pass"]), ("ok", True), row)
                    self.assertGreater(row["median_ns"], 0)
                    self.assertGreater(row["pct_roofline"], 0)
                    if device["software"]:
                        self.assertIn("not for timing", row["why_untrusted"])
        kinds = list(reports)
        for other in kinds[1:]:
            self.refused(2, "compare", reports[kinds[0]], reports[other],
                         says=f"device.target is {kinds[0]} and {other}")  # fmt: skip

    def test_a_suite_is_verified_on_each(self):
        for kind in self.kinds:
            with self.subTest(kind):
                self.need(kind)
                self.ok("benchmark-suite", "--suite", "smoke", "--filter", "odd", "--mode",
                        "correctness", "--out", self.folder / f"{kind}.json", "--target", kind)  # fmt: skip


if __name__ == "__main__":
    cli.run(sys.argv)
