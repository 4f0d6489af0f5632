#!/usr/bin/env python3
"""Our language model on the GPU beside transformers, random weights of Llama-3-8B's shape in bf16, in turns.

Theirs: decoding one token at a time over a static cache with a compiled step (torch.compile, reduce-overhead, so a
graph replayed), greedy, the token staying on the device; prompts eagerly with SDPA. Ours: `kernelforge
llm-bench`, which measures the same (tgN from an empty context, ppN logits of the last token). --layers makes the
model shorter than 32 layers. Rates are tokens per second; each round runs both sides, in alternating order.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cuda_turns

SHAPE = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 4096,
    "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "num_hidden_layers": 32, "vocab_size": 128256, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 128000,
    "eos_token_id": 128001,
}  # fmt: skip


class Theirs:
    """A random model of transformers on the GPU."""

    def __init__(self, torch, config, options):
        try:
            from transformers import LlamaConfig, LlamaForCausalLM, StaticCache
        except ImportError:
            cuda_turns.refuse("there is no transformers here; --ours-only measures ours alone")
        self.torch, self.options = torch, options
        config = LlamaConfig(**config)
        config._attn_implementation = "sdpa"
        torch.set_default_dtype(torch.bfloat16)
        with torch.device(options.device):
            self.model = LlamaForCausalLM(config).eval()
        torch.set_default_dtype(torch.float32)
        self.device = options.device
        self.new_cache = lambda length: StaticCache(config=config, max_cache_len=length)
        self.cache = None
        self.step = torch.compile(self.one_step, mode="reduce-overhead", fullgraph=True) \
            if options.device == "cuda" else self.one_step  # fmt: skip

    def one_step(self, token, position, cache):
        """The next token, of one."""
        logits = self.model(input_ids=token, position_ids=position, past_key_values=cache, use_cache=True).logits
        return logits[:, -1].argmax(dim=-1, keepdim=True)

    def synchronize(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def decode(self, count):
        """Tokens per second of `count` steps from an empty context, after three to warm up."""
        torch = self.torch
        token = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        with torch.inference_mode():
            if self.cache is None:  # an eager step gives it memory that does not move, which graphs need
                self.cache = self.new_cache(max(count, 64))
                self.one_step(token, torch.zeros_like(token), self.cache)
            for warming in (True, False):
                self.cache.reset()
                position = torch.zeros(1, 1, dtype=torch.long, device=self.device)
                self.synchronize()
                begin = time.perf_counter()
                for _ in range(3 if warming else count):
                    torch.compiler.cudagraph_mark_step_begin()
                    token = self.step(token, position, self.cache).clone()
                    position += 1
                self.synchronize()
        return count / (time.perf_counter() - begin)

    def prefill(self, count):
        """Tokens per second of a prompt of so many, logits of the last one."""
        torch = self.torch
        ids = torch.randint(0, self.model.config.vocab_size, (1, count), device=self.device)
        with torch.inference_mode():
            for _ in range(2):
                self.synchronize()
                begin = time.perf_counter()
                self.model(input_ids=ids, use_cache=True, logits_to_keep=1)
                self.synchronize()
        return count / (time.perf_counter() - begin)


def ours(folder, options):
    """Rates of llm-bench, by test."""
    line = [options.bin / "kernelforge", "llm-bench", "--random-weights", folder / "config.json",
            "--random-type", "bf16", "--target", "cuda", "--numerics", options.numerics, "--kv-cache", "bf16",
            "--prefill-chunk", options.prompt, "-p", options.prompt, "-n", options.generate, "-r", 3,
            "--json"]  # fmt: skip
    done = subprocess.run([str(word) for word in line], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"cuda_llama: error: ours: {done.stderr.strip()}")
    return {row["test"]: row["median_tokens_per_s"] for row in json.loads(done.stdout)["rows"]}


def dry(options):
    """Schedules the decoder's kernels for sm_90a; how many there are."""
    program = options.bin / "kernelforge"
    if not program.is_file():
        cuda_turns.refuse(f"{program} is not there; name its folder with --bin")
    block = {"d_model": SHAPE["hidden_size"], "heads": SHAPE["num_attention_heads"], "head_dim": SHAPE["head_dim"],
             "kv_heads": SHAPE["num_key_value_heads"], "d_ff": SHAPE["intermediate_size"],
             "layers": options.layers, "vocab": SHAPE["vocab_size"]}  # fmt: skip
    line = [program, "emit-mlir", "--block", ",".join(f"{key}={value}" for key, value in block.items()),
            "--weights", "bf16", "--target", "cuda", "--target-cpu", "sm_90a", "--stage", "scheduled"]  # fmt: skip
    done = subprocess.run([str(word) for word in line], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"cuda_llama: error: {done.stderr.strip()}")
    row = {"layers": options.layers, "kernels": done.stdout.count("transformer.kernel @")}
    print(json.dumps(row) if options.json else f"{row['layers']} layers, {row['kernels']} kernels")


def main():
    parser = cuda_turns.parser(__doc__)
    parser.set_defaults(rounds=2)
    parser.add_argument("--layers", type=cuda_turns.positive, default=SHAPE["num_hidden_layers"])
    parser.add_argument("-p", "--prompt", type=cuda_turns.positive, default=2048)
    parser.add_argument("-n", "--generate", type=cuda_turns.positive, default=128)
    parser.add_argument("--numerics", default="bf16", help="of ours: what products round to")
    parser.add_argument("--ours-only", action="store_true", help="without transformers")
    options = parser.parse_args()
    options.device = "cuda"
    if options.dry:
        dry(options)
        return 0
    config = SHAPE | {"num_hidden_layers": options.layers}
    with tempfile.TemporaryDirectory(prefix="kernelforge-peers-") as name:
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps(config))
        tests = {f"pp{options.prompt}": "prefill", f"tg{options.generate}": "decode"}
        counts = {"prefill": options.prompt, "decode": options.generate}
        rates = {test: {"ours": [], "theirs": []} for test in tests}
        theirs = None
        if not options.ours_only:
            theirs = Theirs(cuda_turns.torch_with_gpu(), config, options)
        for index in range(options.rounds):
            sides = ["theirs", "ours"] if index % 2 == 0 else ["ours", "theirs"]
            for side in sides:
                if side == "ours":
                    for test, rate in ours(folder, options).items():
                        rates[test]["ours"].append(rate)
                elif theirs:
                    for test, what in tests.items():
                        rates[test]["theirs"].append(getattr(theirs, what)(counts[what]))
    for test, sides in rates.items():
        row = {"name": test, "layers": options.layers} | {
            f"{side}_tokens_per_s": statistics.median(values) for side, values in sides.items() if values
        }
        if theirs:
            row["ratio"] = statistics.median(a / b for a, b in zip(sides["ours"], sides["theirs"]))
            row["rounds"] = sides
        print(json.dumps(row) if options.json else "  ".join(f"{k} {v}" for k, v in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
