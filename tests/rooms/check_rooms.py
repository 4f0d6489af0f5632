#!/usr/bin/env python3
"""Checks that no room includes one above or beside it, and that what has one place is done there.

Rooms are the folders of kernelforge/, in the order of docs/architecture.md; tools are above them
all. A target's folder (codegen/cpu, backend/reference, ...) includes no other target's, and nobody else
includes it but compiler/Targets.cpp, which finds code generators and devices by name. Nor does anybody
else name a target: neither its types and namespaces, nor its kind in a string. First the checker itself
is checked on made-up violations.
"""

import re
import sys
import tempfile
from pathlib import Path

# From the top down: a room may include those after it.
ROOMS = [
    "tools",
    "llm",
    "eval",
    "autotune",
    "problem",
    "compiler",
    "backend",
    "measure",
    "kernels",
    "codegen",
    "passes",
    "records",
    "ir",
    "support",
]
TARGETS = {"cpu", "cuda", "webgpu", "reference"}
#: Code that several targets are made from: of no use but to them.
SHARED_CODEGEN = "simt"
#: The one file that may include any target's headers.
REGISTRY = "kernelforge/compiler/Targets.cpp"
#: Types and namespaces of single targets. `reference::` is what each operation means (kernels), too.
TARGET_NAME = re.compile(
    r"\b(?:cpu|cuda|webgpu|simt)::"
    r"|\b(?:create)?(?:Cpu|Cuda|WebGpu|Simt|Wgsl|Ptx)[A-Z]\w*"
    r"|\b(?:create)?Reference(?:Device|Generator|Target)\b"
)
#: Strings that name a target: a kind alone, an option of one target ("webgpu-library"), a kind in a text.
#: In texts `cpu` and `reference` are words like others: they count behind "target".
TARGET_LITERAL = re.compile(
    r"^(?:cpu|cuda|webgpu|reference)$|^-*(?:cuda|webgpu)-|\b(?:cuda|webgpu)\b"
    r"|\btarget[ =](?:cpu|reference)\b",
    re.IGNORECASE,
)
#: Strings that look so and name none, by file, with what they are.
OTHER_WORDS = {
    "kernelforge/autotune/RecordSpace.cpp": {"cpu": "field of a recorded space: the processor's model"},
    "kernelforge/autotune/Replay.cpp": {"cpu": "the same field"},
    "kernelforge/autotune/Tuner.cpp": {"reference": "a variant of matmul"},
    "kernelforge/eval/Report.cpp": {"cpu": "field of a report: the processor's model"},
    "kernelforge/eval/SuiteReport.cpp": {"cpu": "the same field"},
    "kernelforge/kernels/ReferenceMatmul.cpp": {"reference": "a variant of matmul"},
    "kernelforge/measure/AccuracyJson.cpp": {"reference": "field of an accuracy: what was compared with"},
    "kernelforge/records/RecordJson.cpp": {"reference": "the same field"},
    "kernelforge/support/Host.cpp": {"cpu": "a controller of Linux's control groups"},
    "tools/kernelforge/BenchmarkMatmul.cpp": {"reference": "a variant of matmul"},
    "tools/kernelforge/Diagnose.cpp": {"cpu": "field of an answer: the processor's model"},
}
INCLUDE = re.compile(r'^\s*#?\s*include\s*["<]([^">]+)[">]')  # TableGen has no #
SUFFIXES = {".h", ".cpp", ".inc", ".td"}
#: What is done in one place: a pattern of doing it elsewhere, where (a folder), but not in, and what
#: to do instead.
ONE_PLACE = [
    (
        re.compile(r"\bspdlog::(trace|debug|info|warn|error|critical|log|(set_)?default_logger)\("),
        "",
        "kernelforge/support/Log.cpp",
        "spdlog's default logger prints to standard output: use logger() of support/Log.h",
    ),
    (
        re.compile(r"\b(writeFileAtomically|std::ofstream|fopen)\("),
        "tools/",
        "",
        "what a user names may be a device or a link: use writeOutput of support/OutputFile.h",
    ),
    (
        re.compile(r"\bCLI::(Range|Number|NonNegativeNumber|PositiveNumber|IsMember)\b"),
        "tools/",
        "",
        "CLI11 takes octal numbers and NaN: use addInteger, addNumber (NumberOptions.h) or oneOf",
    ),
]


def place_of(path):
    """(room, target or None) of a path relative to the root; None outside the rooms."""
    parts = path.parts
    if parts[0] == "tools":
        return "tools", None
    if parts[0] != "kernelforge" or len(parts) < 3:
        return None
    target = parts[2] if len(parts) > 3 and parts[2] in TARGETS else None
    return parts[1], target


def included_path(root, file, text):
    """The path, relative to the root, of an include of this repository; None for a library's."""
    if text.startswith(("kernelforge/", "tools/", "tests/", "bench/", "fuzz/", "examples/")):
        return Path(text)
    beside = (file.parent / text).resolve()
    return beside.relative_to(root) if beside.is_relative_to(root) and beside.exists() else None


def violation(source, target):
    """Why the file at `source` must not include the one at `target`; None where it may."""
    room, own_target = place_of(source)
    place = place_of(target)
    if place is None:
        return f"{target.parts[0]}/ is no room"
    included, included_target = place
    for name in (room, included):
        if name not in ROOMS:
            return f"{name} is not in the list of rooms"
    if ROOMS.index(included) < ROOMS.index(room):
        return f"{included} is above {room}"
    return target_violation(source, target, own_target, included_target)


def target_violation(source, target, own_target, included_target):
    """Why the file at `source` must not include one of a target's folder; None where it may."""
    shared = target.parts[:3] == ("kernelforge", "codegen", SHARED_CODEGEN)
    if not included_target and not shared:
        return None
    if source.as_posix() == REGISTRY or source.parts[:3] == target.parts[:3]:
        return None
    if own_target:
        if shared or own_target == included_target:
            return None
        return f"{'/'.join(target.parts[1:3])} is beside {'/'.join(source.parts[1:3])}"
    return f"only targets and {REGISTRY} know it: ask for what is needed through an interface"


def violations(root):
    """One line for each include that goes up or sideways."""
    root = root.resolve()
    found = []
    for folder in ("kernelforge", "tools"):
        for file in sorted((root / folder).rglob("*")):
            source = file.relative_to(root)
            if file.suffix not in SUFFIXES or place_of(source) is None:
                continue
            for number, line in enumerate(file.read_text().splitlines(), 1):
                match = INCLUDE.match(line)
                target = match and included_path(root, file, match.group(1))
                reason = target and violation(source, target)
                if reason:
                    found.append(f"{source}:{number}: includes {target}: {reason}")
    return found


#: What C++ is made of, as far as it matters here: comments, strings, the rest.
PIECES = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)"""
    r"""|R"(?P<mark>[^()\s]*)\((?P<raw>.*?)\)(?P=mark)\"|"(?P<text>(?:\\.|[^"\\\n])*)"|'(?:\\.|[^'\\\n])'""",
    re.DOTALL,
)


def names_of_targets(root):
    """One line for each place above the targets that names one, and for each of OTHER_WORDS that is gone."""
    root = root.resolve()
    found = []
    left = {(file, word) for file, words in OTHER_WORDS.items() for word in words if (root / file).exists()}
    for folder in ("kernelforge", "tools"):
        for file in sorted((root / folder).rglob("*")):
            source = file.relative_to(root)
            place = place_of(source)
            if file.suffix not in SUFFIXES or place is None or place[1] is not None:
                continue
            if source.as_posix() == REGISTRY or source.parts[:3] == ("kernelforge", "codegen", SHARED_CODEGEN):
                continue
            text, code = file.read_text(), []
            known = OTHER_WORDS.get(source.as_posix(), {})

            def report(offset, name):
                line = text.count("\n", 0, offset) + 1
                found.append(f"{source}:{line}: names a target ({name}): only targets and {REGISTRY} do")

            end = 0
            for piece in PIECES.finditer(text):
                code.append((end, text[end : piece.start()]))
                end = piece.end()
                string = piece["raw"] if piece["raw"] is not None else piece["text"]
                line_start = text.rfind("\n", 0, piece.start()) + 1
                if string is None or INCLUDE.match(text[line_start : piece.end()]):
                    continue
                if string in known:
                    left.discard((source.as_posix(), string))
                elif TARGET_LITERAL.search(string):
                    report(piece.start(), f'"{string}"')
            code.append((end, text[end:]))
            for offset, piece in code:
                for match in TARGET_NAME.finditer(piece):
                    report(offset + match.start(), match.group())
    for file, word in sorted(left):
        found.append(f'{file} has no "{word}" any more: remove it from OTHER_WORDS')
    return found


def strays(root):
    """One line for each place that does what is done elsewhere."""
    root = root.resolve()
    found = []
    for file in sorted((root / "kernelforge").rglob("*")) + sorted((root / "tools").rglob("*")):
        source = file.relative_to(root).as_posix()
        if file.suffix not in SUFFIXES:
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            for pattern, folder, place, instead in ONE_PLACE:
                if source.startswith(folder) and source != place and pattern.search(line):
                    found.append(f"{source}:{number}: {instead}")
    return found


def check_the_checker():
    """Each made-up tree has exactly the violations stated."""
    cases = {
        "a room below": ({"passes/A.cpp": '#include "kernelforge/ir/B.h"'}, 0),
        "its own room": ({"ir/A.cpp": '#include "kernelforge/ir/B.h"'}, 0),
        "a library": ({"ir/A.cpp": "#include <vector>\n#include \"mlir/IR/Builders.h\""}, 0),
        "a room above": ({"ir/A.cpp": '#include "kernelforge/passes/B.h"'}, 1),
        "a tool": ({"llm/A.h": '#include "tools/kernelforge/B.h"'}, 1),
        "a test": ({"llm/A.h": '#include "tests/unit/B.h"'}, 1),
        "a relative path up": (
            {"ir/A.cpp": '  #  include "../passes/B.h"', "passes/B.h": ""},
            1,
        ),
        "tablegen": ({"ir/A.td": 'include "mlir/X.td"\ninclude "kernelforge/passes/B.td"'}, 1),
        "the target beside": ({"codegen/cpu/A.cpp": '#include "kernelforge/codegen/cuda/B.h"'}, 1),
        "a target's other room": (
            {"backend/cpu/A.cpp": '#include "kernelforge/codegen/cpu/B.h"'},
            0,
        ),
        "another target's other room": (
            {"backend/webgpu/A.cpp": '#include "kernelforge/codegen/cpu/B.h"'},
            1,
        ),
        "a target from above": (
            {"compiler/Session.cpp": '#include "kernelforge/backend/webgpu/B.h"'},
            1,
        ),
        "a target from its own room's top": (
            {"codegen/A.cpp": '#include "kernelforge/codegen/cpu/B.h"'},
            1,
        ),
        "the registry": (
            {"compiler/Targets.cpp": '#include "kernelforge/backend/webgpu/B.h"'},
            0,
        ),
        "what targets share": (
            {"codegen/webgpu/A.cpp": '#include "kernelforge/codegen/simt/B.h"'},
            0,
        ),
        "what targets share, from within": (
            {"codegen/simt/A.cpp": '#include "kernelforge/codegen/simt/B.h"'},
            0,
        ),
        "what targets share, from above": (
            {"compiler/A.cpp": '#include "kernelforge/codegen/simt/B.h"'},
            1,
        ),
        "a target from what targets share": (
            {"codegen/simt/A.cpp": '#include "kernelforge/codegen/cpu/B.h"'},
            1,
        ),
        "its room's top": ({"codegen/cpu/A.cpp": '#include "kernelforge/codegen/B.h"'}, 0),
        "an unknown room": ({"helpers/A.cpp": '#include "kernelforge/ir/B.h"'}, 1),
    }
    for name, (files, expected) in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            for path, text in files.items():
                file = Path(folder) / "kernelforge" / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text + "\n")
            found = violations(Path(folder))
            if len(found) != expected:
                sys.exit(f"the checker is wrong about {name}: expected {expected}, found {found}")
    for line, expected in {
        'spdlog::warn("x");': 1,
        'logger().warn("x");': 0,
        "->check(CLI::Range(1, 2))": 1,
        "writeFileAtomically(file, text)": 1,
        "writeOutput(file, text)": 0,
    }.items():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "tools").mkdir()
            (Path(folder) / "tools" / "A.cpp").write_text(line + "\n")
            if len(strays(Path(folder))) != expected:
                sys.exit(f"the checker is wrong about {line}")


def check_the_checker_of_names():
    """Each made-up line names a target or does not."""
    above = "kernelforge/compiler/A.cpp"
    cases = [
        (above, 'if (target.kind == "cpu")', 1),
        (above, 'return "webgpu";', 1),
        (above, 'add("--webgpu-library");', 1),
        (above, 'return "try --target cuda";', 1),
        (above, 'return "of target cpu";', 1),
        (above, 'auto text = R"(for --target webgpu)";', 1),
        (above, "CpuTarget target;", 1),
        (above, "const cpu::MatmulSchedule schedule;", 1),
        (above, "auto device = createWebGpuDevice();", 1),
        (above, "auto device = createReferenceDevice();", 1),
        (above, '"cpu" "cuda"', 2),
        (above, "reference::Precision precision; // cpu::X in \"cpu\"", 0),
        (above, '/* "cpu" */ print("reference semantics on a CPU");', 0),
        (above, 'read("/proc/cpuinfo", "--target-cpu", "cpu family", cpuModel);', 0),
        (above, "char quote = '\"'; cpuModel = 'x'; // \"cpu\"", 0),
        ("kernelforge/codegen/A.td", 'Parameter<"cpu, cuda or webgpu">', 1),
        ("tools/kernelforge/A.cpp", '"cuda"', 1),
        (REGISTRY, 'if (kind == "cpu") cpu::create();', 0),
        ("kernelforge/backend/cuda/A.cpp", 'kind = "cuda"; cuda::x();', 0),
        ("kernelforge/codegen/simt/A.cpp", '"webgpu"', 0),
        ("kernelforge/support/Host.cpp", '"cpu"', 0),
        ("kernelforge/support/Host.cpp", '"cpu" "cuda"', 1),
        ("kernelforge/support/Host.cpp", '"memory"', 1),  # the word that it has leave for is gone
    ]
    for path, line, expected in cases:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / path
            file.parent.mkdir(parents=True)
            file.write_text(line + "\n")
            found = names_of_targets(Path(folder))
            if len(found) != expected:
                sys.exit(f"the checker is wrong about {line} in {path}: expected {expected}, found {found}")


def main():
    check_the_checker()
    check_the_checker_of_names()
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    files = [f for f in (root / "kernelforge").rglob("*") if f.suffix in SUFFIXES]
    if not files:
        sys.exit(f"{root} has no rooms")
    found = violations(root) + names_of_targets(root) + strays(root)
    print("\n".join(found) or f"{len(files)} files: no room includes one above or beside it, none names a target")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
