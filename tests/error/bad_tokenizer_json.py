"""Malformed tokenizer.json files, each with one defect."""

import json

from model_folder import files, write_cases
from registry import registry

# A function damages a Folder.
cases, case = registry()


def tokenizer(change):
    def damage(f):
        document = json.loads((f.path / "tokenizer.json").read_text())
        change(document)
        f.write("tokenizer.json", json.dumps(document))

    return damage


case("tokenizer.json that is cut off", "tokenizer.json.*not valid JSON")(
    lambda f: f.write("tokenizer.json", f.bytes("tokenizer.json")[:1000])
)
case("tokenizer.json with an id beyond the embeddings", "301 tokens but .* embeddings for 300")(
    tokenizer(lambda d: d["model"]["vocab"].__setitem__("zz", 300))
)
case("tokenizer.json with two tokens of one id", "id 5 is given to two tokens")(
    tokenizer(lambda d: d["model"]["vocab"].__setitem__("zz", 5))
)
case("tokenizer.json with an id below 0", "vocab.*is -1")(
    tokenizer(lambda d: d["model"]["vocab"].__setitem__("zz", -1))
)
case("tokenizer.json with a merge of unknown tokens", "not in the vocabulary")(
    tokenizer(lambda d: d["model"]["merges"].append(["zzz", "yyy"]))
)
case("tokenizer.json of type Unigram with ByteLevel", "model Unigram is not supported with ByteLevel")(
    tokenizer(lambda d: d["model"].__setitem__("type", "Unigram"))
)
case("tokenizer.json of type WordPiece", "model WordPiece is not supported with ByteLevel; byte-level BPE")(
    tokenizer(lambda d: d["model"].__setitem__("type", "WordPiece"))
)


def sentence_piece(change):
    """As Llama 2's, with a change."""

    def convert(d):
        vocab = ["<unk>", "<s>", "</s>", *[f"<0x{b:02X}>" for b in range(256)], "\u2581", "a", "\u2581a"]
        d["model"].update(
            unk_token="<unk>", fuse_unk=True, byte_fallback=True, merges=["\u2581 a"],
            vocab={text: i for i, text in enumerate(vocab)},
        )  # fmt: skip
        d["added_tokens"] = []
        d["normalizer"] = {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        ]}  # fmt: skip
        d["pre_tokenizer"] = d["post_processor"] = None
        d["decoder"] = {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]}  # fmt: skip
        change(d)

    return tokenizer(convert)


def unigram(**fields):
    def change(d):
        d["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0], ["a", -1.5]], **fields}

    return sentence_piece(change)


def step(field, list, step):
    return sentence_piece(lambda d: d[field][list].insert(0, step))


case("pieces with an unknown token that is none", "unk_token is not in the vocabulary")(
    sentence_piece(lambda d: d["model"].update(unk_token="<none>"))
)
case("pieces with a merge of none", "merge 1 has a token that is not in the vocabulary")(
    sentence_piece(lambda d: d["model"]["merges"].append("a zzz"))
)
case("pieces without a decoder", "its decoder is missing")(sentence_piece(lambda d: d.pop("decoder")))
case("pieces with bytes that are not decoded", "byte_fallback without a ByteFallback")(
    sentence_piece(lambda d: d["decoder"]["decoders"].pop(1))
)
case("pieces with another decoder", "decoder WordPiece is not supported")(
    step("decoder", "decoders", {"type": "WordPiece"})
)
case("pieces with a Metaspace behind bytes", "a Metaspace behind other decoders")(
    sentence_piece(lambda d: d["decoder"]["decoders"].append({"type": "Metaspace"}))
)
case("pieces with a Replace behind bytes", "a Replace behind other decoders")(
    sentence_piece(lambda d: d["decoder"]["decoders"].append(d["decoder"]["decoders"].pop(0)))
)
case("pieces whose spaces are dropped twice", "a Strip behind what drops spaces")(
    sentence_piece(lambda d: d["decoder"]["decoders"].__setitem__(0, {"type": "Metaspace"}))
)
case("pieces with a Metaspace behind another", "prepend_scheme first behind another")(
    sentence_piece(lambda d: d.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [
        {"type": "Metaspace"}, {"type": "Metaspace", "prepend_scheme": "first"}]}))
)  # fmt: skip
case("pieces with nothing in front", "prepending an empty text")(
    step("normalizer", "normalizers", {"type": "Prepend", "prepend": ""})
)
case("pieces with StripAccents", "normalizer StripAccents is not supported; Precompiled, NFC")(
    step("normalizer", "normalizers", {"type": "StripAccents"})
)
case("pieces with a normalizer that is an expression", 'replacing the expression "x.+" by')(
    step("normalizer", "normalizers", {"type": "Replace", "pattern": {"Regex": "x+"}, "content": ""})
)
case("pieces with a replacement of nothing", "replacing an empty text")(
    step("normalizer", "normalizers", {"type": "Replace", "pattern": {"String": ""}, "content": "a"})
)
case("pieces with a long replacement", "has 99 bytes")(
    step("normalizer", "normalizers", {"type": "Prepend", "prepend": "a" * 99})
)
case("pieces with a table that is no base64", "precompiled_charsmap is not base64")(
    step("normalizer", "normalizers", {"type": "Precompiled", "precompiled_charsmap": "a*b="})
)
case("pieces with a table that is cut off", "precompiled_charsmap says that its trie has")(
    step("normalizer", "normalizers", {"type": "Precompiled", "precompiled_charsmap": "AAQAAAEC"})
)
case("pieces with another pre-tokenizer", "pre_tokenizer Digits is not supported; Metaspace")(
    sentence_piece(lambda d: d.update(pre_tokenizer={"type": "Digits"}))
)
case("unigram without an unknown token", "a Unigram without unk_id")(unigram(unk_id=None))
case("unigram with an unknown token beyond", "unk_id.*is 2, must be an integer from 0 to 1")(unigram(unk_id=2))
case("unigram with a pair of three", "is not a pair of a text and a score|at most 2")(
    unigram(vocab=[["<unk>", 0, 1]])
)
case("unigram with a score that is text", "vocab.*must be a number")(unigram(vocab=[["<unk>", "0"]]))
case("unigram with a score beyond f32", "vocab.*is 1e\\+300")(unigram(vocab=[["<unk>", 1e300]]))
case("unigram without pieces", "unk_id|is empty")(unigram(vocab=[]))


@case("a vocabulary without a byte, and an unknown token", "byte 0x41 has no token, and unk_token")
@tokenizer
def without_a_byte(d):
    vocab = d["model"]["vocab"]
    vocab["AA"] = vocab.pop("A")
    d["model"]["unk_token"] = "<|endoftext|>"


case("a tokenizer.model of lines", 'tokenizer.model.: tokenizer model "tiktoken" is not supported')(
    files(tokenizer__json=None, tokenizer__model="IQ== 0\nIg== 1\n")
)

case("tokenizer.json with a dropout", "a dropout of 0.5 is not supported")(
    tokenizer(lambda d: d["model"].update(dropout=0.5))
)


def write(folder, add):
    """Writes all folders; add(name, path, expect) records each."""
    write_cases(cases, folder, add)
