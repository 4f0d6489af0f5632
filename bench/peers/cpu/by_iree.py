"""IREE: products of f32 and bf16 with sums in f32, compiled for this processor, with and without data tiling. The
weights are a parameter of the module, so that what data tiling makes of them is made once, when it is loaded; or an
argument, in the layout that each is faster with."""

import iree.compiler
import iree.compiler.version
import iree.runtime as runtime
import ml_dtypes
import numpy as np
from worker import repeated

#: Whether there is data tiling, and how the weights come.
CANDIDATES = [("true", "parameter"), ("true", "[n, k]"), ("false", "parameter"), ("false", "[k, n]")]
MODULE = """
#x = affine_map<(m, n, k) -> (m, k)>
#w = affine_map<(m, n, k) -> {w}>
#y = affine_map<(m, n, k) -> (m, n)>
module @product {{
  {parameter}
  func.func @f({arguments}) -> tensor<{m}x{n}xf32> {{
    {load}
    %zero = arith.constant 0.0 : f32
    %empty = tensor.empty() : tensor<{m}x{n}xf32>
    %zeros = linalg.fill ins(%zero : f32) outs(%empty : tensor<{m}x{n}xf32>) -> tensor<{m}x{n}xf32>
    %y = linalg.matmul indexing_maps = [#x, #w, #y]
      ins(%x, %w : tensor<{m}x{k}x{type}>, {weights}) outs(%zeros : tensor<{m}x{n}xf32>) -> tensor<{m}x{n}xf32>
    return %y : tensor<{m}x{n}xf32>
  }}
}}
"""


class Peer:
    def __init__(self, name, threads):
        runtime.flags.parse_flags(f"--task_topology_group_count={threads}")
        self.device = runtime.get_device("local-task")
        self.version = iree.compiler.version.VERSION

    def candidates(self, row, operands):
        if row["family"] != "matmul" or operands.element == "int8":
            return
        for tiling, layout in CANDIDATES:
            how = f"weights {layout}, {'' if tiling == 'true' else 'no '}data tiling"
            yield how, lambda each=(tiling, layout): self.product(row, operands, *each)

    def product(self, row, operands, tiling, layout):
        dtype = ml_dtypes.bfloat16 if operands.element == "bf16" else np.float32
        x, w = operands.x.astype(dtype), operands.w.astype(dtype)
        w = np.ascontiguousarray(w.T) if layout == "[k, n]" else w
        binary = compiled(text(row, operands.element, layout), f"--iree-opt-data-tiling={tiling}")
        instance = runtime.VmInstance()
        modules = [runtime.create_hal_module(instance, self.device)]
        arguments = [x] if layout == "parameter" else [x, w]
        if layout == "parameter":
            index = runtime.ParameterIndex()
            index.add_buffer("w", w.tobytes())
            modules.append(runtime.create_io_parameters_module(instance, index.create_provider(scope="model")))
        module = runtime.VmModule.copy_buffer(instance, binary)
        context = runtime.VmContext(instance, [*modules, module])
        function = module.lookup_function("f")
        given = runtime.VmVariantList(len(arguments))
        for each in arguments:
            given.push_ref(runtime.asdevicearray(self.device, each)._buffer_view)

        def call():
            results = runtime.VmVariantList(1)
            context.invoke(function, given, results)
            return results

        def result():
            view = call().get_as_object(0, runtime.HalBufferView)
            return runtime.DeviceArray(self.device, view, implicit_host_transfer=True).to_host()

        return repeated(call), result


def compiled(module, *options):
    options = ["--iree-llvmcpu-target-cpu=host", "--iree-opt-level=O3", *options]
    try:
        return iree.compiler.compile_str(module, target_backends=["llvm-cpu"], extra_args=options)
    except iree.compiler.CompilerToolError as error:
        lines = [line for line in str(error).splitlines() if "error:" in line.lower()]
        raise RuntimeError(lines[0].strip() if lines else str(error)) from error


def text(row, element, layout):
    shape = (row["k"], row["n"]) if layout == "[k, n]" else (row["n"], row["k"])
    weights = f"tensor<{shape[0]}x{shape[1]}x{element}>"
    x = f"%x: tensor<{row['m']}x{row['k']}x{element}>"
    parameter = load = ""
    arguments = f"{x}, %w: {weights}"
    if layout == "parameter":
        parameter = f'util.global private @w = #flow.parameter.named<"model"::"w"> : {weights}'
        load, arguments = f"%w = util.global.load @w : {weights}", x
    return MODULE.format(m=row["m"], n=row["n"], k=row["k"], type=element, weights=weights, parameter=parameter,
                         load=load, arguments=arguments, w="(k, n)" if layout == "[k, n]" else "(n, k)")  # fmt: skip
