#!/usr/bin/env python3
"""Follows docs/adding-an-architecture.md to the letter: makes its edits in a copy, compiles what they change, and holds
the logits of a model of the new family to those of transformers.

usage: adding_an_architecture_test.py BUILD_FOLDER
"""

import re
import sys

import numpy as np

from page import ROOT, Overlay, Page, fail, run

TOLERANCE = 2e-4  # of the largest |logit|, as tests/golden/formats_test.py has it
MODEL = ROOT / "tests" / "golden" / "data" / "tiny-starcoder2"


def main():
    page = Page("adding-an-architecture.md")
    missing = [name for name in re.findall(r"`((?:kernelforge|tests|scripts)/[\w./-]+)`", page.text)
               if not (ROOT / name).exists() and name not in dict(page.files)]  # fmt: skip
    if missing:
        fail(f"the page names {', '.join(missing)}, which is not there")
    overlay = Overlay(page, sys.argv[1])
    if len(overlay.changed) != 2:
        fail(f"it takes more than a file and a line: {overlay.changed}")

    refused = run([overlay.build / "bin" / "kernelforge", "llm-inference", "-m", MODEL, "-p", "x"], expected=2)
    if "Starcoder2ForCausalLM\" is not supported" not in refused:
        fail(f"the family is built in, or refused otherwise: {refused}")
    like = "kernelforge/llm/architectures/Architectures.cpp"
    sources = {path for path in overlay.changed if path.endswith(".cpp")} | {like}
    overlay.compile(sorted(sources), like=like)
    kernelforge = overlay.link("kernelforge")

    for command in page.commands():
        name, *words = re.findall(r'"[^"]*"|\S+', command)
        if name != "kernelforge":
            fail(f"unknown command: {command}")
        run([kernelforge, *(word.strip('"') for word in words)], cwd=ROOT)

    golden = np.load(MODEL / "logits.npz")
    scale = np.abs(golden["logits"]).max(axis=1, keepdims=True)
    file = overlay.folder / "logits.npy"
    for chunk in ([], ["--prefill-chunk", "1"]):
        run([kernelforge, "llm-inference", "-m", MODEL, "--prompt-file", MODEL / "prompt.txt", "-n", "1",
             "--logits", file, "--numerics", "exact", "--kv-cache", "f32", *chunk])  # fmt: skip
        logits = np.load(file)
        if logits.shape != golden["logits"].shape:
            fail(f"logits of {logits.shape}, not {golden['logits'].shape}")
        worst = np.max(np.abs(logits - golden["logits"]) / scale)
        print(f"{' '.join(chunk)} worst difference {worst:.2e} x max |logit|")
        if not worst <= TOLERANCE:
            fail(f"logits are off by {worst} of the largest")
    print(f"{page.path.name}: {len(overlay.changed)} files, {len(page.commands())} commands, right")


if __name__ == "__main__":
    main()
