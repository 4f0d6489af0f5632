#!/usr/bin/env python3
"""Generation by several builds in turns: decode, prefill, time to the first token, load and start.

    builds.py BINARY... [-m MODEL] [-t THREADS,...] [-c CONTEXT,...] [--busy N] [--rounds N]

Each round runs every build with every number of threads and every context once, in an order that
turns around. `--busy N` starts N processes beside them that do nothing but compute. Medians, and
what each is of the first build's. The hash of the last logits is printed where it differs.
"""

import argparse
import json
import statistics
import subprocess
import sys
from itertools import product

FIGURES = {
    "decode": "decode_tokens_per_s",
    "prefill": "prefill_tokens_per_s",
    "first token": "time_to_first_token_s",
    "load": "load_s",
    "compile": "compile_s",
}


def run(binary, threads, context, options):
    command = [binary, "llm-inference", "--json", "--temperature", "0", "--ignore-eos"]
    command += ["-n", str(options.tokens), "-p", options.prompt]
    command += ["-m", options.model] if options.model else ["--random-weights", "smollm2"]
    command += ["-t", str(threads)] if threads else []
    command += ["-c", str(context)] if context else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    answer = json.loads(done.stdout)
    return answer["timings"], answer["logits_hash"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("binaries", nargs="+")
    parser.add_argument("-m", "--model", help="default: random weights of SmolLM2's shape")
    parser.add_argument("-t", "--threads", type=numbers, default=[0], help="0: the program's default")
    parser.add_argument("-c", "--context", type=numbers, default=[0], help="0: the program's default")
    parser.add_argument("-p", "--prompt", default="The capital of France")
    parser.add_argument("-n", "--tokens", type=int, default=128)
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()

    cases = list(product(options.binaries, options.threads, options.context))
    timings, hashes = {case: [] for case in cases}, set()
    for case in cases:  # compiles what is not in the cache yet
        run(*case, options)
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)
    ]
    try:
        for index in range(options.rounds):
            for case in cases if index % 2 == 0 else reversed(cases):
                figures, logits = run(*case, options)
                timings[case].append(figures)
                hashes.add(logits)
    finally:
        for process in busy:
            process.kill()

    print(f"{options.rounds} rounds, {options.busy} busy processes; median [least to most], ratio")
    for figure, field in FIGURES.items():
        first = None
        for case in cases:
            values = sorted(t[field] for t in timings[case])
            median = statistics.median(values)
            first = first or median
            name = f"{case[0]} -t {case[1] or 'default'} -c {case[2] or 'default'}"
            print(f"{figure:<12} {median:10.4g} [{values[0]:.4g} to {values[-1]:.4g}] "
                  f"{median / first:6.3f}  {name}")  # fmt: skip
    if len(hashes) > 1:
        print("last logits differ:", *sorted(hashes))


if __name__ == "__main__":
    main()
