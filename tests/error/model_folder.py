"""A model's folder of safetensors files, config.json and tokenizer.json, and how it is damaged."""

import json
import shutil
import struct

import tiny_model as tiny

INDEX = "model.safetensors.index.json"


class Folder:
    """A model folder whose files are ours to damage."""

    def __init__(self, path):
        self.path = path

    def bytes(self, name="model.safetensors"):
        return (self.path / name).read_bytes()

    def write(self, name, content):
        content = content if isinstance(content, bytes) else content.encode()
        (self.path / name).write_bytes(content)

    def header(self, name="model.safetensors"):
        data = self.bytes(name)
        (size,) = struct.unpack("<Q", data[:8])
        return json.loads(data[8 : 8 + size]), data[8 + size :]

    def set_header(self, header, data, name="model.safetensors"):
        """`header` is an object, or text where JSON's own writer is too polite."""
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        self.write(name, struct.pack("<Q", len(text)) + text + data)

    def change(self, tensor, **fields):
        header, data = self.header()
        header[tensor].update(fields)
        self.set_header(header, data)

    def config(self, **fields):
        config = json.loads((self.path / "config.json").read_text())
        config.update(fields)
        self.write("config.json", json.dumps(config))  # writes NaN, as Python does

    def drop(self, field):
        config = json.loads((self.path / "config.json").read_text())
        del config[field]
        self.write("config.json", json.dumps(config))

    def index(self, change):
        """The model as two shards, its index changed by change(index)."""
        shutil.rmtree(self.path)
        tiny.write_safetensors(self.path, shards=2)
        index = json.loads((self.path / INDEX).read_text())
        change(index)
        self.write(INDEX, json.dumps(index))


def config(**fields):
    return lambda f: f.config(**fields)


def files(**contents):
    """Side files written, or removed where their content is None."""

    def damage(f):
        for name, content in contents.items():
            name = name.replace("__", ".")
            if content is None:
                (f.path / name).unlink()
            else:
                f.write(name, content)

    return damage


def write_cases(cases, folder, add):
    """Writes a sound folder, and a damaged copy of it for each case; add(name, path, expect) records these."""
    valid = folder / "valid-1"
    if not valid.exists():
        tiny.write_safetensors(valid, 1)
    for number, (name, expect, damage) in enumerate(cases):
        path = folder / f"bad-{number:03}"
        shutil.copytree(valid, path)
        damage(Folder(path))
        add(name, path, expect)
