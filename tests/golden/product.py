"""The command line as the golden tests call it."""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(__file__).resolve().parent / "data"
SKIP = 77
EXACT = {"--numerics": "exact", "--kv-cache": "f32"}


class Product:
    """Runs `kernelforge` with options common to all calls (a target, a thread count), and with f32
    numerics and caches where they do not say others: goldens are of f32."""

    def __init__(self, path, options, exact=True):
        self.path = str(path)
        self.options = list(options)
        for name, value in EXACT.items() if exact else ():
            if name not in self.options:
                self.options += [name, value]

    def run(self, command, *arguments):
        """The JSON answer of a command; fails loudly where the command does."""
        line = [self.path, command, *map(str, arguments), "--json", *self.options]
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(line)}\nexit code {done.returncode}\n{done.stderr}")
        return json.loads(done.stdout)

    def generate(self, model, prompt, count, *arguments):
        """Greedy generation after a prompt, which travels in a file (it may hold any bytes)."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "prompt.txt"
            file.write_bytes(prompt.encode())
            options = ["-m", model, "--prompt-file", file, "-n", count, "--temperature", 0]
            return self.run("llm-inference", *options, *arguments)

    def continue_ids(self, model, ids, count, *arguments):
        """Ids of greedy tokens after those of a prompt."""
        options = ["-m", model, "--prompt-ids", ",".join(map(str, ids)), "-n", count]
        return self.run("llm-inference", *options, "--temperature", 0, *arguments)["token_ids"]

    def logits(self, model, prompt, *arguments):
        """(prompt ids, logits of each of the prompt's positions)."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "logits.npy"
            answer = self.generate(model, prompt, 1, "--logits", file, *arguments)
            return answer["prompt_ids"], np.load(file)


def is_native(options):
    """Whether options for AVX2 ask for what this machine has anyway, which is tested without them."""
    return "avx2" in options and " avx512f " not in Path("/proc/cpuinfo").read_text()


def find_model(name):
    """Path of a model that scripts/models/fetch.py knows, fetched if need be; None without one."""
    script = ROOT / "scripts" / "models" / "fetch.py"
    done = subprocess.run([script, name], capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stderr.strip())
        return None
    return Path(done.stdout.strip())
