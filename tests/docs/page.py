"""Follows a page of docs/ to the letter: its edits and new files are made in a copy of the sources that
it touches, which is compiled against the libraries of a build and linked into its programs."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = r"^```\w+\n(.*?)^```\n"
EDIT = re.compile(rf"\b[Ii]n\s+`([\w/.-]+)`, above\n\n{FENCE}\nadd\n\n{FENCE}", re.M | re.S)
FILE = re.compile(rf"\b[Ss]ave this as `([\w/.-]+)`.*?:.*?\n\n{FENCE}", re.M | re.S)
LLVM = "-I/usr/lib/llvm-19/include"


def fail(text):
    sys.exit(text)


def run(command, expected=0, **options):
    """Runs a command; its output, both streams together."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != expected:
        shown = command if isinstance(command, str) else shlex.join(map(str, command))
        fail(f"{shown}: exit code {done.returncode}, expected {expected}\n{done.stdout}")
    return done.stdout


class Page:
    def __init__(self, name):
        self.path = ROOT / "docs" / name
        self.text = self.path.read_text()
        self.edits = EDIT.findall(self.text)
        self.files = [(name, text) for name, text in FILE.findall(self.text)]
        steps = len(re.findall(r"\badd\n\n```", self.text))
        if steps != len(self.edits) or not steps:
            fail(f"{name}: {len(self.edits)} of {steps} edits can be read")

    def commands(self):
        """The lines of its shell blocks."""
        blocks = re.findall(r"^```sh\n(.*?)^```", self.text, re.M | re.S)
        return [line for block in blocks for line in block.strip().split("\n")]

    def apply(self, folder):
        """Makes the edits and files in `folder`; the repository's paths that it changed."""
        changed = []
        for path, above, added in self.edits:
            target = folder / path
            source = target if target.exists() else ROOT / path
            text = source.read_text()
            if text.count(above) != 1:
                fail(f"{self.path.name}: {path} has {text.count(above)} times\n{above}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text.replace(above, added + above))
            changed.append(path)
        for path, text in self.files:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            changed.append(path)
        return changed


class Overlay:
    """The sources that a page changes beside a build, in a folder of it that holds them by their paths."""

    def __init__(self, page, build):
        self.build = Path(build).resolve()
        self.folder = self.build / f"docs-{page.path.stem}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.changed = page.apply(self.folder)
        self.commands = {
            Path(entry["file"]).relative_to(ROOT).as_posix(): entry
            for entry in json.loads((self.build / "compile_commands.json").read_text())
            if Path(entry["file"]).is_relative_to(ROOT)
        }
        self.objects = []

    def tablegen(self, definitions, *outputs):
        """outputs: (file, generator), in the definitions' folder."""
        source = self.folder / definitions
        for name, generator in outputs:
            run(["mlir-tblgen-19", *generator.split(), f"-I{self.folder}", f"-I{ROOT}", LLVM, source,
                 "-o", source.parent / name])  # fmt: skip

    def compile(self, sources, like):
        """Compiles sources, changed ones before those of the repository; a new one as `like` is."""
        ccache = [tool] if (tool := shutil.which("ccache")) else []
        environment = {**os.environ, "CCACHE_SLOPPINESS": "pch_defines,time_macros"}

        def one(source):
            if source not in self.commands and (ROOT / source).exists():
                fail(f"{source} is compiled together with others: give it SKIP_UNITY_BUILD_INCLUSION")
            entry = self.commands.get(source, self.commands[like])
            # The precompiled headers from code generation up hold headers that a page may change.
            command = re.sub(r"\S*/kf_pch_(kernel|command)\.dir/",
                             f"{self.build}/CMakeFiles/kf_pch_mlir.dir/", entry["command"])  # fmt: skip
            arguments = shlex.split(command)
            while "clang++" not in arguments[0]:
                arguments.pop(0)  # what the build runs the compiler through
            changed = self.folder / source
            made = self.folder / (source + ".o")
            made.parent.mkdir(parents=True, exist_ok=True)
            output = arguments.index("-o") + 1
            built, arguments[output] = arguments[output], str(made)
            arguments[arguments.index("-c") + 1] = str(changed if changed.exists() else ROOT / source)
            run([*ccache, arguments[0], f"-I{self.folder}", *arguments[1:]],
                cwd=entry["directory"], env=environment)  # fmt: skip
            return str(made), built

        with ThreadPoolExecutor(max_workers=2) as pool:
            self.objects += pool.map(one, sources)

    def link(self, program):
        """Links one of the build's programs with the new objects before its libraries."""
        line = run(["ninja", "-C", self.build, "-t", "commands", f"bin/{program}"]).strip().split("\n")[-1]
        arguments = [word.replace("\\$", "$") for word in shlex.split(line)]
        arguments = arguments[arguments.index("&&") + 1 :]
        arguments = arguments[: arguments.index("&&")]
        # Programs' own objects stand in for those of the build, each for its program alone.
        replaced = {output for _, output in self.objects}
        arguments = [word for word in arguments if word not in replaced]
        # Of a whole archive, what a new object stands in for would be there twice; each is named once
        # more behind the objects.
        while "--whole-archive" in arguments:
            at = arguments.index("--whole-archive") - 1
            del arguments[at : at + len("-Xlinker --whole-archive -Xlinker A -Xlinker --no-whole-archive".split())]
        objects = [
            made
            for made, output in self.objects
            if not output.startswith("tools/") or f"/{program}.dir/" in output
        ]
        made = self.folder / "bin" / program
        made.parent.mkdir(exist_ok=True)
        at = arguments.index("-o")
        arguments[at + 1] = str(made)
        run([*arguments[:at], *objects, *arguments[at:]], cwd=self.build)
        return made
