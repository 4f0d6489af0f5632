#!/usr/bin/env python3
"""Measures how often `kernelforge compare` is wrong: on two runs of one program, and on a row that was
made slower on purpose.

Takes hours, so it is no test of `make test`. What is done is kept in a file of JSON lines (--results)
and not done again with the same program, suite and, of stored reports, rounds; reports lie beside it.
The exit code is 0 where all that was asked for is measured and met. Needs nothing but Python:

    python3 bench/evaluation/honesty.py --results /tmp/honesty/results.jsonl
    python3 bench/evaluation/honesty.py --results ... --part live-aa --loaded --count 5

Parts: live-aa, live-slow5, live-slow10, stored-slow10, stored-aa; they take turns, so that a report of a
slowed row is measured between two of unchanged code, and compared with the one before it. A name with
`-loaded` is the same while another process loads the machine in bursts of random length. The slowed rows
are, in turn, one bound by computing, one by memory and one by a cache; they are taken from the first
stored report.
"""

import argparse
import hashlib
import json
import os
import random
import re
import stat
import subprocess
import sys
import time
from multiprocessing import Process
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OTHERS = 5  # rows beside the slowed one
LONGEST = 1800  # seconds of one command
ROUNDS, PATIENCE = 61, 4  # of a stored report

# Of each part: comparisons, factor of the slowed row, and what is asked for.
PARTS = {
    "live-aa": dict(count=40, false_rows=1, inconclusive=4),
    "live-slow5": dict(count=30, factor=1.05, found=27),
    "live-slow10": dict(count=30, factor=1.10, found=30),
    "stored-slow10": dict(count=30, factor=1.10, found=27),
    "stored-aa": dict(count=40, false_rows=1, inconclusive=4),
}


# ---------------------------------------------------------------------------- load


def burn(seconds):
    """Keeps a core and the memory busy; ends with its parent."""
    parent = os.getppid()
    end = time.monotonic() + seconds
    block = bytearray(32 << 20)
    while time.monotonic() < end and os.getppid() == parent:
        block[: len(block) // 2] = block[len(block) // 2 :]
        sum(range(20_000))


def load_in_bursts(seed):
    """Bursts on some of the cores with idle gaps between them, until the parent is gone."""
    draw = random.Random(seed)
    parent = os.getppid()
    end = time.monotonic() + LONGEST
    while time.monotonic() < end and os.getppid() == parent:
        length = min(draw.expovariate(1 / 2.0), 10)
        cores = draw.randint(1, len(os.sched_getaffinity(0)))
        burners = [Process(target=burn, args=(length,), daemon=True) for _ in range(cores)]
        for burner in burners:
            burner.start()
        for burner in burners:
            burner.join()
        time.sleep(min(draw.expovariate(1 / 4.0), 20))


class Load:
    """The load as a context; none where it is not wanted."""

    def __init__(self, wanted, seed):
        self.process = Process(target=load_in_bursts, args=(seed,)) if wanted else None

    def __enter__(self):
        if self.process:
            self.process.start()

    def __exit__(self, *_):
        if self.process:
            self.process.terminate()
            self.process.join()


# ---------------------------------------------------------------------------- runs


def pattern_for(names):
    """A pattern that matches these names only, in the dialects of C++ and of LLVM."""
    escaped = (re.sub(r"([\\^$.|?*+()\[\]{}])", r"\\\1", name) for name in names)
    return "^(" + "|".join(escaped) + ")$"


def suite_key(suite):
    """What tells a suite from others, in names of files: a user's own is a file that may change."""
    path = Path(suite)
    if not path.is_file():
        return suite
    return f"{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"


class Bench:
    def __init__(self, options):
        self.options = options
        self.binary = Path(options.binary).resolve()
        self.digest = hashlib.sha256(self.binary.read_bytes()).hexdigest()[:16]
        self.suite = suite_key(options.suite)
        self.file = Path(options.results)
        self.folder = self.file.parent / f"reports-{self.digest}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.done = {}
        unknown = 0
        if self.file.exists():
            for line in self.file.read_text().splitlines():
                try:
                    result = json.loads(line)
                except json.JSONDecodeError:
                    continue  # a line that was cut off when the script was stopped
                settings = self.settings(result["part"])
                if all(result.get(name) == value for name, value in settings.items()):
                    self.done[result["part"], result["index"]] = result
                unknown += result["binary"] == self.digest and "suite" not in result
        if unknown:
            print(f"honesty: {unknown} results do not say of which suite: left out", file=sys.stderr)

    def settings(self, part):
        """What a result of this part was measured with. Rounds are those of stored reports."""
        rounds = self.options.rounds if part.startswith("stored") else None
        return {"binary": self.digest, "suite": self.suite, "rounds": rounds}

    def run(self, arguments, codes=(0,)):
        """Standard output of the program, or of another that stands for it."""
        result = subprocess.run(
            [str(a) for a in arguments], stdout=subprocess.PIPE, text=True, timeout=LONGEST
        )
        if result.returncode not in codes:
            sys.exit(f"honesty: {' '.join(map(str, arguments))} ended with {result.returncode}")
        return result.stdout

    def report(self, name, *more):
        """A stored report, measured where it is not there."""
        path = self.folder / f"{name}-{self.suite}-{self.options.rounds}-{PATIENCE}.json"
        if not path.exists():
            partial = path.with_suffix(".part.json")
            partial.unlink(missing_ok=True)
            command = [self.binary, "benchmark-suite", "--suite", self.options.suite, "--no-vendors"]
            how = ["--rounds", self.options.rounds, "--patience", PATIENCE, "--out", partial]
            self.run([*command, *how, *more], codes=(0, 1))
            partial.rename(path)
        return path

    def rows(self):
        """Names of all rows, and those to slow down by what binds them."""
        report = json.loads(self.report("aa-0").read_text())
        rows = [r for r in report["rows"] if r["status"] == "ok" and "median_ns" in r]
        kinds = {
            "compute": [r for r in rows if r["bound"] == "compute"],
            "memory": [r for r in rows if r["anchor"] == "read_memory"],
            "cache": [r for r in rows if r["bound"] == "memory" and r["anchor"] != "read_memory"],
        }
        slowed = []
        for kind, candidates in kinds.items():
            named = getattr(self.options, kind)
            if named:
                slowed.append(named)
            elif candidates:
                # The longest call is the least disturbed by what surrounds it.
                slowed.append(max(candidates, key=lambda r: r["median_ns"])["name"])
            else:
                print(f"honesty: no row is bound by {kind}: left out", file=sys.stderr)
        return [r["name"] for r in rows], slowed

    def choose(self, index):
        """The row to slow down this time, and a filter for it and some others."""
        names, slowed = self.rows()
        if not slowed:
            sys.exit("honesty: there is no row to slow down")
        name = slowed[index % len(slowed)]
        others = [n for n in names if n not in slowed]
        some = others[:: max(1, len(others) // OTHERS)][:OTHERS]
        return name, pattern_for([*slowed, *some])

    def wrapper(self, name, factor):
        """A program that is this one with a slowed row."""
        path = self.folder / "slowed.sh"
        path.write_text(f"#!/bin/sh\nexec '{self.binary}' \"$@\" --slow '{name}={factor}'\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def compare(self, *arguments):
        return json.loads(self.run([self.binary, "compare", "--json", *arguments], codes=(0, 1)))

    def one(self, part, index, loaded):
        """One comparison of a part: (its JSON, the row that was slowed or None)."""
        factor = PARTS[part].get("factor")
        name, pattern = self.choose(index) if factor else (None, "")
        suffix = "-loaded" if loaded else ""
        if part.startswith("live"):
            new = self.wrapper(name, factor) if factor else self.binary
            more = ["--filter", pattern] if factor else []
            suite = ["--suite", self.options.suite, "--seed", index]
            return self.compare("--live", self.binary, new, *suite, *more), name
        # Each report of unchanged code is compared with the one before it.
        before = self.report(f"aa{suffix}-{index}")
        if factor:  # all rows of the suite: beside others a row is not quite what it is alone
            slow = ["--slow", f"{name}={factor}"]
            return self.compare(before, self.report(f"slow{suffix}-{index}", *slow)), name
        return self.compare(before, self.report(f"aa{suffix}-{index + 1}")), name

    def measure(self, parts, loaded):
        """All comparisons of some parts, in turns."""
        if any(PARTS[part].get("factor") or part.startswith("stored") for part in parts):
            self.rows()  # on a machine without load
        counts = {part: min(PARTS[part]["count"], self.options.count or 10**6) for part in parts}
        for number in range(max(counts.values())):
            for part in parts:
                if number < counts[part]:
                    self.measure_one(part, self.options.first + number, loaded)

    def measure_one(self, part, index, loaded):
        """A comparison, where it is not done yet, and a line of JSON that says what came of it."""
        key = part + ("-loaded" if loaded else "")
        if (key, index) in self.done:
            return
        start = time.monotonic()
        with Load(loaded, index):
            comparison, slowed = self.one(part, index, loaded)
        changed = {
            r["name"]: r["verdict"]
            for r in comparison["rows"]
            if r["verdict"] in ("regressed", "improved")
        }
        target = next((r for r in comparison["rows"] if r["name"] == slowed), {})
        result = {
            **self.settings(part),
            "part": key,
            "index": index,
            "seconds": round(time.monotonic() - start, 1),
            "rows": len(comparison["rows"]),
            "verdict": comparison["verdict"],
            "inconclusive_rows": sum(r["verdict"] == "inconclusive" for r in comparison["rows"]),
            "false_rows": {n: v for n, v in changed.items() if n != slowed},
            "slowed": slowed,
            "found": changed.get(slowed) == "regressed" if slowed else None,
            "ratio": target.get("ratio"),
            "ci95": target.get("ci95"),
        }
        self.done[key, index] = result
        with self.file.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{key} {index}: {comparison['verdict']}", file=sys.stderr)


# ---------------------------------------------------------------------------- summary


def summary(done, wanted):
    """A table of the wanted parts and of others that have results. Whether all of it is measured and
    what is asked for was met."""
    print("| part | comparisons | rows | false rows | inconclusive | found | s each | asked for | met |")
    print("|---|--:|--:|--:|--:|--:|--:|---|---|")
    all_met = True
    for part in [p + suffix for suffix in ("", "-loaded") for p in PARTS]:
        results = [r for (key, _), r in sorted(done.items()) if key == part]
        if not results and part not in wanted:
            continue
        want = PARTS[part.removesuffix("-loaded")]
        false_rows = sum(len(r["false_rows"]) for r in results)
        inconclusive = sum(r["verdict"] == "inconclusive" for r in results)
        found = sum(bool(r["found"]) for r in results)
        seconds = sum(r["seconds"] for r in results) / max(len(results), 1)
        if "factor" in want:
            met = found >= want["found"]
            asked = f"{want['found']} of {want['count']} found"
            found = str(found)
        else:
            met = false_rows <= want["false_rows"] and inconclusive <= want["inconclusive"]
            asked = f"{want['false_rows']} false row, {want['inconclusive']} inconclusive at most"
            found = "-"
        if not results:
            verdict = "not measured"
        elif len(results) < want["count"]:
            verdict = "no: not all measured"
        else:
            verdict = "yes" if met else "no"
        all_met &= verdict == "yes"
        rows = sum(r["rows"] for r in results)
        print(
            f"| {part} | {len(results)} | {rows} | {false_rows} | {inconclusive} | {found} "
            f"| {seconds:.0f} | {asked} | {verdict} |"
        )
    return all_met


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--binary", default=ROOT / "build/release/bin/kernelforge")
    parser.add_argument("--suite", default="smoke")
    parser.add_argument("--results", required=True, help="file of JSON lines; reports lie beside it")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="rounds of stored reports (%(default)s)"
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="default: all")
    parser.add_argument("--loaded", action="store_true", help="while the machine is loaded in bursts")
    parser.add_argument("--count", type=int, help="comparisons of each part at most")
    parser.add_argument("--first", type=int, default=0, help="number of the first comparison")
    parser.add_argument("--summary", action="store_true", help="measure nothing, print the table")
    for kind in ("compute", "memory", "cache"):
        parser.add_argument(f"--{kind}", metavar="ROW", help=f"the row to slow that {kind} binds")
    options = parser.parse_args()
    bench = Bench(options)
    parts = [part for part in PARTS if part in (options.part or PARTS)]
    if not options.summary:
        bench.measure(parts, options.loaded)
    wanted = [part + ("-loaded" if options.loaded else "") for part in parts]
    return 0 if summary(bench.done, wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
