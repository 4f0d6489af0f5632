"""Both sides as processes that answer lines of JSON, and rounds in which each side has a turn."""

import contextlib
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import install
import problems

#: After a turn threads of that side spin for about a millisecond and then sleep (install.environment).
PAUSE = 0.005
#: Seconds of calls in a turn.
BATCH = 0.03
#: Protocol of `kernelforge suite-worker` (kernelforge/eval/SuiteService.cpp).
PROTOCOL = 1
#: Attention of more arithmetic is not verified on our side: its f64 reference would take minutes.
MOST_VERIFIED = 1.2e10


class Side:
    """A process that is started when it is needed, and again where it has died."""

    def __init__(self, name, command, environment):
        self.name, self.command, self.environment = name, command, environment
        self.process = None

    def start(self):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([str(word) for word in self.command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True,
                                        env=self.environment)  # fmt: skip

    def line(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().strip().splitlines()
        self.close()
        raise RuntimeError(said[-1] if said else f"its process ended with code {code}")

    def ask(self, **request):
        if self.process is None:
            self.start()
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # line() says of what it died
        return self.line()

    def close(self):
        if self.process is None:
            return
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()
        self.process = None


class Ours(Side):
    """`kernelforge suite-worker`, which `compare --live` measures builds with. It verifies rows against f64."""

    def __init__(self, program, threads):
        super().__init__("ours", [program, "suite-worker"], install.environment("", threads))
        self.threads, self.version = threads, "that opened no row"

    def open(self, row, seed):
        """Why it cannot, or None."""
        self.close()  # memory of each row is placed anew
        verify = row["family"] != "attention" or problems.flops(row) <= MOST_VERIFIED
        answer = self.ask(command="open", protocol=PROTOCOL, suite={"name": "peers", "rows": [row]}, folder="",
                          filter="", threads=self.threads, seed=seed, mode="warm", batch_s=BATCH,
                          verify=verify)  # fmt: skip
        if not answer["ok"]:
            return answer["error"]["why"]
        build = answer["kernelforge"]
        self.version = f"{build['version']} of commit {build['git_commit'] or 'none'}"
        prepared = answer["rows"][0]
        if prepared["status"] != "ok":
            return f"{prepared['status']} {prepared.get('error', '')}".strip()
        self.about = {"error": prepared["accuracy"]["l2_rel"] if verify else None}
        return None

    def sample(self):
        answer = self.ask(command="measure", row=0)
        if not answer["ok"]:
            raise RuntimeError(answer["error"]["why"])
        return answer["ns"]


class Theirs(Side):
    """worker.py, in the peer's environment."""

    def __init__(self, name, threads):
        command = [install.python_of(name), Path(__file__).with_name("worker.py"), name, threads, BATCH]
        super().__init__(name, command, install.environment(name, threads))
        self.start()
        self.version = self.line()["version"]

    def start(self):
        restarted = self.process is None and hasattr(self, "version")
        super().start()
        if restarted:
            self.line()

    def open(self, row, seed):
        answer = self.ask(command="open", row=row, seed=seed)
        self.about = answer
        return answer.get("why")

    def sample(self):
        return self.ask(command="measure")["ns"]


def pin(threads):
    """Keeps this process, and those that it starts, to as many cores as there are threads."""
    allowed, cores, chosen = sorted(os.sched_getaffinity(0)), set(), []
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        core = topology.read_text() if topology.exists() else cpu
        if core not in cores:
            cores.add(core)
            chosen.append(cpu)
    if len(chosen) < threads:
        raise RuntimeError(f"there are {len(chosen)} cores for {threads} threads")
    os.sched_setaffinity(0, chosen[:threads])
    return chosen[:threads]


def in_turns(sides, rounds, seed):
    """Nanoseconds by side, or why a side gave up. Each round has one sample of each side; the order is random, and the
    next round has it the other way round."""
    order = random.Random(seed)
    samples = {side.name: [] for side in sides}
    turns = []
    for index in range(rounds + 1):
        turns = order.sample(sides, len(sides)) if index % 2 == 0 else turns[::-1]
        for side in turns:
            if isinstance(samples[side.name], str):
                continue
            time.sleep(PAUSE)
            try:
                ns = side.sample()
            except RuntimeError as error:
                samples[side.name] = str(error)
                continue
            if index:  # the first round warms up
                samples[side.name].append(ns)
    return samples


def compare(row, ours, peers, rounds, seed):
    """The row's report: of ours and of each peer the samples, of each peer also its ratios, its time over ours round by
    round, or why it cannot."""
    report = {"name": row["name"], "row": row, "peers": {}}
    ready = []
    for side in [ours, *peers]:
        try:
            why = side.open(row, seed)
        except RuntimeError as error:
            why = str(error)
        if why is None:
            ready.append(side)
        elif side is ours:
            return report | {"why": why}
        elif why:
            report["peers"][side.name] = {"why": why}
    samples = in_turns(ready, rounds, seed)
    if isinstance(samples["ours"], str):
        return report | {"why": samples["ours"]}
    report |= {"ours_ns": statistics.median(samples["ours"]), "samples": samples["ours"], **ours.about}
    for side in ready[1:]:
        if isinstance(samples[side.name], str):
            report["peers"][side.name] = {"why": samples[side.name]}
            continue
        ratios = [theirs / mine for mine, theirs in zip(samples["ours"], samples[side.name])]
        report["peers"][side.name] = {
            "ns": statistics.median(samples[side.name]), "ratio": statistics.median(ratios), "low": min(ratios),
            "high": max(ratios), "samples": samples[side.name], **side.about,
        }  # fmt: skip
    return report
