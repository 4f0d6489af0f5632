"""Malformed safetensors files, shard indexes and config.json files, each with one defect."""

import os
import struct

import tiny_model as tiny
from model_folder import INDEX, config, write_cases
from registry import registry

# A function damages a Folder.
cases, case = registry()

Q = "model.layers.0.self_attn.q_proj.weight"
NORM = "model.norm.weight"
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"

# Header.
case("empty weights", "the file is empty")(lambda f: f.write("model.safetensors", b""))
case("7 bytes", "has 7 bytes, at least 8")(lambda f: f.write("model.safetensors", b"1234567"))
case("only a length", "length is 100, at most 0")(
    lambda f: f.write("model.safetensors", struct.pack("<Q", 100))
)
case("header length of 2^63", "length is 9223372036854775808")(
    lambda f: f.write("model.safetensors", struct.pack("<Q", 2**63) + f.bytes()[8:])
)
case("header length of 2^64 - 1", "length is 18446744073709551615")(
    lambda f: f.write("model.safetensors", struct.pack("<Q", 2**64 - 1) + f.bytes()[8:])
)
case("header length of 0", "does not begin with")(
    lambda f: f.write("model.safetensors", struct.pack("<Q", 0) + f.bytes()[8:])
)
case("header truncated", "length is")(lambda f: f.write("model.safetensors", f.bytes()[:500]))
case("data truncated", "must be an integer from .* to|cover")(
    lambda f: f.write("model.safetensors", f.bytes()[:-100])
)
case("bytes after the data", "cover .* of .* bytes")(
    lambda f: f.write("model.safetensors", f.bytes() + b"polyglot")
)
case("header that is a list", "does not begin with")(lambda f: f.set_header(b"[1, 2]", b""))
case("header with garbage", "not valid JSON")(lambda f: f.set_header(b'{"a": }', b""))
case("header that is cut off", "not valid JSON")(lambda f: f.set_header(b'{"a": {"dtype"', b""))
case("header with text after it", "not valid JSON")(lambda f: f.set_header(b"{} {}", b""))
case("header that is no UTF-8", "ill-formed UTF-8")(
    lambda f: f.set_header(b'{"\xff": {"dtype": "F32"}}', b"1234")
)
case("header nested 1000 deep", "nested deeper than")(
    lambda f: f.set_header(b'{"a": ' + b"[" * 1000 + b"]" * 1000 + b"}", b"")
)
case("a tensor twice in the header", 'key "a" is there twice')(
    lambda f: f.set_header(
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
        b' "a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        b"12345678",
    )
)
case("a field twice", 'key "dtype" is there twice')(
    lambda f: f.set_header(b'{"a": {"dtype": "F32", "dtype": "F16"}}', b"")
)
case("no tensors at all", "tensor model.embed_tokens.weight.*is missing")(
    lambda f: f.set_header(b"{}", b"")
)

# Entries of the header.
case("an entry that is a number", "field model.norm.weight.*must be an object")(
    lambda f: f.set_header(b'{"model.norm.weight": 5}', b"")
)
case("no dtype", "dtype.*is missing")(
    lambda f: f.set_header(b'{"a": {"shape": [], "data_offsets": [0, 4]}}', b"1234")
)
case("an unknown dtype", 'dtype "F33" is unknown')(lambda f: f.change(NORM, dtype="F33"))
case("a dtype as a number", "dtype.*must be a string")(lambda f: f.change(NORM, dtype=32))
case("no shape", "shape.*is missing")(
    lambda f: f.set_header(b'{"a": {"dtype": "F32", "data_offsets": [0, 4]}}', b"1234")
)
case("a shape below 0", r"shape\[0\].*is -64")(lambda f: f.change(NORM, shape=[-64]))
case("a shape of 64.0", r"shape\[0\].*is 64.0")(lambda f: f.change(NORM, shape=[64.0]))
case("a shape of 1e30", r"shape\[0\].*is 1e\+30")(lambda f: f.change(NORM, shape=[1e30]))
case("a shape as a string", "shape.*must be an array")(lambda f: f.change(NORM, shape="64"))
case("a shape of 17 dimensions", "17 elements, at most 16")(
    lambda f: f.change(NORM, shape=[64] + [1] * 16)
)
case("a shape that overflows 64 bits", "overflows 64 bits")(
    lambda f: f.change(NORM, shape=[2**40, 2**40])
)
case("a shape that wraps to its true size", "overflows 64 bits")(
    lambda f: f.change(NORM, shape=[2**62 + 16, 4])
)
case("a shape larger than the data", "span 256 bytes, dtype F32 and shape .* need 260")(
    lambda f: f.change(NORM, shape=[65])
)
case("bits that are no bytes", "no whole number of bytes")(
    lambda f: f.change(NORM, dtype="F4", shape=[511])
)
case("no offsets", "data_offsets.*is missing")(
    lambda f: f.set_header(b'{"a": {"dtype": "F32", "shape": [1]}}', b"1234")
)
case("one offset", "data_offsets has 1 elements")(lambda f: f.change(NORM, data_offsets=[0]))
case("three offsets", "3 elements, at most 2")(lambda f: f.change(NORM, data_offsets=[0, 1, 2]))
case("an end before its beginning", r"data_offsets\[1\].*is 0")(
    lambda f: f.change(NORM, data_offsets=[256, 0])
)
case("offsets beyond the file", r"data_offsets\[1\].*must be an integer")(
    lambda f: f.change(NORM, data_offsets=[0, 2**40])
)
case("an offset of 2^64 - 1", r"data_offsets\[0\].*is 18446744073709551615")(
    lambda f: f.change(NORM, data_offsets=[2**64 - 1, 255])
)
case("an offset below 0", r"data_offsets\[0\].*is -4")(
    lambda f: f.change(NORM, data_offsets=[-4, 252])
)
case("metadata that is no text", "__metadata__.format.*must be a string")(
    lambda f: f.set_header({**f.header()[0], "__metadata__": {"format": 1}}, f.header()[1])
)


@case("tensors that overlap", "overlapping")
def _(f):
    header, data = f.header()
    entries = sorted(header.values(), key=lambda e: e["data_offsets"][0])
    same_size = [e for e in entries if e["shape"] == [tiny.D_MODEL]]
    same_size[1]["data_offsets"] = same_size[0]["data_offsets"]
    f.set_header(header, data)


@case("a hole between tensors", "leaving a hole")
def _(f):
    header, data = f.header()
    last = max(header.values(), key=lambda e: e["data_offsets"][1])
    last["data_offsets"] = [offset + 64 for offset in last["data_offsets"]]
    f.set_header(header, data + b"\0" * 64)


@case("a hole before the first tensor", "begins at 8, leaving a hole")
def _(f):
    header, data = f.header()
    for entry in header.values():
        entry["data_offsets"] = [offset + 8 for offset in entry["data_offsets"]]
    f.set_header(header, b"\0" * 8 + data)


# Weights against the configuration.
def retype(dtype, count):
    """The final norm in another type, at the end of the data."""

    def change(f):
        header, data = f.header()
        at, end = header[NORM]["data_offsets"]
        size = end - at
        for entry in header.values():
            if entry["data_offsets"][0] > at:
                entry["data_offsets"] = [o - size for o in entry["data_offsets"]]
        rest = data[:at] + data[end:]
        header[NORM] = {
            "dtype": dtype,
            "shape": [tiny.D_MODEL],
            "data_offsets": [len(rest), len(rest) + count],
        }
        f.set_header(header, rest + b"\0" * count)

    return change


case("a weight of type F64", "type F64 is not supported for a norm")(retype("F64", 512))
case("a weight of type I32", "type I32 is not supported for a norm")(retype("I32", 256))
case("a weight of type F8_E4M3", "type F8_E4M3 is not supported")(retype("F8_E4M3", 64))
case("a weight of another shape", r"q_proj.weight.*shape \[32, 128\], the model needs \[64, 64\]")(
    lambda f: f.change(Q, shape=[32, 128])
)
case("a weight of another rank", "norm.weight.*has shape")(lambda f: f.change(NORM, shape=[8, 8]))


@case("a weight missing", "tensor model.layers.1.mlp.up_proj.weight.*is missing")
def _(f):
    header, data = f.header()
    header["model.layers.7.mlp.up_proj.weight"] = header.pop("model.layers.1.mlp.up_proj.weight")
    f.set_header(header, data)


@case("a weight that has no place", "tensor extra.*no place")
def _(f):
    header, data = f.header()
    header["extra"] = {"dtype": "F32", "shape": [], "data_offsets": [len(data), len(data) + 4]}
    f.set_header(header, data + b"\0" * 4)


# Shard index.
def remap(tensor, file):
    return lambda f: f.index(lambda index: index["weight_map"].__setitem__(tensor, file))


case("an absolute shard", "no plain file name")(remap(Q, "/etc/passwd"))
case("a shard in the folder above", "no plain file name")(remap(Q, "../one.safetensors"))
case("a shard in another folder", "no plain file name")(remap(Q, "sub/one.safetensors"))
case("a shard with a backslash", "no plain file name")(remap(Q, "..\\one.safetensors"))
case("a shard without a name", "no plain file name")(remap(Q, ""))
case("a shard that is a device", "no plain file name|does not end")(remap(Q, "/dev/zero"))
case("a shard that is the index itself", "does not end in .safetensors")(remap(Q, INDEX))
case("a shard name of 300 bytes", "300 bytes, at most 255")(remap(Q, "a" * 288 + ".safetensors"))
case("a shard as a number", "must be a string")(remap(Q, 1))
case("a shard that is missing", "absent.safetensors.*no such file")(remap(Q, "absent.safetensors"))
case("a tensor mapped to the wrong shard", "the index says that it is in")(
    lambda f: f.index(
        lambda index: index["weight_map"].__setitem__(
            Q, ONE if index["weight_map"][Q] == TWO else TWO
        )
    )
)
case("a tensor that no shard has", "the index says that it is in this file, it is not")(
    remap("ghost", ONE)
)
case("a tensor that the index leaves out", "the index does not name it")(
    lambda f: f.index(lambda index: index["weight_map"].pop(Q))
)
case("an empty index", "weight_map.*names no tensor")(
    lambda f: f.index(lambda index: index["weight_map"].clear())
)
case("an index without a map", "weight_map.*is missing")(
    lambda f: f.index(lambda index: index.pop("weight_map"))
)
case("an index that is a list", "is an array, must be an object")(
    lambda f: f.index(lambda index: None) or f.write(INDEX, "[]")
)
case("an index with a tensor twice", 'key "a" is there twice')(
    lambda f: f.index(lambda index: None)
    or f.write(INDEX, f'{{"weight_map": {{"a": "{ONE}", "a": "{TWO}"}}}}')
)


@case("a shard that links to itself", "symbolic links")
def _(f):
    f.index(lambda index: None)
    (f.path / ONE).unlink()
    os.symlink(ONE, f.path / ONE)


@case("two shards that link in a circle", "symbolic links")
def _(f):
    f.index(lambda index: None)
    for a, b in ((ONE, TWO), (TWO, ONE)):
        (f.path / a).unlink()
        os.symlink(b, f.path / a)


@case("a shard that is a folder", "is a directory")
def _(f):
    f.index(lambda index: None)
    (f.path / ONE).unlink()
    (f.path / ONE).mkdir()


@case("a shard that is a pipe", "is no regular file")
def _(f):
    f.index(lambda index: None)
    (f.path / ONE).unlink()
    os.mkfifo(f.path / ONE)


case("a folder without weights", "neither model.safetensors nor")(
    lambda f: (f.path / "model.safetensors").unlink()
)


# config.json.
case("no config.json", "config.json.*no such file")(lambda f: (f.path / "config.json").unlink())
case("an empty config.json", "config.json.*not valid JSON")(lambda f: f.write("config.json", ""))
case("a config.json with a comment", "not valid JSON")(
    lambda f: f.write("config.json", '{"hidden_size": 64 // dimensions\n}')
)
case("a config.json of 5 MB", "5000000 bytes, at most")(
    lambda f: f.write("config.json", " " * 5_000_000)
)
case("a config.json nested 100000 deep", "nested deeper than")(
    lambda f: f.write("config.json", "[" * 100_000)
)
case("another architecture", 'architecture "BertModel" is not supported')(
    config(architectures=["BertModel"])
)
case("Mixtral", 'architecture "MixtralForCausalLM" is not supported')(
    config(architectures=["MixtralForCausalLM"])
)
case("a window below nothing", "sliding_window.*is -1, must be")(
    config(architectures=["MistralForCausalLM"], sliding_window=-1)
)
case("NaN as epsilon", "config.json.*not valid JSON")(config(rms_norm_eps=float("nan")))
case("infinity as theta", "config.json.*not valid JSON")(config(rope_theta=float("inf")))
case("epsilon of 1e999", "config.json.*overflow")(
    lambda f: f.write(
        "config.json", (f.path / "config.json").read_text().replace("1e-05", "1e999")
    )
)
case("epsilon of 0", "rms_norm_eps.*is 0")(config(rms_norm_eps=0))
case("epsilon below 0", "rms_norm_eps.*is -1e-05")(config(rms_norm_eps=-1e-5))
case("theta as a string", "rope_theta.*must be a number")(config(rope_theta="10000"))
case("0 layers", "num_hidden_layers.*is 0")(config(num_hidden_layers=0))
case("-2 layers", "num_hidden_layers.*is -2")(config(num_hidden_layers=-2))
case("2^64 layers", "num_hidden_layers.*must be an integer")(config(num_hidden_layers=2**64))
case("2.5 layers", "num_hidden_layers.*is 2.5")(config(num_hidden_layers=2.5))
case("2000 layers", "num_hidden_layers.*from 1 to 1024")(config(num_hidden_layers=2000))
case("no hidden_size", "hidden_size.*is missing")(lambda f: f.drop("hidden_size"))
case("hidden_size of null", "hidden_size.*is null")(config(hidden_size=None))
case("heads that do not divide", "hidden_size 64 is no multiple of num_attention_heads 5")(
    config(num_attention_heads=5)
)
case("3 key/value heads for 4", "4 attention heads are no multiple of 3")(
    config(num_key_value_heads=3)
)
case("an odd head_dim", "head dimension 15 is odd")(config(head_dim=15))
case("a head_dim of 2^20", "head_dim.*is 1048576")(config(head_dim=2**20))
case("an activation that is unknown", 'activation "softplus" is not supported')(
    config(hidden_act="softplus")
)
case("a quantized checkpoint", 'quantization "gptq" is not supported')(
    config(quantization_config={"quant_method": "gptq"})
)
case("RoPE scaling by an unknown rule", 'RoPE scaling "proportional" is not supported')(
    config(rope_scaling={"type": "proportional"})
)
case("RoPE scaling by longrope without factors", "short_factor.*is missing")(
    config(rope_scaling={"type": "longrope"})
)
case("RoPE factors that are too few", "short_factor has 1 elements, must have 8")(
    config(rope_scaling={"type": "longrope", "short_factor": [1.0], "long_factor": [1.0] * 8})
)
case("RoPE of each kind of layer, of a family that has one", "tables for each kind of layer")(
    config(rope_parameters={"full_attention": {"rope_type": "default"}})
)
case("a list of layers that rotate, of another length", "no_rope_layers has 1 elements for")(
    config(architectures=["SmolLM3ForCausalLM"], no_rope_layers=[1])
)
case("RoPE scaling without a factor", "rope_scaling.factor.*is missing")(
    config(rope_scaling={"type": "linear"})
)
case("RoPE factor of 0", "rope_scaling.factor.*is 0")(
    config(rope_scaling={"type": "linear", "factor": 0})
)
case("llama3 scaling with equal bounds", "high_freq_factor 1 must be above low_freq_factor 1")(
    config(
        rope_scaling={
            "rope_type": "llama3",
            "factor": 8,
            "low_freq_factor": 1,
            "high_freq_factor": 1,
            "original_max_position_embeddings": 64,
        }
    )
)
case("RoPE scaling as a list", "rope_scaling.*must be an object")(config(rope_scaling=[1]))
case("a vocabulary of 301", r"embed_tokens.weight.*shape \[300, 64\], the model needs \[301, 64\]")(
    config(vocab_size=301)
)
case("a vocabulary of 2^40", "vocab_size.*is 1099511627776")(config(vocab_size=2**40))
case("BOS beyond the vocabulary", "bos_token_id.*is 300")(config(bos_token_id=300))
case("EOS of -2", "eos_token_id.*is -2")(config(eos_token_id=-2))
case("EOS in a list beyond the vocabulary", r"eos_token_id\[1\].*is 9999")(
    config(eos_token_id=[2, 9999])
)
case("an untied model without a head", "tensor lm_head.weight.*is missing")(
    config(tie_word_embeddings=False)
)
case("EOS beyond the vocabulary in generation_config.json", "generation_config.json.*is 777")(
    lambda f: f.write("generation_config.json", '{"eos_token_id": 777}')
)
case("a chat template as a number", "chat_template.*must be a string")(
    lambda f: f.write("tokenizer_config.json", '{"chat_template": 5}')
)
case("a chat template of 2 MB", "chat_template.jinja.*2000000 bytes")(
    lambda f: f.write("chat_template.jinja", " " * 2_000_000)
)
case("a chat template that is no UTF-8", "chat_template.jinja.*UTF-8")(
    lambda f: f.write("chat_template.jinja", b"{{ '\xff' }}")
)
case("add_bos_token as a string", "add_bos_token.*must be true or false")(
    lambda f: f.write("tokenizer_config.json", '{"add_bos_token": "yes"}')
)


# Weights: their type comes before their shape, which packing changes.
@case("weights in packed bytes", "q_proj.weight.*type U8 is not supported for a weight matrix")
def packed(f):
    name = "model.layers.0.self_attn.q_proj.weight"
    header, data = f.header()
    begin, end = header[name]["data_offsets"]
    header[name].update(dtype="U8", shape=[end - begin, 1])
    f.set_header(header, data)


def write(folder, add):
    """Writes all folders; add(name, path, expect) records each."""
    for shards in (1, 3):
        tiny.write_safetensors(folder / f"valid-{shards}", shards)
        add(f"safetensors in {shards} files without defect", folder / f"valid-{shards}", None)
    write_cases(cases, folder, add)
