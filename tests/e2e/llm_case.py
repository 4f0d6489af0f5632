"""What the tests of the language-model commands share: a tiny random model, and ways to run them."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "golden"))
import model_files  # noqa: E402
from product import find_model  # noqa: E402

TINY = ["--random-weights", "tiny"]
GREEDY = ["--temperature", "0"]
EXACT = ["--numerics", "exact", "--kv-cache", "f32"]


class LlmCase(unittest.TestCase):
    program = None
    smollm2 = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="kernelforge-llm-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_raw(self, *arguments):
        command = [self.program, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def run_json(self, *arguments):
        done = self.run_raw(*arguments, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def infer(self, *arguments, prompt="Hello", count=12):
        return self.run_json("llm-inference", *TINY, "-p", prompt, "-n", count, *arguments)

    def refuse(self, code, expected, *arguments):
        """The command must end with `code` and one line that holds `expected`."""
        done = self.run_raw(*arguments)
        self.assertEqual(done.returncode, code, done.stderr)
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertTrue(lines[0].startswith("kernelforge: error: "), lines[0])
        self.assertIn(expected, lines[0])
        self.assertEqual(done.stdout, "")
        error = json.loads(self.run_raw(*arguments, "--json").stdout)["error"]
        self.assertEqual(error["code"], code)
        self.assertTrue(error["what"] and error["why"])

    def copy_model(self, change):
        """The tiny safetensors model with its weights changed: change(name, values)."""
        data = ROOT / "tests" / "golden" / "data" / "tiny"
        folder = self.folder / "model"
        folder.mkdir(exist_ok=True)
        for name in ("config.json", "tokenizer.json"):
            (folder / name).write_bytes((data / name).read_bytes())
        weights = model_files.read_safetensors(data / "model.safetensors")
        for name, values in weights.items():
            change(name, values)
        model_files.write_safetensors(folder / "model.safetensors", weights, False)
        return folder


def main(case, description):
    """Runs the tests of a class, or those that the command line names."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernelforge", required=True)
    parser.add_argument("--model", help="SmolLM2's GGUF file (default: fetched by name)")
    parser.add_argument("tests", nargs="*", help="names of tests (default: all)")
    arguments = parser.parse_args()
    case.program = os.path.abspath(arguments.kernelforge)
    case.smollm2 = arguments.model or find_model("smollm2")
    if arguments.tests:
        suite = unittest.TestSuite(map(case, arguments.tests))
    else:
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    return 0 if unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful() else 1
