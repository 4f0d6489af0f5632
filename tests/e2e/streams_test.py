#!/usr/bin/env python3
"""Where programs write: results to standard output, the rest to standard error, files to what is
there, and nothing after a reader that has gone.

    streams_test.py --bin build/release/bin
"""

import json
import os
import re
import stat
import subprocess
import sys
import threading
import unittest
from pathlib import Path

import cli
from cli import CliTest, call, kernelforge, shown

BLOCK = "d_model=64,heads=4,kv_heads=2,d_ff=96"
SOFTMAX = (
    "func.func @f(%x: tensor<3x5xf32>) -> tensor<3x5xf32> {\n"
    "  %y = transformer.softmax %x : tensor<3x5xf32>\n"
    "  return %y : tensor<3x5xf32>\n"
    "}\n"
)
MODULE_STAGES = ("transformer", "fused", "scheduled", "target", "llvm")


def reader_gone(program, *arguments, **options):
    """Runs a program whose standard output nobody reads any more."""
    read, write = os.pipe()
    os.close(read)
    try:
        return subprocess.run(
            [cli.BIN / program, *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=write, stderr=subprocess.PIPE, text=True, **options,
        )
    finally:
        os.close(write)


class Streams(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.module = cls.folder / "softmax.mlir"
        cls.module.write_text(SOFTMAX)

    def test_each_stage_of_kernelforge_opt_parses_again(self):
        for stage in MODULE_STAGES:
            with self.subTest(stage):
                printed = call("kernelforge-opt", f"--kernelforge-pipeline={stage}", self.module)
                self.assertEqual((printed.returncode, printed.stderr), (0, ""), shown(printed))
                again = call("kernelforge-opt", "-", text=printed.stdout)
                self.assertEqual(again.returncode, 0, printed.stdout[:200] + again.stderr)

    def test_the_log_goes_to_standard_error(self):
        stage = ("--kernelforge-pipeline=scheduled", self.module)
        quiet = call("kernelforge-opt", *stage)
        environment = dict(os.environ, KERNELFORGE_LOG="debug")
        loud = call("kernelforge-opt", *stage, env=environment)
        self.assertIn("kernelforge: info: kernel @", loud.stderr)
        self.assertEqual(loud.stdout, quiet.stdout)
        loud = kernelforge("compile", self.module, "-v")
        self.assertIn("kernelforge: info: kernel @", loud.stderr)
        self.assertNotIn("kernelforge:", loud.stdout)

    def test_a_level_that_is_none_is_refused(self):
        self.refused(
            2, "compile", self.module, env=dict(os.environ, KERNELFORGE_LOG="debgu"),
            says="did you mean 'debug'?",
        )

    def test_a_program_that_uses_the_library_prints_nothing_of_ours(self):
        """Not even where there is something to say: its records are damaged, its cache no folder."""
        home = self.folder / "damaged"
        (home / "records").mkdir(parents=True)
        (home / "records" / "a.jsonl").write_text("this is no record\n")
        (home / "objects").write_text("this is no folder")
        done = call("quiet-program", env=dict(os.environ, KERNELFORGE_HOME=str(home)))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""), shown(done))
        # What it does not say is said where it is asked for.
        done = call(
            "quiet-program", "warn", env=dict(os.environ, KERNELFORGE_HOME=str(home))
        )
        self.assertEqual((done.returncode, done.stdout), (0, ""), shown(done))
        self.assertIn("kernelforge: warning: records in", done.stderr)
        self.assertIn("kernelforge: warning: compiled objects are not", done.stderr)


class ReaderGone(CliTest):
    """`kernelforge ... | head`: the reader wants no more, and that is no error."""

    def test_every_command_ends_quietly(self):
        module = self.folder / "m.mlir"
        module.write_text(SOFTMAX)
        text = self.folder / "lines.jsonl"
        text.write_text('"a line"\n' * 20000)
        words = self.folder / "words.txt"
        words.write_text("a word " * 200)
        random = ("--random-weights", "tiny")
        commands = {
            "": ["--help"],
            "emit-mlir": ["--block", BLOCK, "--stage", "llvm"],
            "compile": [module, "--run"],
            "benchmark-matmul": ["-m", 2, "-n", 8, "-k", 32, "--mode", "correctness"],
            "benchmark-suite": ["--list", "-v"],
            "llm-inference": [*random, "-p", "x", "-n", 400, "--ignore-eos"],
            "llm-bench": [*random, "-p", 8, "-n", 0, "-r", 1],
            "perplexity": [*random, "--file", words, "-c", 32],
            "records": ["list"],
            "diagnose": [],
        }
        for command, arguments in commands.items():
            with self.subTest(command):
                line = [command, *arguments] if command else arguments
                for arguments in (line, line + ["--json"])[: 2 if command else 1]:
                    done = reader_gone("kernelforge", *arguments)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    # llm-inference says how fast it was, as it always does
                    self.assertNotRegex(done.stderr, "error|roken pipe")

    def test_help_of_a_command(self):
        done = reader_gone("kernelforge", "tune", "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_an_answer_stays_what_it_is(self):
        """The command's own exit code is not lost: a regression is one where nobody reads, too."""
        module = self.folder / "wrong.mlir"
        module.write_text("nonsense")
        done = reader_gone("kernelforge", "compile", module)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"\Akernelforge: error: [^\n]+\n\Z")

    def test_kernelforge_opt(self):
        module = self.folder / "o.mlir"
        module.write_text(SOFTMAX)
        done = reader_gone("kernelforge-opt", module)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_a_shell_pipeline(self):
        for program in (f"kernelforge emit-mlir --block {BLOCK} --stage llvm", "kernelforge --help"):
            line = f"set -o pipefail; '{cli.BIN}'/{program} | head -n 1"
            done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""), done.stderr)
            self.assertEqual(done.stdout.count("\n"), 1)

    def test_closed_standard_output_is_not_taken_by_a_file(self):
        """A file that is opened must not get its number, and what is printed."""
        module = self.folder / "printed.mlir"
        line = f"'{cli.BIN}'/kernelforge emit-mlir --block {BLOCK} --json -o '{module}' >&-"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertTrue(module.read_text().startswith("!cache = "))
        self.assertNotIn('"stage"', module.read_text())


class Outputs(CliTest):
    """Every output: the file behind a link is replaced, and what is no file is written through."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.module = cls.folder / "softmax.mlir"
        cls.module.write_text(SOFTMAX)
        smoke = ["benchmark-suite", "--suite", "smoke", "--filter", "rms_norm", "--no-records"]
        report = cls.folder / "report.json"
        kernelforge(*smoke, "--rounds", 5, "--patience", 0, "--no-vendors", "--out", report)
        smoke += ["--mode", "correctness"]
        random = ["--random-weights", "tiny", "-p", "x", "-n", 1]
        #: command line, its output option, whether it can be a device of its own
        cls.outputs = [
            (["emit-mlir", "--block", BLOCK], "-o", b"!cache = "),
            (["compile", cls.module], "--output", b"\x93NUMPY"),
            (["benchmark-matmul", "-m", 2, "-n", 8, "-k", 32, "--min-time", 0.01, "--rounds", 2],
             "--profile", b"{"),
            (smoke, "--out", b"{"),
            (smoke + ["--out", cls.folder / "other.json"], "--html", b"<!"),
            (["compare", report, report], "--html", b"<!"),
            (["llm-inference", *random], "--logits", b"\x93NUMPY"),
            (["tune", "--family", "matmul", "-m", 2, "-n", 8, "-k", 32, "--points", 1],
             "--record-space", b"{"),
            (["records", "export"], "", b""),
        ]

    def write(self, command, option, path):
        line = [*command, option, path] if option else [*command, path]
        return kernelforge(*line, timeout=300)

    def test_a_link_stays_and_its_target_is_written(self):
        for number, (command, option, begin) in enumerate(self.outputs):
            with self.subTest(command=command[0], option=option):
                real = self.folder / f"real-{number}"
                link = self.folder / f"link-{number}"
                real.write_text("old")
                real.chmod(0o640)
                link.symlink_to(real.name)
                done = self.write(command, option, link)
                self.assertEqual(done.returncode, 0, shown(done))
                self.assertTrue(link.is_symlink())
                self.assertTrue(real.read_bytes().startswith(begin), real.read_bytes()[:20])
                self.assertNotEqual(real.read_bytes(), b"old")
                self.assertEqual(stat.S_IMODE(real.stat().st_mode), 0o640)

    def test_a_device_stays_one(self):
        null = self.folder / "null"
        try:
            os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        except PermissionError:
            self.skipTest("only root can make devices")
        for command, option, _ in self.outputs:
            with self.subTest(command=command[0], option=option):
                done = self.write(command, option, null)
                self.assertEqual(done.returncode, 0, shown(done))
                self.assertTrue(stat.S_ISCHR(null.lstat().st_mode))
        self.assertEqual([p.name for p in self.folder.glob("null?*")], [])

    def test_a_full_disk_is_an_error(self):
        for command, option, _ in self.outputs[:1] + self.outputs[1:2]:
            with self.subTest(command=command[0], option=option):
                done = self.write(command, option, "/dev/full")
                self.assertEqual(done.returncode, 4, shown(done))
                self.assertRegex(done.stderr, r"\Akernelforge: error: [^\n]*No space left[^\n]*\n\Z")
        done = call("kernelforge-opt", self.module, "-o", "/dev/full")
        self.assertEqual(done.returncode, 4, shown(done))
        self.assertRegex(done.stderr, r"\Akernelforge-opt: error: [^\n]*No space left[^\n]*\n\Z")
        with open("/dev/full", "w") as full:
            done = subprocess.run([cli.BIN / "kernelforge-opt", self.module], stdout=full,
                                  stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 4, done.stderr)

    def test_a_fifo_gets_it(self):
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        for number, (command, option, begin) in enumerate(self.outputs[:4]):
            with self.subTest(command=command[0], option=option):
                got = []
                reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
                reader.start()
                done = self.write(command, option, pipe)
                reader.join(60)
                self.assertEqual(done.returncode, 0, shown(done))
                self.assertTrue(got and got[0].startswith(begin), got)
                self.assertTrue(stat.S_ISFIFO(pipe.lstat().st_mode))

    def test_standard_output_by_name(self):
        done = kernelforge("emit-mlir", "--block", BLOCK, "-o", "/dev/stdout")
        self.assertEqual(done.returncode, 0, shown(done))
        self.assertTrue(done.stdout.startswith("!cache = "))
        # A file that it is sent to goes on where it is.
        log = self.folder / "log"
        log.write_text("before\n")
        with open(log, "a") as file:
            subprocess.run([cli.BIN / "kernelforge", "emit-mlir", "--block", BLOCK, "-o",
                            "/dev/stdout"], stdout=file, check=True)
        self.assertTrue(log.read_text().startswith("before\n!cache = "))

    def test_the_report_before_stays_beside_a_link(self):
        target = self.folder / "kept"
        target.write_text("older")
        command, option, _ = self.outputs[3]
        out = self.folder / "measured.json"
        self.assertEqual(self.write(command, option, out).returncode, 0)
        first = out.read_bytes()
        (self.folder / "measured.json.previous").symlink_to(target)
        self.assertEqual(self.write(command, option, out).returncode, 0)
        self.assertTrue((self.folder / "measured.json.previous").is_symlink())
        self.assertEqual(target.read_bytes(), first)

    def test_dumped_passes(self):
        dumps = self.folder / "dumps"
        dumps.mkdir()
        first = self.ok("emit-mlir", "--block", BLOCK, "--stage", "fused", "--dump-passes", dumps)
        self.assertTrue(first)
        name = sorted(dumps.iterdir())[0]
        name.unlink()
        name.symlink_to(self.folder / "dumped")
        self.ok("emit-mlir", "--block", BLOCK, "--stage", "fused", "--dump-passes", dumps)
        self.assertTrue(name.is_symlink())
        self.assertTrue((self.folder / "dumped").read_text().startswith("!cache = "))
        name.unlink()
        name.symlink_to("/dev/full")
        self.refused(4, "emit-mlir", "--block", BLOCK, "--stage", "fused", "--dump-passes", dumps)

    def test_kernelforge_opt(self):
        real = self.folder / "opt-real"
        link = self.folder / "opt-link"
        real.write_text("old")
        link.symlink_to(real.name)
        wrong = self.folder / "wrong.mlir"
        wrong.write_text("nonsense")
        self.assertEqual(call("kernelforge-opt", wrong, "-o", link).returncode, 1)
        self.assertTrue(link.is_symlink())
        self.assertEqual(real.read_text(), "old")
        done = call("kernelforge-opt", self.module, "-o", link)
        self.assertEqual((done.returncode, done.stdout), (0, ""), shown(done))
        self.assertTrue(link.is_symlink())
        self.assertIn("@f", real.read_text())

    def test_what_cannot_be_written(self):
        loop = self.folder / "loop"
        loop.symlink_to("loop")
        self.refused(2, "emit-mlir", "--block", BLOCK, "-o", loop, says="circle of links")
        self.refused(2, "emit-mlir", "--block", BLOCK, "-o", self.folder, says="folder")


if __name__ == "__main__":
    cli.run(sys.argv)
