#!/usr/bin/env python3
"""package: the archive, unpacked into an empty folder, works without anything that it was built from.

    package_test.py --bin build/release/bin [--archive FILE]

Without an archive that `package` has made it makes one, uncompressed: compressing takes minutes.
"""

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import cli
from cli import CliTest, kernelforge
from modules import BLOCK

ROOT = Path(__file__).resolve().parents[2]
#: The one part that is the machine's.
GLIBC = {"ld-linux-x86-64.so.2"} | {
    f"lib{name}" for name in ("c.so.6", "m.so.6", "dl.so.2", "pthread.so.0", "rt.so.1", "mvec.so.1")
}  # fmt: skip
LIMIT = 60e6
#: What OpenMP's runtime looks for in all folders and does without.
OPTIONAL = {"libarcher.so"}
#: Set by --archive.
ARCHIVE = None


def hides(command):
    """The command, with nothing where the repository is; None where this machine does not allow that."""
    line = ["unshare", "--map-root-user", "--mount", "sh", "-c",
            f'mount -t tmpfs none "{ROOT}" && exec "$@"', "sh"]  # fmt: skip
    try:
        allowed = subprocess.run([*line, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    return [*line, *command] if allowed else None


class Package(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.archive = ARCHIVE or cls.folder / "a.tar"
        if not ARCHIVE:
            done = kernelforge("package", "-o", cls.archive, "--json")
            assert done.returncode == 0, cli.shown(done)
            cls.answer_of = json.loads(done.stdout)
        cls.place = cls.folder / "an empty folder"
        with tarfile.open(cls.archive) as archive:
            cls.members = archive.getmembers()
            archive.extractall(cls.place)
        (cls.root,) = cls.place.iterdir()
        cls.program = cls.root / "bin" / "kernelforge"

    def there(self, *arguments, code=0, program=None, hidden=True, **environment):
        """Runs the packaged program with an empty environment, the repository out of sight."""
        line = [str(program or self.program), *map(str, arguments)]
        environment["KERNELFORGE_HOME"] = str(self.place / "home")
        for name in ("VK_DRIVER_FILES", "XDG_RUNTIME_DIR"):  # the software driver's, not ours
            if name in os.environ:
                environment[name] = os.environ[name]
        line = hidden and hides(line) or line
        done = subprocess.run(line, capture_output=True, text=True, env=environment, cwd="/")
        self.assertEqual(done.returncode, code, cli.shown(done))
        return done

    def test_holds_the_programs_and_their_libraries_alone(self):
        names = {Path(m.name).relative_to(self.root.name).as_posix() for m in self.members if m.isfile()}
        self.assertIn("README", names)
        self.assertTrue({"bin/kernelforge", "bin/kernelforge-opt"} <= names, names)
        self.assertFalse({Path(name).name for name in names} & GLIBC)
        self.assertFalse([m.name for m in self.members if not (m.isfile() or m.isdir())])
        self.assertEqual({(m.uid, m.gid, m.mtime) for m in self.members}, {(0, 0, 0)})
        for m in self.members:
            self.assertEqual(m.mode & 0o022, 0, m.name)
            self.assertTrue(m.name.startswith(self.root.name), m.name)
        if self.archive.suffix == ".xz":
            self.assertLess(self.archive.stat().st_size, LIMIT)
        if not ARCHIVE:
            self.assertEqual(names, {"README", *self.answer_of["files"]})
            self.assertEqual(self.root.name, self.answer_of["name"])
            self.assertEqual(self.answer_of["bytes"], self.archive.stat().st_size)
            files = [self.root / name for name in self.answer_of["files"]]
            self.assertEqual(self.answer_of["unpacked_bytes"], sum(f.stat().st_size for f in files))

    def test_needs_the_glibc_that_it_says(self):
        newest = 0
        for file in [*(self.root / "bin").iterdir(), *(self.root / "lib").iterdir()]:
            found = re.findall(rb"\0GLIBC_2\.(\d+)(?:\.\d+)?\0", file.read_bytes())
            newest = max([newest, *map(int, found)])
        self.assertIn(f"glibc 2.{newest} or newer", (self.root / "README").read_text())

    def test_libraries_are_its_own(self):
        module = self.place / "block.mlir"
        module.write_text(BLOCK)
        for program, arguments in (
            ("kernelforge", ("compile", module, "--run", "--no-cache")),
            ("kernelforge-opt", (module,)),
        ):
            done = self.there(*arguments, program=self.root / "bin" / program, hidden=False, LD_DEBUG="libs")
            loaded = re.findall(r"calling init: (\S.*)", done.stderr)
            self.assertGreater(len(loaded), 10, done.stderr[:2000])
            for path in loaded:
                if Path(path).name not in GLIBC | OPTIONAL and not path.startswith("linux-vdso"):
                    self.assertTrue(Path(path).resolve().is_relative_to(self.root.resolve()), path)

    def test_everyday_commands(self):
        module, program = self.place / "module.mlir", self.place / "block.kfp"
        module.write_text(BLOCK)
        self.assertIn("ok against f64", self.there("compile", module, "--run").stdout)
        self.there("compile", module, "--emit", "program", "-o", program)
        self.assertIn("ok against f64", self.there("run", program).stdout)
        answer = json.loads(
            self.there("llm-inference", "--random-weights", "tiny", "--prompt-ids", "1,2,3", "-n", 4,
                       "--temperature", 0, "--json").stdout)  # fmt: skip
        self.assertEqual(answer["generated_tokens"], 4)
        row = json.loads(self.there("benchmark-matmul", "-m", 8, "-n", 96, "-k", 64, "--rounds", 2,
                                    "--min-time", 0.01, "--json").stdout)  # fmt: skip
        self.assertEqual(row["status"], "ok")
        # Workers are processes of the same program.
        self.there("tune", "--family", "matmul", "-m", 8, "-n", 96, "-k", 64, "--trials", 2)

    def test_devices_are_found_with_their_libraries(self):
        here = {d["kind"]: d for d in self.answer("diagnose")["devices"]}
        there = {d["kind"]: d for d in json.loads(self.there("diagnose", "--json").stdout)["devices"]}
        for kind, device in here.items():
            self.assertEqual(there[kind]["status"], device["status"], there[kind])

    def test_works_by_way_of_a_link_and_from_another_place(self):
        link = self.place / "link"
        link.symlink_to(self.program)
        self.assertIn("0.", self.there("--version", program=link).stdout)
        moved = self.place / "moved"
        self.root.rename(moved)
        try:
            self.there("--version", program=moved / "bin" / "kernelforge")
        finally:
            moved.rename(self.root)

    def test_what_cannot_be_made_is_refused(self):
        self.refused(2, "package", "-o", self.folder / "a.zip", says="end it with .tar.xz")
        self.refused(2, "package", says="-o")
        self.refused(4, "package", "-o", self.folder / "no" / "a.tar", says="there is no folder")
        self.refused(3, "package", "-o", self.folder / "a.tar", env={**os.environ, "PATH": ""},
                     says="(tar): it is not installed here")  # fmt: skip


if __name__ == "__main__":
    if "--archive" in sys.argv:
        place = sys.argv.index("--archive")
        ARCHIVE = Path(sys.argv[place + 1]).resolve()
        del sys.argv[place : place + 2]
    cli.run(sys.argv)
