"""Which kernels were verified on a GPU, by the hash of their PTX: the same text is the same kernel, and a
change of it shows. The sample is that of the emulated tests: each family at its shapes, and schedules."""

import hashlib
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
import gpu_modules  # noqa: E402

FILE = Path(__file__).with_name("verified.json")
FAMILIES = ("rowwise", "matmul", "attention", "halves", "projections")
#: What the code of the sample is made for, whatever GPU runs it.
CHIP = "sm_90a"


def hash_of(ptx):
    """The key of a kernel whose PTX this is: the beginning of `code_hash`, as `compile --json` gives it."""
    return hashlib.sha256(ptx.encode()).hexdigest()[:16]


class Case:
    """A module of the sample, and how it is compiled and run."""

    def __init__(self, name, text, run_options=(), results=0):
        self.name, self.text = name, text
        self.run_options = [str(option) for option in run_options]
        #: Those of them that change code.
        self.options = [option for option in self.run_options if option == "--no-fuse"]
        self.results = results


def sample():
    """The modules whose kernels the ledger is of."""
    cases = []
    for family in FAMILIES:
        for i, function in enumerate(gpu_modules.modules(family)[0]):
            cases.append(Case(f"{family} {i}", function.text(), gpu_modules.run_options(i, function.size),
                              len(function.results)))
    for i, shape in enumerate(((1, 1, 1, 0, 0), (3, 2, 37, 3, 0), (5, 3, 300, 2, 4), (2, 2, 70000, 0, 0))):
        function = gpu_modules.step(*shape)
        cases.append(Case(f"step {i}", function.text(), results=len(function.results)))
    return cases


def kernels(text):
    """The modules that `emit-mlir --stage ptx` prints one behind another, by the kernels' names."""
    parts = re.split(r"^// kernel (.*)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


class Ledger:
    """{"devices": [{"name", "driver", "date"}], "kernels": {hash: index of the device}}"""

    def __init__(self, path=FILE):
        self.devices, self.kernels = [], {}
        if Path(path).exists():
            known = json.loads(Path(path).read_text())
            self.devices, self.kernels = known["devices"], known["kernels"]

    def enter(self, hashes, device):
        """These were right on a device just now."""
        self.devices.append(device)
        self.kernels.update(dict.fromkeys(hashes, len(self.devices) - 1))

    def remove(self, hashes):
        """These were wrong."""
        for each in hashes:
            self.kernels.pop(each, None)

    def keep_only(self, hashes):
        """Forgets code that nothing makes any more, and devices that verified none of what is left."""
        self.kernels = {each: index for each, index in self.kernels.items() if each in hashes}
        used = sorted(set(self.kernels.values()))
        self.devices = [self.devices[index] for index in used]
        self.kernels = {each: used.index(index) for each, index in self.kernels.items()}

    def write(self, path):
        lines = ",\n".join(f'  "{each}": {index}' for each, index in sorted(self.kernels.items()))
        devices = ",\n".join(f"  {json.dumps(device)}" for device in self.devices)
        Path(path).write_text(f'{{"devices": [\n{devices}\n],\n"kernels": {{\n{lines}\n}}}}\n')

    def report(self, found):
        """Of kernels (hash: name), which are not in here, as text; its first line says how many."""
        unknown = {each: name for each, name in sorted(found.items(), key=lambda item: item[1])
                   if each not in self.kernels}
        lines = [f"cuda: {len(unknown)} of {len(found)} kernels of the sample are not verified on a GPU"
                 + ("; `make test-gpu` does it on one:" if unknown else "")]
        return "\n".join(lines + [f"  {each} {name}" for each, name in unknown.items()]) + "\n"
