#!/usr/bin/env python3
"""The code in docs/adding-an-architecture.md is the code of the family that it goes through."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "kernelforge" / "llm" / "architectures"


def main():
    page = (ROOT / "docs" / "adding-an-architecture.md").read_text()
    sources = [(FOLDER / name).read_text() for name in ("Gpt2.cpp", "Architectures.def")]
    blocks = re.findall(r"^```cpp\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    if len(blocks) < 8:
        print(f"the page has {len(blocks)} pieces of code, 8 at least are expected")
        return 1
    strangers = [block for block in blocks if not any(block in source for source in sources)]
    for block in strangers:
        print(f"not in {FOLDER}:\n{block}")
    names = re.findall(r"`((?:kernelforge|tests|scripts)/[\w./-]+)`", page)
    missing = [name for name in names if not (ROOT / name).exists()]
    for name in missing:
        print(f"the page names {name}, which is not there")
    return 1 if strangers or missing else 0


if __name__ == "__main__":
    sys.exit(main())
