"""What the end-to-end tests share: running the programs and checking how they end."""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

#: Set by run(): the folder of the programs.
BIN = None


def call(program, *arguments, text=None, **options):
    """Runs a program with arguments; standard input is `text`. Its CompletedProcess."""
    line = [str(BIN / program), *map(str, arguments)]
    return subprocess.run(line, input=text or "", capture_output=True, text=True, **options)


def kernelforge(*arguments, **options):
    return call("kernelforge", *arguments, **options)


def shown(done):
    """How a call ended, for messages of failures."""
    return f"{' '.join(done.args)}\n{done.stdout[:400]}\n{done.stderr[:2000]}"


class CliTest(unittest.TestCase):
    """Tests with a folder of their own for files and compiled objects."""

    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="kernelforge-e2e-")
        cls.folder = Path(cls.temporary.name)
        os.environ["KERNELFORGE_HOME"] = str(cls.folder / "home")

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def ok(self, *arguments, **options):
        """Standard output of a command that must succeed."""
        done = kernelforge(*arguments, **options)
        self.assertEqual(done.returncode, 0, shown(done))
        return done.stdout

    def answer(self, *arguments, code=0, **options):
        """The JSON of a command: one line, and nothing else on standard output."""
        done = kernelforge(*arguments, "--json", **options)
        self.assertEqual(done.returncode, code, shown(done))
        self.assertEqual(done.stdout.count("\n"), 1, shown(done))
        return json.loads(done.stdout)

    def refused(self, code, *arguments, says="", **options):
        """A command that must end with `code` and one line; the same with --json as an object."""
        done = kernelforge(*arguments, **options)
        self.assertEqual(done.returncode, code, shown(done))
        self.assertRegex(done.stderr, r"\Akernelforge: error: [^\n]+: [^\n]+\n\Z")
        self.assertEqual(done.stdout, "", shown(done))
        self.assertIn(says, done.stderr)
        error = self.answer(*arguments, code=code, **options)["error"]
        self.assertEqual(set(error), {"code", "what", "where", "why", "hint"})
        self.assertEqual(error["code"], code)


def run(arguments):
    """Runs the caller's tests; arguments: --bin FOLDER, then unittest's."""
    global BIN
    if len(arguments) < 3 or arguments[1] != "--bin":
        raise SystemExit(f"usage: {arguments[0]} --bin FOLDER [unittest options]")
    BIN = Path(arguments[2])
    unittest.main(argv=[arguments[0], *arguments[3:]])
