"""Random valid modules of the transformer dialect, each from a seed: see modules.py."""

import random
from collections import Counter

QUANTIZED = {"q4_0": 32, "q4_1": 32, "q5_0": 32, "q5_1": 32, "q8_0": 32, "q2_k": 256, "q3_k": 256,
             "q4_k": 256, "q5_k": 256, "q6_k": 256, "iq4_nl": 32, "iq4_xs": 256, "mxfp4": 32,
             "f8_e4m3": 128}  # fmt: skip
PLAIN = ["f32", "f16", "bf16"]
WIDTHS = [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 20, 24, 31, 32, 33, 40, 48, 63, 64, 65, 80, 96, 100,
          127, 128, 129, 160, 256, 257]
ROWS = [1, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 16, 17, 23, 31, 33, 48, 50, 64, 97]
HEADS = [1, 2, 3, 4, 6]
DIMS = [1, 2, 3, 4, 6, 7, 8, 10, 15, 16, 17, 20, 24, 32, 33, 48, 64, 80]
EPSILONS = ["1.0e-5", "1.0e-3", "0.1"]


class Rows:
    """How many rows a value has: a number, or a size by its name."""

    def __init__(self, count=None, size=None):
        self.count, self.size = count, size

    def __eq__(self, other):
        return (self.count, self.size) == (other.count, other.size)


class Value:
    """An SSA value: rows of activations."""

    def __init__(self, name, rows, width, element, computed):
        self.name, self.rows, self.width, self.element = name, rows, width, element
        self.computed, self.used = computed, False


def tensor(rows, width, element):
    """Type of rows; `width` None: one number each."""
    extent = "?" if rows.size else str(rows.count)
    columns = "" if width is None else f"{width}x"
    encoding = f', #transformer.dims<"{rows.size}">' if rows.size else ""
    return f"tensor<{extent}x{columns}{element}{encoding}>"


def matrix(rows, width, element, encoding=""):
    element = f"!transformer.quant<{element}>" if element in QUANTIZED else element
    return f"tensor<{rows}x{width}x{element}{encoding}>"


PACKED = ", #transformer.layout<interleaved, rows = 16>"


class Module:
    """One function of random operations."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.seed = seed
        self.sizes = {}  # name: (least, most, the run's)
        self.arguments, self.body, self.values = [], [], []
        self.ops = Counter()
        self.results = []  # (name, type)
        self.caches = []  # (name, type, heads, dim)
        self.positions = []  # (rows, name, type)
        self.refusable = []  # why the code generator may refuse it
        self.element = "f32" if self.chance(0.7) else self.pick(PLAIN[1:])
        self.rows = self.newRows("tokens")
        length = self.pick([1, 1, 2, 2, 3, 3, 4, 5, 6, 8])
        while len(self.body) < length:
            self.pick(self.makers())()
        self.finish()

    # ---- choices

    def pick(self, choices):
        return self.random.choice(choices)

    def chance(self, probability):
        return self.random.random() < probability

    def makers(self):
        makers = [self.matmul] * 5 + [self.mlp, self.attention, self.attention, self.embedding,
                                      self.packed, self.gather, self.rms_norm, self.layer_norm,
                                      self.softmax, self.cache_append, self.computedWeight, self.step]
        return makers + [self.rope, self.activation, self.add, self.mul, self.scale, self.cast] * 2

    def width(self):
        if self.chance(0.03):
            return 0
        return self.pick([1024, 2048, 4096]) if self.chance(0.02) else self.pick(WIDTHS)

    def newRows(self, name):
        """Of a size of that name, or a number."""
        if self.chance(0.04):
            return Rows(0)
        count = 300 if self.chance(0.02) else self.pick(ROWS)
        if self.chance(0.5) or name in self.sizes:
            return Rows(count)
        least, most = self.pick([(1, 1), (1, 64), (2, 128), (1, 4), (3, 8192)])
        if self.chance(0.02):
            least = 0
            self.refusable.append("a size that begins at 0")
        count = min(max(count, least), most)
        self.sizes[name] = (least, most, count)
        return Rows(size=name)

    def count(self, rows):
        return self.sizes[rows.size][2] if rows.size else rows.count

    # ---- text

    def argument(self, text):
        name = f"%a{len(self.arguments)}"
        self.arguments.append(f"{name}: {text}")
        return name

    def weight(self, rows, width, element):
        name = f"w{len(self.arguments)}"
        return self.argument(matrix(rows, width, element) + f' {{transformer.weight = "{name}"}}')

    def op(self, mnemonic, text, results=1):
        """Adds an operation; the names of its results."""
        self.ops[mnemonic] += 1
        names = [f"%v{len(self.body)}" + (f"_{i}" if results > 1 else "") for i in range(results)]
        left = ", ".join(names) + " = " if names else ""
        self.body.append(f"{left}transformer.{mnemonic} {text}")
        return names

    def value(self, name, rows, width, element=None):
        value = Value(name, rows, width, element or self.element, True)
        self.values.append(value)
        return value

    def type(self, value):
        return tensor(value.rows, value.width, value.element)

    def input(self, width=None, rows=None):
        """A new argument of rows."""
        rows, width = rows or self.rows, self.width() if width is None else width
        name = self.argument(tensor(rows, width, self.element))
        value = Value(name, rows, width, self.element, False)
        self.values.append(value)
        return value

    def some(self, accepts=lambda value: True):
        """A value that was computed before, mostly the last, or a new argument."""
        known = [value for value in self.values if accepts(value)]
        if not known or self.chance(0.15):
            return None
        value = known[-1] if self.chance(0.7) else self.pick(known)
        value.used = True
        return value

    def indices(self, rows):
        return self.argument(tensor(rows, None, "i32")), tensor(rows, None, "i32")

    def somePositions(self, rows):
        """Those of other operations, or others."""
        known = [each for each in self.positions if each[0] == rows]
        if not known or self.chance(0.5):
            known = [(rows, *self.indices(rows))]
            self.positions += known
        return self.pick(known)[1:]

    # ---- operations

    def vector(self, width):
        element = "f32" if self.chance(0.7) else self.pick(PLAIN)
        return self.argument(f"tensor<{width}x{element}>"), f"tensor<{width}x{element}>"

    def weightElement(self, depth, quantized=True):
        choices = PLAIN + [q for q, block in QUANTIZED.items() if quantized and depth % block == 0]
        return "f32" if self.chance(0.3) else self.pick(choices)

    def matmul(self):
        x = self.some() or self.input(
            self.pick([32, 64, 96, 256, 512]) if self.chance(0.5) else None)
        segments, transpose = self.pick([1, 1, 1, 2, 3]), self.chance(0.2)
        same = self.width() if self.chance(0.5) else None
        result = self.pick(PLAIN) if self.chance(0.1) else self.element
        weights, types, results, biases, biasTypes = [], [], [], [], []
        biased = self.chance(0.3)
        for _ in range(segments):
            n = self.width() if same is None else same
            element = self.weightElement(x.width, not transpose)
            shape = (x.width, n) if transpose else (n, x.width)
            weights.append(self.weight(*shape, element))
            types.append(matrix(*shape, element))
            results.append((n, tensor(x.rows, n, result)))
            if biased:
                bias, biasType = self.vector(n)
                biases.append(bias)
                biasTypes.append(biasType)
        text = f"{x.name} weights({', '.join(weights)})"
        text += f" bias({', '.join(biases)})" if biased else ""
        text += " {transpose}" if transpose else ""
        text += f" : ({', '.join([self.type(x)] + types + biasTypes)}) -> "
        text += f"({', '.join(each for _, each in results)})"
        for name, (n, _) in zip(self.op("matmul", text, segments), results):
            self.value(name, x.rows, n, result)

    def computedWeight(self):
        """A product with rows that were computed, as a transposed weight."""
        w = self.some(lambda value: not value.rows.size)
        if w is None:
            return
        x = self.input(w.rows.count)
        result = tensor(x.rows, w.width, self.element)
        text = f"{x.name} weights({w.name}) {{transpose}} : ({self.type(x)}, {self.type(w)}) -> {result}"
        self.value(self.op("matmul", text)[0], x.rows, w.width)

    def mlp(self):
        x = self.some() or self.input(self.pick([32, 64, 256]) if self.chance(0.5) else None)
        hidden, n, gated = self.width(), self.width(), self.chance(0.5)
        parts, types = [x.name], [self.type(x)]
        for name, out, depth in [("gate", hidden, x.width)][: gated] + [
            ("up", hidden, x.width), ("down", n, hidden)]:
            element = self.weightElement(depth)
            parts.append(f"{name}({self.weight(out, depth, element)})")
            types.append(matrix(out, depth, element))
        for name, out in [("gate", hidden)][: gated] + [("up", hidden), ("down", n)]:
            if self.chance(0.3):
                bias, biasType = self.vector(out)
                parts.append(f"{name}_bias({bias})")
                types.append(biasType)
        result = tensor(x.rows, n, x.element)
        text = f"{' '.join(parts)} <{self.function()}> : ({', '.join(types)}) -> {result}"
        self.value(self.op("mlp", text)[0], x.rows, n, x.element)

    def function(self):
        return self.pick(["silu", "gelu", "gelu_tanh", "relu"])

    def unary(self, mnemonic, extra="", x=None):
        x = x or self.some() or self.input()
        self.value(self.op(mnemonic, f"{x.name} {extra}: {self.type(x)}")[0], x.rows, x.width,
                   x.element)

    def softmax(self):
        self.unary("softmax")

    def activation(self):
        self.unary("activation", f"<{self.function()}> ")

    def scale(self):
        attributes = f"factor = {self.pick(['0.5', '-1.25', '2.0', '0.0'])}"
        attributes += f", softcap = {self.pick(['1.0', '30.0'])}" if self.chance(0.4) else ""
        self.unary("scale", f"{{{attributes}}} ")

    def cast(self):
        x = self.some() or self.input()
        to = Value("", x.rows, x.width, self.pick(PLAIN), True)
        self.value(self.op("cast", f"{x.name} : {self.type(x)} to {self.type(to)}")[0], x.rows,
                   x.width, to.element)

    def binary(self, mnemonic):
        x = self.some() or self.input()
        y = self.some(lambda value: value.rows == x.rows and value.width == x.width and
                      value.element == x.element)
        if y is None:
            y = Value(self.argument(self.type(x)), x.rows, x.width, x.element, False)
        pair = [x.name, y.name]
        self.random.shuffle(pair)
        self.value(self.op(mnemonic, f"{', '.join(pair)} : {self.type(x)}")[0], x.rows, x.width,
                   x.element)

    def add(self):
        self.binary("add")

    def mul(self):
        self.binary("mul")

    def norm(self, mnemonic, biased):
        x = self.some() or self.input()
        heads = self.pick([1] + [h for h in HEADS if x.width % h == 0])
        vectors = [self.vector(x.width // heads) for _ in range(1 + biased)]
        names = ", ".join([x.name] + [name for name, _ in vectors])
        types = ", ".join([self.type(x)] + [each for _, each in vectors])
        attributes = [f"epsilon = {self.pick(EPSILONS)}"]
        attributes += [f"heads = {heads}"] if heads > 1 else []
        attributes += ["offset = 1.0"] if self.chance(0.2) else []
        text = f"{names} {{{', '.join(attributes)}}} : ({types}) -> {self.type(x)}"
        self.value(self.op(mnemonic, text)[0], x.rows, x.width, x.element)

    def rms_norm(self):
        self.norm("rms_norm", False)

    def layer_norm(self):
        self.norm("layer_norm", self.chance(0.5))

    def rope(self):
        x = self.some(lambda value: value.width >= 2)
        if x is None:
            dim = self.pick([d for d in DIMS if d >= 2])
            x = self.input(dim * self.pick(HEADS))
        dim = self.pick([d for d in range(2, x.width + 1) if x.width % d == 0])
        rotary = dim // 2 * 2 if self.chance(0.6) else self.pick(range(2, dim + 1, 2))
        element = x.element if self.chance(0.8) else self.pick(PLAIN)
        table = self.some(lambda value: value.computed and value.width == rotary and
                          self.count(value.rows) > 0) if self.chance(0.2) else None
        if table is None:
            rows = self.contextRows()
            table = Value(self.argument(tensor(rows, rotary, element)), rows, rotary, element, False)
        positions, indexType = self.somePositions(x.rows)
        pairing = self.pick(["half_split", "interleaved"])
        text = (f"{x.name}, {positions}, {table.name} <{pairing}> {{headDim = {dim}}} : "
                f"({self.type(x)}, {indexType}, {self.type(table)}) -> {self.type(x)}")
        self.value(self.op("rope", text)[0], x.rows, x.width, x.element)

    def contextRows(self):
        if self.chance(0.5) and "context" not in self.sizes:
            self.sizes["context"] = (1, 4096, self.pick([8, 40, 200]))
        if "context" in self.sizes and self.chance(0.7):
            return Rows(size="context")
        return Rows(self.pick([1, 7, 64, 300]))

    def gather(self):
        x = self.some() or self.input()
        rows = self.newRows("outputs")
        if self.count(x.rows) == 0 and self.count(rows) > 0:
            self.refusable.append("rows of nothing are gathered")
        wanted, indexType = self.indices(rows)
        result = tensor(rows, x.width, x.element)
        text = f"{x.name}, {wanted} : ({self.type(x)}, {indexType}) -> {result}"
        self.value(self.op("gather_rows", text)[0], rows, x.width, x.element)

    def lookUp(self, table, tableType, vocabulary, width):
        ids, indexType = self.indices(self.rows)
        if vocabulary == 0 and self.count(self.rows) > 0:
            self.refusable.append("an empty vocabulary")
        scale = f" {{scale = {self.pick(['2.5', '-0.5'])}}}" if self.chance(0.3) else ""
        result = tensor(self.rows, width, self.element)
        text = f"{ids}, {table}{scale} : ({indexType}, {tableType}) -> {result}"
        self.value(self.op("embedding", text)[0], self.rows, width)

    def tableShape(self):
        width = self.pick([32, 64, 256, 512]) if self.chance(0.5) else self.width()
        return (0 if self.chance(0.03) else self.pick([1, 3, 16, 17, 50, 300]), width,
                self.weightElement(width))

    def embedding(self):
        vocabulary, width, element = self.tableShape()
        table, tableType = self.weight(vocabulary, width, element), matrix(vocabulary, width, element)
        self.lookUp(table, tableType, vocabulary, width)
        if self.chance(0.3):  # tied: the same weight is multiplied with, too
            x = self.input(width)
            result = tensor(x.rows, vocabulary, self.element)
            text = f"{x.name} weights({table}) : ({self.type(x)}, {tableType}) -> {result}"
            self.value(self.op("matmul", text)[0], x.rows, vocabulary)

    def packed(self):
        vocabulary, width, element = self.tableShape()
        before, after = matrix(vocabulary, width, element), matrix(vocabulary, width, element, PACKED)
        name = self.op("pack", f"{self.argument(before)} : {before} to {after}")[0]
        if element in PLAIN and self.chance(0.3):
            self.results.append((name, after))
        if self.chance(0.5):
            self.lookUp(name, after, vocabulary, width)
            return
        x = self.input(width)
        result = tensor(x.rows, vocabulary, self.element)
        text = f"{x.name} weights({name}) : ({self.type(x)}, {after}) -> {result}"
        self.value(self.op("matmul", text)[0], x.rows, vocabulary)

    def cacheType(self, heads, dim, page=0):
        element = "f32" if self.chance(0.7) else self.pick(PLAIN[1:])
        if dim % 32 == 0 and self.chance(0.3):
            element = "!transformer.quant<q8_0>"
        return f"!transformer.cache<{heads}, {dim}, {element}" + (f", page = {page}>" if page else ">")

    def someCache(self, heads, dim):
        """A contiguous cache that others use, too, or a new one."""
        known = [each for each in self.caches if each[2:] == (heads, dim)]
        if not known or self.chance(0.4):
            cacheType = self.cacheType(heads, dim)
            known = [(self.argument(cacheType), cacheType, heads, dim)]
            self.caches += known
        return self.pick(known)[:2]

    def append(self, values, cache, cacheType, slots, slotsType):
        self.op("cache_append", f"{values.name}, {slots} into {cache} : {cacheType}, "
                f"{self.type(values)}, {slotsType}", 0)

    def cache_append(self):
        x = self.some(lambda value: value.width > 0) or self.input(self.pick(DIMS) * self.pick(HEADS))
        if x.width == 0:
            return
        heads = self.pick([h for h in HEADS if x.width % h == 0])
        self.append(x, *self.someCache(heads, x.width // heads), *self.indices(x.rows))

    def attention(self):
        kvHeads, group, dim = self.pick(HEADS), self.pick(HEADS), self.pick(DIMS)
        if self.caches and self.chance(0.5):
            kvHeads, dim = self.pick(self.caches)[2:]
        valueDim = dim if self.chance(0.7) else self.pick(DIMS)
        heads, rows = kvHeads * group, self.rows
        page = self.pick([1, 4, 16]) if self.chance(0.2) else 0
        # Sequences of at least a row each, where there are rows.
        sequences = Rows(self.pick([1, 1, 1, 2, 3]))
        if page:
            keyType, valueType = (self.cacheType(kvHeads, each, page) for each in (dim, valueDim))
            keys, values = self.argument(keyType), self.argument(valueType)
        else:
            (keys, keyType), (values, valueType) = (self.someCache(kvHeads, each)
                                                    for each in (dim, valueDim))
        (positions, perRow), (owners, _) = self.somePositions(rows), self.indices(rows)
        if page:
            pages = self.pick([16, 64]) if page > 1 else 128
            table, tableType = [self.argument(f"tensor<{sequences.count}x{pages}xi32>"),
                                f"tensor<{sequences.count}x{pages}xi32>"]
        else:
            table, tableType = self.indices(sequences)
        lengths, lengthsType = self.indices(sequences)
        query = self.some(lambda value: value.rows == rows and value.width == heads * dim)
        query = query or self.input(heads * dim, rows)
        if self.chance(0.5):  # decoding writes what it then reads
            slots = self.indices(rows)
            for cache, cacheType, width in ((keys, keyType, dim), (values, valueType, valueDim)):
                self.append(self.input(kvHeads * width, rows), cache, cacheType, *slots)
        attributes = [f"heads = {heads}", f"scale = {self.pick(['0.125', '0.5', '1.0'])}"]
        attributes += ["causal = false"] if self.chance(0.3) else []
        attributes += [f"window = {self.pick([1, 3, 17])}"] if self.chance(0.3) else []
        attributes += [f"softcap = {self.pick(['5.0', '50.0'])}"] if self.chance(0.2) else []
        sinks, sinksType = self.vector(heads) if self.chance(0.3) else ("", "")
        result = tensor(rows, heads * valueDim, query.element)
        text = (f"{query.name}, {keys}, {values} positions({positions}) sequences({owners}) "
                f"table({table}) lengths({lengths}){f' sinks({sinks})' if sinks else ''} "
                f"{{{', '.join(attributes)}}} : ({self.type(query)}, {keyType}, {valueType}, "
                f"{perRow}, {perRow}, {tableType}, {lengthsType}"
                f"{', ' + sinksType if sinks else ''}) -> {result}")
        self.value(self.op("attention", text)[0], rows, heads * valueDim, query.element)

    def step(self):
        """What a step ends with. Its logits are given: tokens depend on each bit of them."""
        rows, sequences = self.rows, Rows(self.pick([1, 1, 2, 3]))
        given = [tensor(rows, self.pick([1, 2, 17, 300]), "f32"), tensor(rows, 5, "f32"),
                 tensor(rows, 3, "i32")]
        recent = [tensor(rows, self.pick([1, 5, 64]), "i32")] if self.chance(0.6) else []
        logits, settings, draws, *window = [self.argument(each) for each in given + recent]
        positions, perRow = self.somePositions(rows)
        last = f" recent({window[0]})" if window else ""
        ids = self.op("sample", f"{logits} settings({settings}) draws({draws}) positions({positions}){last}"
                      f" : ({', '.join(given + [perRow] + recent)}) -> {perRow}")[0]
        self.results.append((ids, perRow))
        page = self.pick([1, 4, 16]) if self.chance(0.4) else 0
        slots, owners = self.indices(rows)[0], self.indices(rows)[0]
        each = tensor(sequences, None, "i32")
        tableType = tensor(sequences, self.pick([1, 7]), "i32") if page else each
        table, lengths, limits = (self.argument(kind) for kind in (tableType, each, each))
        results = [perRow, perRow, perRow, each] + recent
        names = self.op("advance", f"{ids}, {positions}, {slots} sequences({owners}) table({table}) "
                        f"lengths({lengths}) limits({limits}){last} {{page = {page}}} : ({perRow}, {perRow}, "
                        f"{perRow}, {perRow}, {', '.join([tableType, each, each] + recent)}) -> "
                        f"({', '.join(results)})", len(results))
        self.results += list(zip(names, results))

    # ---- the whole

    def finish(self):
        """Returns what nothing uses, some of what is used, some arguments, and some values twice."""
        self.results += [(value.name, self.type(value)) for value in self.values
                         if self.chance(0.2 if value.computed else 0.05)
                         or (value.computed and not value.used)]
        if self.results and self.chance(0.1):
            self.results.append(self.pick(self.results))
        if self.chance(0.1):
            self.body.append("%unused = arith.constant dense<1.0> : tensor<4xf32>")

    def text(self):
        sizes = [f'%{name}: index {{transformer.size = #transformer.size<"{name}", {least} to {most}>}}'
                 for name, (least, most, _) in self.sizes.items()]
        types = ", ".join(each for _, each in self.results)
        arrow = f" -> ({types})" if types else ""
        names = ", ".join(name for name, _ in self.results)
        end = f"return {names} : {types}" if types else "return"
        return (f"// seed {self.seed}; may be refused: {', '.join(self.refusable) or 'no'}\n"
                f"func.func @f({', '.join(sizes + self.arguments)}){arrow} {{\n"
                + "".join(f"  {line}\n" for line in self.body) + f"  {end}\n}}\n")

    def options(self, target="cpu"):
        """How it is compiled and run."""
        chosen = [f"--size={name}={value}" for name, (_, _, value) in self.sizes.items()]
        chosen += [f"--threads={self.pick([1, 2, 3])}", f"--seed={self.seed % 1000}"]
        chosen += ["--no-fuse"] if self.chance(0.15) else []
        narrow = self.chance(0.25)
        chosen += ["--target-cpu=avx2"] if narrow and target == "cpu" else []
        return chosen
