#!/usr/bin/env python3
"""Writes tables of Unicode as Hugging Face's `tokenizers` knows it: kernelforge/llm/*.inc.

They are asked of the package itself, code point by code point, because token ids must be the same
everywhere: tables of the system's Unicode version would tokenize differently on different systems.
Parts of the package follow different versions of Unicode. That of its normalization forms stands in
kernelforge/llm/Normalizer.cpp, and the rest in these tables.

    unicode_classes.py FOLDER          writes the tables
    unicode_classes.py --check FOLDER  exits with 1 if they are not what the installed package gives

UnicodeClasses.inc has the classes that regexes ask for, GraphemeClasses.inc what is one grapheme with
its neighbours, and LowercaseLetters.inc letters whose lower case lies at some distance.
"""
import base64
import json
import pathlib
import struct
import sys

import tokenizers
from tokenizers import Regex
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Digits, Split

CODE_POINTS = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
SEPARATOR = "\0"


def chunks(form=lambda c: c):
    """The code points in parts, and a text of what `form` makes of each."""
    for start in range(0, len(CODE_POINTS), 4096):
        part = CODE_POINTS[start : start + 4096]
        yield part, SEPARATOR.join(form(chr(c)) for c in part)


def matching(pattern):
    split = Split(Regex(pattern), "removed")
    found = set()
    for part, text in chunks():
        kept = set("".join(piece for piece, _ in split.pre_tokenize_str(text)))
        found.update(c for c in part if chr(c) not in kept)
    return found


def digits():
    split = Digits(individual_digits=True)
    return {
        ord(piece)
        for _, text in chunks()
        for piece, _ in split.pre_tokenize_str(text)
        if len(piece) == 1 and piece != SEPARATOR
    }


def classes_of(named):
    """The class of each code point of [(class, code points)], of which none is in two."""
    classes = {}
    for short, members in named:
        for c in members:
            if classes.setdefault(c, short) != short:
                sys.exit(f"unicode_classes.py: U+{c:04X} is both {classes[c]} and {short}")
    return classes


def character_classes():
    letters, numeric, numbers = matching(r"\p{L}"), digits(), matching(r"\p{N}")
    if numbers - numeric or letters & numeric:
        sys.exit("unicode_classes.py: the classes of this version of tokenizers overlap")
    classes = classes_of((
        ("U", matching(r"[\p{Lu}\p{Lt}]")),
        ("L", matching(r"\p{Ll}")),
        ("O", matching(r"[\p{Lm}\p{Lo}]")),
        ("M", matching(r"\p{M}")),
        ("N", numbers),
        ("D", numeric - numbers),
        ("S", matching(r"\s")),
        ("P", matching(r"\p{P}")),
        ("Y", matching(r"\p{S}")),
    ))  # fmt: skip
    if {c for c, short in classes.items() if short in "ULO"} != letters:
        sys.exit("unicode_classes.py: letters are not those of their classes")
    return classes


def precompiled(rules):
    """A Precompiled normalizer of these replacements: a trie as a double array, a block of 256 units
    for the children of each node, behind which come the texts."""
    blocks, units, texts = {b"": 0x100}, {0: 0x100 << 10}, b""
    for text, replacement in rules.items():
        key = text.encode()
        for i in range(1, len(key) + 1):
            if key[:i] in blocks:
                continue
            base = blocks[key[:i]] = 0x100 * (len(blocks) + 1)
            unit = blocks[key[: i - 1]] + key[i - 1]
            units[unit] = (unit ^ base) << 10 | key[i - 1]
        units[unit] |= 0x100  # it has a value, which is its child by the byte 0
        units[blocks[key]] = 1 << 31 | len(texts)
        texts += replacement.encode() + b"\0"
    count = 0x100 * (len(blocks) + 1)
    table = struct.pack(f"<{count + 1}I", 4 * count, *(units.get(i, 0) for i in range(count))) + texts
    step = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}
    state = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": step,
             "pre_tokenizer": None, "post_processor": None, "decoder": None,
             "model": {"type": "WordLevel", "vocab": {}, "unk_token": "?"}}  # fmt: skip
    return tokenizers.Tokenizer.from_str(json.dumps(state)).normalizer


# One of each class, with something to become.
OTHER, EXTEND, PICTOGRAPH, CONSONANT, LEADING, VOWEL, TRAILING = map(
    chr, (0xAA, 0x300, 0xAE, 0x924, 0x1100, 0x1161, 0x11A8)
)
MARK, JOINER, LINKER = "\u0301", "\u200d", "\u094d"


def normalized(apply, form=lambda c: c):
    """Each code point, and what becomes of a text with it."""
    for part, text in chunks(form):
        yield from zip(part, apply.normalize_str(text).split(SEPARATOR), strict=True)


def grapheme_classes():
    known = (OTHER, EXTEND, PICTOGRAPH, CONSONANT, LEADING, VOWEL, TRAILING)
    all_known, one_byte = precompiled({c: "!" for c in known}), precompiled({"a": "!"})

    def joined(before, behind):
        """The code points c with which `before` + c + `behind` is one grapheme. The mark behind it is
        lost where `behind` ends in a grapheme of its own, which the table replaces as a whole."""
        rows = normalized(all_known, lambda c: before + c + behind + MARK)
        return {c for c, row in rows if row.endswith(MARK)}

    # What is one grapheme with the letter before it is replaced with it.
    extending = {c for c, row in normalized(one_byte, lambda c: "a" + c) if row == "!"}
    prepended = joined("", OTHER)
    marks = extending & joined(PICTOGRAPH, JOINER + PICTOGRAPH)
    linkers = extending & joined(CONSONANT, CONSONANT)
    linked = extending & joined(CONSONANT, LINKER + CONSONANT)
    joiner = {ord(JOINER)}
    behind = {c: joined("", c) - prepended for c in (LEADING, VOWEL, TRAILING)}
    syllables = set(range(0xAC00, 0xD7A4))
    return classes_of((
        ("Control", {0} | (set(CODE_POINTS) - joined("", EXTEND))),  # 0 is what separates here
        ("Extend", (marks & linked) - linkers - joiner),
        ("Linker", linkers),
        ("NonJoiner", marks - linked - joiner),
        ("Joiner", joiner),
        ("SpacingMark", extending - marks - joiner),
        ("Prepend", prepended),
        ("Leading", behind[LEADING]),
        ("Vowel", behind[VOWEL] & behind[TRAILING] - syllables),
        ("Trailing", behind[TRAILING] - behind[VOWEL] - syllables),
        ("Syllable", behind[TRAILING] & syllables),
        ("Pictograph", joined("", JOINER + PICTOGRAPH) - prepended - extending),
        ("Consonant", joined("", LINKER + CONSONANT) - prepended - extending),
    ))  # fmt: skip


def lowercase():
    """[first, last, step, distance] of the code points whose lower case is another, single one."""
    runs = []
    for c, lower in normalized(Lowercase()):
        if lower == chr(c):
            continue
        if len(lower) > 1:
            if c != 0x130:
                sys.exit(f"unicode_classes.py: the lower case of U+{c:04X} is several characters")
            continue
        distance = ord(lower) - c
        last = runs[-1] if runs else [0, 0, 0, 0]
        step = c - last[1]
        if distance == last[3] and step in (1, 2) and last[2] in (0, step):
            last[1:3] = c, step
        else:
            runs.append([c, c, 0, distance])
    return [(a, b, step or 1, distance) for a, b, step, distance in runs]


def ranges(classes):
    found = []
    for c in sorted(classes):
        if found and found[-1][1] == c - 1 and found[-1][2] == classes[c]:
            found[-1][1] = c
        else:
            found.append([c, c, classes[c]])
    return found


def table(fields, rows):
    lines = [
        f"// Generated by scripts/goldens/unicode_classes.py from tokenizers {tokenizers.__version__};",
        f"// do not edit. {{{fields}}}, in order.",
    ]
    line = ""
    for a, b, *rest in rows:
        item = "{" + ",".join([f"0x{a:x}", f"0x{b:x}", *map(str, rest)]) + "},"
        if len(line) + len(item) > 99:
            lines.append(line)
            line = ""
        line += item
    lines.append(line)
    return "\n".join(lines) + "\n"


def tables():
    return {
        "UnicodeClasses.inc": table("first, last, class", ranges(character_classes())),
        "GraphemeClasses.inc": table("first, last, class", ranges(grapheme_classes())),
        "LowercaseLetters.inc": table("first, last, step, distance", lowercase()),
    }


def check(folder):
    """Says which tables of the folder are not what the package gives; whether none is."""
    # The first line names the version, which may move on without a change of the tables.
    rest = lambda text: text.split("\n", 1)[1]
    wrong = [
        name for name, text in tables().items()
        if rest((folder / name).read_text(encoding="utf-8")) != rest(text)
    ]  # fmt: skip
    for name in wrong:
        print(f"{folder / name} is not what tokenizers {tokenizers.__version__} gives; run unicode_classes.py")
    return not wrong


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "--check":
        return 0 if check(pathlib.Path(arguments[1])) else 1
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    for name, text in tables().items():
        (pathlib.Path(arguments[0]) / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
