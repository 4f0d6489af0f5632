#!/usr/bin/env python3
"""Peers of the CUDA target, as far as a machine without a GPU shows them: their modules are compiled, what
is missing is said, and samples of two sides become the rows that they should.

    peers_test.py --bin build/release/bin
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import cli
from cli import CliTest

PEERS = Path(__file__).resolve().parents[2] / "bench/peers"
sys.path.insert(0, str(PEERS))

import cuda_turns  # noqa: E402

SCRIPTS = {"cuda_attention": 21, "cuda_fused": 11, "cuda_triton_matmul": 10}

#: What answers as `cuda-peers module` does: a run takes 2 us, or 4 back to back.
ANSWERS = """#!{python}
import sys
from pathlib import Path
folder = Path(sys.argv[sys.argv.index("--data") + 1])
assert "--size=cached=7" in sys.argv and sys.argv[1] == "module" and Path(sys.argv[2]).read_text() == "text"
(folder / "result0.bin").write_bytes((folder / "argument1.bin").read_bytes()[::-1])
print('{{"device": "none", "kernels": [], "sets": 1, "runs": 1}}', flush=True)
for line in sys.stdin:
    print({{"idle-gaps": 2e-6, "back-to-back": 4e-6}}[line.strip()], flush=True)
"""


class Side:
    """Samples in the order in which they are asked for."""

    def __init__(self, name, samples, log):
        self.name, self.samples, self.log = name, list(samples), log

    def sample(self, pace):
        self.log.append(self.name)
        return self.samples.pop(0)


class Bytes:
    """A tensor, as far as it is written to a file."""

    def __init__(self, data):
        self.data = data

    def __getattr__(self, name):
        return lambda *_: self

    def tobytes(self):
        return self.data


class Peers(CliTest):
    def script(self, name, *arguments, **environment):
        line = [sys.executable, PEERS / f"{name}.py", "--bin", cli.BIN, *arguments]
        return subprocess.run([str(word) for word in line], capture_output=True, text=True,
                              env=os.environ | environment)  # fmt: skip

    def test_modules_compile(self):
        for name, count in SCRIPTS.items():
            done = self.script(name, "--dry", "--json")
            self.assertEqual(done.returncode, 0, cli.shown(done))
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            self.assertEqual(len(rows), count)
            self.assertEqual(len({row["name"] for row in rows}), count, "names are used twice")
            for row in rows:  # numerics of attention are the one thing that a build may not have yet
                if name != "cuda_attention" or "decode" in row["name"]:
                    self.assertTrue(row.get("schedules"), row)

    def test_a_decoder_is_scheduled(self):
        done = self.script("cuda_llama", "--dry", "--layers", "2", "--json")
        self.assertEqual(done.returncode, 0, cli.shown(done))
        self.assertGreater(json.loads(done.stdout)["kernels"], 4)

    def test_modules_that_are_no_good_are_found(self):
        problem = cuda_turns.Problem("wrong", "func.func @f() { return 3 }", None, None)
        options = types.SimpleNamespace(bin=cli.BIN, json=True)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            self.assertEqual(cuda_turns.dry([problem], options), 1)
        self.assertIn("module is not usable", json.loads(printed.getvalue())["refused"])

    def test_what_is_missing_is_said(self):
        for name in [*SCRIPTS, "cuda_llama"]:
            # A torch that cannot be imported, whatever is installed.
            blocked = self.folder / "torch.py"
            blocked.write_text("raise ImportError('none')\n")
            done = self.script(name, PYTHONPATH=str(self.folder))
            self.assertEqual(done.returncode, 3, cli.shown(done))
            self.assertRegex(done.stderr, rf"\A{name}: error: [^\n]+\n\Z")
            done = self.script(name, "--dry", "--bin", self.folder)
            self.assertEqual(done.returncode, 3, cli.shown(done))
            self.assertIn("--bin", done.stderr)
            for arguments in (["--rounds", "0"], ["--only"], ["--nothing"]):
                self.assertEqual(self.script(name, *arguments).returncode, 2, arguments)
            self.assertIn("--dry", self.script(name, "--help").stdout)
        done = self.script("cuda_fused", "--dry", "--only", "nothing like it")
        self.assertEqual(done.returncode, 2, cli.shown(done))
        self.assertIn("rms_norm 4096x4096", done.stderr)

    def test_turns_are_of_all_sides_in_random_order(self):
        log = []
        sides = [Side("ours", [9, 1, 2, 3, 4], log), Side("theirs", [9, 2, 4, 6, 8], log)]
        options = types.SimpleNamespace(rounds=4, seed=3)
        seconds = cuda_turns.in_turns(sides, "idle-gaps", options)
        self.assertEqual(seconds, {"ours": [1, 2, 3, 4], "theirs": [2, 4, 6, 8]})
        rounds = [tuple(log[i : i + 2]) for i in range(2, 10, 2)]
        self.assertTrue(all(set(each) == {"ours", "theirs"} for each in rounds))
        self.assertEqual(len(set(rounds)), 2, "the order never changes")

    def test_our_side_is_asked_for_samples(self):
        program = self.folder / "cuda-peers"
        program.write_text(ANSWERS.format(python=sys.executable))
        program.chmod(0o755)
        problem = cuda_turns.Problem("name", "text", None, None, sizes={"cached": 7})
        torch = types.SimpleNamespace(uint8=None)
        options = types.SimpleNamespace(bin=self.folder)
        ours = cuda_turns.Ours(torch, problem, [Bytes(b"ab"), Bytes(b"cd")], options)
        self.assertEqual(ours.sample("idle-gaps"), 2e-6)
        self.assertEqual(ours.sample("back-to-back"), 4e-6)
        self.assertEqual((Path(ours.folder.name) / "result0.bin").read_bytes(), b"dc")
        ours.close()
        self.assertEqual(ours.process.returncode, 0)
        program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('it is refused')\n")
        with self.assertRaisesRegex(RuntimeError, "it is refused"):
            cuda_turns.Ours(torch, problem, [], options)


class Program(CliTest):
    def peers(self, *arguments):
        return cli.call("cuda-peers", *arguments)

    def test_products_compile_without_a_gpu(self):
        done = self.peers("matmul", "--dry", "sm_90a", "--json", "--group", "small", "--group", "epilogue")
        self.assertEqual(done.returncode, 0, cli.shown(done))
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual({row["group"] for row in rows}, {"small", "epilogue"})
        self.assertTrue(all(row["schedule"] for row in rows))
        done = self.peers("matmul", "--dry", "sm_90a", "--product", "5x64x72+bias+gelu")
        self.assertIn("5x64x72 bias gelu", done.stdout, cli.shown(done))

    def test_what_is_wrong_or_missing_is_said(self):
        for code, says, *arguments in [
            (2, "MxNxK", "matmul", "--product", "5x64"),
            (3, "--cublas", "matmul", "--cublas", self.folder / "none.so"),
            (3, "it has no cublasLtGetVersion", "matmul", "--cublas", "libm.so.6"),
            (3, "driver", "module", "x.mlir", "--data", self.folder, "--cuda-library", self.folder / "none.so"),
            (2, "NAME=N", "module", "x.mlir", "--data", self.folder, "--size", "cached"),
        ]:
            done = self.peers(*arguments)
            self.assertEqual(done.returncode, code, cli.shown(done))
            self.assertRegex(done.stderr, r"\Acuda-peers: error: [^\n]+\n\Z")
            self.assertIn(says, done.stderr)
        for arguments in ([], ["matmul", "--group", "none"], ["matmul", "--rounds", "0"], ["module"]):
            self.assertEqual(self.peers(*arguments).returncode, 2, arguments)
        self.assertIn("--product", self.peers("matmul", "--help").stdout)


if __name__ == "__main__":
    cli.run(sys.argv)
