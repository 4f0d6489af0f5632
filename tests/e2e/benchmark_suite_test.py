#!/usr/bin/env python3
"""benchmark-suite: reports that are valid, complete, resumable and comparable.

    benchmark_suite_test.py --bin build/release/bin
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import jsonschema

import cli
from cli import CliTest, kernelforge, shown

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())


class BenchmarkSuite(CliTest):
    def path(self, name):
        return self.folder / f"{self.id().rsplit('.', 1)[-1]}-{name}"

    def measure(self, *arguments, codes=(0,), out="report.json", **options):
        """The report of a run, checked against the schema by an independent validator."""
        file = self.path(out)
        done = kernelforge("benchmark-suite", "--out", file, *arguments, **options)
        self.assertIn(done.returncode, codes, shown(done))
        return self.valid(file), done

    def valid(self, file):
        report = json.loads(file.read_text())
        jsonschema.validate(report, SCHEMA)
        return report

    def suite(self, *rows):
        """A suite of one's own."""
        file = self.path("suite.json")
        file.write_text(json.dumps({"name": "own", "rows": list(rows)}))
        return file

    def test_smoke(self):
        html = self.path("report.html")
        svg = self.path("roofline.svg")
        report, done = self.measure(
            "--suite", "smoke", "--rounds", 3, "--html", html, "--roofline", svg
        )
        shown = [text for text in ElementTree.parse(svg).getroot().itertext() if "FLOP a byte," in text]
        self.assertEqual(len(shown), sum(row.get("gflops", 0) > 0 for row in report["rows"]))
        self.assertFalse(report["partial"])
        self.assertIn(len(report["anchors"]["per_round"]), range(3, 7))
        self.assertNotIn("preemptions", report["anchors"]["usual"])  # of samples, not of a machine
        self.assertGreaterEqual(len(report["rows"]), 20)
        for row in report["rows"]:
            with self.subTest(row["name"]):
                self.assertEqual(row["status"], "ok", row.get("error"))
                self.assertTrue(row["accuracy"]["pass"])
                self.assertGreaterEqual(len(row["samples_ns"]) + row["dropped_rounds"], 3)
                self.assertEqual(len(row["samples_ns"]), len(row["anchor_samples"]))
                self.assertEqual(len(row["samples_ns"]), len(row["machine_samples"]))
                for machine in row["machine_samples"]:
                    self.assertIn("preemptions", machine)
                self.assertIn(row["anchor"], report["anchors"]["units"])
        self.assertLess(max(map(len, done.stdout.splitlines())), 101)
        self.assertIn("Content-Security-Policy", html.read_text())
        # What a report says of a kernel is what it is: 2 m n k operations, 4 of each element.
        self.assertEqual([row["name"] for row in report["rows"] if not row["flops"] > 0], [])
        norm = next(row for row in report["rows"] if row["name"] == "rms_norm")
        self.assertEqual(norm["flops"], 4 * norm["problem"]["rows"] * norm["problem"]["width"])
        matmul = next(row for row in report["rows"] if row["name"] == "matmul_compute")
        self.assertEqual(matmul["flops"], 2 * 192 * 512 * 512)
        self.assertEqual(matmul["bytes"], 4 * (192 * 512 + 512 * 512 + 192 * 512))

    def test_all_suites_are_listed(self):
        suites = self.answer("benchmark-suite", "--list")["suites"]
        self.assertEqual(
            [suite["name"] for suite in suites],
            ["transformer", "seed", "decode-weights", "odd", "smoke"],
        )
        names = suites[0]["rows"]
        self.assertEqual(len(names), len(set(names)))
        self.assertIn("llama3-8b/gate_up/m512", names)
        table = self.ok("benchmark-suite", "--list", "--suite", "odd", "-v")
        self.assertIn("prime/m509", table)

    def test_odd_sizes_are_right_and_repeat(self):
        report, _ = self.measure("--suite", "odd", "--mode", "bitwise")
        self.assertGreater(len(report["rows"]), 60)
        for row in report["rows"]:
            self.assertEqual(row["status"], "ok", row)
            self.assertNotIn("samples_ns", row)

    def test_lists_stand_for_combinations(self):
        suite = self.suite(
            {"name": "a", "family": "matmul", "m": [1, 5], "n": 32, "k": 64, "weights": ["f32", "q8_0"]},
            {"name": "b", "family": "softmax", "rows": 2, "width": 9},
        )
        report, _ = self.measure("--suite", suite, "--rounds", 2)
        self.assertEqual(
            [row["name"] for row in report["rows"]],
            ["a/m1/f32", "a/m1/q8_0", "a/m5/f32", "a/m5/q8_0", "b"],
        )
        filtered, _ = self.measure("--suite", suite, "--rounds", 2, "--filter", "^a/m5")
        self.assertEqual([row["name"] for row in filtered["rows"]], ["a/m5/f32", "a/m5/q8_0"])

    def test_own_module(self):
        self.path("relu.mlir").write_text(
            """
            func.func @f(%n: index {transformer.size = #transformer.size<"tokens", 1 to 9>},
                %x: tensor<?x33xf32, #transformer.dims<"tokens">> {transformer.input = "x"})
                -> tensor<?x33xf32, #transformer.dims<"tokens">> {
              %y = transformer.activation %x <relu> : tensor<?x33xf32, #transformer.dims<"tokens">>
              return %y : tensor<?x33xf32, #transformer.dims<"tokens">>
            }"""
        )
        suite = self.suite(
            {"name": "mine", "family": "module", "file": self.path("relu.mlir").name, "sizes": {"tokens": 9}}
        )
        report, _ = self.measure("--suite", suite, "--rounds", 2)
        self.assertEqual(report["rows"][0]["family"], "module")
        self.assertEqual(report["rows"][0]["status"], "ok")

    def test_defects_of_a_suite_are_named(self):
        def refused(says, *rows, code=2):
            self.refused(code, "benchmark-suite", "--suite", self.suite(*rows), says=says)

        matmul = {"name": "a", "family": "matmul", "m": 1, "n": 32, "k": 64}
        refused("rows[0]", {"name": "a", "family": "matrix"})
        refused("rows[0].m", matmul | {"m": 0})
        refused("m", {key: value for key, value in matmul.items() if key != "m"})
        refused("no such field", matmul | {"tiles": 3})
        refused("given twice", matmul, matmul)
        refused("q4_1", matmul | {"k": 65, "weights": "q4_1"})
        refused("kv_heads", {"name": "a", "family": "attention", "heads": 3, "kv_heads": 2,
                             "head_dim": 8, "rows": 1})  # fmt: skip
        refused("empty", matmul | {"m": []})
        refused("empty")
        self.refused(3, "benchmark-suite", "--suite", "none", says="transformer, seed")
        self.refused(2, "benchmark-suite", "--suite", "smoke", "--filter", "nothing", says="nothing")
        self.refused(2, "benchmark-suite", "--suite", "smoke", "--filter", "(", says="--filter")

    def test_baseline_shows_what_became_slower(self):
        suite = self.suite(
            {"name": "a", "family": "matmul", "m": 64, "n": 256, "k": 256},
            {"name": "b", "family": "rms_norm", "rows": 64, "width": 4096},
        )
        before = self.path("before.json")
        settings = ["--suite", suite, "--rounds", 15, "--no-vendors"]
        fast, _ = self.measure(*settings, out="before.json")
        slow, done = self.measure(
            *settings, "--baseline", before, "--slow", "a=5", codes=(0, 1), out="after.json"
        )
        # A busy machine makes it inconclusive, and nothing else.
        verdict = slow["comparison"]["verdict"]
        self.assertIn(verdict, ("regressed", "inconclusive"))
        self.assertEqual(done.returncode, 1 if verdict == "regressed" else 0)
        self.assertIn(verdict, done.stdout)
        # What was taken shows it even where none of it counts.
        times = [
            min(row["samples_ns"] + [sample["ns"] for sample in row["dropped"]])
            for row in (fast["rows"][0], slow["rows"][0])
        ]
        self.assertGreater(times[1], 2 * times[0])
        # It would be its own baseline the next time.
        self.refused(2, "benchmark-suite", *settings, "--baseline", before, "--out", before,
                     says="give --out another file")  # fmt: skip
        self.assertEqual(json.loads(before.read_text()), fast)
        self.refused(2, "benchmark-suite", "--suite", suite, "--threshold", 0.1, says="--baseline")
        loose, done = self.measure(
            *settings, "--baseline", before, "--slow", "a=5", "--threshold", 9, out="after.json"
        )
        self.assertEqual(loose["comparison"]["threshold"], 9)
        # A report of another suite is no baseline.
        done = kernelforge("benchmark-suite", "--suite", "seed", "--rounds", 1, "--mode",
                           "performance", "--no-vendors", "--filter", "projection", "--out",
                           self.path("other.json"), "--baseline", before)  # fmt: skip
        self.assertEqual(done.returncode, 2, shown(done))
        self.assertIn("suite", done.stderr)
        self.assertFalse(self.path("other.json").exists())  # it was seen before anything was measured

    def test_a_baseline_is_refused_before_anything_is_measured(self):
        suite = self.suite(*({"name": f"r{i}", "family": "add", "rows": 1, "width": 9} for i in range(2)))
        line = ["benchmark-suite", "--suite", suite, "--no-vendors", "--rounds", 100]
        self.measure("--suite", suite, "--rounds", 2, "--no-vendors", "--filter", "r0", out="one.json")
        out, one, page = self.path("two.json"), self.path("one.json"), self.path("page.html")
        for extra in ([], ["--force"]):
            self.refused(2, *line, "--filter", "r1", "--baseline", one, "--out", out, "--html", page,
                         *extra, says="no row is in both")  # fmt: skip
        for other, option in ((one, "--html"), (out, "--html"), (out, "--roofline")):
            self.refused(2, *line, "--baseline", one, "--out", out, option, other, says=option)
        self.refused(2, *line, "--out", out, "--html", self.folder, says="it is a folder")
        self.refused(4, *line, "--out", out, "--html", "/proc/none/page.html", says="/proc/none")
        self.refused(2, *line, "--baseline", page, "--out", out)
        self.assertFalse(out.exists() or page.exists())
        # The page is written where it is asked for, with the comparison.
        page = self.path("new") / "folder" / "page.html"
        self.measure("--suite", suite, "--rounds", 2, "--no-vendors", "--baseline", one, "--html", page,
                     codes=(0, 1), out="two.json")  # fmt: skip
        self.assertIn('"kind":"stored"', page.read_text())

    def test_a_row_that_cannot_run_ends_with_1(self):
        suite = self.suite(
            {"name": "good", "family": "add", "rows": 1, "width": 9},
            {"name": "bad", "family": "matmul", "m": 2, "n": 16, "k": 32, "epilogue": "relu,bias"},
        )
        for settings in (["--rounds", 2], ["--mode", "correctness"]):
            report, done = self.measure("--suite", suite, *settings, codes=(1,))
            self.assertEqual([row["status"] for row in report["rows"]], ["ok", "unsupported"])
            self.assertIn("1 of 2 rows are wrong or did not run", done.stderr)
        report, _ = self.measure("--suite", suite, "--filter", "good", "--mode", "correctness")
        self.assertEqual(len(report["rows"]), 1)

    def test_interrupted_before_all_rows_are_prepared(self):
        rows = [
            {"name": f"r{i}", "family": "block", "d_model": 64, "heads": 2, "d_ff": 128 + 16 * i, "rows": 8}
            for i in range(12)
        ]
        suite, file = self.suite(*rows), self.path("report.json")
        settings = ["--suite", suite, "--rounds", 3, "--no-vendors"]
        before, _ = self.measure("--suite", suite, "--mode", "correctness", "--filter", "r1$")
        file.with_name(file.name + ".previous").unlink(missing_ok=True)
        line = [cli.BIN / "kernelforge", "benchmark-suite", *settings, "--out", file]
        process = subprocess.Popen(list(map(str, line)), stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and json.loads(file.read_text())["run_id"] == before["run_id"]:
            time.sleep(0.001)
        process.kill()
        process.communicate(timeout=30)
        partial = self.valid(file)
        self.assertTrue(partial["partial"])
        self.assertEqual(partial["anchors"]["per_round"], [])
        # The whole report that was there is beside it.
        self.assertEqual(self.valid(file.with_name(file.name + ".previous")), before)
        whole, _ = self.measure(*settings, "--resume")
        self.assertEqual(whole["run_id"], partial["run_id"])
        self.assertEqual([row["status"] for row in whole["rows"]], ["ok"] * len(rows))

    def interrupted(self, end):
        """A run that is ended by a signal after its first rounds, and gone on with."""
        suite = self.suite(
            *({"name": f"r{i}", "family": "matmul", "m": 32, "n": 128, "k": 128} for i in range(4))
        )
        file = self.path("report.json")
        rounds = 24
        line = [cli.BIN / "kernelforge", "benchmark-suite", "--suite", suite, "--rounds", rounds,
                "--no-vendors", "--out", file]  # fmt: skip
        process = subprocess.Popen(list(map(str, line)), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if file.exists() and len(json.loads(file.read_text())["anchors"]["per_round"]) >= 2:
                break
            time.sleep(0.01)
        process.send_signal(end)
        _, errors = process.communicate(timeout=30)
        partial = self.valid(file)
        self.assertTrue(partial["partial"])
        kept = len(partial["anchors"]["per_round"])
        self.assertGreaterEqual(kept, 2)
        self.assertLess(kept, rounds)
        settings = ["--suite", suite, "--rounds", rounds, "--resume", "--no-vendors"]
        # It goes on as it was measured, or not at all.
        done = kernelforge("benchmark-suite", *settings[:-1], "--out", file)
        self.assertEqual(done.returncode, 2, shown(done))
        self.assertIn("vendors", done.stderr)
        done = kernelforge("benchmark-suite", *settings[:3], rounds + 1, *settings[4:], "--out", file)
        self.assertEqual(done.returncode, 2, shown(done))
        self.assertIn("rounds", done.stderr)
        whole, _ = self.measure(*settings)
        self.assertFalse(whole["partial"])
        self.assertEqual(whole["run_id"], partial["run_id"])
        measured = len(whole["anchors"]["per_round"])
        self.assertIn(measured, range(rounds, 2 * rounds + 1))
        for row, old in zip(whole["rows"], partial["rows"]):
            taken = sorted(row["rounds"] + [sample["round"] for sample in row["dropped"]])
            self.assertEqual(taken[:rounds], list(range(rounds)))
            self.assertLess(taken[-1], measured)
            first = dict(zip(row["rounds"], row["samples_ns"]))
            for round_, sample in zip(old["rounds"], old["samples_ns"]):
                self.assertAlmostEqual(first.get(round_, sample), sample)
        # Nothing is left to go on with.
        done = kernelforge("benchmark-suite", *settings, "--out", file)
        self.assertEqual(done.returncode, 2, shown(done))
        return process.returncode, errors

    def test_cold_is_slower_and_of_one_call(self):
        row = {"name": "norm", "family": "rms_norm", "rows": 16, "width": 2048}  # 128 KiB: in a cache
        suite = self.suite(row)
        times = {}
        for mode in ("warm", "cold"):
            report, _ = self.measure("--suite", suite, "--rounds", 5, "--cache", mode, "--no-vendors")
            (measured,) = report["rows"]
            self.assertEqual((report["settings"]["mode"], measured["mode"]), (mode, mode))
            self.assertEqual(measured["batch"] == 1, mode == "cold")
            times[mode] = min(measured["samples_ns"] + [s["ns"] for s in measured["dropped"]])
        self.assertGreater(times["cold"], times["warm"])
        self.assertEqual(measured["anchor"], "read_memory")  # no cache judges what begins cold

    def test_least_time_of_a_row(self):
        suite = self.suite({"name": "a", "family": "add", "rows": 1, "width": 64})
        report, _ = self.measure("--suite", suite, "--rounds", 2, "--min-time", 0.1, "--no-vendors")
        self.assertEqual(report["settings"]["rounds"], 10)  # of 10 ms each
        self.assertGreaterEqual(len(report["anchors"]["per_round"]), 10)

    def test_goes_on_after_ctrl_c(self):
        code, errors = self.interrupted(signal.SIGINT)
        self.assertEqual(code, 130)
        self.assertRegex(errors, re.compile(r"^kernelforge: error: .*--resume", re.M))

    def test_goes_on_after_a_kill(self):
        code, _ = self.interrupted(signal.SIGKILL)
        self.assertEqual(code, -signal.SIGKILL)

    def test_a_report_that_cannot_be_written_is_said(self):
        suite = self.suite({"name": "a", "family": "add", "rows": 1, "width": 9})
        self.refused(4, "benchmark-suite", "--suite", suite, "--rounds", 1, "--out",
                     "/proc/none/report.json", says="/proc/none")  # fmt: skip


if __name__ == "__main__":
    cli.run(sys.argv)
