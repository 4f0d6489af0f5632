"""Reads and writes model files with other people's libraries (gguf, safetensors, tokenizers).

The goldens and the tests of the loaders share this module. A model here is a dictionary of f32
arrays under Hugging Face names, a config (the dictionary of config.json) and a vocabulary (the
dictionary of scripts/goldens/tokenizer.py).
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import safetensors
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "goldens"))
import tokenizer as tokenizer_files  # noqa: E402


# --- names and row order ------------------------------------------------------------------------

_BLOCK_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


_BLOCK_NAMES_OF = {
    "phi3": {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"},
    "gemma": {
        "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    },
}


def name_map(layers, family="llama"):
    """Hugging Face name -> GGUF name of every tensor of a llama, or one like it, with that many layers."""
    names = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    for layer in range(layers):
        for hf, short in (_BLOCK_NAMES | _BLOCK_NAMES_OF.get(family, {})).items():
            for part in ("weight", "bias"):
                names[f"model.layers.{layer}.{hf}.{part}"] = f"blk.{layer}.{short}.{part}"
    return names


def _heads_of(name, config):
    """Heads whose rows a GGUF file of architecture llama stores in pairs; None for other tensors."""
    if config["model_type"] not in ("llama", "mistral", "smollm3"):
        return None
    if name.endswith("q_proj.weight"):
        return config["num_attention_heads"]
    if name.endswith("k_proj.weight"):
        return config["num_key_value_heads"]
    return None


def interleave_heads(weight, heads):
    """Half-split rows to GGUF order: row 2i of a head is row i, row 2i + 1 is row i + D/2."""
    rows, columns = weight.shape
    split = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(split.swapaxes(1, 2)).reshape(rows, columns)


def split_heads(weight, heads):
    """The inverse of interleave_heads."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows, columns)


# --- bfloat16 (NumPy has none) ------------------------------------------------------------------


def to_bf16_bits(values):
    """f32 to bfloat16 bits, rounded to nearest even. Finite values only."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16_bits(bits):
    """bfloat16 bits to f32, exact."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


# --- reading ------------------------------------------------------------------------------------


def read_gguf(path):
    """A llama's GGUF file, dequantized: (weights, config, vocabulary)."""
    reader = gguf.GGUFReader(path)

    def field(key):
        return reader.fields[key].contents()

    stored = {tensor.name: tensor for tensor in reader.tensors}
    heads = field("llama.attention.head_count")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "head_dim": field("llama.embedding_length") // heads,
        "vocab_size": len(field("tokenizer.ggml.tokens")),
        "max_position_embeddings": field("llama.context_length"),
        "rms_norm_eps": field("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": field("llama.rope.freq_base"),
        "hidden_act": "silu",
        "tie_word_embeddings": "output.weight" not in stored,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
    }
    weights = {}
    for hf, name in name_map(config["num_hidden_layers"]).items():
        if name not in stored:
            continue
        tensor = stored[name]
        weight = np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type), np.float32)
        if _heads_of(hf, config):
            weight = split_heads(weight, _heads_of(hf, config))
        weights[hf] = weight
    return weights, config, tokenizer_files.read_gguf(path)


def read_safetensors(path):
    """Tensors of one safetensors file (f32 or bf16) as f32."""
    weights = {}
    for name, tensor in safetensors.deserialize(Path(path).read_bytes()):
        if tensor["dtype"] == "BF16":
            values = from_bf16_bits(np.frombuffer(tensor["data"], np.uint16))
        else:
            values = np.frombuffer(tensor["data"], np.float32)
        weights[name] = values.reshape(tensor["shape"])
    return weights


def read_hf_directory(directory):
    """A model directory with one weight file: (weights, config, vocabulary)."""
    directory = Path(directory)
    model = json.loads((directory / "tokenizer.json").read_text())
    tokens = sorted(model["model"]["vocab"], key=model["model"]["vocab"].get)
    control = {token["content"] for token in model["added_tokens"] if token["special"]}
    vocabulary = {
        "pre": "smollm",
        "tokens": tokens,
        "types": [tokenizer_files.CONTROL if token in control else 1 for token in tokens],
        "merges": [m if isinstance(m, str) else " ".join(m) for m in model["model"]["merges"]],
    }
    weights = read_safetensors(directory / "model.safetensors")
    return weights, json.loads((directory / "config.json").read_text()), vocabulary


# --- writing ------------------------------------------------------------------------------------


def write_safetensors(path, weights, bf16):
    """One safetensors file, f32 or bf16."""
    if not bf16:
        save_file({k: np.ascontiguousarray(v, np.float32) for k, v in weights.items()}, path)
        return
    bits = {name: to_bf16_bits(values) for name, values in weights.items()}
    specs = {
        name: safetensors.TensorSpec(
            dtype="bfloat16", shape=b.shape, data_ptr=b.ctypes.data, data_len=b.nbytes
        )
        for name, b in bits.items()
    }
    safetensors.serialize_file(specs, path)


def write_hf_directory(directory, weights, config, vocabulary, bf16, shards=1):
    """A Hugging Face model directory: config.json, tokenizer.json, one or more weight files."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    config = config | {"torch_dtype": "bfloat16" if bf16 else "float32"}
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    tokenizer_files.assemble(vocabulary).save(str(directory / "tokenizer.json"))
    if shards == 1:
        write_safetensors(directory / "model.safetensors", weights, bf16)
        return
    weight_map = {}
    for shard in range(shards):
        # Dealt in turn, so that neighbours of one kernel come from different files.
        names = [name for i, name in enumerate(weights) if i % shards == shard]
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        write_safetensors(directory / file, {name: weights[name] for name in names}, bf16)
        weight_map |= dict.fromkeys(names, file)
    size = sum(w.size for w in weights.values()) * (2 if bf16 else 4)
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def _start_gguf(path, architecture, config, vocabulary):
    """A writer that has the architecture's name and the tokenizer."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary["pre"])
    writer.add_token_list(vocabulary["tokens"])
    writer.add_token_types(vocabulary["types"])
    writer.add_token_merges(vocabulary["merges"])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)
    return writer


def _add_weight(writer, name, weight, bf16):
    """Matrices in f32 or bf16; vectors stay f32."""
    if bf16 and weight.ndim > 1:
        data = to_bf16_bits(weight).view(np.uint8)
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.BF16)
    else:
        writer.add_tensor(name, np.ascontiguousarray(weight, np.float32))


def _finish_gguf(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_gguf(path, weights, config, vocabulary, bf16):
    """A GGUF file of the same weights, of the family that the config names."""
    write = _write_gpt2 if config["model_type"] == "gpt2" else _write_llama
    write(path, weights, config, vocabulary, bf16)


def _add_rope_scaling(writer, config, rotary):
    """The rule that stretches RoPE as fields, or as tensors of factors."""
    rule = config.get("rope_scaling")
    if not rule:
        return
    kind = rule.get("rope_type", rule.get("type"))
    if kind == "longrope":
        original = config["original_max_position_embeddings"]
        stretched = config["max_position_embeddings"] / original
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + np.log(stretched) / np.log(original))))
        for length in ("long", "short"):
            factors = np.array(rule[f"{length}_factor"], np.float32)
            writer.add_tensor(f"rope_factors_{length}.weight", factors)
    elif kind == "llama3":
        writer.add_tensor("rope_freqs.weight", _llama3_factors(rule, config["rope_theta"], rotary))
    elif kind in ("linear", "yarn"):
        names = {"linear": gguf.RopeScalingType.LINEAR, "yarn": gguf.RopeScalingType.YARN}
        writer.add_rope_scaling_type(names[kind])
        writer.add_rope_scaling_factor(rule["factor"])
        if kind == "yarn":
            writer.add_rope_scaling_orig_ctx_len(rule["original_max_position_embeddings"])
    else:
        raise ValueError(f"GGUF files have no rule {kind}")


def _llama3_factors(rule, theta, rotary):
    """What divides each frequency (Llama 3's rule)."""
    wavelengths = 2 * np.pi * theta ** (np.arange(0, rotary, 2) / rotary)
    original, low, high = rule["original_max_position_embeddings"], rule["low_freq_factor"], rule["high_freq_factor"]
    share = np.clip((original / wavelengths - low) / (high - low), 0, 1)
    return (1 / ((1 - share) / rule["factor"] + share)).astype(np.float32)


def _write_llama(path, weights, config, vocabulary, bf16):
    """Q and K rows are interleaved of llama, and of what is so in these files."""
    kind = config["model_type"]
    family = "gemma" if kind.startswith("gemma") else kind
    architecture = {"mistral": "llama", "gemma3_text": "gemma3"}.get(kind, kind)
    writer = _start_gguf(path, architecture, config, vocabulary)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    rotary = int(config["head_dim"] * config.get("partial_rotary_factor", 1))
    writer.add_rope_dimension_count(rotary)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    _add_rope_scaling(writer, config, rotary)
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    if config.get("sliding_window_pattern"):
        key = f"{architecture}.attention.sliding_window_pattern"
        writer.add_uint32(key, config["sliding_window_pattern"])
    if family == "gemma":
        writer.add_attention_scale(config["query_pre_attn_scalar"] ** -0.5)
        if config["attn_logit_softcapping"]:
            writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
            writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    names = name_map(config["num_hidden_layers"], family)
    for hf, weight in weights.items():
        if family == "gemma" and weight.ndim == 1:
            weight = weight + 1  # norms have the 1 in these files
        if _heads_of(hf, config):
            weight = interleave_heads(weight, _heads_of(hf, config))
        _add_weight(writer, names[hf], weight, bf16)
    _finish_gguf(writer)


_GPT2_NAMES = {
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def _write_gpt2(path, weights, config, vocabulary, bf16):
    """Checkpoints have the matrices of layers as [in, out], GGUF files as [out, in]."""
    writer = _start_gguf(path, "gpt2", config, vocabulary)
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(config["n_inner"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    for hf, weight in weights.items():
        name, suffix = hf.removeprefix("transformer.").rsplit(".", 1)
        layer = ""
        if name.startswith("h."):
            _, number, name = name.split(".", 2)
            layer = f"blk.{number}."
            weight = weight.T if weight.ndim == 2 else weight
        full = f"{layer}{_GPT2_NAMES[name]}.{suffix}"
        _add_weight(writer, full, np.ascontiguousarray(weight), bf16)
    _finish_gguf(writer)
