#!/usr/bin/env python3
"""The command line's manners: exit codes, one-line errors, JSON, signals, full disks.

    cli_test.py --bin build/release/bin
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cli
from cli import CliTest, kernelforge
from modules import BLOCK as BLOCK_TEXT

BLOCK = "d_model=64,heads=4,kv_heads=2,d_ff=96"


class Usage(CliTest):
    def test_help_of_every_command_ends_with_an_example(self):
        text = self.ok("--help")
        commands = re.findall(r"^  ([a-z-]+) {2,}", text.split("Subcommands:")[1], re.M)
        self.assertIn("emit-mlir", commands)
        for command in commands:
            last = self.ok(command, "--help").rstrip().splitlines()
            heading = max(i for i, line in enumerate(last) if line.startswith("Example"))
            examples = last[heading + 1 :]
            self.assertEqual(last[heading], "Example:" if len(examples) == 1 else "Examples:")
            for line in examples:
                self.assertTrue(line.startswith(f"  kernelforge {command} "), line)

    def test_help_of_commands_of_records(self):
        text = self.ok("records", "--help")
        actions = re.findall(r"^  ([a-z-]+) {2,}", text.split("Subcommands:")[1], re.M)
        self.assertIn("prune", actions)
        for action in actions:
            last = self.ok("records", action, "--help").rstrip().splitlines()
            self.assertEqual(last[-2], "Example:")
            self.assertTrue(last[-1].startswith(f"  kernelforge records {action} "), last[-1])

    def test_commands_that_are_none(self):
        self.refused(2, "compil", "--help", says="did you mean 'compile'?")
        self.refused(2, "compil", says="did you mean 'compile'?")
        self.refused(2, "records", "shwo", "--help", says="did you mean 'show'?")
        self.refused(2, says="(kernelforge): a command is missing")
        self.refused(2, "records", says="(kernelforge records): a command is missing")
        self.refused(2, "tune", says="(kernelforge tune): ")
        done = kernelforge("tune", "-o", "x")
        self.assertNotIn("did you mean", done.stderr)

    def test_empty_texts(self):
        matmul = ["benchmark-matmul", "-m", 1, "-n", 8, "-k", 32]
        for option in ("--schedule", "--target-cpu", "--target-features", "--profile", "--weights"):
            self.refused(2, *matmul, option, "", says=option + ": an empty text")
        self.refused(2, "compile", "-", "--function", "", says="--function: an empty text")
        self.ok(*matmul, "--epilogue", "", "--mode", "correctness")

    def test_options_that_would_do_nothing(self):
        matmul = ["benchmark-matmul", "-m", 1, "-n", 8, "-k", 32, "--mode", "correctness"]
        for option in (["--min-time", 0], ["--rounds", 3], ["--warmup", 1], ["--cache", "cold"]):
            self.refused(2, *matmul, *option, says=f"wrong usage ({option[0]}): ")
        self.refused(2, "compile", "-", "--seed", 3, text=BLOCK_TEXT, says="wrong usage (--seed): ")
        self.ok("compile", "-", "--seed", 3, "--run", text=BLOCK_TEXT)

    def test_schedules_written_wrongly(self):
        matmul = ["benchmark-matmul", "-m", 1, "-n", 8, "-k", 32, "--mode", "correctness"]
        file = self.folder / "mr.json"
        file.write_text('{"mr":1}')
        self.refused(2, *matmul, "--schedule", file, says="(--schedule): ")
        self.refused(2, *matmul, "--schedule", file, says=f"write @{file} to read that file")
        self.ok(*matmul, "--schedule", f"@{file}")
        self.refused(2, *matmul, "--schedule", "{mr:4}", says="""write names in quotes: '{"mr":4}'""")
        self.refused(2, *matmul, "--variant", "mkl", says="did you mean 'vendor:mkl'?")
        self.refused(2, *matmul, "--weights", "q4", says="did you mean 'q4_0' or 'q4_1'")

    def test_target_features(self):
        emit = ["emit-mlir", "--block", BLOCK, "--stage", "scheduled", "--target-features"]
        for features in ("avx-512", "+avx512", "+avx-512"):
            self.refused(2, *emit, features, says="begin the list with it, without a sign: avx512")
        self.ok(*emit, "avx512")
        self.refused(2, *emit, "fma", says="write +fma")
        self.ok(*emit, "+fma")
        self.refused(2, *emit, "avx512", "--target-cpu", "skylake",
                     says="name avx512 in place of the CPU")  # fmt: skip
        self.ok(*emit[:-1], "--target-cpu", "avx512")
        self.refused(2, *emit[:-1], "--target-cpu", "avx-512", says="did you mean 'avx512'?")

    def test_version(self):
        self.assertRegex(self.ok("--version"), r"^\d+\.\d+\.\d+\n$")

    def test_wrong_usage(self):
        for arguments in (
            [],
            ["nonsense"],
            ["--nonsense"],
            ["emit-mlir"],
            ["emit-mlir", "--block", BLOCK, "--model", "x"],
            ["emit-mlir", "--block", BLOCK, "--phase", "both"],
            ["emit-mlir", "--block", BLOCK, "--stage", "wgsl"],
            ["emit-mlir", "--block", BLOCK, "--kernel", "nobody", "--stage", "fused"],
            ["emit-mlir", "--block", BLOCK, "--weights", "q9_9"],
            ["emit-mlir", "--block", BLOCK, "--weights", "i32"],
            ["emit-mlir", "--block", BLOCK, "--target", "abacus"],
            ["emit-mlir", "--block", BLOCK, "--target-cpu", "z80"],
            ["emit-mlir", "--block", BLOCK, "--target-features", "+telepathy"],
            ["emit-mlir", "--block", BLOCK, "--threads", "0"],
            ["emit-mlir", "--block", BLOCK, "--threads", "many"],
            ["compile"],
            ["compile", "/nonexistent.mlir"],
            ["compile", "/"],
            ["compile", "a.mlir", "b.mlir"],
            ["benchmark-matmul", "-m", "1", "-n", "1"],
            ["benchmark-matmul", "-m", "0", "-n", "1", "-k", "1"],
            ["benchmark-matmul", "-m", "-1", "-n", "1", "-k", "1"],
            ["benchmark-matmul", "-m", "1.5", "-n", "1", "-k", "1"],
            ["benchmark-matmul", "-m", "1", "-n", "1", "-k", "33", "--weights", "q4_1"],
            ["benchmark-matmul", "-m", "1", "-n", "8", "-k", "32", "--seed", "-1"],
            ["benchmark-matmul", "-m", "1", "-n", "8", "-k", "32", "--rounds", "0"],
            ["benchmark-matmul", "-m", "1", "-n", "8", "-k", "32", "--mode", "fast"],
            ["benchmark-matmul", "-m", "1", "-n", "8", "-k", "32", "--variant", "guess"],
            ["benchmark-matmul", "-m", "1", "-n", "8", "-k", "32", "--schedule", "{"],
            ["benchmark-matmul", "-m", "1", "-n", "8", "-k", "32", "--schedule", '{"speed":1}'],
            ["benchmark-matmul", "-m", "1", "-n", "8", "-k", "32", "--schedule", '{"mr":1e9}'],
            ["benchmark-matmul", "-m", "1", "-n", "8", "-k", "32", "--schedule", "@/nonexistent"],
            ["benchmark-matmul", "-m", "16777216", "-n", "16777216", "-k", "16777216"],
            ["diagnose", "me"],
        ):
            with self.subTest(arguments):
                self.refused(2, *arguments)

    def test_block(self):
        for block, says in {
            "d_model": "KEY=VALUE",
            "d_model=64": "'heads' is missing",
            "heads=4": "'d_model' is missing",
            "d_model=64,heds=4": "no key 'heds'; did you mean 'heads'?",
            "d_model=64,heads=4,": "KEY=VALUE",
            "d_model=64,heads=4,d_model=64": "given twice",
            "d_model=64,heads=4,colour=red": "no key 'colour'",
            "d_model=64,heads=5": "not divisible by heads=5",
            "d_model=64,heads=4,kv_heads=3": "not divisible by kv_heads=3",
            "d_model=60,heads=4": "odd",
            "d_model=6e1,heads=4": "no integer",
            "d_model=-64,heads=4": "no integer",
            "d_model=0,heads=4": "no integer",
            "d_model=99999999999999999999,heads=4": "no integer",
            "d_model=64,heads=4,norm=group": "none of layer, rms",
            "d_model=64,heads=4,activation=swish": "none of gelu",
            "d_model=64,heads=4,gated=maybe": "none of",
            "d_model=64,heads=4,layers=0": "no integer",
            "d_model=64\x1b[31m,heads=4": "\\x1b[31m",
        }.items():
            with self.subTest(block):
                self.refused(2, "emit-mlir", f"--block={block}", says=says)

    def test_what_is_not_here(self):
        self.refused(3, "emit-mlir", "--block", BLOCK, "--target", "cuda")
        self.refused(3, "emit-mlir", "--model", "no-such-model")

    def test_modules_that_are_none(self):
        for text in (
            "",
            "module {}",
            "func.func @f( {",
            "\x00\xff",
            "func.func @f() { unknown.op : () -> () }",
            "%0 = transformer.softmax",
            'func.func @f(%x: tensor<2x4xf32>) { "transformer.launch"(%x) {kernel = @k} : '
            "(tensor<2x4xf32>) -> () return }",
        ):
            with self.subTest(text):
                self.refused(2, "compile", "-", "--run", text=text)

    def test_parse_errors_name_the_place(self):
        self.refused(2, "compile", "-", text="module {\n  nonsense\n}", says="standard input:2:3")


class Streams(CliTest):
    """A text may come from a file, a pipe or standard input."""

    SOFTMAX = ("func.func @f(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {\n"
               "  %0 = transformer.softmax %x : tensor<2x4xf32>\n  return %0 : tensor<2x4xf32>\n}")

    def through_a_pipe(self, text, line):
        """Runs a shell line in which PIPE is replaced by a pipe that `text` comes from."""
        file = self.folder / "text"
        file.write_text(text)
        line = line.replace("PIPE", f"<(cat '{file}')").replace("KF", f"'{cli.BIN}/kernelforge'")
        return subprocess.run(["bash", "-c", line], capture_output=True, text=True)

    def test_modules(self):
        for line in ("KF compile PIPE --run", "KF emit-mlir PIPE --stage fused",
                     "KF compile /dev/stdin --run < PIPE", "KF compile - --run < PIPE"):
            done = self.through_a_pipe(self.SOFTMAX, line)
            self.assertEqual(done.returncode, 0, (line, done.stderr))
        done = self.through_a_pipe("module {\n  nonsense\n}", "KF compile PIPE")
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"/dev/fd/\d+:2:3")

    def test_a_fifo(self):
        fifo = self.folder / "fifo.mlir"
        os.mkfifo(fifo)
        process = subprocess.Popen([cli.BIN / "kernelforge", "compile", fifo, "--run"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        fifo.write_text(self.SOFTMAX)
        _, errors = process.communicate()
        self.assertEqual(process.returncode, 0, errors)

    def test_schedules_suites_and_reports(self):
        problem = "KF benchmark-matmul -m 2 -n 16 -k 16 --mode correctness"
        for at in ("@PIPE", "@- < PIPE", "@/dev/stdin < PIPE"):
            done = self.through_a_pipe("{}", f"{problem} --schedule {at}")
            self.assertNotIn("no regular file", done.stderr)
            done = self.through_a_pipe("{nonsense", f"{problem} --schedule {at}")
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("schedule", done.stderr)
        suite = json.dumps({"name": "s", "rows": [
            {"name": "a", "family": "matmul", "m": 2, "n": 16, "k": 16}]})
        for line in ("KF benchmark-suite --suite PIPE --list", "KF benchmark-suite --suite - --list < PIPE"):
            done = self.through_a_pipe(suite, line)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("1 rows", done.stdout)

    def test_what_never_ends_is_refused(self):
        self.refused(2, "compile", "/dev/zero", says="it has more bytes, at most 268435456 are read")
        self.refused(2, "compile", "/dev/null")
        self.refused(2, "benchmark-matmul", "-m", 2, "-n", 16, "-k", 16, "--schedule", "@/dev/zero",
                     says="at most 65536 are read")


class Output(CliTest):
    def test_full_disk(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [cli.BIN / "kernelforge", "emit-mlir", "--block", BLOCK],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
            )
        self.assertEqual(done.returncode, 4)
        self.assertRegex(done.stderr, r"\Akernelforge: error: [^\n]*No space left[^\n]*\n\Z")
        self.refused(4, "emit-mlir", "--block", BLOCK, "-o", "/nonexistent/x.mlir",
                     says="name a file in a folder that exists")  # fmt: skip
        self.refused(4, "emit-mlir", "--block", BLOCK, "-o", "/dev/null/x.mlir",
                     says="name a file in a folder that exists")  # fmt: skip
        self.refused(4, "emit-mlir", "--block", BLOCK, "-o", "/dev/full", says="; free space")
        self.refused(4, "emit-mlir", "--block", BLOCK, "--stage", "fused", "--dump-passes", "/dev/null/x")

    def test_a_limit_on_file_sizes_is_an_error(self):
        line = f"ulimit -f 1; '{cli.BIN}/kernelforge' emit-mlir --block {BLOCK} --stage llvm"
        done = subprocess.run(
            ["bash", "-c", f"{line} -o '{self.folder}/x.mlir'"], capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertFalse((self.folder / "x.mlir").exists())

    def test_a_full_cache_does_not_stop_anything(self):
        done = kernelforge(
            "benchmark-matmul", "-m", 2, "-n", 8, "-k", 32, "--mode", "correctness",
            env={"KERNELFORGE_HOME": "/dev/null/home"},
        )
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_log_levels(self):
        quiet = kernelforge("benchmark-matmul", "-m", 2, "-n", 8, "-k", 32, "--mode", "correctness")
        self.assertEqual(quiet.stderr, "")
        self.refused(2, "benchmark-matmul", "-vvvx")


class Signals(CliTest):
    def start(self, *arguments):
        process = subprocess.Popen(
            [cli.BIN / "kernelforge", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(1)
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    def test_interrupted_while_timing(self):
        problem = ["benchmark-matmul", "-m", 2, "-n", 64, "-k", 64, "--min-time", 100]
        code, output, errors = self.start(*problem)
        self.assertEqual(code, 130)
        self.assertEqual(output, "")
        self.assertRegex(errors, r"\Akernelforge: error: interrupted [^\n]+\n\Z")
        code, output, _ = self.start(*problem, "--json")
        self.assertEqual(code, 130)
        self.assertEqual(json.loads(output)["error"]["code"], 130)

    def test_interrupted_while_reading(self):
        code, _, errors = self.start("compile", "-")
        self.assertEqual(code, 130)
        self.assertRegex(errors, r"\Akernelforge: error: interrupted [^\n]+\n\Z")


class Processes(CliTest):
    def test_workers_have_a_name(self):
        worker = subprocess.Popen(
            [cli.BIN / "kernelforge", "suite-worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        worker.stdin.write('{"command": "anchors"}\n')
        worker.stdin.flush()
        self.assertFalse(json.loads(worker.stdout.readline())["ok"])
        self.assertEqual(Path(f"/proc/{worker.pid}/comm").read_text(), "kf-suite-worker\n")
        worker.communicate(timeout=60)


class Measuring(CliTest):
    def test_benchmark_matmul_row(self):
        problem = ["-m", 3, "-n", 40, "-k", 64, "--weights", "q4_1", "--min-time", 0.02]
        row = self.answer("benchmark-matmul", *problem)
        self.assertEqual(row["status"], "ok")
        self.assertEqual(row["problem"]["weights"], "q4_1")
        self.assertEqual((row["family"], row["variant"], row["mode"]),
                         ("matmul", "generated", "warm"))
        self.assertEqual(row["schedule_source"], "analytic")
        self.assertGreaterEqual(len(row["samples_ns"]), 10)
        self.assertGreater(row["gflops"], 0)
        self.assertTrue(row["accuracy"]["pass"])
        self.assertRegex(row["code_hash"], "^[0-9a-f]{64}$")
        self.assertGreater(row["resources"]["code_bytes"], 0)
        # The schedule that it printed can be pinned, inline or from a file.
        schedule = self.folder / "schedule.json"
        schedule.write_text(json.dumps(row["schedule"]))
        for option in (json.dumps(row["schedule"]), f"@{schedule}"):
            pinned = self.answer("benchmark-matmul", *problem, "--schedule", option)
            self.assertEqual(pinned["schedule_source"], "pinned")
            self.assertEqual(pinned["schedule"], row["schedule"])
            self.assertEqual(pinned["code_hash"], row["code_hash"])

    def test_benchmark_matmul_modes_and_variants(self):
        for options in (
            ["--mode", "correctness"],
            ["--mode", "bitwise"],
            ["--mode", "correctness", "--transpose"],
            ["--mode", "correctness", "--variant", "reference"],
        ):
            row = self.answer("benchmark-matmul", "-m", 5, "-n", 33, "-k", 31, *options)
            self.assertEqual(row["status"], "ok", row)
            self.assertNotIn("samples_ns", row)

    def test_diagnose(self):
        answer = self.answer("diagnose")
        devices = {device["kind"]: device for device in answer["devices"]}
        self.assertEqual(answer["devices"][0]["kind"], "cpu")
        for kind in ("cpu", "reference"):
            self.assertEqual(devices[kind]["status"], "ok", devices[kind])
            self.assertGreater(devices[kind]["limits"]["memory_bytes"], 0)
        self.assertEqual(devices["cuda"]["status"], "unavailable")
        self.assertIn(devices["webgpu"]["status"], ("ok", "unavailable"), devices["webgpu"])
        self.assertIn("avx2", answer["host"]["isa"])
        self.assertIn("fma_f32", [peak["name"] for peak in answer["peaks"]])
        self.assertEqual(answer["read_bandwidth"][-1]["level"], "memory")
        self.assertEqual(set(answer["team"]), {"run_ns", "step_ns"})


if __name__ == "__main__":
    cli.run(sys.argv)
