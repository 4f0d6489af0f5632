"""A model beside llama.cpp (llama_cpp.py, also with AMX where the processor has it), OpenVINO and onnxruntime: in a
round each side is a process that loads it, warms up and takes its samples."""

import os
import statistics
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import install
import llama_cpp
from cuda_turns import positive

GROUP = "models"
PEERS = ["llama.cpp", "llama.cpp-amx", "openvino", "onnxruntime"]
#: Tokens of a prompt, generated tokens, tokens before either; 0: no such test.
TESTS = [(512, 128, 0), (7000, 0, 0), (0, 64, 8000)]
QUICK = [(128, 16, 0)]


def add_arguments(parser):
    parser.add_argument("-m", "--model", default=llama_cpp.default_model(), help="GGUF file, for the group models")
    parser.add_argument("--model-rounds", type=positive, help="rounds of a model (3; 1 with --quick)")


def prepared(name, arguments):
    """A function that gives rows and version of one round of a peer. Raises RuntimeError where it cannot be here."""
    if name.startswith("llama.cpp"):
        amx = name.endswith("amx")
        if amx and " amx_tile" not in Path("/proc/cpuinfo").read_text():
            raise RuntimeError("this processor has no AMX")
        try:
            python = llama_cpp.build_peer(len(os.sched_getaffinity(0)), amx)
        except OSError as error:
            raise RuntimeError(str(error)) from error
        return lambda test: llama_cpp.run_peer(python, test)
    python, worker = install.python_of(name), Path(__file__).with_name("model_worker.py")

    def run(test):
        numbers = [test.threads, test.prompt, test.generate, test.depth, test.repetitions]
        line = [python, worker, name, test.model, *numbers]
        return llama_cpp.run_json([str(word) for word in line], install.environment(name, test.threads))

    return run


def one_round(sides, test):
    """What each side gives, or why not: llama_cpp's functions end the process with the reason, which is caught."""
    answers = {}
    for name, run in sides:
        try:
            answers[name] = run(test)
        except SystemExit as error:
            answers[name] = {"why": (str(error).strip().splitlines() or ["it failed"])[-1]}
    return answers


def row_of(name, rounds):
    """The report's row of a test, as turns.compare makes it: ratios are our tokens a second over theirs."""
    row = {"name": name, "row": {"family": "model"}, "peers": {}}
    if any("why" in answers["ours"] for answers in rounds):
        return row | {"why": next(a["ours"]["why"] for a in rounds if "why" in a["ours"])}
    medians = {side: [statistics.median(answers[side]["rows"][name]) for answers in rounds]
               for side in rounds[0] if all("rows" in answers[side] for answers in rounds)}  # fmt: skip
    row |= {"tokens_per_s": statistics.median(medians["ours"]), "samples": medians["ours"]}
    for side in rounds[0]:
        if side == "ours":
            continue
        if side not in medians:
            row["peers"][side] = {"why": next(a[side]["why"] for a in rounds if "why" in a[side])}
            continue
        ratios = [mine / theirs for mine, theirs in zip(medians["ours"], medians[side])]
        row["peers"][side] = {"tokens_per_s": statistics.median(medians[side]), "ratio": statistics.median(ratios),
                              "low": min(ratios), "high": max(ratios), "samples": medians[side]}  # fmt: skip
    return row


def measure(arguments, about, groups, missing):
    """Adds rows of all tests to `groups`, and versions to `about`."""
    if not Path(arguments.model).is_file():
        missing[GROUP] = f"{arguments.model} is not there; run scripts/models/fetch.py smollm2"
        return
    sides = [("ours", lambda test: {"rows": llama_cpp.run_ours(test)})]
    for name in PEERS:
        try:
            if name in arguments.only:
                sides.append((name, prepared(name, arguments)))
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            missing[name] = str(error)
    groups[GROUP] = []
    for prompt, generate, depth in QUICK if arguments.quick else TESTS:
        test = SimpleNamespace(model=arguments.model, threads=arguments.threads, prompt=prompt, generate=generate,
                               depth=depth, repetitions=1 if depth + prompt > 1000 else 3,
                               kernelforge=arguments.kernelforge)  # fmt: skip
        names = [name for name, *_ in llama_cpp.tests(test)]
        if not any(arguments.filter in name for name in names):
            continue
        print(f"{GROUP}: {' '.join(names)}", file=sys.stderr, flush=True)
        rounds = [one_round(sides[:: -1 if index % 2 else 1], test) for index in range(arguments.model_rounds)]
        groups[GROUP] += [row_of(name, rounds) for name in names]
        about["versions"] |= {name: each["version"] for name, each in rounds[0].items() if "version" in each}
