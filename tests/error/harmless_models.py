"""Models with fields that say nothing or that nothing uses: sound, whatever these hold."""

import shutil

import tiny_model as tiny
from bad_gguf import BOOL, F32, F64, I32, I64, STRING, U32, U64, Raw, sentence_piece, value
from bad_tokenizer_json import tokenizer
from model_folder import Folder, config, files

gguf_cases, folder_cases = [], []  # (name, function that changes a Raw, or a Folder)


def gguf(name):
    return lambda function: gguf_cases.append((name, function))


def folder(name):
    return lambda function: folder_cases.append((name, function))


def ids(kind, id, *names):
    def change(g):
        for name in names:
            g.set(f"tokenizer.ggml.{name}_token_id", kind, id)

    return change


UNUSED_KEYS = ("unknown", "padding", "seperator", "mask")
for kind, none in ((U32, 2**32 - 1), (I32, -1), (I64, -1), (U64, 2**64 - 1)):
    gguf(f"ids of {none}, type {kind}")(ids(kind, none, "bos", "eos", "eot", "eom", *UNUSED_KEYS))
gguf("ids beyond the vocabulary that are not used")(ids(U32, 300, *UNUSED_KEYS))
gguf("ids as texts that are not used")(ids(STRING, "<pad>", *UNUSED_KEYS))
gguf("scores, which byte-level BPE does not use")(
    lambda g: g.set_array("tokenizer.ggml.scores", F32, [float("nan")])
)
gguf("a space in front, which byte-level BPE does not add")(
    value("tokenizer.ggml.add_space_prefix", BOOL, 1)
)
gguf("SentencePiece's BPE")(sentence_piece())
gguf("SentencePiece's unigram")(sentence_piece("t5"))
gguf("theta as an integer")(value("llama.rope.freq_base", U32, 10000))
gguf("epsilon in f64")(value("llama.attention.layer_norm_rms_epsilon", F64, 1e-5))
gguf("scales of 1")(
    lambda g: g.set("llama.logit_scale", F32, 1.0) or g.set("llama.embedding_scale", F32, 1.0)
)

UNUSED_FIELDS = ("pad", "unk", "sep", "decoder_start")
for none in (-1, None, 2**32 - 1):
    folder(f"ids of {none}")(
        config(**{f"{field}_token_id": none for field in ("bos", "eos", *UNUSED_FIELDS)})
    )
for unused in (300, "<pad>"):
    folder(f"ids of {unused!r} that are not used")(
        config(**{f"{field}_token_id": unused for field in UNUSED_FIELDS})
    )
folder("EOS of none in a list")(config(eos_token_id=[2, -1, None]))
folder("EOS of none in generation_config.json")(
    files(generation_config__json='{"eos_token_id": -1, "pad_token_id": 300, "bos_token_id": 999}')
)
folder("integers as floats")(
    config(num_hidden_layers=2.0, vocab_size=300.0, max_position_embeddings=2.56e2, bos_token_id=1.0)
)
folder("theta as an integer")(config(rope_theta=10000))
folder("RoPE scaling of null")(config(rope_scaling=None, head_dim=None, hidden_act=None))
folder("RoPE scaling of no kind")(config(rope_scaling={"type": None}))
folder("a window that Llama does not have")(config(sliding_window=16))
folder("Mistral with its window")(
    config(architectures=["MistralForCausalLM"], sliding_window=128)
)
folder("no class, but a type")(config(architectures=[]))
folder("a side file that is empty")(files(tokenizer_config__json="{}", generation_config__json="{}"))
folder("nulls in tokenizer_config.json")(
    files(tokenizer_config__json='{"add_bos_token": null, "chat_template": null, "unk_token": {}}')
)
for more in (
    {"unk_token": ""}, {"unk_token": "<|endoftext|>"}, {"dropout": 0}, {"dropout": 0.0},
    {"fuse_unk": True}, {"byte_fallback": True},
    {"continuing_subword_prefix": "", "end_of_word_suffix": ""},
):  # fmt: skip
    folder(f"tokenizer.json with {more}")(tokenizer(lambda d, more=more: d["model"].update(more)))
folder("tokenizer.json with added tokens out of order")(
    tokenizer(lambda d: d["added_tokens"].reverse())
)
folder("tokenizer.json with a normalizer of no steps")(
    tokenizer(lambda d: d.update(normalizer={"type": "Sequence", "normalizers": []}))
)
folder("tokenizer.json with truncation and padding")(
    tokenizer(lambda d: d.update(truncation={"max_length": 1}, padding={"pad_id": -1}))
)


def write(place, add):
    """Writes all models; add(name, path, expect) records each."""
    for number, (name, change) in enumerate(gguf_cases):
        raw, path = Raw(), place / f"{number:03}.gguf"
        change(raw)
        path.write_bytes(raw.build())
        add(f"GGUF, {name}", path, None)
    valid = place / "valid"
    tiny.write_safetensors(valid)
    for number, (name, change) in enumerate(folder_cases):
        path = place / f"{number:03}"
        shutil.copytree(valid, path)
        change(Folder(path))
        add(f"safetensors, {name}", path, None)
