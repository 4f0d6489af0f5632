"""A peer as a process: `worker.py PEER THREADS SECONDS`, a line of JSON in, one out.

{"command": "open", "row": ROW of a suite, "seed": N} makes the operands and the candidates, the ways in which the
peer can do it; one that is wrong or fails is left out, and the fastest stays. Where none does, "why" says why; it is
empty where the peer has no such operation. {"command": "measure"} answers with the nanoseconds of a call of that: one
call that does not count, then as many as take SECONDS.
"""

import gc
import importlib
import json
import os
import sys
import time

from operands import Operands

PEERS = {"openblas": "by_blas", "mkl": "by_blas", "onednn": "by_onednn", "onednn-omp": "by_onednn",
         "torch": "by_torch", "iree": "by_iree"}  # fmt: skip

#: Candidates are tried once and so many times again, in turns; the least time of each counts.
AGAIN = 2


def repeated(call):
    """Seconds of some calls, as a function of how many."""

    def seconds(runs):
        begin = time.perf_counter()
        for _ in range(runs):
            call()
        return time.perf_counter() - begin

    return seconds


class Service:
    def __init__(self, peer, batch):
        self.peer, self.batch, self.chosen = peer, batch, None

    def one(self, seconds):
        """Seconds of a call, by as many as take a third of a batch; few where a call is long."""
        runs, spent = 1, seconds(1)
        while spent < self.batch / 3:
            runs = min(2 * runs if spent <= 0 else int(runs * min(10, self.batch / spent)) + 1, 10**7)
            spent = seconds(runs)
        return spent / runs

    def open(self, request):
        self.chosen = None
        gc.collect()
        operands = Operands(request["row"], request["seed"])
        tried, right = {}, {}
        for how, make in self.peer.candidates(request["row"], operands):
            try:
                seconds, result = make()
                seconds(1)
                error = operands.error(result())
                tried[how] = self.one(seconds)
            except Exception as failure:  # another candidate may do it
                tried[how] = (str(failure).strip() or type(failure).__name__).splitlines()[0][:300]
                continue
            if operands.is_right(error):
                right[how] = (seconds, error)
            else:
                tried[how] = f"wrong: off by {error:.1e} of the reference"
        if not right:
            return {"why": "; ".join(f"{how}: {why}" for how, why in tried.items())}
        for _ in range(AGAIN if len(right) > 1 else 0):
            for how, (seconds, _) in right.items():
                tried[how] = min(tried[how], self.one(seconds))
        best = min(right, key=tried.get)
        self.chosen, error = right[best]
        self.runs = max(1, int(self.batch / tried[best]))
        self.warms = tried[best] < 0.1  # as ours: calls of a tenth of a second go without
        kernel = getattr(self.chosen, "kernel", None)  # the library's name for it
        return {"how": best, "kernel": kernel, "error": error, "tried": tried, "runs": self.runs}

    def measure(self):
        if self.warms:
            self.chosen(1)
        return {"ns": self.chosen(self.runs) / self.runs * 1e9}


def main():
    name, threads, batch = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    # What libraries print goes to standard error.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer = importlib.import_module(PEERS[name]).Peer(name, threads)
    service = Service(peer, batch)
    print(json.dumps({"version": peer.version}), file=out, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = service.open(request) if request["command"] == "open" else service.measure()
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
