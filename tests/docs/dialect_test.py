#!/usr/bin/env python3
"""docs/dialect.md is what the definitions say, and its first module runs by the commands beside it.

usage: dialect_test.py --bin build/release/bin
"""

import re
import sys
import tempfile
from pathlib import Path

from page import ROOT, fail, run


def main():
    binaries = Path(sys.argv[2]).resolve()
    run([sys.executable, "-B", ROOT / "scripts" / "dialect_reference.py", "--check"])
    text = (ROOT / "docs" / "dialect.md").read_text()
    blocks = dict(reversed(re.findall(r"^```(mlir|sh)\n(.*?)^```", text, re.M | re.S)))  # the first of each
    if blocks["mlir"].count("\n") > 10:
        fail("the first module has more than ten lines")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "first.mlir").write_text(blocks["mlir"])
        outputs = []
        for command in blocks["sh"].strip().split("\n"):
            program, *words = command.split()
            outputs.append(run([binaries / program, *words], cwd=folder))
    if outputs[1].count("transformer.kernel") != 1:
        fail(f"the first module is not one kernel:\n{outputs[1]}")
    print("dialect.md: as defined, and its first module is one kernel that runs")


if __name__ == "__main__":
    main()
