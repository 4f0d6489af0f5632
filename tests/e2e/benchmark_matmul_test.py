#!/usr/bin/env python3
"""benchmark-matmul over all variants of the kernel library.

    benchmark_matmul_test.py --bin build/release/bin
"""

import hashlib
import json
import sys

import cli
from cli import CliTest, kernelforge, shown

VARIANTS = [
    "reference", "blocked", "parallel", "vendor:openblas", "vendor:mkl", "vendor:onednn",
    "generated",
]  # fmt: skip
OURS = {"reference", "blocked", "parallel", "generated"}
QUICK = ["--min-time", 0, "--rounds", 2, "--warmup", 1]


def sizes(m, n, k):
    return ["-m", m, "-n", n, "-k", k]


def signed(record):
    """A record's line, with the checksum of what it says now."""
    fields = {name: value for name, value in record.items() if name != "checksum"}
    body = json.dumps(fields, separators=(",", ":"), sort_keys=True)[:-1]
    checksum = hashlib.sha256(body.encode()).hexdigest()[:16]
    return f'{body},"checksum":"{checksum}"}}\n'


class BenchmarkMatmul(CliTest):
    def rows(self, *arguments, code=0):
        """The rows of all variants, by name."""
        done = kernelforge("benchmark-matmul", *arguments, "--variant", "all", "--json")
        self.assertEqual(done.returncode, code, shown(done))
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([row["variant"] for row in rows], VARIANTS)
        return {row["variant"]: row for row in rows}

    def check(self, rows, supported=OURS):
        """Each row is right, or says why there is no result."""
        for name, row in rows.items():
            with self.subTest(name):
                if name in supported:
                    self.assertEqual(row["status"], "ok", row)
                self.assertIn(row["status"], ("ok", "unsupported", "unavailable"), row)
                if row["status"] == "ok":
                    self.assertTrue(row["accuracy"]["pass"], row)
                    self.assertNotIn("error", row)
                else:
                    self.assertGreater(len(row["error"]), 10)
                    self.assertNotIn("accuracy", row)

    def test_all_variants_are_right(self):
        for shape in ((7, 333, 129), (1, 1, 1), (128, 576, 576)):
            self.check(self.rows(*sizes(*shape), "--mode", "correctness"))

    def test_weight_types(self):
        for k, types in ((576, "q4_0 q4_1 q5_0 q5_1 q8_0 iq4_nl mxfp4"),
                         (768, "q2_k q3_k q4_k q5_k q6_k iq4_xs f8_e4m3")):
            for weights in types.split():
                problem = [*sizes(5, 40, k), "--weights", weights, "--mode", "correctness"]
                rows = self.rows(*problem)
                self.check(rows)
                self.assertEqual(rows["vendor:openblas"]["status"], "unsupported")
                self.assertIn(weights, rows["vendor:openblas"]["error"])
        self.refused(2, "benchmark-matmul", *sizes(5, 40, 576), "--weights", "q4_k", says="q4_k block")
        self.refused(2, "benchmark-matmul", *sizes(5, 40, 33), "--weights", "q8_0",
                     "--variant", "all", says="k is 33")  # fmt: skip

    def test_numerics(self):
        """Who has code for others than f32 computes them; the rest say so and stay unmeasured."""
        for numerics, weights in (("f16", "bf16"), ("i8", "q4_1"), ("i8x2", "q8_0")):
            rows = self.rows(*sizes(5, 40, 512), "--weights", weights, "--epilogue", "bias,gelu",
                             "--numerics", numerics, "--mode", "correctness")  # fmt: skip
            able = {"reference", "generated"} if numerics == "i8" else {"reference"}
            self.check(rows, able)
            self.assertEqual(rows["reference"]["problem"]["numerics"], numerics)
            self.assertIn(f"_as_{numerics}_", rows["reference"]["name"])
            self.assertGreater(rows["reference"]["accuracy"]["max_abs"], 0)
            for name in OURS - able:
                self.assertEqual(rows[name]["status"], "unsupported")
                self.assertIn(numerics, rows[name]["error"])
        problem = ["benchmark-matmul", *sizes(5, 40, 64), "--mode", "correctness", "--numerics"]
        self.refused(2, *problem, "i8", says="f32 weights are none")
        self.refused(2, *problem, "f16", says="multiply in f16")
        self.refused(2, *problem, "i16", says="known: exact, bf16, f16, i8, i8x2, fast")
        self.assertNotIn("numerics", self.answer(*problem, "fast")["problem"])
        quantized = self.answer(*problem, "fast", "--weights", "q4_1")
        self.assertEqual(quantized["problem"]["numerics"], "i8")

    def test_epilogues(self):
        for epilogue in ("bias,gelu", "silu,residual", "bias,relu,residual"):
            rows = self.rows(*sizes(5, 40, 64), "--epilogue", epilogue, "--mode", "bitwise")
            self.check(rows)
            self.assertEqual(rows["blocked"]["problem"]["epilogue"], epilogue)
        # A bias after something else is not what the compiler generates.
        rows = self.rows(*sizes(5, 40, 64), "--epilogue", "relu,bias", "--mode", "correctness")
        self.check(rows, OURS - {"generated"})
        self.assertEqual(rows["generated"]["status"], "unsupported")
        self.refused(2, "benchmark-matmul", *sizes(5, 40, 64), "--epilogue", "softmax", says="gelu")

    def test_transposed(self):
        self.check(self.rows(*sizes(5, 40, 33), "--transpose", "--mode", "correctness"))

    def test_times_and_records(self):
        profile = self.folder / "profile.jsonl"
        rows = self.rows(*sizes(16, 48, 64), *QUICK, "--profile", profile)
        self.check(rows)
        timed = {name: row for name, row in rows.items() if row["status"] == "ok"}
        vendors = [row for name, row in timed.items() if name.startswith("vendor:")]
        for name, row in timed.items():
            with self.subTest(name):
                self.assertGreaterEqual(len(row["samples_ns"]), 2)
                for field in ("median_ns", "gflops", "gb_per_s", "pct_roofline"):
                    self.assertGreater(row[field], 0)
                self.assertIn(row["bound"], ("compute", "memory"))
                self.assertIs(type(row["trusted"]), bool)
                self.assertEqual("vendor_ratio" in row, bool(vendors))
        if vendors:
            self.assertIn(1.0, [row["vendor_ratio"] for row in vendors])

        records = [json.loads(line) for line in profile.read_text().splitlines()]
        self.assertEqual([record["variant"] for record in records], list(timed))
        self.assertEqual(len({record["key"] for record in records}), 1)
        generated = timed["generated"]
        for record in records:
            self.assertRegex(record["checksum"], "^[0-9a-f]{16}$")
            self.assertEqual(len(record["samples_ns"]), len(record["baseline_ns"]))
            self.assertEqual(record["baseline"][:9], "schedule ")
            self.assertEqual(json.loads(record["baseline"][9:]), generated["schedule"])
        self.assertEqual([r["ratio"] for r in records if r["variant"] == "generated"], [1.0])

    def test_records_decide_what_auto_runs(self):
        problem = ["benchmark-matmul", *sizes(16, 48, 64)]
        profile = self.folder / "for_auto.jsonl"
        self.answer(*problem, *QUICK, "--variant", "blocked", "--profile", profile)
        records = [json.loads(line) for line in profile.read_text().splitlines()]
        log = self.folder / "home" / "records" / "imported.jsonl"
        log.parent.mkdir(parents=True, exist_ok=True)
        for fastest in ("blocked", "generated"):
            factor = 0.5 if fastest == "blocked" else 2
            lines = []
            for record in records:
                record["trusted"] = True
                if record["variant"] == "blocked":
                    record["samples_ns"] = [factor * time for time in record["baseline_ns"]]
                lines.append(signed(record))
            log.write_text("".join(lines))
            row = self.answer(*problem, "--mode", "correctness", "--variant", "auto")
            self.assertEqual(row["chosen"], fastest)
            self.assertIn("won in the record of key " + record["key"], row["why"])
        # The generated variant's own schedule is from the record, too, unless told otherwise.
        row = self.answer(*problem, "--mode", "correctness")
        self.assertEqual(row["schedule_source"], "record")
        row = self.answer(*problem, "--mode", "correctness", "--no-records")
        self.assertEqual(row["schedule_source"], "analytic")
        log.unlink()

    def test_auto_without_records(self):
        row = self.answer("benchmark-matmul", *sizes(3, 8, 8), "--mode", "correctness",
                          "--variant", "auto")  # fmt: skip
        self.assertEqual((row["variant"], row["chosen"]), ("auto", "generated"))
        self.assertEqual(row["why"], "no record fits")
        row = self.answer("benchmark-matmul", *sizes(3, 8, 8), "--mode", "correctness",
                          "--variant", "auto", "--epilogue", "relu,bias")  # fmt: skip
        self.assertEqual(row["chosen"], "parallel")

    def test_a_single_variant_is_recorded_beside_the_generated_one(self):
        profile = self.folder / "one.jsonl"
        row = self.answer("benchmark-matmul", *sizes(4, 8, 8), *QUICK, "--variant", "blocked",
                          "--cache", "cold", "--profile", profile)  # fmt: skip
        self.assertEqual((row["variant"], row["mode"]), ("blocked", "cold"))
        records = [json.loads(line) for line in profile.read_text().splitlines()]
        self.assertEqual([r["variant"] for r in records], ["blocked", "generated"])
        self.assertEqual({r["mode"] for r in records}, {"cold"})

    def test_schedules(self):
        problem = ["benchmark-matmul", *sizes(20, 40, 64), "--mode", "correctness"]
        for variant in ("blocked", "parallel", "generated"):
            row = self.answer(*problem, "--variant", variant)
            self.assertEqual(row["schedule_source"], "analytic")
            pinned = self.answer(*problem, "--variant", variant,
                                 "--schedule", json.dumps(row["schedule"]))  # fmt: skip
            self.assertEqual(pinned["schedule_source"], "pinned")
            self.assertEqual(pinned["schedule"], row["schedule"])
        # One knob is enough; what is said of it does not depend on the others.
        for variant, knob, value in (
            ("blocked", "mc", 8),
            ("parallel", "split_m", 2),
            ("generated", "mr", 2),
        ):
            line = [*problem, "--variant", variant, "--schedule"]
            row = self.answer(*line, json.dumps({knob: value}))
            self.assertEqual((row["schedule_source"], row["schedule"][knob]), ("pinned", value))
            self.refused(2, *line, json.dumps({knob: -1}), says=f"knob {knob}): it is -1, but must be")
        self.refused(2, *problem, "--variant", "reference", "--schedule", "{}", says="no schedule")
        self.refused(2, *problem, "--variant", "all", "--schedule", "{}", says="one variant")

    def test_refusals(self):
        problem = ["benchmark-matmul", *sizes(3, 32, 32)]
        done = kernelforge(*problem, "--variant", "guess")
        for name in [*VARIANTS, "all", "auto"]:
            self.assertIn(name, done.stderr)
        self.refused(2, *problem, "--weights", "q8_0", "--variant", "vendor:openblas", says="q8_0")
        self.refused(2, *problem, "--mode", "correctness", "--profile", "x", says="performance")
        missing = self.rows(*sizes(3, 32, 32), "--mode", "correctness")
        for name, row in missing.items():
            if row["status"] == "unavailable":
                self.refused(3, *problem, "--variant", name)

    def test_table(self):
        text = self.ok("benchmark-matmul", *sizes(7, 33, 64), *QUICK, "--variant", "all",
                       "--weights", "q4_1")  # fmt: skip
        for line in text.splitlines():
            self.assertLessEqual(len(line), 100, line)
        for name in VARIANTS:
            self.assertIn(f"\n{name} ", text)
        self.assertIn("not by q4_1", text)
        for form, start in (("csv", "variant,status,"), ("md", "| variant ")):
            text = self.ok("benchmark-matmul", *sizes(3, 8, 8), "--mode", "correctness",
                           "--format", form)  # fmt: skip
            self.assertTrue(text.startswith(start), text)


if __name__ == "__main__":
    cli.run(sys.argv)
