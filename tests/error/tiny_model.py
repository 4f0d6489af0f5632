"""A tiny llama with random weights, the same in every file format: the positive control of the
error tests and what the malformed files are made from."""

import json
import sys
from pathlib import Path

import gguf
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "golden"))
import model_files  # noqa: E402

LAYERS, D_MODEL, HEADS, KV_HEADS, FFN, VOCAB, CONTEXT = 2, 64, 4, 2, 128, 300, 256
HEAD_DIM = D_MODEL // HEADS
EPSILON, THETA = 1e-5, 10000.0
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]  # ids 0 to 2
UNKNOWN, BOS, EOS = 0, 1, 2
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content']"
    " + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# The merges are learned from this; any text would do.
TEXT = """the compiler reads the model and the weights, then it writes the kernels that the machine
runs; there are other ways to do this, but in the end the time that a token takes is the time that
it takes to read the weights"""


def byte_alphabet():
    """The 256 printable characters that stand for bytes in byte-level BPE, by byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    letters = {b: chr(b) for b in printable}
    letters.update({b: chr(256 + i) for i, b in enumerate(others)})
    return [letters[b] for b in range(256)]


def vocabulary():
    """Token texts by id, and merges in order of rank."""
    letters = byte_alphabet()
    words = [[letters[b] for b in (" " + word).encode()] for word in TEXT.split()]
    tokens, merges = SPECIAL + letters, []
    while len(tokens) < VOCAB:
        counts = {}
        for word in words:
            for pair in zip(word, word[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        best = max(sorted(counts), key=counts.get)
        tokens.append("".join(best))
        merges.append(" ".join(best))
        for word in words:
            at = 0
            while at + 1 < len(word):
                if (word[at], word[at + 1]) == best:
                    word[at : at + 2] = ["".join(best)]
                at += 1
    return tokens, merges


def weights(seed=1):
    """Weights in f32 under Hugging Face's names."""
    random = np.random.default_rng(seed)

    def matrix(out, into):
        return (random.standard_normal((out, into)) / np.sqrt(into)).astype(np.float32)

    result = {"model.embed_tokens.weight": matrix(VOCAB, D_MODEL)}
    for layer in range(LAYERS):
        block = f"model.layers.{layer}."
        result[block + "input_layernorm.weight"] = 1 + 0.1 * matrix(1, D_MODEL)[0]
        result[block + "self_attn.q_proj.weight"] = matrix(HEADS * HEAD_DIM, D_MODEL)
        result[block + "self_attn.k_proj.weight"] = matrix(KV_HEADS * HEAD_DIM, D_MODEL)
        result[block + "self_attn.v_proj.weight"] = matrix(KV_HEADS * HEAD_DIM, D_MODEL)
        result[block + "self_attn.o_proj.weight"] = matrix(D_MODEL, HEADS * HEAD_DIM)
        result[block + "post_attention_layernorm.weight"] = 1 + 0.1 * matrix(1, D_MODEL)[0]
        result[block + "mlp.gate_proj.weight"] = matrix(FFN, D_MODEL)
        result[block + "mlp.up_proj.weight"] = matrix(FFN, D_MODEL)
        result[block + "mlp.down_proj.weight"] = matrix(D_MODEL, FFN)
    result["model.norm.weight"] = 1 + 0.1 * matrix(1, D_MODEL)[0]
    return result


def gguf_weights(seed=1):
    """The same weights as a GGUF file has them: names, and the rows of Q and K."""
    names = model_files.name_map(LAYERS)
    result = {}
    for name, value in weights(seed).items():
        if "q_proj" in name or "k_proj" in name:
            value = model_files.interleave_heads(value, HEADS if "q_proj" in name else KV_HEADS)
        result[names[name]] = value
    return result


def config():
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": LAYERS,
        "hidden_size": D_MODEL,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "intermediate_size": FFN,
        "vocab_size": VOCAB,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": EPSILON,
        "rope_theta": THETA,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
    }


def write_safetensors(folder, shards=1):
    """A Hugging Face folder with f32 weights in one file or in several."""
    tokens, merges = vocabulary()
    types = [3] * len(SPECIAL) + [1] * (VOCAB - len(SPECIAL))
    words = {"pre": "smollm", "tokens": tokens, "types": types, "merges": merges}
    model_files.write_hf_directory(folder, weights(), config(), words, False, shards)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"add_bos_token": False, "chat_template": TEMPLATE})
    )
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [EOS, UNKNOWN]}))


def write_gguf(path, types=("F32",)):
    """A GGUF file; the matrices take the given types in turn, norms stay f32."""
    tokens, merges = vocabulary()
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(D_MODEL)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(THETA)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_vocab_size(VOCAB)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (VOCAB - len(SPECIAL)))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    turn = 0
    for name, value in gguf_weights().items():
        if value.ndim == 1:
            writer.add_tensor(name, value)
            continue
        kind = gguf.GGMLQuantizationType[types[turn % len(types)]]
        turn += 1
        writer.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
