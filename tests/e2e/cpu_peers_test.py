#!/usr/bin/env python3
"""What measures our kernels beside other libraries for processors, without these libraries: the rows that our side
takes, operands and what results are held against, turns, and the table that samples become.

    cpu_peers_test.py --bin build/release/bin
"""

import subprocess
import sys
from pathlib import Path

import cli
import numpy as np
from cli import CliTest

PEERS = Path(__file__).resolve().parents[2] / "bench/peers/cpu"
sys.path.insert(0, str(PEERS))

import operands  # noqa: E402
import problems  # noqa: E402
import report  # noqa: E402
import turns  # noqa: E402


class Side:
    """Samples in the order in which they are asked for."""

    about = {"how": "somehow"}

    def __init__(self, name, samples, log, why=None):
        self.name, self.samples, self.log, self.why = name, list(samples), log, why

    def open(self, row, seed):
        return self.why

    def sample(self):
        self.log.append(self.name)
        return self.samples.pop(0)


def row(name, ours, **ratios):
    peers = {peer: {"ratio": ratio, "low": ratio, "high": ratio} for peer, ratio in ratios.items()}
    return {"name": name, "row": {"family": "softmax"}, "ours_ns": ours, "peers": peers}


class CpuPeers(CliTest):
    def test_our_side_takes_every_row(self):
        rows = [dict(row, name=f"{group} {row['name']}") for group, rows in problems.groups().items() for row in rows]
        self.assertEqual(len({row["name"] for row in rows}), len(rows), "names are used twice")
        quick = [row for rows in problems.groups(quick=True).values() for row in rows]
        self.assertLess(len(quick), len(rows) / 3)
        ours = turns.Ours(cli.BIN / "kernelforge", 1)
        for each in (problems.products("f32", [(7, 33, 12)])[0], problems.products("bf16", [(7, 33, 12)])[0],
                     problems.products("int8", [(7, 33, 64)])[0],
                     dict(problems.attention("f32", True)[0], rows=5, heads=3, kv_heads=1),
                     dict(problems.attention("bf16", True)[1], past=9),
                     *(dict(each, rows=3, width=40) for each in problems.groups()["rowwise"])):  # fmt: skip
            self.assertIsNone(ours.open(each, 1), each)
            self.assertGreater(ours.sample(), 0)
        self.assertIn("nothing", ours.open({"name": "x", "family": "nothing"}, 1))
        ours.close()
        with self.assertRaisesRegex(RuntimeError, "it has gone"):
            turns.Side("x", [sys.executable, "-c", "import sys; sys.exit('it has gone')"], None).ask(command="open")

    def test_results_are_held_against_numpy(self):
        for each in problems.products("f32", [(7, 33, 12)]) + problems.products("int8", [(7, 33, 64)]):
            made = operands.Operands(each, 1)
            product = made.x.astype(np.float32) @ made.w.T.astype(np.float32)
            self.assertTrue(made.is_right(made.error(product)))
            self.assertFalse(made.is_right(made.error(product * 1.01)))
            product[3, 5] = np.nan
            self.assertFalse(made.is_right(made.error(product)))
        made = operands.Operands(dict(problems.attention("bf16", True)[0], rows=5), 1)
        self.assertTrue((operands.from_bits(operands.bf16_bits(made.q)) == made.q).all(), "it is not bf16")
        self.assertLess(made.error(made.rows_of_attention(np.arange(5))), 1e-6)

    def test_turns(self):
        log = []
        ours = Side("ours", [9, 1, 2, 4], log)
        theirs = Side("theirs", [9, 2, 2, 12], log)
        peers = [theirs, Side("unable", [], log, "it cannot"), Side("another", [], log, "")]
        made = turns.compare(problems.groups()["f32"][0], ours, peers, 3, 1)
        self.assertEqual(set(log), {"ours", "theirs"})
        self.assertEqual(log[:2], log[3:1:-1], "the order is not swapped")
        self.assertEqual(made["peers"]["unable"], {"why": "it cannot"})
        self.assertNotIn("another", made["peers"])
        peer = made["peers"]["theirs"]
        self.assertEqual([made["ours_ns"], peer["ns"], peer["ratio"], peer["low"], peer["high"]], [2, 2, 2, 1, 3])

    def test_table(self):
        groups = {"a": [row("x", 2e6, torch=2, iree=0.5), row("y", 3e3, torch=8)], "b": [row("z", 5)]}
        groups["b"][0]["peers"]["iree"] = {"why": "it fell over"}
        made = report.summary(groups["a"])
        self.assertEqual((made["rows"], made["behind"]), (2, 1))
        means = {name: round(each["ratio"], 9) for name, each in made["geomeans"].items()}
        self.assertEqual(means, {"torch": 4, "iree": 0.5, "fastest": 2})
        lines = report.table(groups, ["mkl", "torch", "iree"]).splitlines()
        self.assertEqual(lines[0], "| group | problem | ours | torch | iree | ahead |")
        self.assertEqual(lines[2], "| a | x | 2 ms | 2.00 (2.00–2.00) | 0.50 (0.50–0.50) | **iree** |")
        self.assertIn("| 8.00 (8.00–8.00) |  | ours |", lines[3])
        self.assertIn("| **4.00** (2) | **0.50** (1) | **2.00** of the fastest; behind in 1 of 2 |", lines[4])
        self.assertEqual(lines[5], "| b | z | 5 ns |  | – |  |")
        self.assertEqual(report.reasons(groups, {"mkl": "pip failed"}),
                         ["mkl is left out: pip failed", "iree, b, z: it fell over"])  # fmt: skip

    def test_mistakes_are_said(self):
        def script(*arguments):
            line = [sys.executable, PEERS / "peers.py", *arguments]
            return subprocess.run([str(word) for word in line], capture_output=True, text=True)

        for arguments in (["--only", "nobody"], ["--group", "nothing"], ["--rounds", "0"]):
            self.assertEqual(script(*arguments).returncode, 2, arguments)
        for arguments in (["--kernelforge", self.folder / "none"],
                          ["--kernelforge", cli.BIN / "kernelforge", "-t", 1, "--filter", "none", "--group",
                           "f32"]):  # fmt: skip
            done = script(*arguments)
            self.assertEqual(done.returncode, 1, cli.shown(done))
            self.assertRegex(done.stderr, r"\Apeers: error: [^\n]+\n\Z")
        self.assertIn("--quick", script("--help").stdout)


if __name__ == "__main__":
    cli.run(sys.argv)
