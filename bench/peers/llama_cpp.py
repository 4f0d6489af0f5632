#!/usr/bin/env python3
"""Times kernelforge beside llama.cpp: same file, same threads, in alternating rounds.

llama.cpp comes from PyPI's llama-cpp-python, built from source on the first run (5 to 10 minutes
on 2 cores) into .venv-peers: native instructions, OpenMP, without AMX; --amx builds one with it,
into .venv-peers-amx. Both sides follow llama-bench's rules: the model is loaded once in a round,
one warm-up of 512 tokens at most, then the samples; tokenization and sampling are not timed. ppN is a prompt of N random
tokens, logits of the last token only; tgN is N single-token steps; both from an empty context, or
behind D tokens (ppN@dD). Each round runs one process of each side, and the order is swapped every
round, so that drift of the machine meets both alike. Run it on a quiet machine: the load average
before the first round is part of the report.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENVS = {False: ROOT / ".venv-peers", True: ROOT / ".venv-peers-amx"}
PACKAGE = "llama-cpp-python==0.3.36"
NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
CMAKE_ARGS = ["-DGGML_NATIVE=ON", "-DGGML_OPENMP=ON", "-DLLAVA_BUILD=OFF"]


def build_peer(jobs, amx=False):
    """The python of .venv-peers, with llama-cpp-python built into it if it was not there."""
    folder = VENVS[amx]
    python = folder / "bin" / "python"
    stamp = folder / "kernelforge-stamp"
    flags = CMAKE_ARGS + ([] if amx else [f"'-DCMAKE_C_FLAGS={NO_AMX}'", f"'-DCMAKE_CXX_FLAGS={NO_AMX}'"])
    wanted = " ".join([PACKAGE] + flags)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"building {PACKAGE} into {folder.name} (minutes)", file=sys.stderr)
    if folder.exists():
        shutil.rmtree(folder)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-binary", "llama-cpp-python", PACKAGE],
        check=True,
        stdout=sys.stderr,
        env=os.environ
        | {"CMAKE_ARGS": " ".join(flags), "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs)},
    )
    stamp.write_text(wanted)
    return python


def peer_worker(arguments):
    """Runs inside .venv-peers: one round of llama.cpp; prints the rows as JSON."""
    import llama_cpp as llama

    callback = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(callback, None)
    llama.llama_backend_init()
    model_params = llama.llama_model_default_params()
    model_params.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(os.fsencode(arguments.model), model_params)
    if not model:
        sys.exit(f"llama.cpp cannot load {arguments.model}")
    params = llama.llama_context_default_params()
    params.n_ctx = arguments.depth + max(arguments.prompt, arguments.generate)
    params.n_batch, params.n_ubatch = 2048, 512
    params.n_threads = params.n_threads_batch = arguments.threads
    context = llama.llama_init_from_model(model, params)
    if not context:
        sys.exit("llama.cpp cannot make a context")
    vocab_size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))

    def decode(count, step):
        """Seconds to decode `count` random tokens, `step` at a time, behind what is there."""
        tokens = (llama.llama_token * count)(*(random.randrange(vocab_size) for _ in range(count)))
        start = time.perf_counter()
        for at in range(0, count, step):
            size = min(step, count - at)
            chunk = (llama.llama_token * size)(*tokens[at : at + size])
            # A batch made this way asks for the logits of its last token only.
            if llama.llama_decode(context, llama.llama_batch_get_one(chunk, size)) != 0:
                sys.exit("llama.cpp failed to decode")
            llama.llama_synchronize(context)
        return time.perf_counter() - start

    def run(count, step):
        """The same, behind as many tokens as --depth says."""
        llama.llama_memory_seq_rm(llama.llama_get_memory(context), 0, arguments.depth, -1)
        return decode(count, step)

    decode(arguments.depth, 2048)
    rows = {}
    for name, count, step, warm_up in tests(arguments):
        run(warm_up, step)
        rows[name] = [count / run(count, step) for _ in range(arguments.repetitions)]
    info = llama.llama_print_system_info().decode()
    print(json.dumps({"rows": rows, "version": llama.__version__, "system_info": info}))


def tests(arguments):
    """Name, tokens, tokens a step and tokens of the warm-up of each test, named as llm-bench has them."""
    behind = f"@d{arguments.depth}" if arguments.depth else ""
    each = [
        (f"pp{arguments.prompt}{behind}", arguments.prompt, 2048, min(arguments.prompt, 512)),
        (f"tg{arguments.generate}{behind}", arguments.generate, 1, 1),
    ]
    return [test for test in each if test[1]]


def run_json(command, environment=None):
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stderr.strip()}")
    return json.loads(result.stdout)


def run_peer(python, arguments):
    options = ["--worker", "--model", arguments.model, "--threads", str(arguments.threads)]
    options += ["-p", str(arguments.prompt), "-n", str(arguments.generate), "-d", str(arguments.depth)]
    # -P: this file has the name of the package that the worker imports.
    return run_json([python, "-P", __file__, *options, "-r", str(arguments.repetitions)])


def run_ours(arguments):
    command = [arguments.kernelforge, "llm-bench", "--json", "-m", arguments.model]
    command += ["-t", str(arguments.threads), "-d", str(arguments.depth), "-r", str(arguments.repetitions)]
    answer = run_json(command + ["-p", str(arguments.prompt), "-n", str(arguments.generate)])
    rows = answer["rows"] if isinstance(answer, dict) else answer
    return {row["test"]: row["samples"] for row in rows}


def cpu_name():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def default_model():
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    home = os.environ.get("KERNELFORGE_HOME") or Path(cache) / "kernelforge"
    return str(Path(home) / "models" / "smollm2.gguf")


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-m", "--model", default=default_model(), help="GGUF file")
    parser.add_argument("--kernelforge", default=str(ROOT / "build/release/bin/kernelforge"))
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-p", "--prompt", type=int, default=512, help="tokens; 0: no such test")
    parser.add_argument("-n", "--generate", type=int, default=128, help="tokens; 0: no such test")
    parser.add_argument("-d", "--depth", type=int, default=0, help="tokens in the cache before these")
    parser.add_argument("--amx", action="store_true", help="a llama.cpp that uses AMX")
    parser.add_argument("-r", "--repetitions", type=int, default=3, help="samples in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--build-jobs", type=int, default=os.cpu_count())
    parser.add_argument("--peer-only", action="store_true", help="time llama.cpp alone")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    if arguments.worker:
        peer_worker(arguments)
        return
    if not Path(arguments.model).is_file():
        sys.exit(f"{arguments.model} is not there; run scripts/models/fetch.py smollm2")
    python = build_peer(arguments.build_jobs, arguments.amx)
    load = os.getloadavg()[0]
    rounds, peer = [], None
    for index in range(arguments.rounds):
        row = {}
        sides = ["ours", "llama.cpp"] if index % 2 else ["llama.cpp", "ours"]
        for side in sides:
            if side == "llama.cpp":
                peer = run_peer(python, arguments)
                row[side] = peer["rows"]
            elif not arguments.peer_only:
                row[side] = run_ours(arguments)
        rounds.append(row)
        print(f"round {index + 1} of {arguments.rounds} done", file=sys.stderr)

    report = {
        "cpu": cpu_name(),
        "threads": arguments.threads,
        "load_before": load,
        "model": Path(arguments.model).name,
        "peer": {"version": peer["version"], "system_info": peer["system_info"]},
        "tests": {},
    }
    for test, *_ in tests(arguments):
        medians = {
            side: [statistics.median(row[side][test]) for row in rounds] for side in rounds[0]
        }
        result = {
            side: {"median_tokens_per_s": statistics.median(values), "rounds": values}
            for side, values in medians.items()
        }
        if not arguments.peer_only:
            result["ratios"] = [a / b for a, b in zip(medians["ours"], medians["llama.cpp"])]
            result["median_ratio"] = statistics.median(result["ratios"])
        report["tests"][test] = result

    if arguments.json:
        print(json.dumps(report))
        return
    print(f"{report['cpu']}, {arguments.threads} threads, load {load:.1f}, {report['model']}")
    print(f"llama-cpp-python {peer['version']}: {peer['system_info'].strip(' |')}")
    for test, result in report["tests"].items():
        line = f"{test:12} llama.cpp {result['llama.cpp']['median_tokens_per_s']:8.1f} tokens/s"
        if not arguments.peer_only:
            ratios = " ".join(f"{ratio:.3f}" for ratio in result["ratios"])
            line += f"   kernelforge {result['ours']['median_tokens_per_s']:8.1f} tokens/s"
            line += f"   ratio {result['median_ratio']:.3f} (rounds: {ratios})"
        print(line)


if __name__ == "__main__":
    main()
