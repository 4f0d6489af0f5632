"""Malformed GGUF files, each a valid one with one defect."""

import struct

import tiny_model as tiny
from registry import registry

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {
    U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B",
    U64: "<Q", I64: "<q", F64: "<d",
}  # fmt: skip
TYPE_F32, TYPE_F16, TYPE_Q4_0, TYPE_Q6_K, TYPE_Q8_K, TYPE_IQ4_XS, TYPE_I32, TYPE_MXFP4 = (
    0, 1, 2, 14, 15, 23, 26, 39)  # fmt: skip
HUGE = 2**63

# A function damages a Raw, or returns the bytes of the file itself.
cases, case = registry()


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def scalar(kind, value):
    return text(value) if kind == STRING else struct.pack(FORMATS[kind], value)


def array(kind, values, count=None):
    head = struct.pack("<IQ", kind, len(values) if count is None else count)
    return head + b"".join(scalar(kind, v) for v in values)


class Raw:
    """The fields of a file, each of which a case may change; nothing is checked."""

    def __init__(self):
        tokens, merges = tiny.vocabulary()
        self.magic, self.version = b"GGUF", 3
        self.entries = []  # [key, type, payload]
        for key, kind, value in [
            ("general.architecture", STRING, "llama"),
            ("llama.block_count", U32, tiny.LAYERS),
            ("llama.context_length", U32, tiny.CONTEXT),
            ("llama.embedding_length", U32, tiny.D_MODEL),
            ("llama.feed_forward_length", U32, tiny.FFN),
            ("llama.attention.head_count", U32, tiny.HEADS),
            ("llama.attention.head_count_kv", U32, tiny.KV_HEADS),
            ("llama.attention.layer_norm_rms_epsilon", F32, tiny.EPSILON),
            ("llama.rope.freq_base", F32, tiny.THETA),
            ("llama.rope.dimension_count", U32, tiny.HEAD_DIM),
            ("tokenizer.ggml.model", STRING, "gpt2"),
            ("tokenizer.ggml.pre", STRING, "smollm"),
            ("tokenizer.ggml.bos_token_id", U32, tiny.BOS),
            ("tokenizer.ggml.eos_token_id", U32, tiny.EOS),
            ("tokenizer.ggml.add_bos_token", BOOL, 0),
        ]:
            self.set(key, kind, value)
        types = [3] * len(tiny.SPECIAL) + [1] * (tiny.VOCAB - len(tiny.SPECIAL))
        self.set_array("tokenizer.ggml.tokens", STRING, tokens)
        self.set_array("tokenizer.ggml.token_type", I32, types)
        self.set_array("tokenizer.ggml.merges", STRING, merges)
        # Tensors: name, dims (innermost first), type id, data, offset (None: the next free one).
        self.tensors = []
        for name, value in tiny.gguf_weights().items():
            kind = TYPE_F32 if value.ndim == 1 else TYPE_F16
            data = value.astype("<f4" if kind == TYPE_F32 else "<f2").tobytes()
            self.tensors.append([name, list(value.shape[::-1]), kind, data, None])
        self.entry_count = self.tensor_count = None
        self.alignment = 32

    def set(self, key, kind, value):
        self.put(key, kind, scalar(kind, value))

    def set_array(self, key, kind, values, count=None):
        self.put(key, ARRAY, array(kind, values, count))

    def put(self, key, kind, payload):
        for entry in self.entries:
            if entry[0] == key:
                entry[1:] = [kind, payload]
                return
        self.entries.append([key, kind, payload])

    def remove(self, key):
        self.entries = [entry for entry in self.entries if entry[0] != key]

    def tensor(self, name):
        return next(t for t in self.tensors if t[0] == name)

    def pad(self, size):
        return -size % self.alignment

    def head(self):
        entries = len(self.entries) if self.entry_count is None else self.entry_count
        tensors = len(self.tensors) if self.tensor_count is None else self.tensor_count
        out = self.magic + struct.pack("<IQQ", self.version, tensors, entries)
        for key, kind, payload in self.entries:
            out += text(key) + struct.pack("<I", kind) + payload
        return out

    def parts(self):
        """The file up to the data, and the data."""
        out, offset, data = self.head(), 0, b""
        for name, dims, kind, content, placed in self.tensors:
            out += text(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
            out += struct.pack("<IQ", kind, offset if placed is None else placed)
            content += b"\0" * self.pad(len(content))
            data += content
            offset += len(content)
        return out + b"\0" * self.pad(len(out)), data

    def build(self):
        return b"".join(self.parts())


# Header and truncation.
case("empty file", "the file is empty")(lambda g: b"")
case("magic only", "version.*needs 4 bytes")(lambda g: b"GGUF")
case("half a magic", "magic.*needs 4 bytes")(lambda g: b"GG")
case("no magic", "is not GGUF")(lambda g: setattr(g, "magic", b"GGML"))
case("version 1", "version.*is 1, supported are 2 and 3")(lambda g: setattr(g, "version", 1))
case("version 4", "version.*is 4")(lambda g: setattr(g, "version", 4))
case("version 0", "version.*is 0")(lambda g: setattr(g, "version", 0))
case("big-endian", "big-endian")(lambda g: setattr(g, "version", 3 << 24))
case("truncated after version", "tensor count.*needs 8")(lambda g: g.build()[:8])
case("truncated counts", "metadata count.*needs 8")(lambda g: g.build()[:20])


@case("truncated in a key", "metadata entry 0.*needs 20 bytes, the file has 4")
def _(g):
    g.tensor_count, g.entry_count = 0, 1
    return g.build()[: 24 + 12]


case("truncated in the metadata", "key tokenizer.ggml.tokens.*array of 300 elements")(
    lambda g: g.build()[: len(g.head()) // 2]
)
case("truncated in the tensor table", "tensor .*needs|tensor count")(
    lambda g: g.build()[: len(g.head()) + 700]
)
case("truncated after the tensor table", "reach beyond the 0 bytes")(lambda g: g.parts()[0])
case("truncated in the data", "reach beyond the .* bytes of data")(lambda g: g.build()[:-5000])
case("last byte missing", "reach beyond")(lambda g: g.build()[:-1])

# Counts and lengths.
case("tensor count of 2^63", "tensor count.*is 9223372036854775808")(
    lambda g: setattr(g, "tensor_count", HUGE)
)
case("tensor count over the file", "tensor count.*at most")(
    lambda g: setattr(g, "tensor_count", 100_000)
)
case("one tensor too many", "tensor|needs")(lambda g: setattr(g, "tensor_count", 21))
case("metadata count of 2^64 - 1", "metadata count.*is 18446744073709551615")(
    lambda g: setattr(g, "entry_count", 2**64 - 1)
)
case("metadata count over the file", "metadata count.*at most")(
    lambda g: setattr(g, "entry_count", 60_000_000)
)


@case("key length of 2^63", "metadata entry 0.*9223372036854775808 bytes")
def _(g):
    data = bytearray(g.build())
    data[24:32] = struct.pack("<Q", HUGE)
    return bytes(data)


case("key of 70000 bytes", "metadata entry .*70000 bytes, at most 65535")(
    lambda g: g.set("k" * 70000, U32, 1)
)
case("key that is empty", "metadata entry .*is empty")(lambda g: g.set("", U32, 1))
case("key that is no UTF-8", "metadata entry .*UTF-8")(
    lambda g: g.entries.append([b"a\xff", U32, scalar(U32, 1)])
)
case("key twice", "key llama.block_count.*is there twice")(
    lambda g: g.entries.append(["llama.block_count", U32, scalar(U32, 3)])
)
case("string length of 2^63", "key general.name.*9223372036854775808 bytes")(
    lambda g: g.put("general.name", STRING, struct.pack("<Q", HUGE))
)
case("string longer than the file", "key general.name.*needs 10000000 bytes")(
    lambda g: g.put("general.name", STRING, struct.pack("<Q", 10_000_000))
)
case("array length of 2^63", "key x.*array of 9223372036854775808")(
    lambda g: g.set_array("x", U8, [], HUGE)
)
case("array whose bytes wrap", "key x.*array of 4611686018427387904")(
    lambda g: g.set_array("x", U32, [], 2**62)
)
case("array of strings of 2^61", "key x.*array of 2305843009213693952")(
    lambda g: g.set_array("x", STRING, [], 2**61)
)
case("array of arrays", "key x.*array of arrays")(
    lambda g: g.put("x", ARRAY, struct.pack("<IQ", ARRAY, 1) + array(U8, [1]))
)
case("array of an unknown type", "key x.*value type 99")(
    lambda g: g.put("x", ARRAY, struct.pack("<IQ", 99, 1))
)
case("unknown value type", "key x.*value type 13")(lambda g: g.put("x", 13, b"\0" * 8))
case("bool of 2", "key x.*bool with the value 2")(lambda g: g.set("x", BOOL, 2))
case("array with a bool of 7", "key x.*neither 0 nor 1")(
    lambda g: g.set_array("x", BOOL, [0, 1, 7])
)

# Alignment.
case("alignment of 0", "general.alignment.*power of two")(
    lambda g: g.set("general.alignment", U32, 0)
)
case("alignment of 48", "general.alignment.*is 48")(lambda g: g.set("general.alignment", U32, 48))
case("alignment of 4", "general.alignment.*is 4")(lambda g: g.set("general.alignment", U32, 4))
case("alignment of 2^31", "general.alignment.*2147483648")(
    lambda g: g.set("general.alignment", U32, 2**31)
)
case("alignment as a string", "general.alignment.*a string")(
    lambda g: g.set("general.alignment", STRING, "32")
)
case("alignment as u64", "general.alignment.*must be a u32")(
    lambda g: g.set("general.alignment", U64, 32)
)


# Tensors.
def tensor_field(index, value, name="blk.0.attn_q.weight"):
    return lambda g: g.tensor(name).__setitem__(index, value)


case("no dimensions", "tensor blk.0.attn_q.weight.*0 dimensions")(tensor_field(1, []))
case("five dimensions", "5 dimensions, must be 1 to 4")(tensor_field(1, [64, 64, 1, 1, 1]))
case("a dimension of 0", "has the dimension 0")(tensor_field(1, [0, 64]))
case("a dimension of 2^63", "has the dimension 9223372036854775808")(tensor_field(1, [HUGE, 64]))
case("a shape that overflows", "overflows 64 bits")(tensor_field(1, [2**40, 2**40]))
case("a shape that wraps to 0", "overflows 64 bits")(tensor_field(1, [2**32, 2**32]))
case("bytes that overflow", "overflows 64 bits|reach beyond")(tensor_field(1, [2**62, 2]))
case("an unknown type", "unknown type id 77")(tensor_field(2, 77))
case("a removed type", "removed type id 4")(tensor_field(2, 4))
case("rows that are no whole blocks", "rows of 60 elements.*blocks of 32")(
    lambda g: g.tensor("blk.0.attn_q.weight").__setitem__(slice(1, 3), [[60, 64], TYPE_Q4_0])
)
case("rows that are no whole super-blocks", "rows of 64 elements, q6_k.*blocks of 256")(
    lambda g: g.tensor("blk.0.attn_q.weight").__setitem__(slice(1, 3), [[64, 64], TYPE_Q6_K])
)
case("rows that are no whole blocks of mxfp4", "rows of 60 elements, mxfp4.*blocks of 32")(
    lambda g: g.tensor("blk.0.attn_q.weight").__setitem__(slice(1, 3), [[60, 64], TYPE_MXFP4])
)
case("rows that are no whole super-blocks of iq4_xs", "rows of 64 elements, iq4_xs.*blocks of 256")(
    lambda g: g.tensor("blk.0.attn_q.weight").__setitem__(slice(1, 3), [[64, 64], TYPE_IQ4_XS])
)
case("a matrix of mxfp4 that ends early", "blk.9.attn_q.weight.*reach beyond")(
    lambda g: g.tensors.append(
        ["blk.9.attn_q.weight", [64, 64], TYPE_MXFP4, bytes(64 * 34 - 100), None])
)
case("a norm of mxfp4", "attn_norm.weight.*type MXFP4 is not supported|mxfp4 is not supported")(
    lambda g: g.tensor("blk.0.attn_norm.weight").__setitem__(slice(2, 4), [TYPE_MXFP4, bytes(34)])
)
case("an offset off the alignment", "offset 8 is no multiple")(tensor_field(4, 8))
case("an offset beyond the file", "reach beyond")(tensor_field(4, 2**40))
case("an offset that wraps", "reach beyond")(tensor_field(4, 2**64 - 32))
case("tensors that overlap", "overlaps that of tensor")(tensor_field(4, 0))
case("an empty tensor name", "tensor .*is empty")(tensor_field(0, ""))
case("a tensor name of 65 bytes", "65 bytes, at most 64")(tensor_field(0, "t" * 65))
case("a tensor twice", "attn_k.weight.*is there twice")(tensor_field(0, "blk.0.attn_k.weight"))
case("a tensor missing", "blk.1.ffn_up.weight.*is missing")(
    lambda g: g.tensors.remove(g.tensor("blk.1.ffn_up.weight"))
)
case("no tensors", "token_embd.weight.*is missing")(lambda g: g.tensors.clear())
case("a tensor too many", "blk.2.attn_q.weight.*no place")(
    lambda g: g.tensors.append(["blk.2.attn_q.weight", [8], TYPE_F32, b"\0" * 32, None])
)
case("a transposed weight", r"ffn_up.weight.*shape \[64, 128\], the model needs \[128, 64\]")(
    tensor_field(1, [128, 64], "blk.0.ffn_up.weight")
)
case("an integer weight", "type i32 is not supported for a weight matrix")(
    lambda g: g.tensor("blk.0.attn_q.weight").__setitem__(
        slice(2, 4), [TYPE_I32, bytes(4 * 64 * 64)]
    )
)
case("a quantized norm", "type q4_0 is not supported for a norm")(
    lambda g: g.tensor("blk.0.attn_norm.weight").__setitem__(slice(2, 4), [TYPE_Q4_0, bytes(36)])
)


@case("a weight type without support", "ffn_up.weight.*type Q8_K is not supported")
def wide(g):
    """A model of 256 dimensions, so that a type with blocks of 256 fits its rows."""
    g.set("llama.embedding_length", U32, 256)
    g.set("llama.attention.key_length", U32, 16)
    g.set("llama.attention.value_length", U32, 16)
    for t in g.tensors:
        if t[2] == TYPE_F32:
            t[1:4] = [[256], TYPE_F32, bytes(4 * 256)]
        else:
            dims = [256 if d == 64 and "attn" not in t[0] else d for d in t[1]]
            if "attn" in t[0]:
                dims = [64, 256] if "output" in t[0] else [256, t[1][1]]
            t[1:4] = [dims, TYPE_F16, bytes(2 * dims[0] * dims[1])]
    t = g.tensor("blk.0.ffn_up.weight")
    t[1:4] = [[256, 128], TYPE_Q8_K, bytes(292 * 128)]


# Configuration.
def value(name, kind, content):
    return lambda g: g.set(name, kind, content)


case("no architecture", "general.architecture.*is missing")(
    lambda g: g.remove("general.architecture")
)
case("another architecture", 'architecture "mamba" is not supported')(
    value("general.architecture", STRING, "mamba")
)
case("architecture as a number", "general.architecture.*must be a string")(
    value("general.architecture", U32, 1)
)
case("architecture with control characters", r"\\x1b\[31mred")(
    value("general.architecture", STRING, "\x1b[31mred\n")
)
case("no layer count", "llama.block_count.*is missing")(lambda g: g.remove("llama.block_count"))
case("0 layers", "block_count.*is 0")(value("llama.block_count", U32, 0))
case("2^32 - 1 layers", "block_count.*is 4294967295")(value("llama.block_count", U32, 2**32 - 1))
case("-1 layers", "block_count.*is -1")(value("llama.block_count", I32, -1))
case("layer count as a float", "block_count.*must be an integer")(
    value("llama.block_count", F32, 2.0)
)
case("layer count as a string", "block_count.*a string")(value("llama.block_count", STRING, "2"))
case("one layer too many", "blk.2.attn_norm.weight.*is missing")(
    value("llama.block_count", U32, 3)
)
case("0 heads", "head_count.*is 0")(value("llama.attention.head_count", U32, 0))
case("3 heads of 64 dimensions", "3 heads do not divide 64")(
    value("llama.attention.head_count", U32, 3)
)
case("heads that key/value heads do not divide", "4 attention heads are no multiple of 3")(
    value("llama.attention.head_count_kv", U32, 3)
)
case("heads per layer of the wrong length", "has 3 elements for 2 layers")(
    lambda g: g.set_array("llama.attention.head_count_kv", U32, [2, 2, 2])
)
case("heads that differ between layers, in weights that do not", "the model needs .64, 64.")(
    lambda g: g.set_array("llama.attention.head_count_kv", U32, [2, 4])
)
case("epsilon of NaN", "rms_epsilon.*is nan")(
    value("llama.attention.layer_norm_rms_epsilon", F32, float("nan"))
)
case("epsilon of 0", "rms_epsilon.*is 0")(value("llama.attention.layer_norm_rms_epsilon", F32, 0))
case("epsilon as a text", "rms_epsilon.*is a string, must be a number")(
    value("llama.attention.layer_norm_rms_epsilon", STRING, "1e-5")
)
case("theta of infinity", "freq_base.*is inf")(value("llama.rope.freq_base", F32, float("inf")))
case("theta below 0", "freq_base.*is -1")(value("llama.rope.freq_base", F32, -1))
case("odd rotary dimensions", "15 rotary dimensions")(value("llama.rope.dimension_count", U32, 15))
case("more rotary dimensions than a head", "dimension_count.*is 18")(
    value("llama.rope.dimension_count", U32, 18)
)
case("RoPE scaling that is unknown", 'RoPE scaling "dynamic" is not supported')(
    value("llama.rope.scaling.type", STRING, "dynamic")
)
case("RoPE factors of the wrong length", r"rope_freqs.weight.*must be f32 \[8\]")(
    lambda g: g.tensors.append(["rope_freqs.weight", [7], TYPE_F32, b"\0" * 28, None])
)
case("a RoPE factor of 0", "factor 0 is not finite and above 0")(
    lambda g: g.tensors.append(["rope_freqs.weight", [8], TYPE_F32, b"\0" * 32, None])
)
case("a RoPE factor of NaN", "factor nan is not finite")(
    lambda g: g.tensors.append(
        ["rope_freqs.weight", [8], TYPE_F32, struct.pack("<8f", *[float("nan")] * 8), None]
    )
)
case("mixture of experts", "mixture of experts is not supported")(
    value("llama.expert_count", U32, 8)
)
case("a sliding window below zero", "attention.sliding_window.*is -16")(
    value("llama.attention.sliding_window", I32, -16)
)
case("RoPE's long factors of the wrong length", r"rope_factors_long.weight.*must be f32 \[8\]")(
    lambda g: g.tensors.append(["rope_factors_long.weight", [7], TYPE_F32, b"\0" * 28, None])
)
case("an original context of 0", "original_context_length.*is 0")(
    value("llama.rope.scaling.original_context_length", U32, 0)
)
case("context of 2^62", "context_length.*is 4611686018427387904")(
    value("llama.context_length", U64, 2**62)
)
case("vocabulary size that is wrong", "vocab_size.*is 299, the embedding has 300")(
    value("llama.vocab_size", U32, 299)
)

# Tokenizer.
case("BOS beyond the vocabulary", "bos_token_id.*is 300")(
    value("tokenizer.ggml.bos_token_id", U32, 300)
)
case("EOS of 2^32 - 2", "eos_token_id.*is 4294967294")(
    value("tokenizer.ggml.eos_token_id", U32, 2**32 - 2)
)
case("EOS below -1", "eos_token_id.*is -2")(value("tokenizer.ggml.eos_token_id", I32, -2))
case("BOS wanted that is none", "bos_token_id.*means none, but add_bos_token asks for it")(
    lambda g: g.set("tokenizer.ggml.bos_token_id", I32, -1)
    or g.set("tokenizer.ggml.add_bos_token", BOOL, 1)
)
case("BOS wanted but not named", "bos_token_id.*is missing")(
    lambda g: g.remove("tokenizer.ggml.bos_token_id")
    or g.set("tokenizer.ggml.add_bos_token", BOOL, 1)
)
case("fewer tokens than embeddings", "has 299 elements, the embedding has 300 rows")(
    lambda g: g.set_array("tokenizer.ggml.tokens", STRING, tiny.vocabulary()[0][:299])
    or g.set_array("tokenizer.ggml.token_type", I32, [1] * 299)
)
case("tokens as numbers", "tokens.*must be an array of strings")(
    lambda g: g.set_array("tokenizer.ggml.tokens", I32, [1] * 300)
)
case("a token that is no UTF-8", "tokens.*element 299 is not valid UTF-8")(
    lambda g: g.set_array(
        "tokenizer.ggml.tokens", STRING, tiny.vocabulary()[0][:299] + [b"\xc3\x28"]
    )
)
case("a token of 70000 bytes", "tokens.*element 299 has 70000 bytes")(
    lambda g: g.set_array(
        "tokenizer.ggml.tokens", STRING, tiny.vocabulary()[0][:299] + ["a" * 70000]
    )
)
case("no tokens", "tokens.*is empty")(lambda g: g.set_array("tokenizer.ggml.tokens", STRING, []))
case("a tokenizer without tokens", "tokens.*is missing")(
    lambda g: g.remove("tokenizer.ggml.tokens")
)
case("token types of another length", "token_type.*has 299 elements, there are 300")(
    lambda g: g.set_array("tokenizer.ggml.token_type", I32, [1] * 299)
)
case("token types as floats", "token_type.*array of integers")(
    lambda g: g.set_array("tokenizer.ggml.token_type", F32, [1.0] * 300)
)
case("a token type of 9", "token_type.*must be an integer from 1 to 6")(
    lambda g: g.set_array("tokenizer.ggml.token_type", I32, [1] * 299 + [9])
)
case("a merge of unknown tokens", "merge 0 has a token that is not in the vocabulary")(
    lambda g: g.set_array("tokenizer.ggml.merges", STRING, ["xyz zyx"])
)
case("a merge without a space", "merge 0 is not two tokens")(
    lambda g: g.set_array("tokenizer.ggml.merges", STRING, ["the"])
)
case("a byte token of <0x-1>", "byte token 299 is not of the form")(
    lambda g: g.set_array("tokenizer.ggml.tokens", STRING, tiny.vocabulary()[0][:299] + ["<0x-1>"])
    or g.set_array("tokenizer.ggml.token_type", I32, [3] * 3 + [1] * 296 + [6])
    or g.set_array("tokenizer.ggml.merges", STRING, [])
)
case("another tokenizer", 'tokenizer model "rwkv" is not supported')(
    value("tokenizer.ggml.model", STRING, "rwkv")
)


def sentence_piece(model="llama", **changes):
    """SentencePiece's tokenizer, as it is converted: no pre-tokenizer, no merges, but scores."""

    def change(g):
        g.set("tokenizer.ggml.model", STRING, model)
        for key in ("pre", "merges", "bos_token_id"):
            g.remove(f"tokenizer.ggml.{key}")
        texts = ["<unk>", "<s>", "</s>", "\u2581", "\u2581a", "a", *[f"x{i}" for i in range(294)]]
        g.set_array("tokenizer.ggml.tokens", STRING, texts)
        g.set_array("tokenizer.ggml.scores", F32, [-float(i) for i in range(300)])
        g.set_array("tokenizer.ggml.token_type", I32, [2, 3, 3] + [1] * 297)
        for key, value in changes.items():
            key = f"tokenizer.ggml.{key}"
            g.remove(key) if value is None else g.set_array(key, *value)

    return change


case("SentencePiece without scores", "ggml.scores.*is missing")(sentence_piece(scores=None))
case("SentencePiece with fewer scores", "ggml.scores.*has 299 elements, there are 300 tokens")(
    sentence_piece(scores=(F32, [0.0] * 299))
)
case("SentencePiece with scores of text", "ggml.scores.*must be an array of numbers")(
    sentence_piece(scores=(STRING, ["0"] * 300))
)
case("SentencePiece with a score of NaN", "the score of token 299 is not a finite number")(
    sentence_piece(scores=(F32, [0.0] * 299 + [float("nan")]))
)
case("SentencePiece without an unknown token", "unknown_token_id.*is missing, and not each byte")(
    sentence_piece(token_type=(I32, [1] * 300))
)
case("SentencePiece with a long piece", "token 5 is 2000 bytes long")(
    sentence_piece(tokens=(STRING, ["<unk>", "<s>", "</s>", "b", "c", "a" * 2000] + ["x"] * 294))
)
case("unigram with a table of numbers", "precompiled_charsmap.*must be an array of bytes")(
    sentence_piece("t5", precompiled_charsmap=(I32, [1, 2, 3]))
)
case("unigram with a table that is cut off", "precompiled_charsmap.*says that its trie has")(
    sentence_piece("t5", precompiled_charsmap=(U8, [0, 4, 0, 0, 1, 2, 3]))
)


@case("SentencePiece with an unknown token beyond", "unknown_token_id.*is 300")
def _(g):
    sentence_piece()(g)
    g.set("tokenizer.ggml.unknown_token_id", U32, 300)


@case("SentencePiece with a prefix of 2", "add_space_prefix")
def _(g):
    sentence_piece()(g)
    g.set("tokenizer.ggml.add_space_prefix", U32, 2)


case("another pre-tokenizer", 'pre-tokenizer.*"deepseek-coder"')(
    value("tokenizer.ggml.pre", STRING, "deepseek-coder")
)
case("a chat template as a number", "chat_template.*must be a string")(
    value("tokenizer.chat_template", U32, 1)
)


def shard(number, count, tensors, total=20):
    """One shard of a split file: the metadata and some of the tensors."""
    g = Raw()
    g.tensors = g.tensors[tensors]
    g.set("split.no", U16, number)
    g.set("split.count", U16, count)
    g.set("split.tensors.count", I32, total)
    return g.build()


# Split files: {file name: bytes}, the first of which is opened.
FIRST, SECOND = "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"
HALF, REST = slice(0, 10), slice(10, None)
split_cases = [
    ("a shard missing", "m-00002-of-00002.gguf.*no such file", {FIRST: shard(0, 2, HALF)}),
    ("a second shard opened alone", "this is shard 2 of 2", {SECOND: shard(1, 2, REST)}),
    (
        "a shard with the wrong number",
        "split.no.*is 0, must be an integer from 1 to 1",
        {FIRST: shard(0, 2, HALF), SECOND: shard(0, 2, REST)},
    ),
    (
        "shards that disagree on their count",
        "split.count.*is 3",
        {FIRST: shard(0, 2, HALF), SECOND: shard(1, 3, REST)},
    ),
    (
        "a name that contradicts the shard count",
        "split.count.*must end in -00001-of-00002.gguf",
        {"m.gguf": shard(0, 2, HALF)},
    ),
    (
        "a tensor in two shards",
        "is in two shards",
        {FIRST: shard(0, 2, slice(0, 11)), SECOND: shard(1, 2, REST)},
    ),
    (
        "shards with too few tensors",
        "split.tensors.count.*is 21, the shards have 20",
        {FIRST: shard(0, 2, HALF, total=21), SECOND: shard(1, 2, REST)},
    ),
]


def write(folder, add):
    """Writes all files; add(name, path, expect) records each."""
    (folder / "valid.gguf").write_bytes(Raw().build())
    add("a raw GGUF file without defect", folder / "valid.gguf", None)
    for number, (name, expect, damage) in enumerate(cases):
        raw = Raw()
        result = damage(raw)
        path = folder / f"bad-{number:03}.gguf"
        path.write_bytes(result if isinstance(result, bytes) else raw.build())
        add(name, path, expect)
    for number, (name, expect, files) in enumerate(split_cases):
        place = folder / f"split-{number:02}"
        place.mkdir()
        for file, content in files.items():
            (place / file).write_bytes(content)
        add(name, place / next(iter(files)), expect)
    place = folder / "split"
    place.mkdir()
    (place / FIRST).write_bytes(shard(0, 2, HALF))
    (place / SECOND).write_bytes(shard(1, 2, REST))
    add("two GGUF shards without defect", place / FIRST, None)
