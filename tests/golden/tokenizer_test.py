#!/usr/bin/env python3
"""Token ids equal to those of Hugging Face's `tokenizers`, line by line.

    tokenizer_test.py --probe tokenizer-probe [--model FILE.gguf] [--cli kernelforge] [--lines N]
                      [--trained-lines N]

Always: vocabularies trained here, for each pre-tokenizer. With --model or --cli: the vocabulary of
that file (smollm2 if none is named), with --cli also by `kernelforge tokenize`. Each vocabulary is
also read from the tokenizer.json that `tokenizers` writes. Then the models of data/sentencepiece,
from each of their files, both ways. Exits with 1 at the first difference.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "goldens"))
import product  # noqa: E402
import tokenizer as golden  # noqa: E402
import unicode_classes  # noqa: E402


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


def check_sentencepiece(probe):
    folder = ROOT / "tests" / "golden" / "data" / "sentencepiece"
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
    options = parser.parse_args()
    table = ROOT / "kernelforge" / "llm" / "UnicodeClasses.inc"
    if unicode_classes.main(["--check", str(table)]):
        sys.exit(f"{table} is not what this version of tokenizers gives; run unicode_classes.py")
    model = options.model
    if not model and options.cli:
        model = product.find_model("smollm2")
    if model and not pathlib.Path(model).is_file():
        print(f"[SKIP] no model file at {model}")
        model = None
    if model:
        check("model", golden.read_gguf(model), options, options.lines, model)
    check_sentencepiece(options.probe)
    for pre in ("gpt2", "smollm", *golden.EXPRESSIONS):
        check(f"trained {pre}", golden.train(pre, options.seed), options, options.trained_lines)


if __name__ == "__main__":
    main()
