#!/usr/bin/env python3
"""Random valid modules of every operation: each is compiled right, or refused with one line.

    modules.py --bin build/release/bin [--count 3000] [--seed 0] [--jobs N] [--keep FOLDER]
    modules.py --bin build/release/bin --target webgpu            # another than the CPU
    modules.py --bin build/release/bin --seed 1234 --count 1      # the same module again
    modules.py --seed 1234 --print                                # only its text

Module i of a run is the one of seed SEED + i. `kernelforge compile --run` compiles it, runs it on
random data and verifies it against the reference semantics; where all that it holds is computed, it
must not be refused. kernelforge-opt brings it to a stage of the compiler, and what that prints (kernels
and launches) must compile as the module itself does (for the CPU, whose code kernelforge-opt makes).
A failing module is kept.
"""

import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from generator import Module

ROOT = Path(__file__).resolve().parents[2]
OPS_TD = ROOT / "kernelforge/ir/TransformerOps.td"

#: A hang is a failure, too: far beyond what any of these takes on a busy machine.
TIMEOUT = 300
#: The operations that hold the others; all modules have them once they are fused.
STRUCTURE = {"kernel", "yield", "launch"}
#: Operations that a target has no code for, and says so.
NOT_COMPUTED = {"webgpu": {"pack"}, "cuda": {"pack"}}


class Outcome:
    """How one module ended: right, refused or failed, and why."""

    def __init__(self, verdict, why=""):
        self.verdict, self.why = verdict, why


def judge(code, stderr, refusable):
    """The verdict on one call of `compile --run`."""
    last = stderr.strip().splitlines()[-1:] or [""]
    if code == "timeout":
        return Outcome("failed", f"it hangs: {TIMEOUT} s")
    if code == 0:
        return Outcome("right")
    errors = [line for line in stderr.splitlines() if line.startswith("kernelforge: error: ")]
    if code != 2 or len(errors) != 1:
        return Outcome("failed", f"it ended with {code}: {last[0]}")
    if not refusable:
        return Outcome("failed", f"all that it holds is computed, and it is refused: {errors[0]}")
    return Outcome("refused", errors[0])


def call(line, home, text=None):
    environment = dict(os.environ, KERNELFORGE_HOME=str(home))
    try:
        done = subprocess.run([str(part) for part in line], input=text, capture_output=True, text=True,
                              timeout=TIMEOUT, env=environment, errors="replace", check=False)
    except subprocess.TimeoutExpired:
        return "timeout", "", ""
    return done.returncode, done.stdout, done.stderr


class Runner:
    def __init__(self, binaries, home, keep, target, library=None):
        self.binaries, self.home, self.keep = Path(binaries), Path(home), Path(keep)
        self.target = target
        self.library = ["--cuda-library", library] if library else []

    def line(self, options, file):
        return [self.binaries / "kernelforge", "compile", file, "--run", "--no-cache", "--no-records",
                "--target", self.target, *self.library, *options]

    def notComputed(self, module):
        return sorted(NOT_COMPUTED.get(self.target, set()) & set(module.ops))

    def run(self, seed):
        """A module's (operations, outcome)."""
        module = Module(seed)
        text, options = module.text(), module.options(self.target)
        code, _, stderr = call(self.line(options, "-"), self.home, text)
        outcome = judge(code, stderr, module.refusable + self.notComputed(module))
        if outcome.verdict != "failed" and self.target == "cpu":
            stage = module.pick(["fused", "scheduled", "target", "llvm", "llvm"])
            outcome = self.throughOpt(seed, stage, text, options, outcome)
        if outcome.verdict == "failed":
            self.keep.mkdir(parents=True, exist_ok=True)
            file = self.keep / f"module-{seed}.mlir"
            file.write_text(text)
            outcome.why += f"\n  {' '.join(map(str, self.line(options, file)))}"
        return module.ops, outcome

    def throughOpt(self, seed, stage, text, options, outcome):
        """The pipelines of kernelforge-opt end by themselves, and as `compile` does."""
        opt = self.binaries / "kernelforge-opt"
        lowered = self.home / f"{seed}.mlir"
        code, _, stderr = call([opt, f"--kernelforge-pipeline={stage}", "-", "-o", lowered], self.home,
                               text)
        last = (stderr.strip().splitlines() or [""])[-1]
        if code not in (0, 1):
            return Outcome("failed", f"kernelforge-opt to stage {stage} ended with {code}: {last}")
        if code == 1 and outcome.verdict == "right":
            return Outcome("failed", f"kernelforge-opt to stage {stage} refuses it: {last}")
        if code == 0 and outcome.verdict == "right":
            # Code is for the target that opt took, which is this machine.
            given = [option for option in options if not option.startswith("--target-cpu")]
            again, _, stderr = call(self.line(given, lowered), self.home)
            lowered.unlink()
            if again != 0:
                return Outcome("failed", f"from stage {stage} it ends with {again}: {stderr.strip()}")
        return outcome


def knownOps():
    """Mnemonics of the operations that the dialect defines."""
    return set(re.findall(r'^def Transformer_\w+Op\s*: Transformer_\w*Op<"(\w+)"',
                          OPS_TD.read_text(), re.MULTILINE)) | set(
        re.findall(r'^def Transformer_\w+Op : Transformer_BinaryOp<"(\w+)"', OPS_TD.read_text(),
                   re.MULTILINE))


def selfTest():
    """What the fuzzer promises of itself: a list of complaints."""
    complaints = []
    made, texts = Counter(), set()
    for seed in range(400):
        module = Module(seed)
        made.update(module.ops)
        texts.add(module.text())
        if Module(seed).text() != module.text():
            complaints.append(f"seed {seed} gives different modules")
    known = knownOps()
    for op in sorted(known - set(made) - STRUCTURE):
        complaints.append(f"transformer.{op} is in no module: teach Module to make it")
    for op in sorted((set(made) | STRUCTURE) - known):
        complaints.append(f"transformer.{op} is no operation of {OPS_TD.name}")
    if len(texts) < 390:
        complaints.append("modules repeat")
    line = "kernelforge: error: a (b): c\n"
    for code, stderr, refusable, verdict in [
        (0, "", [], "right"), (2, line, ["x"], "refused"), (2, line, [], "failed"),
        (2, "", ["x"], "failed"), (2, line + line, ["x"], "failed"), (1, line, ["x"], "failed"),
        (-11, "", ["x"], "failed"), (-8, line, ["x"], "failed"), ("timeout", "", ["x"], "failed")]:
        if judge(code, stderr, refusable).verdict != verdict:
            complaints.append(f"an end with {code} and {stderr!r} is not {verdict}")
    return complaints


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", help="folder of the programs")
    parser.add_argument("--count", type=int, default=60, help="modules (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="modules at a time")
    parser.add_argument("--target", default="cpu", help="what they run on (default: cpu)")
    parser.add_argument("--cuda-library", help="NVIDIA's driver")
    parser.add_argument("--keep", default="fuzz-failures", help="folder for failing modules")
    parser.add_argument("--print", action="store_true", help="print the first module and end")
    arguments = parser.parse_args()
    if arguments.print:
        print(Module(arguments.seed).text(), end="")
        return 0
    if not arguments.bin:
        parser.error("--bin is needed to run modules")
    complaints = selfTest()
    right, verdicts, failures = Counter(), Counter(), 0
    with tempfile.TemporaryDirectory(prefix="kernelforge-fuzz-") as home:
        runner = Runner(arguments.bin, home, arguments.keep, arguments.target, arguments.cuda_library)
        seeds = range(arguments.seed, arguments.seed + arguments.count)
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            for seed, (ops, outcome) in zip(seeds, pool.map(runner.run, seeds)):
                verdicts[outcome.verdict] += 1
                if outcome.verdict == "right":
                    right.update(ops.keys())
                if outcome.verdict == "failed":
                    failures += 1
                    print(f"FAILED seed {seed}: {outcome.why}", flush=True)
    # Where there are enough, each operation must have been right: a fuzzer that is always refused
    # finds nothing.
    if arguments.count >= 60:
        computed = knownOps() - STRUCTURE - NOT_COMPUTED.get(arguments.target, set())
        for op in sorted(computed - set(right)):
            complaints.append(f"transformer.{op} was right in no module")
    for complaint in complaints:
        print(f"FAILED: {complaint}")
    print(f"{arguments.count} modules: {verdicts['right']} right, {verdicts['refused']} refused, "
          f"{verdicts['failed']} failed")
    return 1 if failures or complaints else 0


if __name__ == "__main__":
    sys.exit(main())
