#!/usr/bin/env python3
"""Follows docs/adding-an-op.md to the letter: makes its edits in a copy, compiles what they change, and
runs the new operation by its definition, on the processor (fused and not), and as code for GPUs.

usage: adding_an_op_test.py BUILD_FOLDER
"""

import re
import shutil
import sys

import numpy as np

from page import ROOT, Overlay, Page, fail, run

UNFUSED = ("builtin.module(kernelforge-mark-weights,kernelforge-assign-layouts,"
           "kernelforge-fuse{fuse=false})")  # fmt: skip


def expect(text, pattern, what):
    if not re.search(pattern, text, re.S):
        fail(f"{what}: no {pattern} in\n{text}")


def main():
    page = Page("adding-an-op.md")
    overlay = Overlay(page, sys.argv[1])
    folder = overlay.folder
    product = {path for path in overlay.changed if path.startswith("kernelforge/")}
    cases = {path for path in product if path.endswith("/Epilogue.cpp")}
    if len(product - cases) > 4 or len(cases) != 2:
        fail(f"it takes more than four files and a case for each target: {sorted(product)}")

    for path in (ROOT / "kernelforge" / "ir").glob("*.td"):
        if not (folder / "kernelforge" / "ir" / path.name).exists():
            shutil.copy(path, folder / "kernelforge" / "ir")
    overlay.tablegen("kernelforge/ir/TransformerOps.td", ("TransformerOps.h.inc", "-gen-op-decls"),
                     ("TransformerOps.cpp.inc", "-gen-op-defs"))  # fmt: skip
    # What registers operations, and what the page changes.
    sources = {path for path in product if path.endswith(".cpp")} | {"kernelforge/ir/Transformer.cpp"}
    overlay.compile(sorted(sources), like="kernelforge/ir/Transformer.cpp")
    kernelforge, opt = overlay.link("kernelforge"), overlay.link("kernelforge-opt")

    # The page's commands.
    texts = []
    for command in page.commands():
        name, *words = command.split()
        if name != "kernelforge":
            fail(f"unknown command: {command}")
        texts.append(run([kernelforge, *words], cwd=folder))
    compiled, interpreted, fused, wgsl, ptx = texts
    expect(fused, r"transformer\.kernel @clamp_matmul_clamp\b.*transformer\.clamp", "it is not fused")
    if fused.count("transformer.kernel") != 1:
        fail(f"there is more than one kernel:\n{fused}")
    expect(wgsl, r"-0\.5.*0\.25|0\.25.*-0\.5", "no clamping in WGSL")
    expect(ptx, r"0f3E800000|0f3e800000", "no clamping in PTX")

    # Values, held against NumPy: some below, some above, some between, and a row of NaN.
    rows = np.random.default_rng(1).standard_normal((5, 64)).astype(np.float32)
    rows[3, 7] = np.nan
    weight = np.random.default_rng(2).standard_normal((48, 64)).astype(np.float32) / 8
    np.save(folder / "x.npy", rows)
    np.save(folder / "w.npy", weight)
    right = np.clip(rows.astype(np.float64) @ weight.T.astype(np.float64), -0.5, 0.25)
    if not (right == -0.5).any() or not (right == 0.25).any() or len(np.unique(right)) < 9:
        fail("the data shows nothing")
    apart = run([opt, "clamp.mlir", f"--pass-pipeline={UNFUSED}"], cwd=folder)
    (folder / "apart.mlir").write_text(apart)
    if apart.count("transformer.kernel") != 2:
        fail(f"not two kernels:\n{apart}")
    for file, target in (("clamp.mlir", "cpu"), ("apart.mlir", "cpu"), ("clamp.mlir", "reference")):
        run([kernelforge, "compile", file, "--run", "--target", target, "--size", "rows=5",
             "--input", "x.npy", "--input", "w.npy", "--output", "y.npy"], cwd=folder)  # fmt: skip
        result = np.load(folder / "y.npy")
        if not np.allclose(result, right, rtol=0, atol=1e-5, equal_nan=True):
            fail(f"{file} on {target} is off by {np.nanmax(np.abs(result - right))}, or lost NaN")
    refused = (folder / "clamp.mlir").read_text().replace("max = 0.25", "max = -3.0")
    (folder / "refused.mlir").write_text(refused)
    text = run([kernelforge, "compile", "refused.mlir", "--run"], expected=2, cwd=folder)
    expect(text, r"transformer\.clamp.*min not above max", "not refused by its verifier")
    print(f"{page.path.name}: {len(product)} files, {len(texts)} commands, right on cpu and reference")


if __name__ == "__main__":
    main()
