"""What the peers of the CUDA target share: our side as a process that is timed on request, theirs as
CUDA graphs, both in turns, and the rows that come of it.

Our side is `cuda-peers module` (bench/cuda): it compiles a module that a script writes, runs it on the
arguments that the script gives, and answers a line of standard input by the seconds of a run. What the
peer gives is what ours is held against. Both sides rotate sets of buffers which no cache holds.
"""

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parents[2]
PACES = ("idle-gaps", "back-to-back")
#: As bench/cuda/Turns.cpp has them: a rest, work before a sample, about what a sample takes.
RESTING, HEATING, SAMPLE = 0.012, 0.015, 0.003
BEYOND_CACHE, MOST_SETS, MOST_RUNS = 300e6, 64, 400
#: Both sides round to bf16 or f16 on their way; results may differ by so much, as a whole.
MOST_ERROR = 1e-2


@dataclass
class Problem:
    """One module and who computes the same."""

    name: str
    module: str
    #: Given torch: the tensors of the module's function, in order, on the GPU.
    arguments: Callable
    #: Given torch: by name, functions of these tensors whose result is ours, in any shape.
    peers: Callable
    flops: float = 0
    bytes: float = 0
    sizes: dict = field(default_factory=dict)


def parser(text):
    """The options that all of these scripts have; the first line of `text` says what it is."""
    made = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--bin", type=Path, default=ROOT / "build/release/bin",
                      help="folder of kernelforge and cuda-peers")  # fmt: skip
    made.add_argument("--rounds", type=positive, default=9, help="samples of each side and pace")
    made.add_argument("--seed", type=int, default=1, help="of the order of samples")
    made.add_argument("--only", default="", help="problems whose names contain this")
    made.add_argument("--json", action="store_true", help="a row of JSON each")
    made.add_argument("--dry", action="store_true",
                      help="only compile our modules for sm_90a; needs neither GPU nor torch")  # fmt: skip
    return made


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no positive number")
    return value


def refuse(why):
    """Ends the script as one that lacks what it needs."""
    print(f"{Path(sys.argv[0]).stem}: error: {why}", file=sys.stderr)
    sys.exit(3)


def torch_with_gpu():
    """torch, where it is here with a GPU."""
    try:
        import torch
    except ImportError:
        refuse("there is no torch here; run it with a Python that has one, or with --dry")
    if not torch.cuda.is_available():
        refuse("torch sees no GPU; --dry needs none")
    return torch


def chosen(problems, options):
    """The problems that --only names."""
    kept = [problem for problem in problems if options.only in problem.name]
    if not kept:
        names = ", ".join(problem.name for problem in problems)
        print(f"--only {options.only}: the problems are {names}", file=sys.stderr)
        sys.exit(2)
    return kept


def dry(problems, options):
    """Compiles each module; its name and schedules, or why this build has no code for it. The exit code: 1
    where a module is no good."""
    program = options.bin / "kernelforge"
    if not program.is_file():
        refuse(f"{program} is not there; name its folder with --bin")
    code = 0
    for problem in problems:
        line = [program, "compile", "-", "--target", "cuda", "--target-cpu", "sm_90a", "--json"]
        done = subprocess.run(line, input=problem.module, capture_output=True, text=True)
        row = {"name": problem.name}
        if done.returncode == 0:
            row["schedules"] = [kernel["schedule"] for kernel in json.loads(done.stdout)["kernels"]]
        else:
            row["refused"] = done.stderr.strip().removeprefix("kernelforge: error: ")
            code = max(code, 0 if "cannot be compiled for a GPU" in row["refused"] else 1)
        text = row.get("refused") or " ".join(map(str, row["schedules"]))
        print(json.dumps(row) if options.json else f"{problem.name:<34} {text}", flush=True)
    return code


def sets_of(total):
    return min(MOST_SETS, max(2, math.ceil(BEYOND_CACHE / max(total, 1))))


class Ours:
    """Our side: a module in a process of its own."""

    name = "ours"

    def __init__(self, torch, problem, tensors, options):
        self.folder = tempfile.TemporaryDirectory(prefix="kernelforge-peers-")
        folder = Path(self.folder.name)
        (folder / "module.mlir").write_text(problem.module)
        for i, tensor in enumerate(tensors):
            flat = tensor.contiguous().reshape(-1).view(torch.uint8)
            (folder / f"argument{i}.bin").write_bytes(flat.cpu().numpy().tobytes())
        line = [options.bin / "cuda-peers", "module", folder / "module.mlir", "--data", folder]
        line += [f"--size={name}={value}" for name, value in problem.sizes.items()]
        self.process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.about = json.loads(self.line())

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            why = self.process.stderr.read().strip()
            self.close()
            raise RuntimeError(why)
        return line

    def result(self, torch, dtype, index=0):
        """What the first run gave, flat, as f32."""
        data = bytearray((Path(self.folder.name) / f"result{index}.bin").read_bytes())
        return torch.frombuffer(data, dtype=dtype).float()

    def sample(self, pace):
        """Seconds of a run."""
        self.process.stdin.write(pace + "\n")
        self.process.stdin.flush()
        return float(self.line())

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
        self.folder.cleanup()


class Theirs:
    """A function of torch, recorded as a graph of runs over sets of its arguments."""

    def __init__(self, torch, name, function, tensors):
        self.torch, self.name = torch, name
        total = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        with torch.inference_mode():
            for _ in range(3):  # compiles what is to be compiled
                self.result = function(*tensors)
            total += self.result.numel() * self.result.element_size()
            torch.cuda.synchronize()
            first = self.graph(function, [tensors], 1)
            self.replay(first)
            about = min(self.replay(first) for _ in range(3))
            sets = sets_of(total)
            self.runs = min(MOST_RUNS, max(1, int(SAMPLE / max(about, 1e-6))))
            if self.runs > 1:
                self.runs = (self.runs + sets - 1) // sets * sets
            copies = [tensors] + [
                [tensor.clone() for tensor in tensors] for _ in range(min(sets, self.runs) - 1)
            ]
            self.recorded = self.graph(function, copies, self.runs)
        self.copies = copies
        self.scratch = torch.empty(64 << 20, dtype=torch.uint8, device="cuda")

    def graph(self, function, copies, runs):
        torch = self.torch
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function(*copies[0])
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Results of one set are kept, so that sets do not share theirs, and no more of them.
        kept = [None] * len(copies)
        with torch.cuda.graph(graph):
            for i in range(runs):
                kept[i % len(copies)] = function(*copies[i % len(copies)])
        return graph

    def replay(self, graph):
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e-3

    def sample(self, pace):
        """Seconds of a run."""
        if pace == "idle-gaps":
            time.sleep(RESTING)
            self.scratch.zero_()
        else:
            until = time.perf_counter() + HEATING
            while time.perf_counter() < until:
                self.replay(self.recorded)
        return self.replay(self.recorded) / self.runs

    def close(self):
        del self.recorded, self.copies, self.scratch


def error_of(ours, theirs):
    """||ours - theirs|| / ||theirs||; infinity where anything is no number."""
    theirs = theirs.reshape(-1).float().cpu()
    if ours.numel() != theirs.numel():
        return math.inf
    difference = (ours - theirs).norm().item() / max(theirs.norm().item(), 1e-30)
    return difference if math.isfinite(difference) else math.inf


def in_turns(sides, pace, options):
    """Seconds by side: rounds of one sample of each, in a new random order."""
    order = random.Random(options.seed)
    seconds = {side.name: [] for side in sides}
    for side in sides:
        side.sample(pace)
    for _ in range(options.rounds):
        for side in order.sample(sides, len(sides)):
            seconds[side.name].append(side.sample(pace))
    return seconds


def compare(problem, options, torch):
    """Measures a problem; prints a row for each peer and pace. Whether all results agree."""
    tensors = problem.arguments(torch)
    peers, reasons = [], {}
    for name, function in problem.peers(torch).items():
        try:
            peers.append(Theirs(torch, name, function, tensors))
        except Exception as error:  # a peer that cannot is a row, and the others go on
            reasons[name] = str(error).strip().splitlines()[0][:200] if str(error) else repr(error)
            torch.cuda.synchronize()
    try:
        ours = Ours(torch, problem, tensors, options)
    except RuntimeError as error:
        print(f"{problem.name}: {error}", file=sys.stderr, flush=True)
        return False
    good = True
    for name, reason in reasons.items():
        print_row({"name": problem.name, "peer": name, "why_not": reason}, options)
    dtype = peers[0].result.dtype if peers else torch.bfloat16
    result = ours.result(torch, dtype)
    errors = {peer.name: error_of(result, peer.result) for peer in peers}
    for pace in PACES:
        seconds = in_turns([ours, *peers], pace, options)
        mine = statistics.median(seconds["ours"])
        for name in errors:
            ratios = sorted(b / a for a, b in zip(seconds["ours"], seconds[name]))
            row = {"name": problem.name, "peer": name, "pace": pace, "ours_us": mine * 1e6,
                   "peer_us": statistics.median(seconds[name]) * 1e6,
                   "ratio": {"median": statistics.median(ratios), "low": ratios[len(ratios) // 4],
                             "high": ratios[-1 - len(ratios) // 4]},
                   "error": errors[name], "pass": errors[name] < MOST_ERROR,
                   "kernels": ours.about["kernels"]}  # fmt: skip
            if problem.flops:
                row["tflops"] = problem.flops / mine * 1e-12
            if problem.bytes:
                row["gb_per_s"] = problem.bytes / mine * 1e-9
            good = good and row["pass"]
            print_row(row, options)
        if not errors:
            print_row({"name": problem.name, "pace": pace, "ours_us": mine * 1e6}, options)
    for side in [ours, *peers]:
        side.close()
    torch.cuda.empty_cache()
    return good


def print_row(row, options):
    if options.json:
        print(json.dumps(row), flush=True)
        return
    if "why_not" in row:
        text = f"{row['name']:<34} {row['peer']:<16} cannot: {row['why_not']}"
    elif "peer" not in row:
        text = f"{row['name']:<34} {'no peer':<16} {row['pace']:<13} ours {row['ours_us']:10.2f} us"
    else:
        ratio = row["ratio"]
        text = (f"{row['name']:<34} {row['peer']:<16} {row['pace']:<13} ours {row['ours_us']:10.2f} us  "
                f"theirs {row['peer_us']:10.2f} us  x{ratio['median']:.3f} ({ratio['low']:.3f}-"
                f"{ratio['high']:.3f})  error {row['error']:.1e}")  # fmt: skip
        text += f"  {row['tflops']:.0f} TF" if "tflops" in row else ""
        text += f"  {row['gb_per_s']:.0f} GB/s" if "gb_per_s" in row else ""
        text += "" if row["pass"] else "  WRONG"
    print(text, flush=True)


def main(problems, options):
    """Runs a script's problems; the exit code: 1 where a result is not the peer's."""
    kept = chosen(problems, options)
    if options.dry:
        return dry(kept, options)
    torch = torch_with_gpu()
    program = options.bin / "cuda-peers"
    if not program.is_file():
        refuse(f"{program} is not there; name its folder with --bin")
    torch.manual_seed(options.seed)
    about = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    print(json.dumps(about) if options.json else f"{about['device']}, torch {about['torch']}; "
          "xN: time of theirs to ours, median and quartiles", flush=True)  # fmt: skip
    results = [compare(problem, options, torch) for problem in kept]
    return 0 if all(results) else 1
