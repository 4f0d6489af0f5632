#!/usr/bin/env python3
"""Runs a program over the models of make_bad_models.py.

    run_bad_models.py [--every N] FOLDER COMMAND [ARGUMENTS...]

Every {} in the arguments is replaced by a model's path; without one it is appended. A malformed
model must end with exit code 2, exactly one line on stderr that matches its expectation, no
sanitizer report, within the limits of time and memory; a sound model with exit code 0. The models
are made first where FOLDER has none, or with --make. With --every, one of N malformed models is enough. Prints each failure and a summary; exit code 1
on a failure.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

SANITIZER = re.compile(r"Sanitizer|runtime error:|SUMMARY:")


def check(command, path, expect, limits):
    """What is wrong with a run of the program, or None."""
    command = [part.replace("{}", str(path)) for part in command]
    if str(path) not in " ".join(command):
        command.append(str(path))
    options = [os.environ.get("ASAN_OPTIONS", ""), f"hard_rss_limit_mb={limits.memory}"]
    environment = {**os.environ, "ASAN_OPTIONS": ":".join(filter(None, options))}

    def limit():  # AddressSanitizer, which reserves terabytes, has a limit of its own
        if not limits.sanitized:
            size = limits.memory << 20
            resource.setrlimit(resource.RLIMIT_DATA, (size, size))

    try:
        run = subprocess.run(
            command, capture_output=True, timeout=limits.seconds, env=environment,
            preexec_fn=limit, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"took more than {limits.seconds} s"
    try:
        stderr = run.stderr.decode()
    except UnicodeDecodeError:
        return f"stderr is no UTF-8: {run.stderr[-300:]!r}"
    if SANITIZER.search(stderr):
        return "sanitizer report:\n" + stderr[:3000]
    if expect is None:
        return None if run.returncode == 0 else f"exit code {run.returncode}: {stderr.strip()}"
    if run.returncode != 2:
        return f"exit code {run.returncode}, must be 2: {stderr.strip()}"
    lines = stderr.splitlines()
    if len(lines) != 1 or not lines[0].startswith("kernelforge: error: "):
        return f"must print one error line: {stderr!r}"
    if any(ord(c) < 32 or ord(c) == 127 for c in lines[0]):
        return f"control characters in {lines[0]!r}"
    if not re.search(expect, lines[0]):
        return f"/{expect}/ does not match: {lines[0]}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=5, help="limit for each model")
    parser.add_argument("--memory", type=int, default=1024, help="limit for each model in MiB")
    parser.add_argument("--sanitized", action="store_true", help="the program has AddressSanitizer")
    parser.add_argument("--every", type=int, default=1, help="one of so many malformed models")
    parser.add_argument("--make", action="store_true", help="make the models anew")
    parser.add_argument("--show", action="store_true", help="print every error line")
    parser.add_argument("folder", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    limits = parser.parse_args()
    if not limits.command:
        parser.error("no command")
    listing = limits.folder / "models.json"
    if limits.make or not listing.exists():
        import make_bad_models

        make_bad_models.make(limits.folder)

    models = json.loads(listing.read_text())
    malformed = [model for model in models if model["expect"] is not None]
    models = [*malformed[:: limits.every], *(model for model in models if model["expect"] is None)]
    failures = 0
    for model in models:
        problem = check(limits.command, limits.folder / model["path"], model["expect"], limits)
        if problem:
            failures += 1
            print(f"FAIL {model['name']} ({model['path']}): {problem}")
        elif limits.show:
            print(f"ok   {model['name']}")
    bad = sum(model["expect"] is not None for model in models)
    print(f"{bad} malformed, {len(models) - bad} sound: {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
