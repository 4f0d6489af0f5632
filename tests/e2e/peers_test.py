#!/usr/bin/env python3
"""Peers of the CUDA target, as far as a machine without a GPU shows them: their modules are compiled, what
is missing is said, and samples of two sides become the rows that they should.

    peers_test.py --bin build/release/bin --driver FILE --cublas FILE

The driver is the made-up one of tests/unit/backend/cuda/driver, the library that of FakeCublasLt.cpp.
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
import numpy as np
from cli import CliTest

PEERS = Path(__file__).resolve().parents[2] / "bench/peers"
sys.path.insert(0, str(PEERS))

import cuda_attention  # noqa: E402
import cuda_turns  # noqa: E402

#: Set by main.
DRIVER = CUBLAS = None

SCRIPTS = {"cuda_attention": 21, "cuda_fused": 13, "cuda_triton_matmul": 10}

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
            self.assertTrue(all(row.get("schedules") for row in rows), rows)

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

    def test_products_beside_the_library(self):
        line = ["matmul", "--cublas", CUBLAS, "--cuda-library", DRIVER, "--rounds", "3", "--sample-ms", "0.001",
                "--json", "--product", "5x64x72", "--product", "40x72x64+bias+gelu"]  # fmt: skip
        done = self.peers(*line)
        self.assertEqual(done.returncode, 0, cli.shown(done))
        about, *rows = [json.loads(text) for text in done.stdout.splitlines()]
        self.assertEqual(about["peer"], "cuBLASLt 13.1.0")
        products, means = [row for row in rows if "name" in row], [row for row in rows if "geomean" in row]
        self.assertEqual([(row["name"], row["pace"]) for row in products],
                         [(name, pace) for name in ("5x64x72", "40x72x64 bias gelu")
                          for pace in ("idle-gaps", "back-to-back")])  # fmt: skip
        for row in products:
            self.assertLess(row["error"], 5e-3)
            self.assertLess(row["peer_error"], 5e-3)
            self.assertEqual(row["algorithms"], 2, "one of three cannot be used")
            ratio = row["ratio_best"]
            self.assertLessEqual(ratio["low"], ratio["median"])
            self.assertLessEqual(row["best_us"], row["first_us"])
            self.assertAlmostEqual(row["tflops"] * row["ours_us"],
                                   2e-6 * {"5x64x72": 5 * 64 * 72}.get(row["name"], 40 * 72 * 64))  # fmt: skip
        self.assertEqual({(row["pace"], row["geomean"]) for row in means},
                         {(pace, group) for pace in cuda_turns.PACES for group in ("given", "all")})  # fmt: skip

    def test_a_library_that_is_wrong_is_found(self):
        done = cli.call("cuda-peers", "matmul", "--cublas", CUBLAS, "--cuda-library", DRIVER, "--rounds", "3",
                        "--sample-ms", "0.001", "--product", "5x64x72",
                        env=os.environ | {"FAKE_CUBLASLT": "wrong"})  # fmt: skip
        self.assertEqual(done.returncode, 1, cli.shown(done))
        self.assertIn("5x64x72: cuBLASLt's result is not what was asked for", done.stderr)

    def test_a_module_is_timed_on_request(self):
        rows, keys, dim = 3, 9, 8
        random = np.random.default_rng(1)
        query, *caches = (random.standard_normal((n, 2, dim)).astype(np.float16) for n in (rows, keys, keys))
        file = self.folder / "module.mlir"
        file.write_text(cuda_attention.module(rows, keys, 2, 2, dim, True, "f16").replace(
            ", numerics = #transformer.numerics<multiply = f16>", ""))  # fmt: skip
        integers = [np.arange(keys - rows, keys), np.zeros(rows), np.zeros(1), np.full(1, keys)]
        for i, values in enumerate([query, *caches, *(each.astype(np.int32) for each in integers)]):
            (self.folder / f"argument{i}.bin").write_bytes(values.tobytes())
        line = ["module", file, "--data", self.folder, "--cuda-library", DRIVER]
        done = cli.call("cuda-peers", *line, "--size", f"cached={keys}", text="idle-gaps\nback-to-back\n")
        self.assertEqual(done.returncode, 0, cli.shown(done))
        about, *seconds = done.stdout.splitlines()
        self.assertEqual(len(json.loads(about)["kernels"]), 1)
        self.assertEqual(len(seconds), 2)
        self.assertTrue(all(float(each) > 0 for each in seconds))
        result = np.frombuffer((self.folder / "result0.bin").read_bytes(), np.float16).reshape(rows, 2, dim)
        q, k, v = (each.astype(np.float64) for each in (query, *caches))
        scores = np.einsum("rhd,khd->rhk", q, k) * dim**-0.5
        scores[np.arange(keys)[None, None, :] > integers[0][:, None, None] + np.zeros((1, 2, 1))] = -np.inf
        shares = np.exp(scores - scores.max(axis=2, keepdims=True))
        expected = np.einsum("rhk,khd->rhd", shares / shares.sum(axis=2, keepdims=True), v)
        self.assertLess(np.abs(result - expected).max(), 4e-3)
        for code, says, text, *more in [
            (2, "size is not known (cached)", ""),
            (2, "there is no such pace", "soon\n", "--size", f"cached={keys}"),
            (2, "size", "", "--size", "cached=1000"),
        ]:
            done = cli.call("cuda-peers", *line, *more, text=text)
            self.assertEqual(done.returncode, code, cli.shown(done))
            self.assertIn(says, done.stderr)
        (self.folder / "argument6.bin").unlink()
        done = cli.call("cuda-peers", *line, "--size", f"cached={keys}")
        self.assertEqual(done.returncode, 2, cli.shown(done))
        self.assertIn("argument6.bin", done.stderr)


if __name__ == "__main__":
    at = sys.argv.index("--driver")
    _, DRIVER, _, CUBLAS = sys.argv[at : at + 4]
    cli.run(sys.argv[:at] + sys.argv[at + 4 :])
