#!/usr/bin/env python3
"""Numbers that users write: each numeric option of each command, as --help shows it, refuses what
is no number, with its name and in one line; and so do the texts that numbers stand in.

    numbers_test.py --bin build/release/bin
"""

import os
import re
import sys

import cli
from cli import CliTest, kernelforge, shown

#: What --help shows of values that are numbers. CLI11's own conversions (INT, UINT, FLOAT) must not
#: be used: they take octal numbers and NaN.
KINDS = {"N": "integer", "NUMBER": "number"}
NEVER = {"INT", "UINT", "FLOAT"}
NO_NUMBERS = ["nan", "-nan", "inf", "-inf", "", "1x", "0x10", "1e400", "1,x", " 1", "1 ", "+1",
              "99999999999999999999999999", "-99999999999999999999999999", "--1"]
NO_INTEGERS = ["1.5", "1e1", "-1"]


def commands():
    """Every command and command of a command, as they are called."""
    def below(path):
        text = kernelforge(*path, "--help").stdout
        found = re.search(r"^Subcommands:\n((?:  .*\n)+)", text, re.M)
        names = re.findall(r"^  ([a-z][a-z-]*)(?: |$)", found[1], re.M) if found else []
        for name in names:
            yield [*path, name]
            yield from below([*path, name])

    return [*below([]), ["tune-worker"], ["suite-worker"]]  # those are not listed


def options(command):
    """(name, kind) of the options of a command whose values have a kind, positionals included."""
    text = kernelforge(*command, "--help").stdout
    for line in text.splitlines():
        match = re.match(r"  ((?:--?[a-zA-Z][a-z-]*,?)+|[a-zA-Z]+) ([A-Z]+)\b", line)
        if match:
            yield match[1].split(",")[-1], match[2]


class Options(CliTest):
    def test_every_numeric_option_of_every_command(self):
        asked, seen = 0, set()
        for command in commands():
            for name, kind in options(command):
                with self.subTest(command=" ".join(command), option=name):
                    self.assertNotIn(kind, NEVER)
                    if kind not in KINDS:
                        continue
                    # All options of a kind are read by one function: the first is asked for all
                    # texts, the others whether they are, and in turn for one of the rest.
                    texts = NO_NUMBERS + (NO_INTEGERS if kind == "N" else ["-1"])
                    if kind in seen:
                        texts = ["nan", "1x", texts[-1], texts[asked % len(texts)]]
                    seen.add(kind)
                    asked += 1
                    for text in texts:
                        self.no_number(command, name, text)
        self.assertGreater(asked, 60)

    def no_number(self, command, name, text):
        value = [name, text] if name.startswith("-") else [text]
        done = kernelforge(*command, *value)
        self.assertEqual(done.returncode, 2, shown(done))
        self.assertEqual(done.stdout, "", shown(done))
        self.assertRegex(done.stderr, r"\Akernelforge: error: [^\n]+\n\Z", shown(done))
        if name.startswith("-"):
            self.assertIn(f"{name}: '", done.stderr)
            self.assertIn("is no ", done.stderr)

    def test_leading_zeros_are_decimal(self):
        """010 is ten rows, not eight."""
        row = self.answer("benchmark-matmul", "-m", "010", "-n", "08", "-k", "0032", "--mode",
                          "correctness")
        self.assertEqual([row["problem"][size] for size in "mnk"], [10, 8, 32])

    def test_limits_are_written_as_people_write_them(self):
        for command in commands():
            text = kernelforge(*command, "--help").stdout
            self.assertNotRegex(text, r"\de[+-]?\d|\b\d{5,}\b(?=\))", " ".join(command))
        self.refused(2, "tune", "--trials", "2000000", says="'2000000' is no integer from 1 to 1,000,000")
        self.refused(2, "compare", "a", "b", "--threshold", "nan",
                     says="--threshold: 'nan' is no number from 0.001 to 10")
        self.refused(2, "compare", "a", "b", "--alpha", "1", says="from 0.000001 to 0.5")
        self.refused(2, "diagnose", "--threads", "0", says="from 1 to 1,024")


class Texts(CliTest):
    """Numbers within other texts."""

    def test_sizes(self):
        module = self.folder / "m.mlir"
        module.write_text(
            "func.func @f(%x: tensor<3x5xf32>) -> tensor<3x5xf32> {\n"
            "  %y = transformer.softmax %x : tensor<3x5xf32>\n"
            "  return %y : tensor<3x5xf32>\n"
            "}\n"
        )
        for text in ("n", "=1", "n=", "n=nan", "n=1x", "n= 1", "n=-1", "n=1e1", "n=0x10",
                     "n=99999999999999999999"):
            with self.subTest(text):
                self.refused(2, "compile", module, "--size", text, says=f"--size {text}")

    def test_blocks(self):
        for text in ("nan", "1x", "6e1", "-64", "0x40", "64.0", "99999999999999999999", " 64"):
            with self.subTest(text):
                self.refused(2, "emit-mlir", "--block", f"d_model={text},heads=4",
                             says=f"d_model: '{text}' is no integer from 1 to ")

    def test_token_ids(self):
        for text in ("1 x", "1x", "nan", "-1", "1.5", "99999999999999999999", "0x10"):
            with self.subTest(text):
                self.refused(2, "llm-inference", "--random-weights", "tiny", "--prompt-ids", text)

    def test_schedules(self):
        for text in ('{"mr":nan}', '{"mr":1e1}', '{"mr":010}', '{"mr":"4"}', '{"mr":1e400}',
                     '{"mr":99999999999999999999}', '{"mr":4}x', '{"mr":0x4}'):
            with self.subTest(text):
                self.refused(2, "benchmark-matmul", "-m", 4, "-n", 32, "-k", 32, "--schedule", text)


class Lists(CliTest):
    """Lists after one flag, as --help says."""

    def inference(self, *arguments):
        return self.answer("llm-inference", "--random-weights", "tiny", "-n", 0, *arguments)

    def test_token_ids(self):
        for ids in (["1,2,3"], ["1", "2", "3"], ["1,2", "3"]):
            answer = self.inference("--prompt-ids", *ids)
            self.assertEqual(answer["prompt_ids"], [1, 2, 3])
        for wrong in ("1,,2", ",1", "1,", ","):
            self.refused(2, "llm-inference", "--random-weights", "tiny", "--prompt-ids", wrong,
                         says="'' is no integer")

    def test_lengths(self):
        rows = self.answer("llm-bench", "--random-weights", "tiny", "-p", 4, "-n", 0, "-d", 0, 8,
                           "-r", 1)["rows"]
        self.assertEqual([row["test"] for row in rows], ["pp4", "pp4@d8"])
        rows = self.answer("llm-bench", "--random-weights", "tiny", "-p", "4,6", "-n", 0, "-r", 1)
        self.assertEqual([row["test"] for row in rows["rows"]], ["pp4", "pp6"])

    def test_stop_strings(self):
        """Several after one flag, and each as it is written."""
        usual = ["llm-inference", "--random-weights", "tiny", "--prompt-ids", "65", "--temperature",
                 "0", "--ignore-eos"]
        text = self.answer(*usual, "-n", 24)["text"]
        for stops in (["--stop", "no such text", text[6:8]],
                      ["--stop", "no such text", "--stop", text[6:8]],
                      ["--stop", "{}", "[END]", text[6:8]]):
            with self.subTest(stops):
                answer = self.answer(*usual, "-n", 24, *stops)
                self.assertEqual(answer["finish_reason"], "stop_string")
                self.assertEqual(answer["text"], text[: text.index(text[6:8])])

    def test_help_shows_which_options_take_several(self):
        """"..." is behind those that take several values after one flag, and no others."""
        text = self.ok("llm-inference", "--help")
        self.assertRegex(text, r"--stop TEXT \.\.\.")
        self.assertRegex(text, r"--prompt-ids N \.\.\.")
        self.assertRegex(self.ok("llm-bench", "--help"), r"--depth N=0 \.\.\.")
        text = self.ok("compile", "--help")
        for option in ("--input", "--output", "--expect", "--size"):
            self.assertRegex(text, rf"{option} TEXT\s")
            self.assertNotRegex(text, rf"{option} TEXT \.\.\.")


class Misspelt(CliTest):
    """What was meant is said where it is near."""

    def test_commands_and_options(self):
        for arguments, says in {
            ("emit-mlri",): "there is no command 'emit-mlri'; did you mean 'emit-mlir'? see",
            ("records", "lst"): "there is no command 'lst'; did you mean 'list'? see",
            ("benchmark_matmul",): "did you mean 'benchmark-matmul'?",
            ("emit-mlir", "--sage", "fused"): "there is no option --sage; did you mean '--stage'?",
            ("llm-bench", "--max_tokens=1"): "there is no option --max_tokens; did you mean "
                                             "'--max-tokens'?",
            ("records", "list", "--chek"): "did you mean '--check'?",
            ("--versoin",): "did you mean '--version'?",
            ("diagnose", "me"): "'me' is not expected; see kernelforge diagnose --help",
            ("zzzz",): "there is no command 'zzzz'; see kernelforge --help",
        }.items():
            with self.subTest(arguments):
                self.refused(2, *arguments, says=says)

    def test_names(self):
        models = self.folder / "home" / "models"
        models.mkdir(parents=True, exist_ok=True)
        (models / "smollm2.gguf").write_bytes(b"")
        matmul = ["benchmark-matmul", "-m", 4, "-n", 32, "-k", 32]
        for code, arguments, says in (
            (2, ["emit-mlir", "--block", "d_model=64,heads=4", "--stage", "fusde"], "fused"),
            (2, ["emit-mlir", "--block", "d_model=64,heads=4", "--weights", "q41"], "q4_1"),
            (2, ["emit-mlir", "--block", "d_model=64,heads=4,norn=rms"], "norm"),
            (2, ["emit-mlir", "--block", "d_model=64,heads=4,norm=layr"], "layer"),
            (2, ["emit-mlir", "--block", "d_model=64,heads=4", "--phase", "prefil"], "prefill"),
            (2, [*matmul, "--variant", "paralel"], "parallel"),
            (2, [*matmul, "--mode", "bitwsie"], "bitwise"),
            (2, [*matmul, "--epilogue", "bais"], "bias"),
            (2, [*matmul, "--format", "jsnl"], "jsonl"),
            (3, ["benchmark-suite", "--suite", "smke"], "smoke"),
            (3, ["tokenize", "-m", "smolm2", "x"], "smollm2"),
            (3, ["llm-inference", "--random-weights", "tinylama", "-p", "x"], "tinyllama"),
            (2, ["records", "list", "--status", "wrong-reslt"], "wrong_result"),
            (2, ["tune", "--family", "matmul", "-m", 2, "-n", 8, "-k", 32, "--strategy", "gird"],
             "grid"),
        ):
            with self.subTest(arguments):
                self.refused(code, *arguments, says=f"did you mean '{says}'?")

    def test_help_offers_only_what_this_build_has(self):
        absent = [kind for kind in ("cpu", "reference", "cuda", "webgpu") if "this build has no" in
                  kernelforge("emit-mlir", "--block", "d_model=64,heads=4", "--target", kind).stderr]
        for command in commands():
            text = kernelforge(*command, "--help").stdout
            for kind in absent:
                self.assertNotRegex(text, rf"(?i)\b{kind}\b", " ".join(command))


if __name__ == "__main__":
    cli.run(sys.argv)
