"""One round of a model by OpenVINO or onnxruntime: `model_worker.py PEER MODEL THREADS PROMPT GENERATE DEPTH SAMPLES`.
Prints tokens a second of each test as llama_cpp.py's worker does, whose rules it follows: random tokens, one
warm-up."""

import importlib
import json
import os
import random
import sys
from types import SimpleNamespace

PEERS = {"openvino": "by_openvino", "onnxruntime": "by_onnxruntime"}


def main():
    name, model, *numbers = sys.argv[1:]
    threads, prompt, generate, depth, samples = map(int, numbers)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to standard error
    sys.path.append(os.path.join(os.path.dirname(__file__), ".."))
    from llama_cpp import tests

    peer = importlib.import_module(PEERS[name]).Model(model, threads, depth + max(prompt, generate) + 1)

    def tokens(count):
        return [random.randrange(peer.vocab_size) for _ in range(count)]

    rows = {}
    for test, count, step, warm_up in tests(SimpleNamespace(prompt=prompt, generate=generate, depth=depth)):

        def seconds(count, step=step):
            if step == 1:
                return peer.generate(tokens(max(depth, 1)), count)
            return peer.prefill(tokens(depth), tokens(count))

        seconds(max(warm_up, 2))
        rows[test] = [count / seconds(count) for _ in range(samples)]
    print(json.dumps({"rows": rows, "version": peer.version}), file=out)


if __name__ == "__main__":
    main()
