"""Makes the goldens of tests/golden/data with transformers in f32.

The reference of SmolLM2 is LlamaForCausalLM on the weights dequantized from the same GGUF file that
the product reads; those of the tiny models are the classes of their families. Run by `make goldens` in an environment of its own; the results are committed.
"""

import argparse
import hashlib
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from tokenizers import pre_tokenizers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
)

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "golden"))
import model_files  # noqa: E402
import tokenizer as tokenizer_files  # noqa: E402

LOGIT_POSITIONS = 256
TOP = 16
FIXED_COLUMNS = 64
PREFIXES = [1, 7, 64, 257]
GREEDY_TOKENS = 64
WINDOW = 512
PERPLEXITY_TOKENS = 10 * WINDOW  # of the text; more would take the test longer, and show no more
# None ends within GREEDY_TOKENS tokens, and every margin of each is at least 0.02.
PROMPTS = [
    "Here is a list of the planets of the solar system:\n1. Mercury\n2.",
    "In 1969, the first human beings",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
    "Water boils at 100 degrees Celsius at sea level, but at higher altitudes",
    "Les trois mousquetaires",
    "<|im_start|>user\nExplain in detail how a bicycle stays upright.<|im_end|>\n"
    "<|im_start|>assistant\n",
]
TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 48,
    "intermediate_size": 104,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "vocab_size": 320,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
# Biases on q, k and v that are large enough to matter.
TINY_QWEN2 = TINY | {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
}
# A window that is shorter than the text.
TINY_MISTRAL = TINY | {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "sliding_window": 11,
}
# Heads that are wider than what the rows divide into, whose norms are not 1.
TINY_QWEN3 = TINY | {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 20,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
}
# What a second golden of the same weights changes: layers that differ.
QWEN3_WINDOWS = {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}
# Caps that are low enough to matter, a scale that is not the heads', windows in every second layer.
TINY_GEMMA2 = TINY | {
    "architectures": ["Gemma2ForCausalLM"],
    "model_type": "gemma2",
    "pad_token_id": 0,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "query_pre_attn_scalar": 24,
    "sliding_window": 11,
    "attn_logit_softcapping": 3.0,
    "final_logit_softcapping": 2.0,
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
}
# A table for layers with a window and one, stretched, for each third layer, which has none.
TINY_GEMMA3 = TINY_GEMMA2 | {
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "num_hidden_layers": 4,
    "query_pre_attn_scalar": 16,
    "sliding_window_pattern": 3,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
}
# Three quarters of a head rotate; the text is longer than the context before it was stretched, and than the window.
TINY_PHI3 = TINY | {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "pad_token_id": 0,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "original_max_position_embeddings": 32,
    "partial_rotary_factor": 0.75,
    "sliding_window": 40,
    "rope_scaling": {
        "type": "longrope",
        "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
        "long_factor": [1.2, 1.9, 2.9, 4.1, 6.3, 8.0],
    },
}
# The last of four layers does not rotate.
TINY_SMOLLM3 = TINY | {
    "architectures": ["SmolLM3ForCausalLM"],
    "model_type": "smollm3",
    "pad_token_id": 0,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "rope_theta": 5000000.0,
    "tie_word_embeddings": True,
}
# The family that docs/adding-an-architecture.md adds.
TINY_STARCODER2 = {
    "architectures": ["Starcoder2ForCausalLM"],
    "model_type": "starcoder2",
    "hidden_size": 48,
    "intermediate_size": 104,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 256,
    "norm_epsilon": 1e-5,
    "rope_theta": 100000.0,
    "sliding_window": 24,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
# Rules that stretch RoPE, for the weights of TINY; the text is longer than the contexts before.
ROPE_RULES = {
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "dynamic": {
        "max_position_embeddings": 40,
        "rope_scaling": {"rope_type": "dynamic", "factor": 4.0},
    },
    "llama3": {
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
    "yarn": {
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 32,
        }
    },
}
TINY_GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "n_embd": 48,
    "n_layer": 2,
    "n_head": 3,
    "n_inner": 104,
    "n_positions": 128,
    "vocab_size": 320,
    "layer_norm_epsilon": 1e-5,
    "activation_function": "gelu_new",
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
TINY_TEXT = "The lamp had burned from dusk to dawn on 2 pounds and 11 ounces.\n\tNaïve café: 東京 🙂\n"


def build_model(weights, config):
    """LlamaForCausalLM (or what is built like it) in f32 holding exactly these weights."""
    Config, Model = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "mistral": (MistralConfig, MistralForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
        "gemma2": (Gemma2Config, Gemma2ForCausalLM),
        "gemma3_text": (Gemma3TextConfig, Gemma3ForCausalLM),
        "phi3": (Phi3Config, Phi3ForCausalLM),
        "smollm3": (SmolLM3Config, SmolLM3ForCausalLM),
        "starcoder2": (Starcoder2Config, Starcoder2ForCausalLM),
    }[config["model_type"]]
    arguments = {k: v for k, v in config.items() if k not in ("architectures", "model_type")}
    model = Model(Config(**arguments, attn_implementation="eager", dtype=torch.float32)).eval()
    if weights is None:
        return model
    state = {name: torch.from_numpy(values.copy()) for name, values in weights.items()}
    if config["tie_word_embeddings"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    return model


def build_gpt2(weights, config):
    """GPT2LMHeadModel in f32 holding exactly these weights."""
    arguments = {k: v for k, v in config.items() if k not in ("architectures", "model_type")}
    model = GPT2LMHeadModel(
        GPT2Config(**arguments, attn_implementation="eager", dtype=torch.float32)
    ).eval()
    state = {name: torch.from_numpy(values.copy()) for name, values in weights.items()}
    state["lm_head.weight"] = state["transformer.wte.weight"]
    model.load_state_dict(state, strict=True)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    return model


def logits_of(model, ids):
    """[len(ids), vocab] f32 logits of one sequence."""
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].numpy()


def save_logits(path, logits, columns):
    """Top values, fixed columns and largest magnitude of each position, compressed."""
    order = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    np.savez_compressed(
        path,
        top_ids=order.astype(np.int32),
        top_values=np.take_along_axis(logits, order, axis=1),
        columns=columns.astype(np.int32),
        column_values=logits[:, columns],
        max_abs=np.abs(logits).max(axis=1),
    )


def fixed_columns(vocab_size):
    """Columns spread over the whole vocabulary, first and last included."""
    return np.linspace(0, vocab_size - 1, FIXED_COLUMNS).astype(np.int64)


def prefix_text(tokenizer, ids, count):
    """The text of the first `count` tokens; it must give the same tokens back."""
    text = tokenizer.decode(ids[:count], skip_special_tokens=False)
    assert tokenizer.encode(text).ids == ids[:count], f"prefix of {count} tokens does not round-trip"
    return text


def greedy(model, prompt_ids, eos):
    """GREEDY_TOKENS greedy tokens and the margin (best - second) of each step."""
    ids, margins = list(prompt_ids), []
    cache, step = None, ids
    with torch.inference_mode():
        for _ in range(GREEDY_TOKENS):
            out = model(torch.tensor([step]), past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            best = torch.topk(out.logits[0, -1], 2)
            margins.append(float(best.values[0] - best.values[1]))
            ids.append(int(best.indices[0]))
            step = ids[-1:]
    generated = ids[len(prompt_ids) :]
    assert eos not in generated, "a golden prompt must not end before its last token"
    return generated, margins


def perplexity(model, ids, add_bos, bos):
    """Mean negative log-likelihood over whole windows; a window's first token is not counted."""
    total, count = 0.0, 0
    for start in range(0, len(ids) - WINDOW + 1, WINDOW):
        window = ids[start : start + WINDOW]
        if add_bos:
            window = [bos] + window[:-1]
        scores = torch.from_numpy(logits_of(model, window)).double().log_softmax(dim=1)
        total -= float(scores[:-1].gather(1, torch.tensor(window[1:])[:, None]).sum())
        count += WINDOW - 1
        print(f"perplexity: {count} tokens, {np.exp(total / count):.4f}", file=sys.stderr)
    return {"tokens": count, "nll": total / count, "perplexity": float(np.exp(total / count))}


def make_smollm2(model_path, data):
    weights, config, vocabulary = model_files.read_gguf(model_path)
    tokenizer = tokenizer_files.assemble(vocabulary)
    model = build_model(weights, config)

    # The text holds no control tokens, so recognising them or not makes no difference.
    ids = tokenizer.encode((data / "text.txt").read_text()).ids
    first = LOGIT_POSITIONS
    save_logits(
        data / "smollm2_logits.npz",
        logits_of(model, ids[:first]),
        fixed_columns(config["vocab_size"]),
    )
    prompts = []
    for prompt in PROMPTS:
        prompt_ids = tokenizer.encode(prompt).ids
        generated, margins = greedy(model, prompt_ids, config["eos_token_id"])
        text = tokenizer.decode(generated, skip_special_tokens=False)
        print(f"greedy: {prompt!r} -> {text!r}, least margin {min(margins):.4f}", file=sys.stderr)
        prompts.append(
            {
                "prompt": prompt,
                "prompt_ids": prompt_ids,
                "token_ids": generated,
                "text": text,
                "margins": [round(margin, 5) for margin in margins],
            }
        )
    fields = model_files.gguf.GGUFReader(model_path).fields
    add_bos = fields["tokenizer.ggml.add_bos_token"].contents()
    write_json(
        data / "smollm2.json",
        {
            "logits": {"text": prefix_text(tokenizer, ids, first), "ids": ids[:first]},
            "prefixes": {str(n): prefix_text(tokenizer, ids, n) for n in PREFIXES},
            "greedy": prompts,
            "perplexity": {"context": WINDOW, "text_tokens": PERPLEXITY_TOKENS}
            | perplexity(model, ids[:PERPLEXITY_TOKENS], add_bos, config["bos_token_id"]),
        },
    )
    return vocabulary


def tiny_vocabulary(smollm2):
    """3 control tokens, the 256 bytes, and the first merges of SmolLM2: 320 tokens."""
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    types = [tokenizer_files.CONTROL] * len(tokens)
    merges = smollm2["merges"][: TINY["vocab_size"] - len(tokens) - 256]
    tokens += sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens += [merge.replace(" ", "") for merge in merges]
    types += [1] * (len(tokens) - len(types))
    assert len(set(tokens)) == TINY["vocab_size"]
    return {"pre": "smollm", "tokens": tokens, "types": types, "merges": merges}


def make_tiny(config, vocabulary, seed, directory):
    """A Llama, or what is built like it."""
    rng = np.random.default_rng(seed)
    d, ffn, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    q = config["num_attention_heads"] * head
    kv = config["num_key_value_heads"] * head
    shapes = {"model.embed_tokens": (config["vocab_size"], d)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        shapes |= {
            prefix + "input_layernorm": (d,),
            prefix + "self_attn.q_proj": (q, d),
            prefix + "self_attn.k_proj": (kv, d),
            prefix + "self_attn.v_proj": (kv, d),
            prefix + "self_attn.o_proj": (d, q),
            prefix + "post_attention_layernorm": (d,),
            prefix + "mlp.gate_proj": (ffn, d),
            prefix + "mlp.up_proj": (ffn, d),
            prefix + "mlp.down_proj": (d, ffn),
        }
        if config["model_type"] == "qwen3":
            shapes |= {prefix + f"self_attn.{kind}_norm": (head,) for kind in "qk"}
    shapes |= {"model.norm": (d,)}
    if not config["tie_word_embeddings"]:
        shapes |= {"lm_head": (config["vocab_size"], d)}
    weights = {}
    if config["model_type"] == "qwen2":
        for name in [n for n in shapes if n.endswith(("q_proj", "k_proj", "v_proj"))]:
            values = 0.5 * rng.standard_normal(shapes[name][:1], np.float32)
            weights[name + ".bias"] = as_bf16(values)
    for name, shape in shapes.items():
        values = rng.standard_normal(shape, np.float32)
        # Gains large enough that attention is far from uniform and logits are spread.
        values = 1 + 0.2 * values if len(shape) == 1 else values * 1.5 / np.sqrt(shape[1])
        weights[name + ".weight"] = as_bf16(values)
    save_tiny(directory, weights, config, vocabulary, build_model)
    return weights


def make_tiny_like(config, vocabulary, seed, directory):
    """A model of the class that the config names, of the tensors that transformers gives it."""
    rng = np.random.default_rng(seed)
    tied = {"lm_head.weight"} if config["tie_word_embeddings"] else set()
    weights = {}
    for name, tensor in build_model(None, config).state_dict().items():
        values = rng.standard_normal(tuple(tensor.shape), np.float32)
        if name in tied:
            continue
        if tensor.ndim == 1:  # Gemma adds 1 to its norms itself
            around_1 = name.endswith("weight") and not config["model_type"].startswith("gemma")
            values = 0.2 * values + (1 if around_1 else 0)
        else:
            values = values * 1.5 / np.sqrt(tensor.shape[1])
        weights[name] = as_bf16(values)
    save_tiny(directory, weights, config, vocabulary, build_model)


def make_rope_rules(weights, vocabulary, directory):
    """Logits of one model's weights with each rule that stretches RoPE."""
    ids = tokenizer_files.assemble(vocabulary).encode(TINY_TEXT).ids
    logits = {rule: logits_of(build_model(weights, TINY | change), ids) for rule, change in ROPE_RULES.items()}
    np.savez_compressed(directory / "logits_rope.npz", **logits)
    write_json(directory / "rope.json", ROPE_RULES)


def as_bf16(values):
    """The nearest numbers that bf16 holds, so that f32 and bf16 files share one set of goldens."""
    return model_files.from_bf16_bits(model_files.to_bf16_bits(values.astype(np.float32)))


def save_tiny(directory, weights, config, vocabulary, build):
    """The model's files, a text, and the logits of each of its positions."""
    model_files.write_hf_directory(directory, weights, config, vocabulary, bf16=True)
    ids = tokenizer_files.assemble(vocabulary).encode(TINY_TEXT).ids
    logits = logits_of(build(weights, config), ids)
    np.savez_compressed(directory / "logits.npz", logits=logits, ids=np.array(ids, np.int32))
    (directory / "prompt.txt").write_text(TINY_TEXT)


def make_tiny_qwen3(vocabulary, directory):
    """The same weights give a second golden, with windows in some layers."""
    weights = make_tiny(TINY_QWEN3, vocabulary, 20250428, directory)
    ids = tokenizer_files.assemble(vocabulary).encode(TINY_TEXT).ids
    logits = logits_of(build_model(weights, TINY_QWEN3 | QWEN3_WINDOWS), ids)
    np.savez_compressed(directory / "logits_windows.npz", logits=logits)
    write_json(directory / "windows.json", QWEN3_WINDOWS)


def make_tiny_gpt2(vocabulary, directory):
    rng = np.random.default_rng(20190214)
    d, ffn = TINY_GPT2["n_embd"], TINY_GPT2["n_inner"]
    shapes = {"wte.weight": (TINY_GPT2["vocab_size"], d)}
    shapes["wpe.weight"] = (TINY_GPT2["n_positions"], d)
    for layer in range(TINY_GPT2["n_layer"]):
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"h.{layer}.{norm}.{part}": (d,) for part in ("weight", "bias")}
        for name, inputs, outputs in (
            ("attn.c_attn", d, 3 * d),
            ("attn.c_proj", d, d),
            ("mlp.c_fc", d, ffn),
            ("mlp.c_proj", ffn, d),
        ):
            shapes[f"h.{layer}.{name}.weight"] = (inputs, outputs)
            shapes[f"h.{layer}.{name}.bias"] = (outputs,)
    shapes |= {f"ln_f.{part}": (d,) for part in ("weight", "bias")}
    weights = {}
    for name, shape in shapes.items():
        values = rng.standard_normal(shape, np.float32)
        if len(shape) == 1:
            values = 0.2 * values + (1 if name.endswith("weight") else 0)
        else:  # matrices of layers are [in, out]
            values = values * 1.5 / np.sqrt(shape[0 if name.startswith("h.") else 1])
        weights["transformer." + name] = as_bf16(values)
    save_tiny(directory, weights, TINY_GPT2, vocabulary, build_gpt2)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="SmolLM2's GGUF file")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "golden" / "data")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    vocabulary = make_smollm2(arguments.model, arguments.out)
    vocabulary = tiny_vocabulary(vocabulary)
    weights = make_tiny(TINY, vocabulary, 20240229, arguments.out / "tiny")
    make_rope_rules(weights, vocabulary, arguments.out / "tiny")
    make_tiny(TINY_QWEN2, vocabulary, 20240606, arguments.out / "tiny-qwen2")
    make_tiny(TINY_MISTRAL, vocabulary, 20231010, arguments.out / "tiny-mistral")
    make_tiny_qwen3(vocabulary, arguments.out / "tiny-qwen3")
    make_tiny_gpt2(vocabulary, arguments.out / "tiny-gpt2")
    for config, seed in (
        (TINY_GEMMA2, 20240627),
        (TINY_GEMMA3, 20250312),
        (TINY_PHI3, 20240423),
        (TINY_SMOLLM3, 20250708),
        (TINY_STARCODER2, 20240229),
    ):
        name = "tiny-" + config["model_type"].removesuffix("_text")
        make_tiny_like(config, vocabulary, seed, arguments.out / name)
    packages = ["torch", "transformers", "gguf", "safetensors", "tokenizers", "numpy"]
    write_json(
        arguments.out / "versions.json",
        {
            "model_sha256": hashlib.sha256(arguments.model.read_bytes()).hexdigest(),
            "python": platform.python_version(),
            "packages": {name: version(name) for name in packages},
        },
    )


if __name__ == "__main__":
    main()
