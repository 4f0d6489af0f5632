#!/usr/bin/env python3
"""Makes tests/golden/data/sentencepiece: small models by SentencePiece's own trainer, and what
SentencePiece and Hugging Face's `tokenizers` make of lines of mixed text with them.

    sentencepiece_models.py [--out DIR] [--lines N --seed S]

Of each model there are NAME.model, where it makes sense NAME.json (a tokenizer.json as that family's
models have it) and NAME.gguf (nothing but its tokenizer), and NAME.ids.json: for each of these
files the ids of each line of lines.jsonl, and what they decode to. Control tokens are recognised in
the lines by the .json alone: SentencePiece knows none in a text. With --lines there are N other lines,
full of what normalizers and tokens are about, which tests/golden/tokenizer_test.py compares with
--sentencepiece DIR.
"""
import argparse
import io
import json
import pathlib
import random
import re
import unicodedata

import gguf
import sentencepiece
import tokenizer as mixed
import unicode_classes
from sentencepiece import sentencepiece_model_pb2 as proto
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINES, LONGEST = 250, 160
SPACE = "\u2581"
CONTROL = ["<ctl>", "<|x|>"]
USER = ["<tool>", "\n\n", "<b>", "im_end"]
RUNS = [SPACE * 2, SPACE * 4]
# A table of a few rules is read as nmt_nfkc is, which takes a quarter of a megabyte.
RULES = {
    "\u00e9": "e", "e\u0301": "e", "\ufb01": "fi", "\u00a0": " ", "\t": " ", "\n": " ", "\r": " ",
    "\u3000": " ", "\u200b": "", "\uff10": "0", "\u2460": "1", "\u00bd": "1\u20442", "\u304b\u3099": "\u304c",
    "\ufdfa": "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647", "\U0001f600": ":)",
}  # fmt: skip

BPE = {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity",
       "remove_extra_whitespaces": False}  # fmt: skip
UNIGRAM = {"model_type": "unigram", "hard_vocab_limit": False}
KINDS = {
    # As Llama 2's, Mistral's and Phi-3's.
    "llama": BPE,
    # As Gemma's: nothing in front, and tokens that are found before anything is merged.
    "gemma": BPE | {"add_dummy_prefix": False, "user_defined_symbols": USER + RUNS},
    # Without bytes, with an unknown token, spaces removed, a table of characters.
    "plain": {"model_type": "bpe", "rules": RULES, "user_defined_symbols": USER},
    "suffix": BPE | {"treat_whitespace_as_suffix": True, "rules": RULES},
    "nmt": UNIGRAM | {"normalization_rule_name": "nmt_nfkc", "user_defined_symbols": USER},
    # As T5's.
    "t5": UNIGRAM | {"rules": RULES},
    "unigram-bytes": UNIGRAM | {"byte_fallback": True, "normalization_rule_name": "identity",
                                "add_dummy_prefix": False, "remove_extra_whitespaces": False},
}  # fmt: skip


def train(options, folder):
    options = dict(options)
    rules = options.pop("rules", None)
    if rules:
        table = folder / "rules.tsv"
        code_points = lambda text: " ".join(f"{ord(c):X}" for c in text)
        table.write_text("".join(f"{code_points(a)}\t{code_points(b)}\n" for a, b in rules.items()))
        options["normalization_rule_tsv"] = str(table)
    # Few characters, so that a few hundred pieces are enough, and many of the lines are unknown.
    known = [*map(chr, (*range(0x20, 0x7f), *range(0xdf, 0xfd), *range(0x3b1, 0x3ca), *range(0x430, 0x450)))]
    known = {*known, *"\n\t世界你好😀👍\u0301\u3000"}
    lines = ["".join(c for c in line if c in known) for line in mixed.make_lines(3000, 5, [])]
    lines = [line for line in lines if line.strip() and len(line) < 1000]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=700, character_coverage=0.99999,
        control_symbols=CONTROL, num_threads=1, minloglevel=2, **options,
    )  # fmt: skip
    if rules:
        table.unlink()
    message = proto.ModelProto()
    message.ParseFromString(model.getvalue())
    message.trainer_spec.ClearField("model_prefix")
    message.normalizer_spec.ClearField("normalization_rule_tsv")
    return message


def write_gguf(path, model):
    """The tokenizer as converters write it, without a model."""
    unigram = model.trainer_spec.model_type == 1
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_tokenizer_model("t5" if unigram else "llama")
    writer.add_tokenizer_pre("default")
    user = [p.type == 4 for p in model.pieces]
    writer.add_token_list(
        [p.piece.replace(SPACE, " ") if is_user else p.piece for p, is_user in zip(model.pieces, user)]
    )
    writer.add_token_scores([p.score for p in model.pieces])
    writer.add_token_types([p.type for p in model.pieces])
    writer.add_add_space_prefix(model.normalizer_spec.add_dummy_prefix)
    if unigram:
        writer.add_remove_extra_whitespaces(model.normalizer_spec.remove_extra_whitespaces)
        if model.normalizer_spec.precompiled_charsmap:
            writer.add_precompiled_charsmap(model.normalizer_spec.precompiled_charsmap)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def merges_of(pieces):
    """All pairs of pieces that are one, the highest score first."""
    ids = {p.piece: i for i, p in enumerate(pieces)}
    found = []
    for p in pieces:
        splits = [(p.piece[:i], p.piece[i:]) for i in range(1, len(p.piece))]
        found += [(-p.score, ids[p.piece], a, b) for a, b in splits if a in ids and b in ids]
    return [(a, b) for _, _, a, b in sorted(found)]


def tokenizer_json(name, model):
    """A tokenizer of `tokenizers` as the families' files have it, or None."""
    pieces = model.pieces
    scores = [(p.piece, p.score) for p in pieces]
    bpe = lambda: models.BPE({p.piece: i for i, p in enumerate(pieces)}, merges_of(pieces),
                             unk_token="<unk>", fuse_unk=True,
                             byte_fallback=model.trainer_spec.byte_fallback)  # fmt: skip
    to_text = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if name == "llama":
        result = Tokenizer(bpe())
        result.normalizer = normalizers.Sequence(
            [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
        )
        result.decoder = decoders.Sequence([*to_text, decoders.Strip(" ", 1, 0)])
    elif name == "gemma":
        result = Tokenizer(bpe())
        result.normalizer = normalizers.Replace(" ", SPACE)
        result.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        result.decoder = decoders.Sequence(to_text)
    elif name == "plain":
        result = Tokenizer(bpe())
        result.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.NFKC()])
        result.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, "first", split=False)
        result.decoder = decoders.Sequence([*to_text, decoders.Strip(" ", 1, 0)])
    elif name == "t5":
        result = Tokenizer(models.Unigram(scores, unk_id=0, byte_fallback=False))
        table = model.normalizer_spec.precompiled_charsmap
        result.normalizer = normalizers.Sequence([
            normalizers.Precompiled(table), normalizers.Strip(left=False, right=True),
            normalizers.Replace(Regex(" {2,}"), SPACE),
        ])  # fmt: skip
        result.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, "always")
        result.decoder = decoders.Metaspace(SPACE, "always")
    elif name == "unigram-bytes":
        result = Tokenizer(models.Unigram(scores, unk_id=0, byte_fallback=True))
        result.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(SPACE, "always")]
        )
        result.decoder = decoders.Sequence(to_text)
    else:
        return None
    for p in pieces:
        if p.type in (2, 3):
            # As Phi-3's: what is behind the token is no text.
            strips = name == "llama" and p.piece in CONTROL
            result.add_special_tokens([AddedToken(p.piece, special=True, normalized=False, rstrip=strips)])
        elif p.type == 4 and name != "gemma":
            result.add_tokens([AddedToken(p.piece, special=False, normalized=name == "plain")])
    return result


def ids_in_f64(model, own, lines):
    """Where two paths are as good, f32 tells others apart than f64, which all but SentencePiece sum
    scores in: what it normalizes, through the unigram of `tokenizers`."""
    scores = [(p.piece if p.type == 1 else f"\0none {i}", p.score) for i, p in enumerate(model.pieces)]
    unigram = Tokenizer(models.Unigram(scores, unk_id=0, byte_fallback=False))
    # What no piece stands for: unknown, or its bytes.
    first = next((i for i, p in enumerate(model.pieces) if p.type == 6), None)
    unknown = lambda text: [0] if first is None else [first + byte for byte in text.encode()]
    rows = []
    for line in map(own.normalize, lines):
        encoded = unigram.encode(line)
        parts = [[i] if i else unknown(line[a:b]) for i, (a, b) in zip(encoded.ids, encoded.offsets)]
        rows.append([i for part in parts for i in part])
    return rows


def ids_cut_at_runs(model, lines):
    """To a GGUF file runs of spaces are tokens, as user defined ones are, and runs of U+2581 are none:
    what is between them, through a model that has none of either."""
    between = proto.ModelProto()
    between.CopyFrom(model)
    ids = {}
    for i, p in enumerate(between.pieces):
        if p.type == 4:
            ids[p.piece.replace(SPACE, " ")] = i
            p.piece, p.type = f"<none {i}>", 3
    found = re.compile("(" + "|".join(map(re.escape, sorted(ids, key=len, reverse=True))) + ")")
    own = sentencepiece.SentencePieceProcessor(model_proto=between.SerializeToString())
    cut = lambda line: [[ids[part]] if part in ids else own.encode(part) for part in found.split(line)]
    return [[i for part in cut(line) for i in part] for line in lines]


SPECIAL = [*CONTROL, *USER, "<s>", "<unk>", "<0x41>", SPACE, SPACE * 2 + "a"]


def usual_lines():
    lines = ["", " ", "  ", "a", " a", "a ", "\n", "\u200b", "a\r\nb", "e\u0301\u0323x", "\ufdfa", "\ufb01x\u00bd"]
    lines += SPECIAL + ["".join(SPECIAL), " ".join(SPECIAL), "a" * 400, "ab " * 100]
    lines += [line for line in mixed.make_lines(4000, 9, SPECIAL)[30:] if len(line) <= LONGEST]
    return lines[:LINES]


def hard_lines(count, seed):
    """Half of them as those of other tokenizers, half of what is rare there."""
    rng = random.Random(seed)
    every = [chr(c) for c in unicode_classes.CODE_POINTS]
    # Those of Python's version of Unicode, and some that are newer.
    compatible = [c for c in every if unicodedata.normalize("NFKC", c) != c]
    spacing = [c for c in compatible if unicodedata.normalize("NFKC", c).startswith(" ")]
    marks = [chr(c) for c in unicode_classes.matching(r"\p{M}")]
    kinds = [mixed.WORDS, mixed.WORDS, mixed.EMOJI, mixed.NUMBERS, mixed.SPACES, mixed.MARKS, mixed.RARE,
             SPECIAL, SPECIAL, list(RULES), compatible, compatible, spacing, marks, marks, every,
             [" ", "\n", "\t", SPACE], "abcdefgh\u00e9\u00df\u03b1\u0430"]  # fmt: skip
    part = lambda: rng.choice(rng.choice(kinds))
    hard = ["".join(part() for _ in range(rng.randrange(1, 30))) for _ in range(count // 2)]
    return mixed.make_lines(count - len(hard), seed, SPECIAL) + hard


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(ROOT / "tests" / "golden" / "data" / "sentencepiece"))
    parser.add_argument("--lines", type=int)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    lines = hard_lines(options.lines, options.seed) if options.lines else usual_lines()
    (out / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, kind in KINDS.items():
        model = train(kind, out)
        data = model.SerializeToString()
        (out / f"{name}.model").write_bytes(data)
        own = sentencepiece.SentencePieceProcessor(model_proto=data)
        ids = own.encode(lines)
        golden = {"model": {"ids": ids, "text": [own.decode(row) for row in ids]}}
        table = model.normalizer_spec.precompiled_charsmap
        # Not of what GGUF has no field for, or where the text is cut at each user defined token.
        if name in ("llama", "gemma", "t5", "unigram-bytes"):
            write_gguf(out / f"{name}.gguf", model)
            if kind["model_type"] == "unigram":
                ids = ids_in_f64(model, own, lines)
            elif name == "gemma":
                ids = ids_cut_at_runs(model, lines)
            golden["gguf"] = {"ids": ids, "text": [own.decode(row) for row in ids]}
        hf = tokenizer_json(name, model)
        if hf:
            hf.save(str(out / f"{name}.json"), pretty=False)
            ids = [e.ids for e in hf.encode_batch(lines, add_special_tokens=False)]
            golden["json"] = {"ids": ids, "text": hf.decode_batch(ids, skip_special_tokens=True)}
        (out / f"{name}.ids.json").write_text(json.dumps(golden, separators=(",", ":")))
        print(f"{name}: {len(model.pieces)} pieces, a table of {len(table)} bytes, from {', '.join(golden)}")


if __name__ == "__main__":
    main()
