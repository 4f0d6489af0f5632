#!/usr/bin/env python3
"""Times matmuls of onnxruntime's WebGPU provider: what kernelforge's WebGPU kernels are measured beside.

Needs onnx and numpy, onnxruntime-ep-webgpu beside an onnxruntime that takes plugins or, an older way to
the same provider, onnxruntime-webgpu, and a GPU with a Vulkan driver. A model is a chain of equal
matmuls, each of which needs the one before it; the time of one is the difference of a long and a short
chain, so that what a run costs besides (upload, download, submission) drops out. Weights are constants,
as in a language model. Prints one row of JSON a problem and operator: {"name", "operator", "peer", "seconds",
"tflops", "gb_per_s", "chains_s", "max_error"}; the error is beside numpy in f64 on sampled rows of one matmul.
"""

import argparse
import importlib.metadata
import json
import sys
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

TYPES = {"f32": (TensorProto.FLOAT, np.float32), "f16": (TensorProto.FLOAT16, np.float16)}


def chain(m, n, count, kind, epilogue, rng, operator):
    """A model of `count` matmuls of [m, n] by [n, n], and the first weight. The provider has kernels of
    its own for each of onnx' operators for it, MatMul and Gemm, which takes the bias, too."""
    proto, numpy_type = TYPES[kind]
    # Values that stay in range from one matmul to the next.
    weight = (rng.standard_normal((n, n)) / np.sqrt(n)).astype(numpy_type)
    initializers = [numpy_helper.from_array(weight, "w")]
    if epilogue:
        initializers.append(numpy_helper.from_array(np.zeros(n, numpy_type), "bias"))
    nodes, last = [], "x"
    for i in range(count):
        bias = ["bias"] if epilogue and operator == "Gemm" else []
        nodes.append(helper.make_node(operator, [last, "w", *bias], [f"y{i}"]))
        last = f"y{i}"
        if epilogue:
            if not bias:
                nodes.append(helper.make_node("Add", [last, "bias"], [f"b{i}"]))
                last = f"b{i}"
            nodes.append(helper.make_node("Gelu", [last], [f"g{i}"], approximate="tanh"))
            last = f"g{i}"
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", proto, [m, n])],
        [helper.make_tensor_value_info(last, proto, [m, n])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString(), weight, last


PROVIDER = "WebGpuExecutionProvider"
PLUGIN = None  # what plugin() found


def plugin():
    """Registers the plugin: its package's name and version, its devices; nothing where it is not here."""
    try:
        import onnxruntime_ep_webgpu
    except ImportError:
        return None
    ort.register_execution_provider_library(PROVIDER, onnxruntime_ep_webgpu.get_library_path())
    devices = [device for device in ort.get_ep_devices() if device.ep_name == PROVIDER]
    name = "onnxruntime-ep-webgpu"
    return f"{name} {importlib.metadata.version(name)}", devices[:1]


def times(model, x, output, rounds):
    """Seconds of runs of a model, after one to warm up, and the first result."""
    if PLUGIN:
        options = ort.SessionOptions()
        options.add_provider_for_devices(PLUGIN[1], {})
        session = ort.InferenceSession(model, options)
    else:
        session = ort.InferenceSession(model, providers=[PROVIDER])
    if session.get_providers()[0] != PROVIDER:
        sys.exit("onnxruntime_webgpu: error: onnxruntime has no WebGPU device here")
    result = session.run([output], {"x": x})[0]
    samples = []
    for _ in range(rounds):
        begin = time.perf_counter()
        session.run([output], {"x": x})
        samples.append(time.perf_counter() - begin)
    return samples, result


def measure(name, m, n, kind, epilogue, lengths, rounds, rng, operator):
    x = rng.standard_normal((m, n)).astype(TYPES[kind][1])
    model, weight, output = chain(m, n, 1, kind, False, rng, operator)
    _, result = times(model, x, output, 1)
    rows = np.arange(0, m, max(1, m // 4))
    exact = x[rows].astype(np.float64) @ weight.astype(np.float64)
    error = float(np.max(np.abs(result[rows] - exact)) / np.max(np.abs(exact)))
    both = []
    for length in lengths:
        model, _, output = chain(m, n, length, kind, epilogue, rng, operator)
        both.append(min(times(model, x, output, rounds)[0]))
    seconds = (both[1] - both[0]) / (lengths[1] - lengths[0])
    size = {"f32": 4, "f16": 2}[kind]
    row = {
        "name": name,
        "operator": operator,
        "peer": PLUGIN[0] if PLUGIN else f"onnxruntime-webgpu {ort.__version__}",
        "seconds": seconds,
        "tflops": 2 * m * n * n / seconds / 1e12,
        "gb_per_s": (n * n + 2 * m * n) * size / seconds / 1e9,
        "chains_s": both,
        "max_error": error,
    }
    print(json.dumps(row), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=[512, 1024, 2048, 4096])
    arguments = parser.parse_args()
    global PLUGIN
    PLUGIN = plugin()
    rng = np.random.default_rng(1)

    def both(name, *problem):
        for operator in ("MatMul", "Gemm"):
            measure(name, *problem, arguments.rounds, rng, operator)

    for kind in TYPES:
        for n in arguments.sizes:
            # Long enough that the difference is several milliseconds.
            long = max(20, min(400, int(3e12 / n**3)))
            for epilogue in [False] + [True] * (kind == "f16" and n == max(arguments.sizes)):
                name = f"{kind} {n}^3" + (" bias gelu" if epilogue else "")
                both(name, n, n, kind, epilogue, (2, 2 + long))
    n = max(arguments.sizes)
    both(f"f16 1x{n}x{n}", 1, n, "f16", False, (20, 220))


if __name__ == "__main__":
    main()
