"""Malformed folders with weights of FP8 and their scales, each a sound one with one defect."""

import json
import struct

import numpy as np
import tiny_model as tiny
from registry import registry
from safetensors.numpy import load_file

WIDTH, FFN, BLOCK = 128, 256, 128
Q = "model.layers.0.self_attn.q_proj.weight"
DOWN = "model.layers.1.mlp.down_proj.weight"
QUANTIZATION = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                "weight_block_size": [BLOCK, BLOCK]}  # fmt: skip

# What the codes 0 to 0x7e of e4m3 stand for; those with the bit 0x80 are as much below zero.
CODES = np.arange(127)
NUMBERS = np.where(CODES < 8, CODES * 2.0**-9, (8 + CODES % 8) * 2.0 ** (CODES // 8 - 10.0))


class Tensor:
    """Data of a dtype that numpy may not have."""

    def __init__(self, dtype, data):
        self.dtype, self.data = dtype, np.ascontiguousarray(data)

    def map(self, function, dtype=None):
        return Tensor(dtype or self.dtype, function(self.data))


def f32(data):
    return Tensor("F32", np.asarray(data, dtype="<f4"))


def e4m3(values):
    """The nearest numbers."""
    magnitude = np.abs(values)
    above = np.clip(np.searchsorted(NUMBERS, magnitude), 1, 126)
    nearer = np.where(NUMBERS[above] - magnitude < magnitude - NUMBERS[above - 1], above, above - 1)
    return Tensor("F8_E4M3", (nearer | np.where(values < 0, 0x80, 0)).astype(np.uint8))


def save(path, tensors):
    """A safetensors file."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        own = tensor.data.tobytes()
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.data.shape),
                        "data_offsets": [len(data), len(data) + len(own)]}  # fmt: skip
        data += own
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


# A function damages the tensors and the configuration of a sound folder.
cases, case = registry()


def wide_model(folder):
    """The tiny model with rows of whole blocks, in f32."""
    kept = tiny.D_MODEL, tiny.FFN, tiny.HEAD_DIM
    tiny.D_MODEL, tiny.FFN, tiny.HEAD_DIM = WIDTH, FFN, WIDTH // tiny.HEADS
    try:
        tiny.write_safetensors(folder)
    finally:
        tiny.D_MODEL, tiny.FFN, tiny.HEAD_DIM = kept


def quantized(weight, block):
    """Numbers e4m3 and their scales, one for a block of so many rows and columns."""
    tall, wide = block
    scales = np.zeros([-(-size // step) for size, step in zip(weight.shape, block)], "<f4")
    scaled = np.zeros(weight.shape)
    for i, j in np.ndindex(*scales.shape):
        place = np.s_[i * tall : (i + 1) * tall, j * wide : (j + 1) * wide]
        scales[i, j] = np.abs(weight[place]).max() / 448
        scaled[place] = weight[place] / scales[i, j]
    return e4m3(scaled), scales


def to_fp8(tensors, blocks=BLOCK, suffix="_scale_inv", bf16=False):
    """Projections as numbers and scales: for blocks, for "rows", or one for the "tensor"."""
    result = {}
    for name, weight in tensors.items():
        if "proj" not in name:
            result[name] = f32(weight)
            continue
        rows, columns = weight.shape
        shape = {"rows": (1, columns), "tensor": (rows, columns)}.get(blocks, (BLOCK, BLOCK))
        result[name], scales = quantized(weight, shape)
        scales = f32(scales[0, 0] if blocks == "tensor" else scales)
        if bf16:
            scales = scales.map(lambda data: (data.view("<u4") >> 16).astype("<u2"), "BF16")
        result[name + suffix] = scales
    return result


SOUND = {
    "scales of blocks": {},
    "scales of blocks in bf16": {"bf16": True},
    "scales of rows": {"blocks": "rows", "suffix": "_scale"},
    "a scale of each tensor": {"blocks": "tensor", "suffix": "_scale"},
}


def drop(name):
    return lambda tensors, config: tensors.pop(name)


def change(name, function, dtype=None):
    def damage(tensors, config):
        tensors[name] = tensors[name].map(function, dtype)

    return damage


def settings(**fields):
    return lambda tensors, config: config["quantization_config"].update(fields)


def method(name):
    return lambda tensors, config: config.update(quantization_config={"quant_method": name})


case("FP8 without scales", "q_proj.weight.*F8_E4M3.*no .*_scale_inv")(drop(Q + "_scale_inv"))
case("scales of a row too many", r"weight_scale_inv.*shape \[2, 1\]")(
    change(Q + "_scale_inv", lambda s: np.vstack([s, s]))
)
case("scales of a column too many", r"down_proj.weight_scale_inv.*shape \[1, 3\].*\[1, 2\]")(
    change(DOWN + "_scale_inv", lambda s: np.repeat(s[:, :1], 3, axis=1))
)
case("scales of blocks in one dimension", r"weight_scale_inv.*shape \[2\]")(
    change(DOWN + "_scale_inv", lambda s: s.flatten())
)
case("scales that are a cube", r"weight_scale_inv.*shape \[1, 2, 1\]")(
    change(DOWN + "_scale_inv", lambda s: s[..., None])
)
case("no scales in a tensor of them", r"weight_scale_inv.*shape \[0\]")(
    change(Q + "_scale_inv", lambda s: s.flatten()[:0])
)
case("scales of whole numbers", "weight_scale_inv.*type I32 is not supported for scales")(
    change(Q + "_scale_inv", lambda s: s.astype("<i4"), "I32")
)
case("scales of f64", "weight_scale_inv.*type F64 is not supported for scales")(
    change(Q + "_scale_inv", lambda s: s.astype("<f8"), "F64")
)
case("scales of FP8", "weight_scale_inv.*type F8_E4M3 is not supported for scales")(
    change(Q + "_scale_inv", lambda s: e4m3(s).data, "F8_E4M3")
)
case("numbers e5m2", "q_proj.weight.*type F8_E5M2 is not supported")(
    change(Q, lambda w: w, "F8_E5M2")
)
case("FP8 of the wrong shape", r"q_proj.weight.*shape \[32, 128\], the model needs \[128, 128\]")(
    change(Q, lambda w: w[:32])
)
case("a norm of FP8", "model.norm.weight.*type F8_E4M3 is not supported for a norm")(
    change("model.norm.weight", lambda w: e4m3(w).data, "F8_E4M3")
)
case("scales of a weight that is not FP8", "q_proj.weight_scale_inv.*has no place")(
    change(Q, lambda w: w.astype("<f4"), "F32")
)
case("scales of the rows of an activation", "q_proj.input_scale.*has no place")(
    lambda tensors, config: tensors.update(
        {"model.layers.0.self_attn.q_proj.input_scale": f32(np.ones(1))})
)
case("fp8 in blocks of 64", r"blocks of another size than \[128, 128\]")(
    settings(weight_block_size=[64, 64])
)
case("fp8 in blocks of a word", r"blocks of another size than \[128, 128\]")(
    settings(weight_block_size="large")
)
case("fp8 of another format", 'in format "e5m2" are not supported')(settings(fmt="e5m2"))
for name in ("awq", "bitsandbytes", "compressed-tensors", "mxfp4"):
    case(f"a checkpoint of {name}", f'quantization "{name}" is not supported')(method(name))


@case("rows that are no whole blocks of f8_e4m3", "rows of 64 elements.*f8_e4m3's blocks of 128")
def narrow(tensors, config):
    config["intermediate_size"] = 64
    for layer in range(tiny.LAYERS):
        for part in ("gate", "up", "down"):
            name = f"model.layers.{layer}.mlp.{part}_proj.weight"
            cut = (lambda w: w[:, :64]) if part == "down" else (lambda w: w[:64])
            scales = (lambda s: s[:, :1]) if part == "down" else (lambda s: s[:1])
            tensors[name] = tensors[name].map(cut)
            tensors[name + "_scale_inv"] = tensors[name + "_scale_inv"].map(scales)


def load(path):
    """The tensors of a folder that was written here."""
    data = (path / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    numpy_types = {"F32": "<f4", "BF16": "<u2", "F8_E4M3": "u1"}
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        begin, end = entry["data_offsets"]
        own = np.frombuffer(data[8 + size + begin : 8 + size + end], numpy_types[entry["dtype"]])
        tensors[name] = Tensor(entry["dtype"], own.reshape(entry["shape"]))
    return tensors


def config_of(folder):
    """The configuration of the model in f32 there."""
    return json.loads((folder / "plain" / "config.json").read_text())


def put(folder, path, tensors, config):
    """A folder with these tensors; what else a model has is that of the model in f32."""
    path.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        (path / file).write_bytes((folder / "plain" / file).read_bytes())
    (path / "config.json").write_text(json.dumps(config))
    save(path / "model.safetensors", tensors)


def write_sound(folder, add):
    """The model in f32 and in FP8 with scales of each kind."""
    wide_model(folder / "plain")
    plain = load_file(folder / "plain" / "model.safetensors")
    add("the same model in f32", folder / "plain", None)
    for number, (name, options) in enumerate(SOUND.items()):
        config = config_of(folder) | {"quantization_config": dict(QUANTIZATION)}
        put(folder, folder / f"valid-{number}", to_fp8(plain, **options), config)
        add(f"FP8, {name}", folder / f"valid-{number}", None)
    return plain


def write(folder, add):
    """Writes all folders; add(name, path, expect) records each."""
    plain = write_sound(folder, add)
    for number, (name, expect, damage) in enumerate(cases):
        tensors = to_fp8(plain)
        config = config_of(folder) | {"quantization_config": dict(QUANTIZATION)}
        damage(tensors, config)
        put(folder, folder / f"bad-{number:03}", tensors, config)
        add(name, folder / f"bad-{number:03}", expect)
