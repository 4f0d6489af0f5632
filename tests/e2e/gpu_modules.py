"""Modules of each family of kernels at a shape: what a target must compute of it, in one function.

`turn` numbers the shapes, so that what each of them has but one of (a type of vectors, a pairing, an
activation) goes around."""

PLAIN = ["f32", "f16", "bf16"]
QUANTIZED = {"q4_0": 32, "q4_1": 32, "q5_0": 32, "q8_0": 32, "q4_k": 256, "q6_k": 256}
FUNCTIONS = ["silu", "gelu", "gelu_tanh", "relu"]


def rows_type(size, width=None, element="f32"):
    """Rows of a number, or of the size "rows" where `size` is a range (least, most)."""
    columns = "" if width is None else f"{width}x"
    if isinstance(size, int):
        return f"tensor<{size}x{columns}{element}>"
    return f'tensor<?x{columns}{element}, #transformer.dims<"rows">>'


def weight_type(rows, width, element):
    element = f"!transformer.quant<{element}>" if element in QUANTIZED else element
    return f"tensor<{rows}x{width}x{element}>"


def elements(depth, used):
    """Two of the types that a weight of that depth may have, those that were used least (`used`
    counts). Code takes its time to be finished: each type has its turn at some of the shapes."""
    quantized = [name for name, block in QUANTIZED.items() if depth % block == 0]
    # Those of the largest blocks fit the fewest shapes.
    quantized.sort(key=lambda name: (used[name], -QUANTIZED[name]))
    plain = sorted(PLAIN, key=lambda name: used[name])
    chosen = [plain[0], quantized[0] if quantized else plain[1]]
    used.update(chosen)
    return chosen


class Function:
    """@f, made op by op; each value is a result."""

    def __init__(self, size):
        self.size = size
        self.arguments, self.body, self.results = [], [], []
        if not isinstance(size, int):
            least, most = size
            self.arguments.append(
                f'%rows: index {{transformer.size = #transformer.size<"rows", {least} to {most}>}}')

    def argument(self, text):
        name = f"%a{len(self.arguments)}"
        self.arguments.append(f"{name}: {text}")
        return name

    def weight(self, rows, width, element):
        """(name, type) of a new weight."""
        kind = weight_type(rows, width, element)
        return self.argument(f'{kind} {{transformer.weight = "w{len(self.arguments)}"}}'), kind

    def vector(self, width, element="f32"):
        kind = f"tensor<{width}x{element}>"
        return self.argument(kind), kind

    def rows(self, width, element="f32"):
        kind = rows_type(self.size, width, element)
        return self.argument(kind), kind

    def indices(self):
        return self.rows(None, "i32")

    def op(self, text, kind, returned=True):
        """Adds an operation of one result; its name."""
        name = f"%v{len(self.body)}"
        self.body.append(f"{name} = transformer.{text}")
        if returned:
            self.results.append((name, kind))
        return name

    def effect(self, text):
        self.body.append(f"transformer.{text}")

    def text(self):
        names = ", ".join(name for name, _ in self.results)
        kinds = ", ".join(kind for _, kind in self.results)
        lines = "".join(f"  {line}\n" for line in self.body)
        return (f"func.func @f({', '.join(self.arguments)}) -> ({kinds}) {{\n{lines}"
                f"  return {names} : {kinds}\n}}\n")


def rowwise(turn, used, size, width):
    """Every row-wise operation, on rows of that width."""
    f = Function(size)
    x, kind = f.rows(width)
    y, _ = f.rows(width)
    scale, scaled = f.vector(width, PLAIN[turn % 3])
    shift, shifted = f.vector(width, PLAIN[turn // 3 % 3])
    f.op(f"rms_norm {x}, {scale} {{epsilon = 1.0e-5}} : ({kind}, {scaled}) -> {kind}", kind)
    f.op(f"layer_norm {x}, {scale}, {shift} {{epsilon = 1.0e-3}} : "
         f"({kind}, {scaled}, {shifted}) -> {kind}", kind)
    f.op(f"layer_norm {x}, {shift} {{epsilon = 0.1}} : ({kind}, {shifted}) -> {kind}", kind)
    f.op(f"softmax {x} : {kind}", kind)
    for function in FUNCTIONS:
        f.op(f"activation {x} <{function}> : {kind}", kind)
    total = f.op(f"add {x}, {y} : {kind}", kind)
    product = f.op(f"mul {total}, {x} : {kind}", kind)
    f.op(f"scale {product} {{factor = -1.25, softcap = 5.0}} : {kind}", kind)
    wanted, indices = f.indices()
    f.op(f"gather_rows {y}, {wanted} : ({kind}, {indices}) -> {kind}", kind)
    for element in elements(width, used):
        table, stored = f.weight(17, width, element)
        f.op(f"embedding {wanted}, {table} {{scale = 2.5}} : ({indices}, {stored}) -> {kind}", kind)
    rotated = x
    if width % 2 == 0:
        dim = next(d for d in (64, 32, 16, 6, 4, 2) if width % d == 0)
        pairing = ["half_split", "interleaved"][turn % 2]
        for rotary in sorted({dim, max(dim // 4 * 2, 2)}):
            table, angles = f.argument(f"tensor<40x{rotary}xf32>"), f"tensor<40x{rotary}xf32>"
            positions, _ = f.indices()
            rotated = f.op(f"rope {x}, {positions}, {table} <{pairing}> {{headDim = {dim}}} : "
                           f"({kind}, {indices}, {angles}) -> {kind}", kind)
    cached = f"!transformer.cache<1, {width}, f32>"
    cache, (slots, _) = f.argument(cached), f.indices()
    f.effect(f"cache_append {rotated}, {slots} into {cache} : {cached}, {kind}, {indices}")
    return f


def matmul(turn, used, size, n, depth):
    """Products with weights of two types, alone and with all that may follow them."""
    f = Function(size)
    x, kind = f.rows(depth)
    residual, result = f.rows(n)
    for i, element in enumerate(elements(depth, used)):
        weight, stored = f.weight(n, depth, element)
        f.op(f"matmul {x} weights({weight}) : ({kind}, {stored}) -> ({result})", result)
        bias, biased = f.vector(n, PLAIN[(i + turn) % 3])
        y = f.op(f"matmul {x} weights({weight}) bias({bias}) : ({kind}, {stored}, {biased}) -> "
                 f"({result})", result, returned=i % 2 == 0)
        y = f.op(f"activation {y} <{FUNCTIONS[(i + turn) % 4]}> : {result}", result, returned=False)
        f.op(f"add {y}, {residual} : {result}", result)
        if (i + turn) % 2:
            continue
        # gate and up, as one product of two segments
        up, raised = f.weight(n, depth, element)
        name = f"%v{len(f.body)}"
        f.body.append(f"{name}:2 = transformer.matmul {x} weights({weight}, {up}) : "
                      f"({kind}, {stored}, {raised}) -> ({result}, {result})")
        gate = f.op(f"activation {name}#0 <silu> : {result}", result, returned=False)
        f.op(f"mul {gate}, {name}#1 : {result}", result)
    weight, stored = f.weight(depth, n, PLAIN[turn % 3])
    f.op(f"matmul {x} weights({weight}) {{transpose}} : ({kind}, {stored}) -> ({result})", result)
    # a norm before, as models have it
    scale, scaled = f.vector(depth)
    normed = f.op(f"rms_norm {x}, {scale} {{epsilon = 1.0e-5}} : ({kind}, {scaled}) -> {kind}", kind,
                  returned=False)
    weight, stored = f.weight(n, depth, "f32")
    f.op(f"matmul {normed} weights({weight}) : ({kind}, {stored}) -> ({result})", result)
    return f


def attention(turn, size, kv_heads, group, dim, value_dim, sequences):
    """Attention over contiguous and paged caches: causal or not, with windows and soft caps, of what
    is there and of what was just appended."""
    f = Function(size)
    heads = kv_heads * group
    query, kind = f.rows(heads * dim)
    result = rows_type(size, heads * value_dim)
    positions, indices = f.indices()
    owners, _ = f.indices()
    lengths = f.argument(f"tensor<{sequences}xi32>")
    for i, extra in enumerate(("", ", softcap = 5.0", ", window = 3", ", causal = false",
                               ", causal = false, window = 17, softcap = 50.0"), turn):
        page = (0, 1, 16)[i % 3]
        paged = f", page = {page}" if page else ""
        keyed, valued = (f"!transformer.cache<{kv_heads}, {each}, f32{paged}>"
                         for each in (dim, value_dim))
        pages = {0: "", 1: "128x", 16: "16x"}[page]
        tabled = f"tensor<{sequences}x{pages}i32>"
        keys, values, table = f.argument(keyed), f.argument(valued), f.argument(tabled)
        f.op(f"attention {query}, {keys}, {values} positions({positions}) sequences({owners}) "
             f"table({table}) lengths({lengths}) {{heads = {heads}, scale = 0.125{extra}}} : "
             f"({kind}, {keyed}, {valued}, {indices}, {indices}, {tabled}, "
             f"tensor<{sequences}xi32>) -> {result}", result)
    return f
