"""The lit suite: every op and pass before and after, through the command-line tools.

ctest runs it; by hand, from the repository's folder, for one file (or a folder):
    .venv/bin/lit -v --param bin=build/release/bin tests/lit/ir/types.mlir
%opt is kernelforge-opt, %kernelforge the command line; FileCheck, not and split-file are LLVM's.
"""

import os
import re
import subprocess
import tempfile

import lit.formats

root = os.path.dirname(os.path.abspath(__file__))
# Tests run in folders of their own, where a path relative to the caller's leads nowhere.
binaries = os.path.abspath(
    lit_config.params.get("bin", os.path.join(root, "../../build/release/bin"))
)

config.name = "kernelforge"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.test_source_root = root
config.test_exec_root = lit_config.params.get("out") or tempfile.mkdtemp(prefix="kernelforge-lit-")

# Longer names first: %kernelforge would also match the start of a longer one.
config.substitutions += [
    # Types in full where an operation has them, not as aliases at the top (as %plain-opt has them).
    ("%plain-opt", os.path.join(binaries, "kernelforge-opt")),
    ("%opt", os.path.join(binaries, "kernelforge-opt") + " --mlir-print-local-scope"),
    ("%kernelforge", os.path.join(binaries, "kernelforge")),
    (r"\bFileCheck\b", "FileCheck-19"),
    (r"\bsplit-file\b", "split-file-19"),
    (r"\bnot\b(?= )", "not-19"),
]
# target-cpu, target-cuda, ...: targets of this build.
about = subprocess.run(
    [os.path.join(binaries, "kernelforge"), "compile", "--help"], capture_output=True, text=True
)
kinds = re.search(r"what to make code for: (.*)", about.stdout)
config.available_features |= {f"target-{kind}" for kind in kinds.group(1).split(" or ")}

config.environment["PATH"] = os.environ["PATH"]
config.environment["HOME"] = os.environ.get("HOME", "/")
# The suite reads no records and writes no objects of the user's.
config.environment["KERNELFORGE_HOME"] = os.path.join(config.test_exec_root, "home")
for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
    if name in os.environ:
        config.environment[name] = os.environ[name]
