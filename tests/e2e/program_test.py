#!/usr/bin/env python3
"""compile --emit program and run: what was written here runs, verifies and is timed elsewhere.

    program_test.py --bin build/release/bin
"""

import hashlib
import os
import sys
from pathlib import Path

import numpy as np

import cli
from cli import CliTest, kernelforge
from modules import BLOCK, pinned

DECODER = "d_model=64,heads=4,kv_heads=2,d_ff=96,norm=rms,activation=silu,gated=true,rope=true"


def resealed(data, change, section="about"):
    """A file whose facts in a section were changed, with the right checksum all the same."""
    begin = data.index(f"\n{section} ".encode()) + 1
    header, rest = data[begin:].split(b"\n", 1)
    length = int(header.split(b" ")[1])
    facts = cli.json.loads(rest[:length])
    change(facts)
    text = cli.json.dumps(facts).encode()
    header = f"{section} {len(text)} {hashlib.sha256(text).hexdigest()}".encode()
    return data[:begin] + header + b"\n" + text + rest[length:]


def targets():
    """Targets of this build whose device is here."""
    answer = cli.json.loads(kernelforge("diagnose", "--json").stdout)
    return [device["kind"] for device in answer["devices"] if device["status"] == "ok"]


class Programs(CliTest):
    def path(self, name):
        return str(self.folder / name)

    def write(self, text, name, *arguments):
        """A program of a module; its path."""
        self.ok("compile", "-", "--emit", "program", "-o", self.path(name), *arguments, text=text)
        return self.path(name)

    def decoder(self):
        return self.ok("emit-mlir", "--block", DECODER, "--weights", "q4_0", "--phase", "decode")

    def test_runs_on_every_target_without_what_it_was_made_from(self):
        for target in targets():
            for name, text, size in (("block", BLOCK, "rows=5"), ("decode", self.decoder(), "context=24")):
                path = self.write(text, f"{name}-{target}.kfp", "--target", target, "--size", size)
                answer = self.answer("run", path)
                self.assertTrue(answer["pass"], answer)
                key, value = size.split("=")
                self.assertEqual(answer["sizes"][key], int(value))
                # A result, and the caches that a decoder writes.
                self.assertEqual(len(answer["accuracy"]), 1 if name == "block" else 3)
                self.assertNotIn("run", answer)

    def test_nothing_is_compiled_and_no_home_is_needed(self):
        path = self.write(BLOCK, "alone.kfp")
        home = self.folder / "other-home"
        done = kernelforge("run", path, env={"KERNELFORGE_HOME": str(home), "PATH": ""})
        self.assertEqual(done.returncode, 0, cli.shown(done))
        self.assertIn("ok against f64", done.stdout)
        self.assertFalse(home.exists())

    def test_times_of_kernels_and_whole_runs(self):
        path = self.write(BLOCK, "timed.kfp")
        answer = self.answer("run", path, "--bench", "-t", "1")
        self.assertGreaterEqual(answer["run"]["samples"], 10)
        self.assertGreater(answer["run"]["median_ns"], 0)
        for kernel in answer["kernels"]:
            self.assertGreater(kernel["median_ns"], 0)
        self.assertIn("a whole run: ", self.ok("run", path, "--bench"))

    def test_arrays_go_in_and_come_out(self):
        path = self.write(BLOCK, "arrays.kfp")
        random = np.random.default_rng(1)
        # Other sizes than those that it was written with.
        shapes = [(11, 64), (64,), (96, 64), (96,), (11, 96)]
        names = [self.path(f"{i}.npy") for i in range(len(shapes))]
        for name, shape in zip(names, shapes):
            np.save(name, random.uniform(-1, 1, shape).astype(np.float32))
        inputs = [word for name in names for word in ("--input", name)]
        compiled, ran = self.path("compiled.npy"), self.path("ran.npy")
        self.ok("compile", "-", *inputs, "--output", compiled, text=BLOCK)
        answer = self.answer("run", path, *inputs, "--output", ran)
        self.assertEqual((answer["pass"], answer["sizes"]), (None, {"rows": 11}))
        np.testing.assert_array_equal(np.load(ran), np.load(compiled))
        self.assertTrue(self.answer("run", path, *inputs, "--expect", compiled)["pass"])
        np.save(compiled, np.load(compiled) + 1)
        self.assertFalse(self.answer("run", path, *inputs, "--expect", compiled, code=1)["pass"])
        self.refused(2, "run", path, *inputs[2:], says="takes 5 arrays, 4 are given")
        # They travel in the file where it is written with them.
        with_inputs = self.write(BLOCK, "inputs.kfp", *inputs)
        self.assertEqual(self.answer("run", with_inputs)["sizes"], {"rows": 11})
        self.assertGreater(os.path.getsize(with_inputs), os.path.getsize(path) + 96 * 64 * 4)

    def test_a_wrong_result_is_an_answer_of_no(self):
        path = self.write(BLOCK, "wrong.kfp")
        other = self.path("other.npy")
        np.save(other, np.zeros((8, 96), dtype=np.float32))
        done = kernelforge("run", path, "--expect", other)
        self.assertEqual(done.returncode, 1, cli.shown(done))
        self.assertIn("WRONG against expected", done.stdout)
        self.assertIn("verification failed (@block)", done.stderr)
        self.assertIsNone(self.answer("run", path, "--no-verify")["pass"])

    def test_damaged_and_foreign_files(self):
        path = self.write(BLOCK, "whole.kfp")
        with open(path, "rb") as file:
            whole = file.read()

        def refused(data, says):
            name = self.path("damaged.kfp")
            with open(name, "wb") as file:
                file.write(data)
            self.refused(2, "run", name, says=says)

        for cut in (1, 100, 1000, len(whole) // 2):
            refused(whole[:-cut], "cut short")
        refused(whole[:-len(whole) // 3 * 2], "program file is not usable")
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 16
        refused(flipped, "checksum of its")
        refused(whole + b"\n", "bytes follow its end")
        refused(whole.replace(b"kernelforge-program 2", b"kernelforge-program 9"), "has format '9'")
        refused(b"\x7fELF" + whole, "does not begin as one")
        self.refused(2, "run", "-", says="-")
        self.refused(2, "run", self.path("absent.kfp"), says="absent.kfp")
        self.refused(2, "run", str(self.folder), says="program file is not usable")

    def test_files_of_other_builds_and_hostile_ones(self):
        path = self.write(BLOCK, "changed.kfp")
        whole = Path(path).read_bytes()
        Path(path).write_bytes(resealed(whole, lambda facts: facts.update(convention=9)))
        self.refused(3, "run", path, says="has calling convention 9 where this build has")
        Path(path).write_bytes(resealed(whole, lambda facts: facts["target"].update(kind="abacus")))
        self.refused(2, "run", path, says="unknown target (--target abacus)")
        Path(path).write_bytes(resealed(whole, lambda facts: facts.update(made_by="\x1b[2Jnobody")))
        self.assertIn("written by \\x1b[2Jnobody", self.ok("run", path))

    def test_library_calls_are_resolved_where_they_run(self):
        if "cpu" not in targets():  # others run what a variant is said to run by themselves
            self.skipTest("needs the CPU target")
        path = self.path("blocked.kfp")
        self.ok("compile", "-", "--emit", "program", "-o", path, text=pinned("blocked"))
        whole = Path(path).read_bytes()
        self.assertIn(b'"variant":"blocked"', whole)
        answer = cli.json.loads(self.ok("run", path, "--json"))
        self.assertEqual(answer["kernels"][0]["variant"], "blocked")
        rename = lambda facts: facts["artifacts"][0].update(variant="vendor:abacus")  # noqa: E731
        Path(path).write_bytes(resealed(whole, rename, section="program"))
        self.refused(2, "run", path, says="vendor:abacus")

    def test_what_cannot_be_written_is_refused(self):
        out = self.path("refused.kfp")
        write = ("compile", "-", "--emit", "program", "-o", out)
        self.refused(2, *write, "--run", text=BLOCK, says="and not run")
        self.refused(2, *write[:-2], text=BLOCK, says="--emit program -o FILE")
        self.refused(2, "compile", "-", "-o", out, text=BLOCK, says="--emit program -o FILE")
        self.refused(2, "compile", "-", "--emit", "elf", "-o", out, text=BLOCK, says="program")
        two = BLOCK + BLOCK[BLOCK.index("func.func") :].replace("@block", "@other")
        self.refused(2, *write, text=two, says="block")
        self.assertFalse(os.path.exists(out))
        # Code for a machine that is not here is written, and its run is refused.
        if "cpu" in targets():
            self.ok(*write, "--target-cpu", "sapphirerapids", "--target-features", "+amx-bf16", text=BLOCK)
            if "amx_bf16" not in Path("/proc/cpuinfo").read_text():
                self.refused(3, "run", out, says="sapphirerapids")


if __name__ == "__main__":
    cli.run(sys.argv)
