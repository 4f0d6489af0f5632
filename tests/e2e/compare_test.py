#!/usr/bin/env python3
"""`compare` on made reports, and on programs that answer as suite workers do.

    compare_test.py --bin build/release/bin
"""

import copy
import csv
import io
import json
import math
import random
import sys

import cli
from cli import CliTest, kernelforge, shown


def row(name, factor, draw):
    """A row of 11 samples that vary by half a percent around `factor` microseconds."""
    return {
        "name": name,
        "status": "ok",
        "trusted": True,
        "samples_ns": [20e3 * factor * math.exp(draw.gauss(0, 0.005)) for _ in range(11)],
        "anchor": "fma_f32",
        "anchor_samples": [100.0] * 11,
        "accuracy": {"pass": True, "l2_rel": 1e-7},
    }


def report(seed, factor=1.0):
    """Ten rows, of which the first takes `factor` times as long."""
    draw = random.Random(seed)
    names = ["smollm2/a_row_with_quite_a_long_name/m512"] + [f"row{i}" for i in range(9)]
    return {
        "schema_version": 1,
        "run_id": f"{seed:016x}",
        "suite": "smoke",
        "host": {"cpu": "Made CPU", "cores_used": 2, "memory_bytes": 1 << 34},
        "device": {"target": "cpu"},
        "settings": {"threads": 2, "mode": "warm", "suite_hash": "00ff"},
        "rows": [row(n, factor if i == 0 else i + 1, draw) for i, n in enumerate(names)],
    }


class Stored(CliTest):
    def file(self, name, value):
        path = self.folder / name
        path.write_text(json.dumps(value))
        return path

    def setUp(self):
        self.old = self.file("old.json", report(1))
        self.same = self.file("same.json", report(2))
        self.slow = self.file("slow.json", report(3, 1.2))

    def test_exit_codes_and_json(self):
        same = self.answer("compare", self.old, self.same)
        self.assertEqual(same["verdict"], "same")
        slow = self.answer("compare", self.old, self.slow, code=1)
        self.assertEqual([r["verdict"] for r in slow["rows"]], ["regressed"] + ["same"] * 9)
        self.assertEqual(slow["kind"], "stored")
        self.assertAlmostEqual(slow["rows"][0]["ratio"], 1.2, delta=0.02)
        self.assertEqual(self.answer("compare", self.slow, self.old)["verdict"], "improved")
        wide = self.answer("compare", self.old, self.slow, "--threshold", 0.5)
        self.assertEqual((wide["verdict"], wide["threshold"]), ("same", 0.5))

    def test_a_page(self):
        page = self.folder / "stored.html"
        self.answer("compare", self.old, self.slow, "--html", page, code=1)
        self.assertIn("a_row_with_quite_a_long_name", page.read_text())
        self.assertIn('"kind":"stored"', page.read_text())
        done = kernelforge("compare", self.old, self.same, "--html", self.folder / "no" / "page.html")
        self.assertEqual(done.returncode, 4, shown(done))
        self.assertIn("same: geometric mean", done.stdout)  # what was found is not lost

    def test_the_table_fits(self):
        done = kernelforge("compare", self.old, self.slow)
        self.assertEqual(done.returncode, 1, shown(done))
        lines = done.stdout.splitlines()
        self.assertLessEqual(max(map(len, lines)), 100, shown(done))
        self.assertRegex(lines[1], r"^smollm2/a_row.*/m512 .* regressed$")
        self.assertRegex(lines[-1], r"^regressed: geometric mean of B/A 1\.0")
        done = kernelforge("compare", self.old, self.slow, "--format", "csv")
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        self.assertEqual(rows[0]["row"], "smollm2/a_row_with_quite_a_long_name/m512")
        self.assertEqual(rows[0]["verdict"], "regressed")
        done = kernelforge("compare", self.old, self.slow, "--format", "jsonl")
        self.assertEqual(json.loads(done.stdout.splitlines()[1])["name"], "row0")

    def test_refusals(self):
        other = report(2)
        other["host"]["cpu"] = "Other\x1b[31m CPU"
        path = self.file("other.json", other)
        self.refused(2, "compare", self.old, path, says="host.cpu is Made CPU and Other\\x1b[31m CPU")
        self.assertEqual(len(self.answer("compare", self.old, path, "--force")["differences"]), 1)
        self.refused(2, "compare", self.old, self.folder / "none.json")
        self.refused(2, "compare", self.old, self.file("bad.json", {}), says="schema_version")
        self.refused(2, "compare", self.old, self.same, "--suite", "x", says="--live")
        self.refused(2, "compare", "--live", self.old, self.same, says="--suite")

    def test_a_corrected_ratio_is_called_so(self):
        faster = report(2)
        faster["host"]["cpu"] = "Faster CPU"
        for one in faster["rows"]:
            one["samples_ns"] = [ns / 1.08 for ns in one["samples_ns"]]
            one["anchor_samples"] = [108.0] * 11
        path = self.file("faster.json", faster)
        done = kernelforge("compare", self.old, path, "--force")
        self.assertEqual(done.returncode, 0, shown(done))
        self.assertIn(" B/A corr ", done.stdout.splitlines()[0])
        self.assertIn("corrected for the machine's speed", done.stdout)
        self.assertRegex(done.stdout.splitlines()[-1],
                         r"geometric mean of B/A (1\.0|0\.99)\d* corrected, 0\.92\d* as measured")
        answer = self.answer("compare", self.old, path, "--force")
        self.assertAlmostEqual(answer["geomean_measured_ratio"], 1 / 1.08, delta=0.02)
        for one in answer["rows"]:
            self.assertIs(one["corrected"], True)
            self.assertAlmostEqual(one["measured_ratio"], one["b_median_ns"] / one["a_median_ns"])

    def test_what_changed_beside_times(self):
        changed = copy.deepcopy(report(2))
        changed["rows"][1]["accuracy"]["pass"] = False
        changed["rows"][2]["trusted"] = False
        changed["rows"][9]["name"] = "new\nname"
        done = kernelforge("compare", self.old, self.file("changed.json", changed))
        self.assertEqual(done.returncode, 1, shown(done))
        for text in [
            "row0: result changed: accuracy passed and fails",
            "row1: B is not trusted",
            "row8: only in A",
            "new\\nname: only in B",
        ]:
            self.assertIn(text, done.stdout)


MODULE = """
func.func @f(%n: index {transformer.size = #transformer.size<"tokens", 1 to 9>},
    %x: tensor<?x33xf32, #transformer.dims<"tokens">> {transformer.input = "x"})
    -> tensor<?x33xf32, #transformer.dims<"tokens">> {
  %y = transformer.activation %x <relu> : tensor<?x33xf32, #transformer.dims<"tokens">>
  return %y : tensor<?x33xf32, #transformer.dims<"tokens">>
}
"""


class Live(CliTest):
    def test_files_beside_the_suite(self):
        folder = self.folder / "elsewhere"
        folder.mkdir()
        (folder / "relu.mlir").write_text(MODULE)
        row = {"name": "own", "family": "module", "file": "relu.mlir", "sizes": {"tokens": 9}}
        suite = folder / "suite.json"
        suite.write_text(json.dumps({"name": "own", "rows": [row]}))
        program = cli.BIN / "kernelforge"
        done = kernelforge("compare", "--live", program, program, "--suite", suite, "--rounds", 5,
                           "--restarts", 1, "--threshold", 10, "--json")  # fmt: skip
        (compared,) = json.loads(done.stdout)["rows"]
        self.assertIsNotNone(compared["ratio"], compared["why"])

    def program(self, name, factor):
        """A program that answers as a suite worker of six rows does."""
        rows = [
            {
                "name": f"row{i}",
                "status": "ok",
                "ns": 1000 * (factor if i == 0 else 1),
                "noise": 0.01,
                "placement": 0.002,
            }
            for i in range(6)
        ]
        config = self.folder / f"{name}.json"
        config.write_text(json.dumps({"seed": len(name), "rows": rows}))
        path = self.folder / name
        path.write_text(f"#!/bin/sh\nexec '{cli.BIN / 'fake-suite-worker'}' '{config}' \"$@\"\n")
        path.chmod(0o700)
        return path

    def test_two_programs(self):
        suite = ["--suite", self.suite()]
        old, slow = self.program("old", 1), self.program("slower", 1.1)
        answer = self.answer("compare", "--live", old, slow, *suite, code=1)
        self.assertEqual([r["verdict"] for r in answer["rows"]], ["regressed"] + ["same"] * 5)
        self.assertEqual((answer["kind"], answer["threshold"]), ("live", 0.03))
        page = self.folder / "live.html"
        self.answer("compare", "--live", old, old, *suite, "--filter", "row1", "--html", page)
        self.assertIn('"kind":"live"', page.read_text())
        few = self.answer("compare", "--live", old, old, *suite, "--filter", "row[12]",
                          "--rounds", 10, "--restarts", 2, "--seed", 3)  # fmt: skip
        self.assertEqual([r["samples"] for r in few["rows"]], [10, 10])
        self.refused(2, "compare", "--live", old, self.folder / "none", *suite)
        self.refused(4, "compare", "--live", old, "/bin/false", *suite, says="ended with code 1")
        babble = self.folder / "babble"  # answers, but not as agreed, and waits for the next line
        babble.write_text("#!/bin/sh\nread -r line\necho babble\nread -r line\n")
        babble.chmod(0o755)
        self.refused(2, "compare", "--live", old, babble, *suite, says="not valid JSON")

    def suite(self):
        path = self.folder / "suite.json"
        path.write_text("{}")
        return path


if __name__ == "__main__":
    cli.run(sys.argv)
