#!/usr/bin/env python3
"""Follows docs/adding-a-pass.md to the letter: makes its edits and files in a copy, compiles what they
change, runs its commands and its test.

usage: adding_a_pass_test.py BUILD_FOLDER
"""

import shlex
import sys

from page import Overlay, Page, fail, run

TEST = "tests/lit/passes/pick-rows-first.mlir"


def main():
    page = Page("adding-a-pass.md")
    overlay = Overlay(page, sys.argv[1])
    folder, changed = overlay.folder, overlay.changed
    overlay.tablegen("kernelforge/passes/Passes.td", ("Passes.h.inc", "-gen-pass-decls -name=KernelForge"))
    sources = {path for path in changed if path.endswith(".cpp")} | {"tools/kernelforge-opt/kernelforge-opt.cpp"}
    overlay.compile(sorted(sources), like="kernelforge/passes/MergeMatmuls.cpp")
    programs = {name: overlay.link(name) for name in ("kernelforge", "kernelforge-opt")}

    commands = [shlex.split(command) for command in page.commands()]
    _, fused, _ = texts = [run([programs[name], *words], cwd=folder) for name, *words in commands]
    # As lit runs it, with types in full where an operation has them.
    name, *words = commands[0]
    alone = run([programs[name], *words, "--mlir-print-local-scope"], cwd=folder)
    check = run(["FileCheck-19", folder / TEST], input=alone)
    # The whole compiler: one kernel, of the rows that were picked.
    if fused.count("transformer.kernel") != 1 or fused.index("gather_rows") > fused.index("<gelu>"):
        fail(f"the pass does not run before fusion:\n{fused}")
    dumps = [path.name for path in (folder / "dumps").rglob("*") if "pick-rows-first" in path.name]
    if not dumps:
        fail(f"it changed nothing that is seen: {list((folder / 'dumps').rglob('*'))}")
    print(f"{page.path.name}: {len(changed)} files, {len(texts)} commands{check}")


if __name__ == "__main__":
    main()
