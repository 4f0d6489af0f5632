"""Modules of each family of kernels at forty shapes, odd ones among them: what a target must compute.

`turn` numbers the shapes, so that what each of them has but one of (a type of vectors, a pairing, an
activation) goes around."""

from collections import Counter

PLAIN = ["f32", "f16", "bf16"]
QUANTIZED = {"q4_0": 32, "q4_1": 32, "q5_0": 32, "q5_1": 32, "q8_0": 32, "q2_k": 256, "q3_k": 256,
             "q4_k": 256, "q5_k": 256, "q6_k": 256, "iq4_nl": 32, "iq4_xs": 256, "mxfp4": 32,
             "f8_e4m3": 128}  # fmt: skip
FUNCTIONS = ["silu", "gelu", "gelu_tanh", "relu"]
#: Of rows, by turn: f32 most often, whose results are held to the narrowest band.
NUMBERS = ["f32", "f16", "f32", "bf16", "f32"]


def rows_type(size, width=None, element="f32"):
    """Rows of a number, or of the size "rows" where `size` is a range (least, most)."""
    columns = "" if width is None else f"{width}x"
    if isinstance(size, int):
        return f"tensor<{size}x{columns}{element}>"
    return f'tensor<?x{columns}{element}, #transformer.dims<"rows">>'


def weight_type(rows, width, element):
    element = f"!transformer.quant<{element}>" if element in QUANTIZED else element
    return f"tensor<{rows}x{width}x{element}>"


def cache_type(turn, heads, dim, page=0):
    """A cache of the element type whose turn it is, of those that its heads may have."""
    elements = [*PLAIN, *(["!transformer.quant<q8_0>"] * 2 if dim % 32 == 0 else [])]
    paged = f", page = {page}" if page else ""
    return f"!transformer.cache<{heads}, {dim}, {elements[turn % len(elements)]}{paged}>"


def elements(depth, used):
    """Some of the types that a weight of that depth may have, those that were used least (`used`
    counts). Code takes its time to be finished: each type has its turn at some of the shapes."""
    quantized = [name for name, block in QUANTIZED.items() if depth % block == 0]
    # Those of the largest blocks fit the fewest shapes.
    quantized.sort(key=lambda name: (used[name], -QUANTIZED[name]))
    plain = sorted(PLAIN, key=lambda name: used[name])
    chosen = [plain[0], *(quantized[:3] or plain[1:2])]
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
    number = NUMBERS[turn % 5]
    x, kind = f.rows(width, number)
    y, _ = f.rows(width, number)
    scale, scaled = f.vector(width, PLAIN[turn % 3])
    shift, shifted = f.vector(width, PLAIN[turn // 3 % 3])
    f.op(f"rms_norm {x}, {scale} {{epsilon = 1.0e-5}} : ({kind}, {scaled}) -> {kind}", kind)
    f.op(f"layer_norm {x}, {scale}, {shift} {{epsilon = 1.0e-3}} : "
         f"({kind}, {scaled}, {shifted}) -> {kind}", kind)
    heads = next(h for h in (5, 3, 4, 2, 1) if width % h == 0)
    short, shortened = f.vector(width // heads, PLAIN[turn % 3])
    more = f"epsilon = 0.1, heads = {heads}"
    f.op(f"layer_norm {x}, {short}, {short} {{{more}}} : ({kind}, {shortened}, {shortened}) -> {kind}", kind)
    normed = f.op(f"rms_norm {x}, {short} {{{more}, offset = 1.0}} : ({kind}, {shortened}) -> {kind}", kind,
                  returned=False)
    other = rows_type(size, width, NUMBERS[(turn + 1) % 5])
    cast = f.op(f"cast {normed} : {kind} to {other}", other, returned=False)
    f.op(f"add {cast}, {cast} : {other}", other)
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
    cached = cache_type(turn, 1, width)
    cache, (slots, _) = f.argument(cached), f.indices()
    f.effect(f"cache_append {rotated}, {slots} into {cache} : {cached}, {kind}, {indices}")
    return f


def matmul(turn, used, size, n, depth):
    """Products with weights of some types, alone and with all that may follow them."""
    f = Function(size)
    x, kind = f.rows(depth, NUMBERS[turn % 5])
    residual, result = f.rows(n, NUMBERS[(turn + 2) % 5])
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
    last = f.op(f"matmul {normed} weights({weight}) : ({kind}, {stored}) -> ({result})", result)
    cached = cache_type(turn, 1, n)
    cache, (slots, indices) = f.argument(cached), f.indices()
    f.effect(f"cache_append {last}, {slots} into {cache} : {cached}, {result}, {indices}")
    return f


def halves(turn, size, n, depth):
    """Products of f16 or bf16 with what may follow them element by element, rows as they are multiplied
    or with numerics that say how: what matrix units are for."""
    f = Function(size)
    element = ["bf16", "f16"][turn % 2]
    number = element if turn % 3 else "f32"
    rounded = "" if turn % 3 else f"numerics = #transformer.numerics<multiply = {element}, accumulate = f32>"
    transposed = turn % 4 == 1
    words = ", ".join(filter(None, ("transpose" if transposed else "", rounded)))
    words = f" {{{words}}}" if words else ""
    x, kind = f.rows(depth, number)
    # The reference rounds nothing: results that are rounded themselves allow for it.
    residual, result = f.rows(n, "bf16" if rounded else NUMBERS[turn % 5])
    shape = (depth, n) if transposed else (n, depth)
    (gate, stored), (up, _) = f.weight(*shape, element), f.weight(*shape, element)
    bias, biased = f.vector(n, element)
    if rounded:  # and with what is computed before
        scale, scaled = f.vector(depth)
        x = f.op(f"rms_norm {x}, {scale} {{epsilon = 1.0e-5}} : ({kind}, {scaled}) -> {kind}", kind,
                 returned=False)
    y = f.op(f"matmul {x} weights({gate}) bias({bias}){words} : ({kind}, {stored}, {biased}) -> "
             f"({result})", result)
    y = f.op(f"activation {y} <{FUNCTIONS[turn % 4]}> : {result}", result, returned=False)
    f.op(f"add {y}, {residual} : {result}", result)
    name = f"%v{len(f.body)}"
    f.body.append(f"{name}:2 = transformer.matmul {x} weights({gate}, {up}){words} : "
                  f"({kind}, {stored}, {stored}) -> ({result}, {result})")
    y = f.op(f"activation {name}#0 <silu> : {result}", result, returned=False)
    f.op(f"mul {y}, {name}#1 : {result}", result)
    return f


def projections(turn, size, heads, kv_heads, dim, depth):
    """Queries, keys and values as one product of f16 or bf16, rotated, and appended to caches."""
    f = Function(size)
    element = ["bf16", "f16"][turn % 2]
    number = element if turn % 3 else "f32"
    rounded = "" if turn % 3 else f" {{numerics = #transformer.numerics<multiply = {element}, accumulate = f32>}}"
    x, kind = f.rows(depth, number)
    positions, indices = f.indices()
    slots, _ = f.indices()
    rotary = dim if turn % 2 else dim // 2
    table, angles = f.argument(f"tensor<40x{rotary}xf32>"), f"tensor<40x{rotary}xf32>"
    if rounded:
        scale, scaled = f.vector(depth)
        x = f.op(f"rms_norm {x}, {scale} {{epsilon = 1.0e-5}} : ({kind}, {scaled}) -> {kind}", kind,
                 returned=False)
    of = [f.weight(n * dim, depth, element) for n in (heads, kv_heads, kv_heads)]
    results = [rows_type(size, n * dim, number) for n in (heads, kv_heads, kv_heads)]
    name = f"%v{len(f.body)}"
    f.body.append(f"{name}:3 = transformer.matmul {x} weights({', '.join(w for w, _ in of)}){rounded} : "
                  f"({kind}, {', '.join(t for _, t in of)}) -> ({', '.join(results)})")
    pairing = ["half_split", "interleaved"][turn // 2 % 2]
    query, key = (f.op(f"rope {name}#{i}, {positions}, {table} <{pairing}> {{headDim = {dim}}} : "
                       f"({results[i]}, {indices}, {angles}) -> {results[i]}", results[i], returned=i == 0)
                  for i in (0, 1))
    for i, value in ((1, key), (2, f"{name}#2")):
        cached = f"!transformer.cache<{kv_heads}, {dim}, {PLAIN[(turn + i) % 3]}>"
        cache = f.argument(cached)
        f.effect(f"cache_append {value}, {slots} into {cache} : {cached}, {results[i]}, {indices}")
    return f


def expanded(schedule, size, n, depth, types, number, element, joined):
    """A product of rounded rows and quantized weights in planes, one or two, with a schedule of its own, as
    text. Two are side by side, or gate and up where they are `joined`."""
    x, y = f"tensor<{size}x{depth}x{number}>", f"tensor<{size}x{n}xbf16>"
    weights = [f"tensor<{n}x{depth}x!transformer.quant<{t}>, #transformer.layout<planes>>" for t in types]
    names = ["%x", *(f"%w{i}" for i in range(len(types)))]
    kinds = ", ".join([x, *weights])
    header = ", ".join(f"{name}: {kind}" for name, kind in zip(names, [x, *weights]))
    rounded = f"{{numerics = #transformer.numerics<multiply = {element}, accumulate = f32>}}"
    sums = [f"%p{i}" for i in range(len(types))]
    body = (f"  {', '.join(sums)} = transformer.matmul %x weights({', '.join(names[1:])}) {rounded} : ({kinds}) -> "
            f"({', '.join([y] * len(sums))})\n")
    if joined:
        body += f"  %g = transformer.activation %p0 <silu> : {y}\n  %m = transformer.mul %g, %p1 : {y}\n"
    results = ["%m"] if joined else sums
    given = ", ".join([y] * len(results))
    return (f"transformer.kernel @k({header}) -> ({given}) attributes {{schedule = "
            f"#transformer.schedule<{{{schedule}}}>}} {{\n{body}  transformer.yield {', '.join(results)} : {given}\n}}\n"
            f"func.func @f({header}) -> ({given}) {{\n  %r:{len(results)} = transformer.launch @k({', '.join(names)}) : "
            f"({kinds}) -> ({given})\n  return {', '.join(f'%r#{i}' for i in range(len(results)))} : {given}\n}}\n")


#: Tile, stages and split; columns and depth; types of weights; type of rows and of what is multiplied.
EXPANDED = [("bm = 64, bn = 64", 4, 1, 136, 256, ["q8_0"], "f32", "bf16", False),
            ("bm = 128, bn = 128", 4, 2, 200, 512, ["q4_0"], "bf16", "bf16", False),
            ("bm = 128, bn = 256", 4, 1, 264, 128, ["q4_1"], "f32", "f16", False),
            ("bm = 64, bn = 128", 4, 1, 136, 192, ["q5_0"], "f16", "f16", False),
            ("bm = 128, bn = 256", 4, 1, 264, 256, ["q4_k"], "bf16", "bf16", False),
            ("bm = 64, bn = 64", 6, 2, 72, 512, ["q6_k"], "f32", "bf16", False),
            ("bm = 64, bn = 64", 4, 1, 136, 256, ["q2_k"], "f32", "bf16", False),
            ("bm = 64, bn = 128", 4, 1, 136, 256, ["q3_k"], "f32", "f16", False),
            ("bm = 128, bn = 128", 4, 1, 136, 256, ["q5_k"], "bf16", "bf16", False),
            ("bm = 64, bn = 128", 4, 1, 136, 192, ["mxfp4"], "bf16", "bf16", False),
            ("bm = 64, bn = 64", 4, 1, 136, 256, ["iq4_xs"], "f16", "f16", False),
            ("bm = 64, bn = 128", 4, 1, 136, 256, ["f8_e4m3"], "f32", "bf16", False),
            ("bm = 64, bn = 64", 4, 1, 136, 256, ["q4_k", "q6_k"], "bf16", "bf16", False),
            ("bm = 128, bn = 128", 4, 1, 136, 256, ["q4_k", "q4_k"], "bf16", "bf16", True),
            ("bm = 128, bn = 64", 4, 1, 136, 192, ["q8_0", "q4_0"], "bf16", "bf16", True)]


def expanded_modules():
    for tile, stages, split, n, depth, types, number, element, joined in EXPANDED:
        schedule = (f"method = 1, {tile}, stages = {stages}, group = 1, resident = 1, blocks = 2, "
                    f"split = {split}, early = 0")
        yield expanded(schedule, 130, n, depth, types, number, element, joined)


def scheduled(schedule, size, n, depth, number):
    """A product of bf16 and an addend with a schedule of its own, as text."""
    x, w, y = f"tensor<{size}x{depth}xbf16>", f"tensor<{n}x{depth}xbf16>", f"tensor<{size}x{n}x{number}>"
    header = f"(%x: {x}, %w: {w}, %r: {y}) -> {y}"
    return (f"transformer.kernel @k{header} attributes {{schedule = #transformer.schedule<{{{schedule}}}>}} {{\n"
            f"  %p = transformer.matmul %x weights(%w) : ({x}, {w}) -> ({y})\n"
            f"  %y = transformer.add %p, %r : {y}\n  transformer.yield %y : {y}\n}}\n"
            f"func.func @f{header} {{\n  %y = transformer.launch @k(%x, %w, %r) : ({x}, {w}, {y}) -> ({y})\n"
            f"  return %y : {y}\n}}\n")


def scheduled_attention(schedule, dim, *, rows=512, group=2, sequences=1, page=0, extra="", sinks=False):
    """Attention over bf16 with a schedule of its own, as text."""
    heads = 2 * group
    q, cache = f"tensor<{rows}x{heads * dim}xbf16>", f"!transformer.cache<2, {dim}, bf16{f', page = {page}' if page else ''}>"
    each, of = f"tensor<{rows}xi32>", f"tensor<{sequences}xi32>"
    table = f"tensor<{sequences}x64xi32>" if page else of
    names = ["%q", "%k", "%v", "%p", "%s", "%t", "%l"] + (["%n"] if sinks else [])
    kinds = [q, cache, cache, each, each, table, of] + ([f"tensor<{heads}xf32>"] if sinks else [])
    header = f"({', '.join(f'{n}: {k}' for n, k in zip(names, kinds))}) -> {q}"
    words = f"heads = {heads}, scale = 0.125{extra}, numerics = #transformer.numerics<multiply = bf16, accumulate = f32>"
    return (f"transformer.kernel @k{header} attributes {{schedule = #transformer.schedule<{{{schedule}}}>}} {{\n"
            f"  %y = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l)"
            f"{' sinks(%n)' if sinks else ''} {{{words}}} : ({', '.join(kinds)}) -> {q}\n"
            f"  transformer.yield %y : {q}\n}}\n"
            f"func.func @f{header} {{\n  %y = transformer.launch @k({', '.join(names)}) : ({', '.join(kinds)}) -> ({q})\n"
            f"  return %y : {q}\n}}\n")


def decoding(schedule, heads, kv_heads, dim, element, page=0):
    """Attention of one row over caches of an element type with a schedule of its own, as text."""
    element = f"!transformer.quant<{element}>" if element in QUANTIZED else element
    cache = f"!transformer.cache<{kv_heads}, {dim}, {element}{f', page = {page}' if page else ''}>"
    row, table = "tensor<1xi32>", f"tensor<1x{512 // page}xi32>" if page else "tensor<1xi32>"
    q = f"tensor<1x{heads * dim}xf32>"
    values = [("%q", q), ("%k", cache), ("%v", cache), ("%p", row), ("%s", row), ("%t", table), ("%l", row)]
    size = '%n: index {transformer.size = #transformer.size<"cached", 1 to 512>}'
    header = f"({size}, {', '.join(f'{name}: {kind}' for name, kind in values)}) -> {q}"
    names, kinds = (", ".join(each) for each in zip(*values))
    return (f"transformer.kernel @k{header} attributes {{schedule = #transformer.schedule<{{{schedule}}}>}} {{\n"
            "  %y = transformer.attention %q, %k, %v positions(%p) sequences(%s) table(%t) lengths(%l) "
            f'{{heads = {heads}, scale = 0.125, cached = "cached"}} : ({kinds}) -> {q}\n'
            f"  transformer.yield %y : {q}\n}}\n"
            f"func.func @f{header} {{\n  %y = transformer.launch @k(%n, {names}) : (index, {kinds}) -> ({q})\n"
            f"  return %y : {q}\n}}\n")


def product(size, n, depth, element, words="", pair=False):
    """One product as models have it, of one weight or of gate and up, as text."""
    f = Function(size)
    x, kind = f.rows(depth)
    result = rows_type(size, n)
    (gate, stored), (up, _) = f.weight(n, depth, element), f.weight(n, depth, element)
    if pair:
        f.body.append(f"%p:2 = transformer.matmul {x} weights({gate}, {up}){words} : ({kind}, {stored}, "
                      f"{stored}) -> ({result}, {result})")
        y = f.op(f"activation %p#0 <silu> : {result}", result, returned=False)
        f.op(f"mul {y}, %p#1 : {result}", result)
    else:
        f.op(f"matmul {x} weights({gate}){words} : ({kind}, {stored}) -> ({result})", result)
    return f.text()


def heads_of(size, kv_heads, group, dim, element, words=""):
    """One attention as models have it, as text."""
    f = Function(size)
    query, kind = f.rows(kv_heads * group * dim)
    positions, indices = f.indices()
    owners, _ = f.indices()
    lengths, table = f.argument("tensor<1xi32>"), f.argument("tensor<1xi32>")
    cached = f"!transformer.cache<{kv_heads}, {dim}, {element}>"
    keys, values = f.argument(cached), f.argument(cached)
    f.op(f"attention {query}, {keys}, {values} positions({positions}) sequences({owners}) table({table}) "
         f"lengths({lengths}) {{heads = {kv_heads * group}, scale = 0.088{words}}} : ({kind}, {cached}, "
         f"{cached}, {indices}, {indices}, tensor<1xi32>, tensor<1xi32>) -> {kind}", kind)
    return f.text()


def spaces():
    """Modules of the shapes that models have, by name: those whose schedules are searched."""
    halves = "numerics = #transformer.numerics<multiply = bf16, accumulate = f32>"
    rows = {f"{size} x {element}": product(size, 4096, 4096, element)
            for size, element in ((1, "bf16"), (1, "q8_0"), (1, "q4_k"), (8, "q4_0"), (16, "bf16"), (256, "f32"))}
    return {**rows,
            "gate and up of one row": product(1, 4096, 4096, "q4_1", pair=True),
            "matrix units": product(512, 4096, 4096, "bf16", f" {{{halves}}}"),
            "matrix units, gate and up": product(512, 4096, 4096, "bf16", f" {{{halves}}}", pair=True),
            "attention of one row": heads_of(1, 8, 4, 128, "bf16"),
            "attention of bytes": heads_of(1, 8, 4, 128, "!transformer.quant<q8_0>"),
            **{f"attention of many rows, {dim} x {element}": heads_of(512, 8, 4, dim, element)
               for dim, element in ((64, "f32"), (80, "bf16"), (128, "f32"), (256, "f16"))},
            "attention by matrix units": heads_of(512, 8, 4, 128, "bf16", f", {halves}")}


def attention(turn, size, kv_heads, group, dim, value_dim, sequences):
    """Attention over contiguous and paged caches of all element types: causal or not, with windows, soft
    caps and sinks."""
    f = Function(size)
    heads = kv_heads * group
    query, kind = f.rows(heads * dim, NUMBERS[turn % 5])
    result = rows_type(size, heads * value_dim, NUMBERS[(turn + 1) % 5])
    sinks, sunk = f.vector(heads, PLAIN[turn % 3])
    positions, indices = f.indices()
    owners, _ = f.indices()
    lengths = f.argument(f"tensor<{sequences}xi32>")
    for i, extra in enumerate(("", ", softcap = 5.0", ", window = 3", ", causal = false",
                               ", causal = false, window = 17, softcap = 50.0"), turn):
        page = (0, 1, 16)[i % 3]
        keyed, valued = cache_type(i, kv_heads, dim, page), cache_type(turn, kv_heads, value_dim, page)
        pages = {0: "", 1: "128x", 16: "16x"}[page]
        tabled = f"tensor<{sequences}x{pages}i32>"
        keys, values, table = f.argument(keyed), f.argument(valued), f.argument(tabled)
        sink, sink_type = (f" sinks({sinks})", f", {sunk}") if i % 2 else ("", "")
        f.op(f"attention {query}, {keys}, {values} positions({positions}) sequences({owners}) "
             f"table({table}) lengths({lengths}){sink} {{heads = {heads}, scale = 0.125{extra}}} : "
             f"({kind}, {keyed}, {valued}, {indices}, {indices}, {tabled}, "
             f"tensor<{sequences}xi32>{sink_type}) -> {result}", result)
    return f


def step(size, sequences, vocabulary, window, page):
    """What a step ends with, of as many rows and sequences; all that it gives is a result."""
    f = Function(size)
    x, logits = f.rows(vocabulary)
    settings, drawn = f.rows(5), f.rows(3, "i32")
    positions, kind = f.indices()
    slots, of = f.indices()[0], f.indices()[0]
    each = f"tensor<{sequences}xi32>"
    table_type = f"tensor<{sequences}x4xi32>" if page else each
    table, lengths, limits = (f.argument(t) for t in (table_type, each, each))
    last, recent, more = "", "", ""
    if window:
        last, more = f.rows(window, "i32")
        recent, more = f" recent({last})", f", {more}"
    ids = f.op(f"sample {x} settings({settings[0]}) draws({drawn[0]}) positions({positions}){recent} : "
               f"({logits}, {settings[1]}, {drawn[1]}, {kind}{more}) -> {kind}", kind)
    f.body.append(
        f"%n:{5 if window else 4} = transformer.advance {ids}, {positions}, {slots} sequences({of}) "
        f"table({table}) lengths({lengths}) limits({limits}){recent} {{page = {page}}} : ({kind}, {kind}, "
        f"{kind}, {kind}, {table_type}, {each}, {each}{more}) -> ({kind}, {kind}, {kind}, {each}{more})")
    f.results += [("%n#0", kind), ("%n#1", kind), ("%n#2", kind), ("%n#3", each)]
    f.results += [("%n#4", more[2:])] if window else []
    return f


def run_options(turn, size):
    """How a module is run: what its rows are where the run gives them, and not fused now and then."""
    options = [] if isinstance(size, int) else ["--size", f"rows={(size[0] + size[1]) // 2}"]
    return [*options, "--seed", turn, *(["--no-fuse"] if turn % 4 == 3 else [])]


def sizes(shapes):
    """Shapes whose rows are now and then a size that only the run gives."""
    return [((1, 2 * shape[0] + 1) if i % 3 == 1 else shape[0], *shape[1:])
            for i, shape in enumerate(shapes)]


ROWS = [1, 2, 3, 5, 1, 7, 8, 13]
WIDTHS = [1, 2, 3, 5, 6, 7, 10, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 100, 127, 128]
ROWWISE = [(ROWS[i % 8], width) for i, width in enumerate(
    WIDTHS + [4, 8, 9, 224, 288, 15, 512, 20, 1024, 256, 66, 129, 160, 192, 255, 256, 257, 320, 512, 768])]
MATMULS = [(1, 1, 1), (1, 2, 3), (1, 64, 32), (1, 65, 33), (1, 63, 64), (1, 100, 96), (1, 17, 256),
           (1, 128, 512), (1, 5, 768), (1, 129, 257), (2, 64, 512), (2, 7, 5), (2, 66, 31),
           (3, 33, 32), (3, 64, 1), (3, 1, 64), (3, 70, 160), (4, 64, 256), (4, 12, 15), (4, 31, 512),
           (5, 64, 32), (5, 9, 256), (5, 130, 7), (6, 3, 96), (7, 64, 17), (7, 61, 256), (8, 65, 64),
           (8, 16, 16), (9, 20, 288), (11, 11, 11), (12, 48, 256), (13, 40, 256), (15, 17, 19),
           (16, 32, 256), (16, 5, 512), (17, 33, 65), (23, 24, 128), (31, 10, 64), (33, 66, 32),
           (64, 8, 512)]
HALVES = [(1, 64, 64), (2, 8, 8), (63, 72, 128), (65, 40, 200), (130, 136, 72), (64, 264, 64),
          (3, 65, 32), (5, 17, 136), (17, 200, 72), (129, 72, 264)]
PROJECTIONS = [(70, 2, 1, 64, 136), (100, 2, 1, 128, 72), (33, 4, 2, 32, 264), (5, 3, 1, 96, 64)]
HEADS = [(1, 1), (1, 2), (2, 1), (2, 3), (3, 1), (1, 4), (2, 2), (4, 1)]
ATTENTIONS = [(rows, *HEADS[i % 8], dim, value_dim, 1 + i % 3 if rows >= 3 else 1)
              for i, (rows, dim, value_dim) in enumerate(
    [(1, 1, 1), (1, 2, 2), (1, 8, 8), (1, 16, 16), (1, 32, 32), (1, 64, 64), (1, 80, 80), (1, 7, 3),
     (1, 96, 65), (1, 128, 128), (2, 4, 4), (2, 17, 17), (2, 64, 32), (2, 33, 5), (3, 8, 8), (3, 3, 7),
     (3, 64, 64), (3, 40, 40), (4, 16, 16), (4, 5, 9), (4, 48, 48), (5, 32, 32), (5, 65, 66), (5, 1, 2),
     (6, 24, 24), (7, 10, 10), (7, 64, 64), (7, 2, 100), (8, 16, 16), (8, 31, 31), (9, 12, 12),
     (11, 6, 6), (12, 32, 16), (13, 20, 20), (16, 64, 64), (16, 15, 15), (17, 9, 8), (23, 16, 16),
     (31, 4, 4), (33, 8, 8)])]


def modules(family):
    """The functions of a family at its shapes, and how often each type of weights is used in them."""
    used = Counter()
    shapes = {"rowwise": ROWWISE, "matmul": MATMULS, "attention": ATTENTIONS,
              "halves": HALVES, "projections": PROJECTIONS}[family]
    if family == "attention":
        return [attention(i, *shape) for i, shape in enumerate(sizes(shapes))], used
    if family == "projections":
        return [projections(i, *shape) for i, shape in enumerate(sizes(shapes))], used
    if family == "halves":
        return [halves(i, *shape) for i, shape in enumerate(sizes(shapes))], used
    make = {"rowwise": rowwise, "matmul": matmul}[family]
    return [make(i, used, *shape) for i, shape in enumerate(sizes(shapes))], used
