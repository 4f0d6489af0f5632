#!/usr/bin/env python3
"""Writes malformed model files into a folder, with sound ones beside them as a control.

    make_bad_models.py FOLDER

FOLDER/models.json is a list of {"name", "path", "expect"}: `name` says the defect in a few words,
`path` (relative to FOLDER) is what to open, `expect` is a regular expression that the error line
matches, or null where the model is sound. Needs numpy, gguf, safetensors and tokenizers.
"""

import argparse
import json
import shutil
from pathlib import Path

import bad_fp8
import bad_gguf
import bad_safetensors
import bad_sentencepiece
import bad_tokenizer_json
import harmless_models
import tiny_model


def write_paths(folder, add):
    """Paths that are no models at all."""
    folder.mkdir()
    add("a path that does not exist", folder / "absent.gguf", "no such file")
    add("a folder that does not exist", folder / "absent" / "model.gguf", "no such file")
    (folder / "folder.gguf").mkdir()
    add("an empty folder", folder / "folder.gguf", "neither model.safetensors nor")
    (folder / "model.bin").write_bytes(b"\x80\x02}q\x00.")
    add("a file of another kind", folder / "model.bin", "neither a GGUF nor a safetensors")
    (folder / "empty").write_bytes(b"")
    add("an empty file", folder / "empty", "the file is empty")
    (folder / "alone.safetensors").write_bytes(b"")
    add("weights without config.json", folder / "alone.safetensors", "config.json.*no such file")


def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    models = []

    def add(name, path, expect):
        models.append({"name": name, "path": str(path.relative_to(folder)), "expect": expect})

    for part in ("gguf", "safetensors", "tokenizer-json", "fp8", "sentencepiece", "harmless", "paths", "sound"):
        shutil.rmtree(folder / part, ignore_errors=True)
    sound = folder / "sound"
    sound.mkdir()
    for name, types in {"f32": ["F32"], "mixed": ["Q4_0", "Q4_1", "Q8_0", "F16", "BF16"]}.items():
        tiny_model.write_gguf(sound / f"{name}.gguf", types)
        add(f"a sound GGUF file, {name}", sound / f"{name}.gguf", None)
    writers = {"gguf": bad_gguf, "safetensors": bad_safetensors, "tokenizer-json": bad_tokenizer_json, "fp8": bad_fp8,
               "sentencepiece": bad_sentencepiece, "harmless": harmless_models}  # fmt: skip
    for part, writer in writers.items():
        (folder / part).mkdir()
        writer.write(folder / part, add)
    write_paths(folder / "paths", add)
    (folder / "models.json").write_text(json.dumps(models, indent=1))
    return models


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    models = make(parser.parse_args().folder)
    bad = sum(model["expect"] is not None for model in models)
    print(f"{bad} malformed and {len(models) - bad} sound models")
