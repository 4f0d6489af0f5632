#!/usr/bin/env python3
"""Our kernels beside the libraries for processors, on the same cores, in turns; one table in Markdown.

Products of f32, bf16 and int8 beside OpenBLAS, MKL, oneDNN, torch and IREE, attention and what is done to rows beside
torch, a model beside llama.cpp, OpenVINO and onnxruntime. The libraries come from PyPI, each into an environment of
its own in .venv-peers-cpu on the first run (16 GB, of which torch is 6 and, with onnxruntime, 6 again). Each side is a
process with as many threads; in a round each has one turn of some 30 ms on buffers that it had before, in random order
and then the other way round. A ratio is the time of theirs to ours within a round: above 1 ours is faster. Results are
held against numpy or an f64 reference before they are timed. Run it on a quiet machine: the load is part of the
report.
"""

import argparse
import datetime
import json
import os
import shlex
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import install  # noqa: E402
import llama_cpp  # noqa: E402
import models  # noqa: E402
import problems  # noqa: E402
import report  # noqa: E402
import turns  # noqa: E402
from cuda_turns import positive  # noqa: E402

KERNELS = ["openblas", "mkl", "onednn", "onednn-omp", "torch", "iree"]
PEERS = KERNELS + models.PEERS
GROUPS = [*problems.groups(), models.GROUP]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernelforge", type=Path, default=install.ROOT / "build/release/bin/kernelforge")
    parser.add_argument("-t", "--threads", type=positive, default=2)
    parser.add_argument("--only", action="append", choices=PEERS, metavar="PEER",
                        help=f"these peers; several times, or all: {', '.join(PEERS)}")  # fmt: skip
    parser.add_argument("--group", action="append", metavar="GROUP",
                        help=f"these groups; several times, or all: {', '.join(GROUPS)}")  # fmt: skip
    parser.add_argument("--filter", default="", help="problems whose names contain this; of a model, runs of which one test does")
    parser.add_argument("--quick", action="store_true", help="few problems, in few rounds: does it all work?")
    parser.add_argument("--rounds", type=positive, help="rounds of a kernel (15; 5 with --quick)")
    parser.add_argument("--seed", type=int, default=1, help="of operands and orders")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples")
    models.add_arguments(parser)
    arguments = parser.parse_args()
    for group in arguments.group or []:
        if group not in GROUPS:
            parser.error(f"--group {group}: the groups are {', '.join(GROUPS)}")
    arguments.group = arguments.group or GROUPS
    arguments.only = arguments.only or PEERS
    arguments.rounds = arguments.rounds or (5 if arguments.quick else 15)
    arguments.model_rounds = arguments.model_rounds or (1 if arguments.quick else 3)
    return arguments


def started(names, threads, missing):
    """The peers of kernels that come up; the reason of each other one goes to `missing`."""
    peers = []
    for name in names:
        try:
            peers.append(turns.Theirs(name, threads))
        except RuntimeError as error:
            missing[name] = str(error)
    return peers


def chosen(arguments):
    """Rows of kernels by group, as the options name them."""
    groups = {group: [row for row in rows if arguments.filter in row["name"]]
              for group, rows in problems.groups(arguments.quick).items() if group in arguments.group}  # fmt: skip
    return {group: rows for group, rows in groups.items() if rows}


def measure_kernels(wanted, arguments, about, groups, missing):
    """Adds rows to `groups`, and versions to `about`."""
    ours = turns.Ours(arguments.kernelforge, arguments.threads)
    peers = started([name for name in KERNELS if name in arguments.only], arguments.threads, missing)
    about["versions"] |= {peer.name: peer.version for peer in peers}
    for group, rows in wanted.items():
        groups[group] = []
        for row in rows:
            print(f"{group}: {row['name']}", file=sys.stderr, flush=True)
            groups[group].append(turns.compare(row, ours, peers, arguments.rounds, arguments.seed))
            about["kernelforge"] = ours.version
    for side in [ours, *peers]:
        side.close()


def main():
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is measured by then is printed
    arguments = parse_arguments()
    if not arguments.kernelforge.is_file():
        sys.exit(f"peers: error: {arguments.kernelforge} is not there; build it, or name it with --kernelforge")
    try:
        cores = turns.pin(arguments.threads)
    except RuntimeError as error:
        sys.exit(f"peers: error: {error}")
    wanted = chosen(arguments)
    if not wanted and models.GROUP not in arguments.group:
        sys.exit(f"peers: error: no problem of {', '.join(arguments.group)} has {arguments.filter} in its name")
    groups, missing = {}, {}
    about = {
        "cpu": llama_cpp.cpu_name(), "threads": arguments.threads, "cores": cores, "load_before": os.getloadavg()[0],
        "date": datetime.date.today().isoformat(), "rounds": arguments.rounds,
        "model_rounds": arguments.model_rounds, "command": shlex.join(["bench/peers/cpu/peers.py", *sys.argv[1:]]),
        "kernelforge": "", "versions": {},
    }  # fmt: skip
    try:
        if wanted:
            measure_kernels(wanted, arguments, about, groups, missing)
        if models.GROUP in arguments.group:
            models.measure(arguments, about, groups, missing)
    except KeyboardInterrupt:
        missing["the rest"] = "interrupted"
    about["load_after"] = os.getloadavg()[0]
    print(report.whole(about, groups, PEERS, missing))
    if arguments.json:
        summaries = {group: report.summary(rows) for group, rows in groups.items()}
        text = json.dumps({**about, "missing": missing, "summaries": summaries, "groups": groups})
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
