"""Where the libraries are: each peer has a private virtual environment in .venv-peers-cpu, filled from PyPI with
pinned versions when it is first asked for, and what its process needs in its environment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
VENVS = ROOT / ".venv-peers-cpu"
NUMPY = "numpy==2.4.6"

#: By peer, what pip installs.
PACKAGES = {
    "openblas": ["scipy-openblas64==0.3.34.481.3"],
    "mkl": ["mkl==2026.2.0"],
    # Its threads are SYCL's, which adds some 10 us to each call: the one after it is the newest on PyPI that is
    # built with OpenMP.
    "onednn": ["onednn-devel==2026.1.0"],
    "onednn-omp": ["onednn-devel-cpu-gomp==2023.2.0"],
    "torch": ["torch==2.15.0"],
    "iree": ["iree-base-compiler==3.13.0", "iree-base-runtime==3.13.0"],
    "openvino": ["openvino-genai==2026.4.1.0"],
    # torch and what follows it make the model once (by_onnxruntime.py); they are not loaded afterwards.
    "onnxruntime": ["onnxruntime-genai==0.18.0", "onnxruntime==1.32.0", "torch==2.15.0", "transformers==5.24.0",
                    "onnx-ir==1.1.0", "gguf==0.19.0", "accelerate==1.15.0", "tqdm", "sentencepiece"],  # fmt: skip
}


def python_of(peer):
    """The Python of the peer's environment, which is made where it is not there. Raises RuntimeError with pip's last
    line where that fails."""
    folder = VENVS / peer
    python, stamp = folder / "bin" / "python", folder / "kernelforge-stamp"
    wanted = " ".join([NUMPY, *PACKAGES[peer]])
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"installing {' '.join(PACKAGES[peer])} into {folder.relative_to(ROOT)}", file=sys.stderr)
    if folder.exists():
        shutil.rmtree(folder)
    for line in ([sys.executable, "-m", "venv", folder],
                 [python, "-m", "pip", "install", "--quiet", NUMPY, *PACKAGES[peer]]):  # fmt: skip
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError((done.stderr.strip().splitlines() or ["pip failed"])[-1])
    stamp.write_text(wanted)
    return python


def environment(peer, threads):
    """Variables for the process of a peer, or of ours. Threads that wait for work spin for a millisecond or so, which
    serves calls that follow each other, and sleep before another side's turn."""
    lib = VENVS / peer / "lib"
    variables = {
        "OMP_NUM_THREADS": threads, "OMP_PROC_BIND": "true", "OMP_PLACES": "cores", "OMP_DYNAMIC": "false",
        "KMP_BLOCKTIME": 1, "GOMP_SPINCOUNT": 100_000,
        "MKL_NUM_THREADS": threads, "MKL_DYNAMIC": "false", "MKL_THREADING_LAYER": "INTEL",
        "OPENBLAS_NUM_THREADS": threads, "OPENBLAS_THREAD_TIMEOUT": 22,  # 2^22 cycles
        "TORCHINDUCTOR_COMPILE_THREADS": 1,
        # A result's memory is that of the last call, as ours is, and not new pages each time.
        "MALLOC_MMAP_THRESHOLD_": 1 << 25, "MALLOC_TRIM_THRESHOLD_": 1 << 40,
    }  # fmt: skip
    if peer.startswith("onednn"):
        variables |= {"LD_LIBRARY_PATH": lib, "OCL_ICD_FILENAMES": lib / "libintelocl.so", "ONEDNN_VERBOSE": 0}
    return os.environ | {name: str(value) for name, value in variables.items()}


def shared_library(source, *options):
    """Compiles a C file beside this one into the environment of the running peer; the path of the library."""
    compiler = next((each for each in ("cc", "gcc", "clang", "clang-19") if shutil.which(each)), None)
    if compiler is None:
        raise RuntimeError(f"there is no C compiler, which {source} needs")
    made = Path(sys.prefix) / f"{Path(source).stem}.so"
    line = [compiler, "-O2", "-shared", "-fPIC", Path(__file__).parent / source, "-o", made, *options]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{source} does not compile: {done.stderr.strip().splitlines()[0]}")
    return made
