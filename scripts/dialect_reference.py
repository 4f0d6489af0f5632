#!/usr/bin/env python3
"""Writes docs/dialect.md, the reference of the transformer dialect, from its definitions in kernelforge/ir.

usage: dialect_reference.py [--check]

With --check nothing is written: exit code 1 where the page is not what the definitions say.
"""

import argparse
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "dialect.md"
DEFINITIONS = ROOT / "kernelforge" / "ir" / "TransformerOps.td"

# Kinds in the order of the page: what they are called there, and what ir/OpKind.h says of them.
KINDS = {
    "Matmul": "a root: kernels are formed around it",
    "Attention": "a root: kernels are formed around it",
    "Elementwise": "rowwise: each element from those at the same place; may be an epilogue",
    "Pairs": "rowwise: each element from that at the same place and one more of its head; may be an epilogue",
    "Statistics": "rowwise: each row is read as a whole first",
    "PicksRows": "rowwise: a row that an index picks",
    "Stores": "rowwise: its rows end in memory; may be an epilogue",
    "Packs": "once for each weight, before anything reads it",
    "EndsStep": "ends a step: always a kernel of its own",
    "Composite": "taken apart before kernels are formed",
    None: "structure",
}


def records():
    """What TableGen makes of the definitions."""
    text = subprocess.run(
        ["llvm-tblgen-19", "--dump-json", f"-I{ROOT}", "-I/usr/lib/llvm-19/include", str(DEFINITIONS)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return json.loads(text)


def prose(text):
    return textwrap.dedent(text or "").strip()


def sentence(text):
    capital = text[:1] if re.match(r"\w [^\w\s]", text) else text[:1].upper()  # "a + b" stays
    return capital + text[1:] + ("" if text.endswith(".") else ".")


def syntax(text):
    """An assembly format on lines as it was written."""
    return textwrap.dedent(text).strip()


class Reference:
    def __init__(self, definitions):
        self.all = definitions

    def record(self, reference):
        return self.all[reference["def"]]

    def named(self, dag):
        """(name, record) of what a dag holds."""
        return [(name, self.record(value)) for value, name in dag["args"] if isinstance(value, dict)]

    def isA(self, record, name):
        return name in record["!superclasses"]

    def attribute(self, record):
        """What an attribute holds, and what it is where it is not given."""
        base = record
        while base.get("baseAttr"):
            base = self.record(base["baseAttr"])
        text = base.get("summary") or ""
        text = re.sub(r" attribute$", "", text).replace("signless integer", "integer")
        text = {"unit": "there or not", "any type": "a type"}.get(text, text)
        if "enum" in base and base["enum"]:
            cases = [self.record(case)["str"] for case in self.record(base["enum"])["enumerants"]]
            text = " or ".join(f"`{case}`" for case in cases)
        if text == "there or not":
            return text
        if record.get("defaultValue"):
            text += f"; {record['defaultValue']} where it is not given"
        elif record.get("isOptional"):
            text += "; may be left out"
        return text

    def values(self, dag):
        """The rows of a table of operands or results."""
        for name, record in self.named(dag):
            if self.isA(record, "AttrConstraint"):
                continue
            how = ", several" if self.isA(record, "Variadic") else ""
            how = ", may be left out" if self.isA(record, "Optional") else how
            while record.get("baseType") or record.get("constraint"):
                record = self.record(record.get("baseType") or record["constraint"])
            yield name, re.sub(r" of 32-bit (float or|signless) .* values$", "", record["summary"]) + how

    def operation(self, op):
        name = f"transformer.{op['opName']}"
        lines = [f"### `{name}`", "", sentence(op["summary"]), ""]
        if op.get("assemblyFormat"):
            text = syntax(op["assemblyFormat"]).replace("\n", "\n    ")
            lines += ["```", f"{name} {text}", "```", ""]
        if prose(op.get("description")):
            lines += [prose(op["description"]), ""]
        rows = [("operand", *value) for value in self.values(op["arguments"])]
        rows += [
            ("attribute", attribute, self.attribute(record))
            for attribute, record in self.named(op["arguments"])
            if self.isA(record, "AttrConstraint") and not self.isA(record, "SymbolNameAttr")
        ]
        rows += [("result", *value) for value in self.values(op["results"])]
        if rows:
            lines += ["| | | |", "|---|---|---|"]
            lines += [f"| {kind} | `{name}` | {text} |" for kind, name, text in rows] + [""]
        if op.get("isPrologue"):
            lines += ["It may be a prologue of a matmul.", ""]
        return lines

    def definitions(self, title, base):
        """Attributes or types of the dialect."""
        lines = [f"## {title}", ""]
        for record in self.instances(base):
            mnemonic = f"{'#' if base == 'AttrDef' else '!'}transformer.{record['mnemonic']}"
            lines += [f"### `{mnemonic}`", "", sentence(record["summary"]), ""]
            if record.get("assemblyFormat") and not record.get("enum"):
                lines += ["```", f"{mnemonic} {syntax(record['assemblyFormat'])}", "```", ""]
            if record.get("enum"):
                cases = [self.record(case)["str"] for case in self.record(record["enum"])["enumerants"]]
                lines += ["One of " + ", ".join(f"`{case}`" for case in cases) + ".", ""]
            elif prose(record.get("description")):
                lines += [prose(record["description"]), ""]
        return lines

    def instances(self, base):
        return [self.all[name] for name in self.all["!instanceof"].get(base, [])
                if name.startswith("Transformer_")]

    def page(self):
        dialect = self.all["Transformer_Dialect"]
        lines = ["<!-- Made by scripts/dialect_reference.py from kernelforge/ir/*.td: change those. -->",
                 "# The transformer dialect", "", sentence(dialect["summary"]), "",
                 prose(dialect["description"]), ""]
        for kind, meaning in KINDS.items():
            ops = [op for op in self.instances("Op") if op.get("kind") == kind]
            lines += [f"## {kind or 'Kernels'}: {meaning}", ""]
            for op in ops:
                lines += self.operation(op)
        kinds = {op.get("kind") for op in self.instances("Op")}
        assert kinds <= set(KINDS), f"kinds without a section: {kinds - set(KINDS)}"
        lines += self.definitions("Types", "TypeDef") + self.definitions("Attributes", "AttrDef")
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    arguments = parser.parse_args()
    page = Reference(records()).page()
    if arguments.check:
        if PAGE.read_text() != page:
            sys.exit(f"{PAGE.relative_to(ROOT)} is stale: run scripts/dialect_reference.py")
        return
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
