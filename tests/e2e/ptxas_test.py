#!/usr/bin/env python3
"""PTX of each family at forty shapes and all types of weights, and of schedules for matrix units, through
NVIDIA's assembler: no warning, nothing spilled, no stack frame, nothing from elsewhere.

    ptxas_test.py --bin build/release/bin [--schedules N]

N schedules, spread over the spaces of what models have, are assembled (40 by default). Of the ledger's
sample (tests/cuda/ledger.py) those modules are that have kernels which no GPU has verified yet, and they are
verified where PTX is emulated; of the others one of SHARE is: what is verified was assembled when it was new.
With 0 schedules all are assembled.
The assembler is what KERNELFORGE_PTXAS names, else a toolkit's on PATH, else that of .venv; without one
the test is skipped. Which of the sample's kernels no GPU has verified is written to cuda-unverified.txt
beside the programs' folder.
"""

import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cli
import gpu_modules
from cli import CliTest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/cuda"))
import ledger  # noqa: E402
JOBS = min(2, os.cpu_count())
#: Set by main.
SCHEDULES = 40
#: Files that one start of the assembler takes.
TOGETHER = 8
#: Of how many modules of the sample one is assembled whatever the ledger says, for each of these chips.
SHARE, CHIPS = 8, ("sm_80", "sm_90a")

#: Warps of a block, keys at once, resident blocks; heads, those of caches, their width, type and page.
GROUPS = [(4, 16, 3, 32, 8, 128, "bf16", 0), (4, 16, 3, 32, 8, 128, "f16", 16), (4, 32, 2, 32, 8, 128, "bf16", 64),
          (8, 16, 1, 32, 4, 128, "q8_0", 0), (4, 16, 3, 32, 8, 128, "q8_0", 16), (4, 32, 3, 8, 8, 64, "bf16", 0),
          (4, 32, 4, 16, 4, 64, "q8_0", 0), (2, 16, 4, 4, 1, 192, "bf16", 0)]


def assembler():
    named = os.environ.get("KERNELFORGE_PTXAS") or shutil.which("ptxas")
    if named:
        return named
    found = list(ROOT.glob(".venv/lib/python3*/site-packages/nvidia/cuda_nvcc/bin/ptxas"))
    return str(found[0]) if found else None


class Ptxas(CliTest):
    maxDiff = None
    ptxas = assembler()
    #: Kernels of the ledger's sample: (hash, name).
    found = {}
    verified = ledger.Ledger().kernels

    @classmethod
    def tearDownClass(cls):
        if len({name.split()[0] for name in cls.found.values()}) == len(ledger.FAMILIES) + 1:
            (cli.BIN.parent / "cuda-unverified.txt").write_text(ledger.Ledger().report(cls.found))
        super().tearDownClass()

    def assemble(self, name, texts, chip):
        """What is wrong with kernels' PTX, a module each; empty where nothing is."""
        with tempfile.TemporaryDirectory(prefix="kernelforge-ptxas-") as folder:
            files = [Path(folder) / f"{i}.ptx" for i in range(len(texts))]
            for file, text in zip(files, texts):
                file.write_text(text)
            line = [self.ptxas, "-v", f"-arch={chip}", *files, "-o", Path(folder) / "cubin"]
            done = subprocess.run(line, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        if done.returncode != 0 or re.search(r"warning|error", said, flags=re.IGNORECASE):
            return f"{name}: {said}"
        text = "".join(texts)
        entries = text.count(".visible .entry ")
        clean = said.count("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads")
        if entries == 0 or clean != entries:
            return f"{name}: {entries} entries, {clean} of them without a frame: {said}"
        if re.search(r"\.(extern (?!\.shared)|local\b|weak\b)", text):
            return f"{name}: it needs memory or functions that it should not"
        return ""

    @staticmethod
    def emulate(case):
        """What is wrong with the results of a module."""
        done = cli.call("ptx-run", *case.run_options, text=case.text)
        if done.returncode == 0 and len(json.loads(done.stdout)["accuracy"]) >= case.results:
            return ""
        return f"emulated: {cli.shown(done)}"

    def check_text(self, text, chip, options=(), case=None, always=True):
        """What is wrong with a module's kernels. Those of a `case` are of the sample; unless `always`, they
        are assembled only where one of them is not verified. Then they are run, too."""
        done = cli.kernelforge("emit-mlir", "-", "--target", "cuda", "--target-cpu", chip, "--stage",
                               "ptx", *options, text=text)
        if done.returncode != 0:
            return cli.shown(done)
        found = ledger.kernels(done.stdout)
        if not found:
            return "no kernels"
        is_new = False
        if case and chip == ledger.CHIP:
            hashes = {ledger.hash_of(ptx): f"{case.name} {name}" for name, ptx in found.items()}
            self.found.update(hashes)
            is_new = not hashes.keys() <= self.verified.keys()
            if not always and not is_new:
                return ""
        # The assembler takes longer to start than for most kernels: all at once, and each by its
        # name where something is wrong with one of them.
        together = self.assemble("together", list(found.values()), chip)
        if not together:
            return self.emulate(case) if is_new else ""
        each = [self.assemble(name, [text], chip) for name, text in found.items()]
        return "\n".join(filter(None, each)) or together

    def check_all(self, family):
        cases = [case for case in ledger.sample() if case.name.split()[0] == family]
        work = [(case, chip, SCHEDULES == 0 or i % SHARE == 0) for i, case in enumerate(cases) for chip in CHIPS
                if chip == ledger.CHIP or (i % SHARE == 0 and family not in ("halves", "projections"))]

        def check(each):
            case, chip, always = each
            return self.check_text(case.text, chip, case.options, case, always)

        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            for (case, chip, _), wrong in zip(work, pool.map(check, work)):
                with self.subTest(case=case.name, chip=chip):
                    self.assertEqual(wrong, "")

    def test_rowwise(self):
        self.check_all("rowwise")

    def test_matmul(self):
        self.check_all("matmul")

    def test_halves(self):
        self.check_all("halves")

    def test_projections(self):
        self.check_all("projections")

    def test_schedules_of_matrix_units(self):
        """Products that are not serialised, and shares of registers that are not ignored, are warnings."""
        x, w, y = "tensor<512x1024xbf16>", "tensor<1024x1024xbf16>", "tensor<512x1024xf32>"
        header = f"(%x: {x}, %w: {w}, %v: {w}, %r: {y}) -> {y}"
        body = (f"%p, %q = transformer.matmul %x weights(%w, %v) : ({x}, {w}, {w}) -> ({y}, {y})\n"
                f"%g = transformer.activation %p <silu> : {y}\n%m = transformer.mul %g, %q : {y}\n"
                f"%y = transformer.add %m, %r : {y}\n")
        single = f"%y = transformer.matmul %x weights(%w) : ({x}, {w}) -> ({y})\n"
        tiles = [(128, 256, 4, 1, 1), (128, 224, 4, 1, 1), (128, 192, 3, 1, 1), (128, 64, 3, 2, 1),
                 (64, 256, 3, 1, 1), (64, 128, 4, 2, 1), (64, 64, 8, 1, 1), (64, 64, 3, 3, 1), (64, 32, 8, 1, 1),
                 (128, 256, 4, 1, 2), (64, 256, 4, 1, 8), (64, 128, 4, 2, 4)]
        work = [(*tile, single) for tile in tiles]
        work += [(bm, bn // 2, *more, body) for bm, bn, *more in tiles if bn // 2 % 64 == 0]
        texts = []
        for bm, bn, stages, resident, split, inner in work:
            knobs = (f"method = 1, bm = {bm}, bn = {bn}, stages = {stages}, group = 8, "
                     f"resident = {resident}, blocks = {132 * resident}, split = {split}, early = 0")
            texts.append(f"transformer.kernel @k{header} attributes {{schedule = "
                         f"#transformer.schedule<{{{knobs}}}>}} {{\n{inner}transformer.yield %y : {y}\n}}\n"
                         f"func.func @f{header} {{\n%y = transformer.launch @k(%x, %w, %v, %r) : "
                         f"({x}, {w}, {w}, {y}) -> ({y})\nreturn %y : {y}\n}}\n")
        texts += gpu_modules.expanded_modules()
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            for text, wrong in zip(texts, pool.map(lambda t: self.check_text(t, "sm_90a"), texts)):
                self.assertEqual(wrong, "", text)

    def test_schedules_of_attention(self):
        """Those that are taken without measuring, with all that may make a thread keep more."""
        everything = {"extra": ", window = 300, softcap = 20.0", "sinks": True, "sequences": 3, "page": 16}
        texts = []
        for dim, rows, keys, stages in ((64, 128, 128, 4), (64, 192, 128, 3), (80, 128, 128, 2), (96, 128, 128, 2),
                                        (128, 128, 128, 2), (128, 128, 160, 2), (256, 128, 64, 2), (128, 64, 64, 3)):
            knobs = (f"method = 3, rows = {rows}, keys = {keys}, stages = {stages}, heads = 2, "
                     "blocks = 132")
            texts.append(gpu_modules.scheduled_attention(knobs, dim))
            if rows < 192:
                texts.append(gpu_modules.scheduled_attention(knobs, dim, **everything))
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            for text, wrong in zip(texts, pool.map(lambda t: self.check_text(t, "sm_90a"), texts)):
                self.assertEqual(wrong, "", text)

    def test_attention(self):
        self.check_all("attention")

    def test_steps(self):
        self.check_all("step")

    def test_schedules_of_groups(self):
        """Registers that what is under way takes: the most of each schedule that is legal."""
        texts = [gpu_modules.decoding(f"method = 4, chunk = 128, warps = {warps}, keys = {keys}, resident = {resident}",
                                      heads, kv_heads, dim, element, page)
                 for warps, keys, resident, heads, kv_heads, dim, element, page in GROUPS]
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            for text, wrong in zip(texts, pool.map(lambda t: self.check_text(t, "sm_90a"), texts)):
                self.assertEqual(wrong, "", text)

    def test_schedules(self):
        """Spaces hold nothing that is slow by itself."""
        spaces = gpu_modules.spaces()
        each = -(-SCHEDULES // len(spaces))
        work = []
        for name, text in spaces.items():
            folder = self.folder / name.replace(" ", "-")
            folder.mkdir()
            done = cli.call("ptx-schedules", folder, each, text=text)
            self.assertEqual(done.returncode, 0, cli.shown(done))
            lines = [json.loads(line) for line in done.stdout.splitlines()]
            self.assertTrue(lines, name)
            work += [(name, folder, lines[i:i + TOGETHER]) for i in range(0, len(lines), TOGETHER)]

        def check(piece):
            """(line, what is wrong with it) of those that are not clean."""
            name, folder, lines = piece
            texts = [(folder / line["file"]).read_text() for line in lines]
            if not self.assemble(name, texts, ledger.CHIP):
                return []
            each = [self.assemble(f"{name}, {line['schedule']}", [text], ledger.CHIP)
                    for line, text in zip(lines, texts)]
            return [(line, text) for line, text in zip(lines, each) if text]

        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            found = [each for piece in pool.map(check, work) for each in piece]
        # A search meets schedules whose registers do not suffice, and finds them slow: few, and none that
        # is taken without one.
        wrong = [text for line, text in found if line["default"] or "warning" in text or "error" in text]
        self.assertEqual("\n".join(wrong), "")
        self.assertLessEqual(len(found), sum(len(lines) for _, _, lines in work) / 10,
                             "\n".join(text for _, text in found))

    def test_what_is_wrong_is_found(self):
        text = ('.version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 p)\n{\n'
                '.local .align 8 .b8 frame[64];\n.reg .b32 %r<2>;\n.reg .b64 %rd<2>;\n'
                'mov.u64 %rd1, frame;\nld.param.u32 %r1, [p];\nst.local.u32 [%rd1], %r1;\nret;\n}\n')
        self.assertIn("it needs memory", self.assemble("k", [text], "sm_90a"))
        right = text.replace(" k(", " l(").replace(".local", ".global").replace(
            ".global .align 8 .b8 frame[64];\n", "").replace("frame", "0")
        self.assertEqual(self.assemble("l", [right], "sm_90a"), "")
        self.assertIn("it needs memory", self.assemble("both", [right, text], "sm_90a"))
        wrong = text.replace("mov.u64", "move.u64")
        self.assertIn("both: ", self.assemble("both", [right, wrong], "sm_90a"))


if __name__ == "__main__":
    if not Ptxas.ptxas:
        print("there is no ptxas")
        sys.exit(77)
    words = sys.argv
    if "--schedules" in words:
        at = words.index("--schedules")
        SCHEDULES = int(words[at + 1])
        words = words[:at] + words[at + 2:]
    cli.run(words)
