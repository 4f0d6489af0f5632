#!/usr/bin/env python3
"""Token ids equal to those of Hugging Face's `tokenizers`, line by line.

    tokenizer_test.py --probe tokenizer-probe [--model FILE.gguf] [--cli kernelforge] [--lines N]
                      [--trained-lines N]
    tokenizer_test.py --probe tokenizer-probe --sentencepiece DIR

Always: vocabularies trained here, for each pre-tokenizer. With --model or --cli: the vocabulary of
that file (smollm2 if none is named), with --cli also by `kernelforge tokenize`. Each vocabulary is
also read from the tokenizer.json that `tokenizers` writes. Each normalizer by itself, over code points
of all kinds, and before what Metaspace puts a space behind some of them. Then the models of
data/sentencepiece, from each of their files, both ways. With --sentencepiece nothing but those of DIR,
which scripts/goldens/sentencepiece_models.py has made. With --cli tables and normalizers are left out:
the test without it is about them. Exits with 1 at the first difference.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "golden" / "data" / "sentencepiece"
sys.path.insert(0, str(ROOT / "scripts" / "goldens"))
import product  # noqa: E402
import tokenizer as golden  # noqa: E402
import unicode_classes  # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers  # noqa: E402


def run(command):
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} failed with {done.returncode}: {done.stderr}")
    return done.stdout.rstrip("\n").split("\n"), time.monotonic() - start, done.stderr.strip()


def compare(label, lines, expected_file, got):
    output, seconds, remark = got
    with open(expected_file, encoding="utf-8") as file:
        expected = [json.loads(line)["ids"] for line in file]
    if not len(lines) == len(expected) == len(output):
        sys.exit(f"{label}: {len(lines)} lines, {len(expected)} expected, {len(output)} printed")
    wrong = [i for i, row in enumerate(output) if json.loads(row)["ids"] != expected[i]]
    for i in wrong[:3]:
        print(f"{label}: line {i} {lines[i][:200]!r}\n  expected {expected[i][:60]}\n  got      "
              f"{json.loads(output[i])['ids'][:60]}")  # fmt: skip
    tokens = sum(map(len, expected))
    print(f"{label}: {len(lines) - len(wrong)}/{len(lines)} lines equal, {tokens} tokens, "
          f"{seconds:.2f} s {remark}")  # fmt: skip
    if wrong:
        sys.exit(1)


def check(label, vocabulary, options, count, model=None):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        lines = golden.write_golden(folder, vocabulary, count, options.seed)
        jsonl = str(folder / "lines.jsonl")
        for source in ("vocabulary.json", "tokenizer.json"):
            probe = [options.probe, str(folder / source), jsonl]
            compare(f"{label} {source}", lines, folder / "ids.jsonl", run(probe))
            compare(f"{label} {source} --no-special", lines, folder / "ids-no-special.jsonl",
                    run(probe + ["--no-special"]))  # fmt: skip
        if options.cli and model:
            command = [options.cli, "tokenize", "--model", str(model), "--jsonl", jsonl, "--json"]
            compare("kernelforge tokenize", lines, folder / "ids.jsonl", run(command))
            compare("kernelforge tokenize --no-special", lines, folder / "ids-no-special.jsonl",
                    run(command + ["--no-special"]))  # fmt: skip


def byte_tokenizer():
    """Its tokens are bytes, so that ids tell all that was done to a text."""
    tokens = {"<unk>": 0} | {f"<0x{byte:02X}>": byte + 1 for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(tokens, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback()])
    return tokenizer


def check_made(probe, label, tokenizer, lines):
    """What `tokenizers` makes of the lines, of a tokenizer that was made here."""
    with tempfile.TemporaryDirectory() as folder:
        source, jsonl, ids = (pathlib.Path(folder) / name for name in ("tokenizer.json", "lines", "ids"))
        tokenizer.save(str(source))
        jsonl.write_text("".join(json.dumps(line) + "\n" for line in lines))
        encoded = tokenizer.encode_batch(lines, add_special_tokens=False)
        ids.write_text("".join(json.dumps({"ids": e.ids}) + "\n" for e in encoded))
        compare(label, lines, ids, run([probe, str(source), str(jsonl)]))


def check_normalizers(probe):
    """What becomes of each code point that a normalizer may be about, among letters and marks."""
    forms = ("{0}\u00e9", "\u00e9{0}\u0323\u0301", "a{0}", "\u0924{0}\u0924\u0301",
             "\u00ae{0}\u200d\u00ae\u0301")  # fmt: skip
    blocks = ((1, 0x3400), (0xA000, 0xAC1D), (0xD7A0, 0xD800), (0xF900, 0x17000), (0x18D00, 0x20000),
              (0xE0000, 0xE0200))  # fmt: skip
    texts = [form.format(chr(c)) for block in blocks for c in range(*block) for form in forms]
    lines = ["".join(texts[i : i + 100]) for i in range(0, len(texts), 100)]
    replaced = unicode_classes.precompiled({c: "!" for c in "a\u00e9\u00ae\u0924"})
    tokenizer = byte_tokenizer()
    for normalizer in (normalizers.NFC(), normalizers.NFKC(), normalizers.Lowercase(), replaced):
        tokenizer.normalizer = normalizer
        check_made(probe, type(normalizer).__name__, tokenizer, lines)


def check_first_words(probe, seed):
    """Before which texts Metaspace puts a space where it does so at the beginning alone."""
    n, first = normalizers, pre_tokenizers.Metaspace("\u2581", "first")
    table = {"\u00b4": " \u0301", "\u00e9": "", "\u00bd": "  y", "e\u0301": " x", "a\u0300": "b", "\u00a0": " "}
    replaced, trim = unicode_classes.precompiled(table), n.Replace(Regex(r"\A +| +\z"), "")
    ways = (
        [n.NFKC(), n.Strip()], [replaced, trim], [n.NFC(), replaced, n.NFKC(), n.Lowercase(), trim],
        [n.NFKC(), n.Strip(), n.Prepend("z")], [n.Prepend(" "), n.NFKC(), n.Strip()],
        [n.Replace("ab", "q"), replaced, n.Replace("e", "  "), n.Strip()],
        [replaced, n.Replace(Regex(" {2,}"), "\u2581"), n.Replace("x", ""), n.Strip()],
    )  # fmt: skip
    cuts = ([first], [pre_tokenizers.WhitespaceSplit(), first],
            [pre_tokenizers.Split(Regex("a|z"), "isolated"), first])  # fmt: skip
    parts = [*"  abexzIU\0\u0600\u0300\u0301\u0323\u0345\u2581\t\u00c5\u0130\u3000\ufb01\ufe70\u1fcd", *table, "<s>"]
    rng = random.Random(seed)
    lines = ["".join(rng.choices(parts, k=rng.randrange(1, 7))) for _ in range(3000)]
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens([AddedToken("<s>", normalized=False, special=True)])
    tokenizer.add_tokens([AddedToken("U", normalized=True)])
    for i, steps in enumerate(ways):
        for k, cut in enumerate(cuts):
            tokenizer.normalizer = n.Sequence(steps)
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cut)
            check_made(probe, f"first words {i}.{k}", tokenizer, lines)


def check_sentencepiece(probe, folder):
    texts = [json.loads(line) for line in (folder / "lines.jsonl").read_text().splitlines()]
    for golden_file in sorted(folder.glob("*.ids.json")):
        name = golden_file.name.removesuffix(".ids.json")
        for kind, golden_rows in json.loads(golden_file.read_text()).items():
            rows = [(row, text, line) for row, text, line in
                    zip(golden_rows["ids"], golden_rows["text"], texts) if row is not None]  # fmt: skip
            source = str(folder / f"{name}.{kind}")
            special = [] if kind == "json" else ["--no-special"]
            with tempfile.TemporaryDirectory() as made:
                ids, lines = pathlib.Path(made) / "ids.jsonl", pathlib.Path(made) / "lines.jsonl"
                ids.write_text("".join(json.dumps({"ids": row}) + "\n" for row, _, _ in rows))
                lines.write_text("".join(json.dumps(line) + "\n" for _, _, line in rows))
                output = run([probe, source, str(lines), *special])
                compare(f"{name}.{kind}", [line for _, _, line in rows], ids, output)
                decoded, _, _ = run([probe, source, str(ids), "--decode"])
            for got, (_, text, _) in zip(map(json.loads, decoded), rows, strict=True):
                if not got["text"] == got["streamed"] == text:
                    sys.exit(f"{name}.{kind} decoded: {text!r}\n  got {got}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probe", required=True)
    parser.add_argument("--model")
    parser.add_argument("--cli")
    parser.add_argument("--lines", type=int, default=20000, help="of the model's vocabulary")
    parser.add_argument("--trained-lines", type=int, default=4000, help="of each trained one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sentencepiece", type=pathlib.Path, metavar="DIR")
    options = parser.parse_args()
    if options.sentencepiece:
        return check_sentencepiece(options.probe, options.sentencepiece)
    if not options.cli and unicode_classes.main(["--check", str(ROOT / "kernelforge" / "llm")]):
        sys.exit(1)
    model = options.model
    if not model and options.cli:
        model = product.find_model("smollm2")
    if model and not pathlib.Path(model).is_file():
        print(f"[SKIP] no model file at {model}")
        model = None
    if model:
        check("model", golden.read_gguf(model), options, options.lines, model)
    if not options.cli:
        check_normalizers(options.probe)
        check_first_words(options.probe, options.seed)
    check_sentencepiece(options.probe, DATA)
    for pre in ("gpt2", "smollm", *golden.EXPRESSIONS):
        check(f"trained {pre}", golden.train(pre, options.seed), options, options.trained_lines)


if __name__ == "__main__":
    main()
