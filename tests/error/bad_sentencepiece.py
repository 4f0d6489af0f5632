"""Malformed tokenizer.model files, each a sound one with one defect, beside sound weights."""

import shutil
import struct
from pathlib import Path

import tiny_model as tiny
from registry import registry

# A function changes a Model, or gives bytes; nothing is expected of one that is sound.
cases, case = registry()
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
VARINT, FIXED64, BYTES, START_GROUP, _, FIXED32 = range(6)
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "data" / "sentencepiece" / "t5.model"


def varint(value):
    value %= 2**64
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, value, kind=None):
    """One field: a number, or bytes with their length; `kind` where it is not the usual one."""
    kind = (VARINT if isinstance(value, int) else BYTES) if kind is None else kind
    tag = varint(number << 3 | kind)
    if kind == FIXED32:
        return tag + struct.pack("<f", value)
    return tag + (varint(value) if kind == VARINT else varint(len(value)) + value)


def golden_charsmap():
    """The table of the golden model, found by walking the file."""

    def read(data):
        at, found = 0, []
        while at < len(data):
            numbers = []
            for _ in range(2):
                value = shift = 0
                while True:
                    byte = data[at]
                    at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
                    if byte < 0x80:
                        break
                numbers.append(value)
                if value & 7 == FIXED32 and len(numbers) == 1:
                    at += 4
                    break
            tag = numbers[0]
            if tag & 7 == BYTES:
                found.append((tag >> 3, data[at : at + numbers[1]]))
                at += numbers[1]
        return found

    normalizer = dict(read(GOLDEN.read_bytes()))[3]
    return dict(read(normalizer))[2]


class Model:
    """The fields of a file, each of which a case may change; nothing is checked."""

    def __init__(self):
        self.pieces = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
        self.pieces += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
        self.pieces += [(text, -float(i), NORMAL) for i, text in enumerate("\u2581 a b c ab \u2581a".split(" "))]
        self.trainer = {3: 2, 35: 1, 40: 0, 41: 1, 42: 2}
        self.normalizer = {3: 1, 4: 0, 5: 1}
        self.before = self.after = b""

    @staticmethod
    def piece(text, score, kind):
        text = text if isinstance(text, bytes) else text.encode()
        return field(1, field(1, text) + field(2, score, FIXED32) + field(3, kind))

    @staticmethod
    def message(fields):
        return b"".join(field(number, value) for number, value in fields.items())

    def build(self):
        out = self.before + b"".join(self.piece(*piece) for piece in self.pieces)
        return out + field(2, self.message(self.trainer)) + field(3, self.message(self.normalizer)) + self.after


def change(**fields):
    """A change of fields: trainer__35=0 sets field 35 of the trainer."""

    def apply(model):
        for name, value in fields.items():
            part, number = name.split("__")
            getattr(model, part)[int(number)] = value

    return apply


def piece(text, score=-1.0, kind=NORMAL):
    return lambda model: model.pieces.append((text, score, kind))


def charsmap(damage):
    """A change of the golden's table: of its units and its texts."""

    def apply(model):
        table = golden_charsmap()
        (size,) = struct.unpack("<I", table[:4])
        units = list(struct.unpack(f"<{size // 4}I", table[4 : 4 + size]))
        model.normalizer[2] = damage(units, table[4 + size :])

    return apply


def table(units, texts, size=None):
    return struct.pack("<I", len(units) * 4 if size is None else size) + struct.pack(f"<{len(units)}I", *units) + texts


case("a sound one", None)(lambda m: None)
case("a sound one with a table", None)(charsmap(table))
case("fields of later versions", None)(lambda m: setattr(m, "after", field(99, 1) + field(200, b"x")))

# The wire.
case("cut off within a piece", "byte .*: field 1 has .* bytes, the message has")(lambda m: m.build()[:20])
case("a number that is cut off", "the message ends within a number")(lambda m: m.build() + b"\x10\x80\x80")
case("a tag that is cut off", "the message ends within a number")(lambda m: m.build() + b"\x80")
case("a number of more than 64 bits", "more than 64 bits")(lambda m: m.build() + b"\x50" + b"\xff" * 9 + b"\x02")
case("a number without an end", "more than 64 bits")(lambda m: m.build() + b"\x50" + b"\x80" * 40)
case("a length past the end", "field 1 has 1000000 bytes")(lambda m: m.build() + b"\x0a" + varint(10**6) + b"abc")
case("a length of 2^64 - 1", "field 1 has 18446744073709551615 bytes")(lambda m: m.build() + b"\x0a" + varint(-1))
case("a length of 2^63 in a piece", "field 1 has 9223372036854775808 bytes")(
    lambda m: m.build() + field(1, b"\x0a" + varint(2**63) + b"a")
)
case("field 0", "a field has the number 0")(lambda m: m.build() + b"\x02\x01a")
case("a field number beyond 29 bits", "a field has the number")(lambda m: m.build() + varint(2**40) + b"\x01")
case("a group", "of the unknown kind 3")(lambda m: m.build() + b"\x53\x54")
case("kind 7", "of the unknown kind 7")(lambda m: m.build() + b"\x57")
case("a fixed number that is cut off", "a number needs 4 bytes")(lambda m: m.build() + b"\x55\x00\x00")
case("a piece that is a number", "piece 265 is no message")(lambda m: m.build() + field(1, 5))
case("a trainer that is a number", "trainer_spec is no message")(lambda m: m.build() + field(2, 5))
case("a score that is text", "field 2 of piece 265 is of another kind")(
    lambda m: m.build() + field(1, field(1, b"x") + field(2, b"1.0"))
)
case("a text that is a number", "field 1 of piece 265 is of another kind")(lambda m: m.build() + field(1, field(1, 7)))
case("a model type that is text", "field 3 of trainer_spec is of another kind")(change(trainer__3=b"bpe"))
case("only zeros", "a field has the number 0")(lambda m: b"\0" * 64)
case("random bytes", "unusable|not usable")(lambda m: bytes((i * 181 + 10) % 256 for i in range(500)))

# Pieces.
case("no pieces", "it has no pieces")(lambda m: m.pieces.clear())
case("an empty piece", "piece 265 has no text")(piece(""))
case("a piece without fields", "piece 265 has no text")(lambda m: m.build() + field(1, b""))
case("a piece twice", "piece 265 is there twice")(piece("ab"))
case("a piece that is no UTF-8", "piece 265 is not valid UTF-8")(piece(b"\xc3\x28"))
case("a piece with a NUL", "piece 265 has a NUL")(piece(b"a\0b"))
case("a piece of 5000 bytes", "piece 265 is 5000 bytes long")(piece("a" * 5000))
case("a score of NaN", "piece 265 has a score that is not a finite number")(piece("x", float("nan")))
case("an infinite score", "piece 265 has a score that is not a finite number")(piece("x", float("-inf")))
case("a type of 0", "piece 265 has the unknown type 0")(piece("x", kind=0))
case("a type of 7", "piece 265 has the unknown type 7")(piece("x", kind=7))
case("two unknown pieces", "pieces 0 and 265 are both unknown")(piece("x", kind=UNKNOWN))
case("a byte of <0x-1>", "piece 265 is a byte, but not of the form")(piece("<0x-1>", kind=BYTE))
case("bytes without byte_fallback", "piece 3 is a byte, but byte_fallback is off")(change(trainer__35=0))
case("a byte that is missing", "pieces for 255 bytes of 256")(lambda m: m.pieces.pop(100))
case("more pieces than embeddings", "301 tokens but the model has embeddings for 300")(
    lambda m: m.pieces.extend((f"x{i}", -1.0, NORMAL) for i in range(36))
)


@case("no unknown piece", "it has no unknown piece")
def _(m):
    m.pieces = [("a", -1.0, NORMAL), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    m.trainer[35] = 0


# The trainer and the normalizer.
case("a model of words", "model type word is not supported; unigram and bpe are")(change(trainer__3=3))
case("a model of characters", "model type char is not supported")(change(trainer__3=4))
case("an unknown model type", "model type 9 is unknown")(change(trainer__3=9))
case("a negative model type", "model type 18446744073709551615 is unknown")(change(trainer__3=-1))
case("BOS beyond the pieces", "bos_id is 265, there are 265 pieces")(change(trainer__41=265))
case("EOS below -1", "eos_id is -2")(change(trainer__42=-2))
case("an unknown id beyond the pieces", "unk_id is 2147483647")(change(trainer__40=2**31 - 1))
case("an unk_surface that is no UTF-8", "unk_surface is not valid UTF-8")(change(trainer__44=b"\xff"))
case("a denormalizer", "a denormalizer is not supported")(lambda m: m.build() + field(5, field(2, b"abc")))
case("a table of 3 bytes", "precompiled_charsmap has 3 bytes")(change(normalizer__2=b"abc"))
case("a table without a trie", "says that its trie has 0 bytes")(change(normalizer__2=b"\0\0\0\0a\0"))
case("a table whose trie is past its end", "its trie has 4096 bytes")(charsmap(lambda u, t: table(u[:9], t, 4096)))
case("a table whose trie has 6 bytes", "its trie has 6 bytes")(charsmap(lambda u, t: table(u, t, 6)))
case("a table with a trie of 2^32 - 4 bytes", "its trie has 4294967292 bytes")(
    charsmap(lambda u, t: table(u, t, 2**32 - 4))
)
case("a table without texts", "ends without a NUL")(charsmap(lambda u, t: table(u, b"")))
case("a table whose texts have no end", "ends without a NUL")(charsmap(lambda u, t: table(u, t + b"a")))
case("a table with a text that is no UTF-8", "has a text that is not valid UTF-8")(
    charsmap(lambda u, t: table(u, b"\xff" + t))
)
case("a table whose values are past its texts", "points to byte .* of the 1 bytes")(
    charsmap(lambda u, t: table(u, b"\0"))
)
case("a table with a text of 3000 bytes", "has a text of .* bytes, more than")(
    charsmap(lambda u, t: table(u, b"a" * 3000 + b"\0"))
)
case("a table whose trie is cut", "has no value where its node|points to byte")(
    charsmap(lambda u, t: table([unit | 0x100 for unit in u[:64]], t))
)
# Unit 0 leads to itself by the letter a, which it is labelled with.
case("a table that goes in circles", "has strings without an end")(
    change(normalizer__2=table([0x61 << 10 | 0x61] + [0x61] * 127, b"\0"))
)


def write(folder, add):
    """Writes all folders; add(name, path, expect) records each."""
    valid = folder / "valid"
    tiny.write_safetensors(valid)
    (valid / "tokenizer.json").unlink()
    for number, (name, expect, damage) in enumerate(cases):
        path = folder / f"{number:03}"
        shutil.copytree(valid, path)
        model = Model()
        content = damage(model)
        (path / "tokenizer.model").write_bytes(content if isinstance(content, bytes) else model.build())
        add(f"tokenizer.model, {name}", path, expect)
