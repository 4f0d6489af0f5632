#!/usr/bin/env python3
"""The CUDA target on the GPU that is here: the tests of the device, the kernels of the ledger's sample and
random modules against the reference (`compile --run` poisons results and intermediates first), and a
kernel of each family under compute-sanitizer, where it is installed. What was right is entered into the
ledger (verified.json).

    device_test.py --bin build/release/bin [--ledger FILE] [--jobs N] [--random N] [--seed N]

Without a GPU it ends with 77, which is a test that is skipped.
"""

import argparse
import concurrent.futures
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ledger
from ledger import gpu_modules

ROOT = Path(__file__).resolve().parents[2]
#: Far beyond what any of these takes; under compute-sanitizer, too.
TIMEOUT = 300
#: What takes all memory that there is, or the time: nothing else runs then.
ALONE = "*RunsOutOfMemory*:*NoSlowerThan*"
SHARDS = 6


def call(line, text="", **environment):
    """(exit code, standard output, standard error) of a command; a hang is 124."""
    try:
        done = subprocess.run([str(word) for word in line], input=text, capture_output=True, text=True,
                              timeout=TIMEOUT, env={**os.environ, **environment}, check=False)
    except subprocess.TimeoutExpired:
        return 124, "", f"it hangs: {TIMEOUT} s"
    return done.returncode, done.stdout, done.stderr


def ends(text, count=30):
    return "\n".join(text.strip().splitlines()[-count:])


class Tests:
    def __init__(self, arguments, home):
        self.arguments, self.home = arguments, home
        self.bin = Path(arguments.bin)
        self.failures = []
        self.right, self.wrong = {}, set()

    def failed(self, what, why):
        self.failures.append(what)
        print(f"FAILED {what}: {why}", flush=True)

    def compile_line(self, case, *before):
        return [*before, self.bin / "kernelforge", "compile", "-", "--run", "--json", "--target", "cuda",
                "--target-cpu", ledger.CHIP, "--cuda-library", self.arguments.library, "--no-cache",
                "--no-records", *case.run_options]

    def device_shard(self, shard):
        """The tests of cuda-device-test that are this shard's; None: those that must be alone."""
        program = self.arguments.device_test or self.bin / "cuda-device-test"
        environment = {"KERNELFORGE_TEST_CUDA_LIBRARY": self.arguments.library,
                       "KERNELFORGE_REQUIRE_CUDA": "1"}
        if shard is not None:
            environment |= {"GTEST_TOTAL_SHARDS": str(SHARDS), "GTEST_SHARD_INDEX": str(shard)}
        filters = ALONE if shard is None else f"-{ALONE}"
        code, out, err = call([program, "--gtest_brief=1", f"--gtest_filter={filters}"], **environment)
        if code != 0:
            self.failed(f"cuda-device-test, shard {shard}", f"exit code {code}\n{ends(out + err, 60)}")
        elif shard is None:
            print(ends(out), flush=True)

    def sampled(self, case):
        code, out, err = call(self.compile_line(case), case.text, KERNELFORGE_HOME=self.home)
        why = ""
        answer = json.loads(out) if code in (0, 1) else {}
        if code not in (0, 1):
            why = f"exit code {code}: {ends(err)}"
        elif not answer["pass"]:
            why = f"wrong: {[each for each in answer['accuracy'] if not each['pass']]}"
        elif len(answer["accuracy"]) < case.results:
            why = f"{len(answer['accuracy'])} of {case.results} results are verified"
        hashes = {kernel["code_hash"][:16] for kernel in answer.get("kernels", [])}
        if why:
            self.failed(case.name, f"{why}\n{case.text}")
            self.wrong |= hashes
        else:
            self.right |= dict.fromkeys(hashes, case.name)

    def random_modules(self):
        line = [sys.executable, "-B", ROOT / "tests/fuzz/modules.py", "--bin", self.bin, "--target", "cuda",
                "--cuda-library", self.arguments.library, "--count", self.arguments.random, "--seed",
                self.arguments.seed, "--jobs", self.arguments.jobs, "--keep", self.arguments.keep]
        code, out, err = call(line)
        print(ends(out, 1), flush=True)
        if code != 0:
            self.failed(f"random modules from seed {self.arguments.seed}", ends(out + err))

    def sanitized(self, tool, case):
        line = self.compile_line(case, "compute-sanitizer", "--tool", tool, "--error-exitcode", "99")
        code, out, err = call(line, case.text, KERNELFORGE_HOME=self.home)
        if code != 0:
            self.failed(f"{case.name} under {tool}", f"exit code {code}\n{ends(out + err)}")


def sanitizer_cases():
    """A module of each family, and one for matrix units: several blocks, and no multiples of a tile."""
    cases = {case.name: case for case in ledger.sample()}
    schedule = ("method = 1, bm = 64, bn = 64, stages = 3, group = 1, resident = 1, blocks = 2, "
                    "split = 1, early = 0")
    matrices = ledger.Case("matrices", gpu_modules.scheduled(schedule, 130, 136, 200, "bf16"))
    plain = [cases[name] for name in ("rowwise 17", "matmul 22", "attention 22", "step 1")]
    return [("memcheck", case) for case in [*plain, matrices]] + [("racecheck", case) for case in plain]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="folder of the programs")
    parser.add_argument("--device-test", help="cuda-device-test, where it is elsewhere")
    parser.add_argument("--library", default="libcuda.so.1", help="the driver")
    parser.add_argument("--ledger", default=ledger.FILE, help="where the ledger is written")
    parser.add_argument("--jobs", type=int, default=min(12, os.cpu_count()), help="processes at a time")
    parser.add_argument("--random", type=int, default=120, help="random modules (default: 120)")
    parser.add_argument("--seed", type=int, default=0, help="of the first random module")
    parser.add_argument("--keep", default="fuzz-failures-cuda", help="folder for failing random modules")
    parser.add_argument("--only", help="cases whose names begin so, and nothing else")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kernelforge-gpu-") as home:
        return run(Tests(arguments, home))


def run(tests):
    arguments = tests.arguments
    probe = ledger.sample()[-2]
    code, _, err = call(tests.compile_line(probe), probe.text, KERNELFORGE_HOME=tests.home)
    if code == 3:
        print(f"skipped: {err.strip()}")
        return 77
    start = time.monotonic()

    def said(what):
        print(f"{time.monotonic() - start:6.1f} s  {what}", flush=True)

    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        cases = [case for case in ledger.sample() if case.name.startswith(arguments.only or "")]
        shards = [] if arguments.only else [pool.submit(tests.device_shard, i) for i in range(SHARDS)]
        list(pool.map(tests.sampled, cases))
        said(f"{len(cases)} modules, {len(tests.right)} kernels right")
        # Before anything else may take too long.
        book = ledger.Ledger()
        book.remove(tests.wrong)
        book.enter(tests.right.keys() - tests.wrong, device())
        if not arguments.only:
            book.keep_only(tests.right)
        book.write(arguments.ledger)
        said(f"{len(book.kernels)} verified kernels in {arguments.ledger}")
        if not arguments.only:
            checks = []
            if shutil.which("compute-sanitizer"):
                checks = [pool.submit(tests.sanitized, *each) for each in sanitizer_cases()]
            else:
                said("compute-sanitizer is not installed: nothing ran under it")
            tests.random_modules()
            said("random modules")
            for each in [*shards, *checks]:
                each.result()
            said("tests of the device" + (", and compute-sanitizer" if checks else ""))
            tests.device_shard(None)
    said(f"{len(tests.failures)} failures")
    return 1 if tests.failures else 0


def device():
    line = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        name, driver = subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines()[0].split(", ")
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        name = driver = "unknown"
    return {"name": name, "driver": driver, "date": datetime.date.today().isoformat()}


if __name__ == "__main__":
    sys.exit(main())
