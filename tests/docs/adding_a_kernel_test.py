#!/usr/bin/env python3
"""Follows docs/adding-a-kernel.md to the letter: saves its file, runs its commands, checks that the
variant is in the registry and verified. Then breaks the variant and checks that this is found.

usage: adding_a_kernel_test.py BUILD_FOLDER
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "adding-a-kernel.md"


def blocks(language):
    """The page's code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


def follow(command, folder):
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "KERNELFORGE": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def expect(condition, what, run):
    if not condition:
        sys.exit(f"{what}: exit code {run.returncode}\n{run.stdout}{run.stderr}")


def main():
    (source,) = blocks("cpp")
    build, use = (block.strip() for block in blocks("sh"))
    show, verify = use.split("\n")
    # The page builds against the release build; a test belongs to a build folder of its own.
    build = build.replace("$KERNELFORGE/build/release", sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "naive_matmul.cpp"
        file.write_text(source)
        run = follow(build, folder)
        expect(run.returncode == 0 and not run.stderr, "the page's file does not build", run)
        run = follow(show, folder)
        names = [line.split(": ")[0] for line in run.stdout.splitlines()]
        expect(run.returncode == 0 and names[0] == "reference", "no built-in variants", run)
        expect(names[-1] == "naive", "the page's variant is not in the registry", run)
        run = follow(verify, folder)
        verified = re.search(r"^naive: verified on (\d+) of (\d+) problems$", run.stdout, re.M)
        expect(run.returncode == 0 and verified, "the page's variant is not verified", run)
        expect(0 < int(verified[1]) < int(verified[2]), "it supports all but transposed ones", run)

        wrong = source.replace("float sum = 0;", "float sum = 1e-3f;")
        expect(wrong != source, "the page has no sum to break", run)
        file.write_text(wrong)
        run = follow(build + " && " + verify, folder)
        expect(
            run.returncode == 1 and "variant is wrong" in run.stderr,
            "a wrong variant was verified",
            run,
        )
    print(f"{PAGE.name}: built, listed and {verified[0]}")


if __name__ == "__main__":
    main()
