#!/usr/bin/env python3
"""The language-model commands on a tiny random model, and on SmolLM2 where it is there.

    llm_test.py --kernelforge PATH [--model SMOLLM2.gguf]

Answers, determinism over threads, instruction sets and chunks, and every kind of refusal.
"""

import argparse
import csv
import datetime
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "golden"))
import model_files  # noqa: E402
from product import find_model  # noqa: E402

TINY = ["--random-weights", "tiny"]
GREEDY = ["--temperature", "0"]
EXACT = ["--numerics", "exact", "--kv-cache", "f32"]
HAS_AVX512 = " avx512f " in Path("/proc/cpuinfo").read_text()


class LlmTest(unittest.TestCase):
    program = None
    smollm2 = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="kernelforge-llm-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_raw(self, *arguments):
        command = [self.program, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def run_json(self, *arguments):
        done = self.run_raw(*arguments, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def infer(self, *arguments, prompt="Hello", count=12):
        return self.run_json("llm-inference", *TINY, "-p", prompt, "-n", count, *arguments)

    def refuse(self, code, expected, *arguments):
        """The command must end with `code` and one line that holds `expected`."""
        done = self.run_raw(*arguments)
        self.assertEqual(done.returncode, code, done.stderr)
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertTrue(lines[0].startswith("kernelforge: error: "), lines[0])
        self.assertIn(expected, lines[0])
        self.assertEqual(done.stdout, "")
        error = json.loads(self.run_raw(*arguments, "--json").stdout)["error"]
        self.assertEqual(error["code"], code)
        self.assertTrue(error["what"] and error["why"])

    # --- answers ----------------------------------------------------------------------------------

    def test_answer(self):
        answer = self.infer(*GREEDY)
        self.assertEqual(answer["prompt_ids"], list(b"Hello"))
        self.assertEqual(answer["prompt_tokens"], 5)
        self.assertEqual(answer["generated_tokens"], len(answer["token_ids"]))
        self.assertEqual(answer["finish_reason"], "length")
        timings = answer["timings"]
        for key in ("load_s", "compile_s", "time_to_first_token_s", "prefill_s", "decode_s"):
            self.assertGreater(timings[key], 0, key)
        self.assertAlmostEqual(timings["prefill_tokens_per_s"] * timings["prefill_s"], 5, places=6)
        self.assertAlmostEqual(timings["decode_tokens_per_s"] * timings["decode_s"], 11, places=6)
        memory = answer["memory"]
        # 2 layers of keys and values, 2 heads of 16 dimensions in bf16, 512 positions.
        self.assertEqual(memory["kv_cache_bytes"], 2 * 2 * 2 * 16 * 2 * 512)
        self.assertGreater(memory["peak_rss_bytes"], memory["kv_cache_bytes"])
        self.assertEqual(answer["kernels"], [])
        self.assertIsNone(answer["bandwidth"]["pct_of_measured_read_bandwidth"])

    def test_types_of_the_cache(self):
        """Layers that differ, on the reference: what is asked for is kept, counted and printed."""
        mixed = ["llm-inference", "--random-weights", "mixed", "--random-type", "f32", "-p", "Hello",
                 "-n", 4, *GREEDY, "--target", "reference"]  # fmt: skip
        self.assertEqual(self.run_json(*mixed)["kv_cache"], "bf16")
        full = self.run_json(*mixed, "--kv-cache", "f32")
        self.assertEqual(full["kv_cache"], "f32")
        blocks = self.run_json(*mixed, "--kv-cache", "i8")
        self.assertEqual(blocks["kv_cache"], "i8")
        # A block of 32 numbers has a byte for each, and a scale of two.
        ratio = full["memory"]["kv_cache_bytes"] / blocks["memory"]["kv_cache_bytes"]
        self.assertAlmostEqual(ratio, 4 * 32 / 34)
        self.assertNotEqual(full["logits_hash"], blocks["logits_hash"])
        self.assertIn("cache i8", self.run_raw(*mixed, "--kv-cache", "i8").stderr)
        self.refuse(2, "heads of layer 0 have 16 dimensions", "llm-inference", *TINY, "-p", "x",
                    "--kv-cache", "i8")  # fmt: skip

    def test_numerics(self):
        """What is asked for is done and printed; a target that has no code for it refuses it."""
        tiny = ["llm-inference", *TINY, "--random-type", "q8_0", "-p", "Hello", "-n", 2, *GREEDY]
        reference = [*tiny, "--target", "reference", "--numerics"]
        hashes = set()
        for numerics in ("exact", "f16", "i8", "i8x2"):
            answer = self.run_json(*reference, numerics)
            self.assertEqual(answer["numerics"], numerics)
            hashes.add(answer["logits_hash"])
        self.assertEqual(len(hashes), 4)
        self.assertIn("numerics i8x2", self.run_raw(*reference, "i8x2").stderr)
        answer = self.run_json(*tiny, "--numerics", "i8")
        self.assertEqual(answer["numerics"], "i8")
        exact = self.run_json(*tiny, "--numerics", "exact")
        self.assertNotEqual(answer["logits_hash"], exact["logits_hash"])
        # The default is what the target is fast with: on a CPU, of one row by plain numbers, nothing.
        self.assertIn("i8", self.run_json(*tiny)["numerics"])
        self.assertIn("i8", self.run_json(*tiny, "--numerics", "fast")["numerics"])
        self.assertEqual(self.run_json(*tiny, "--target", "reference")["numerics"], "exact")
        plain = ["llm-inference", *TINY, "--random-type", "f16", "-p", "Hello", "-n", 2, *GREEDY]
        self.assertIn(self.run_json(*plain, "--numerics", "fast")["numerics"], ("exact", "bf16"))
        bf16 = self.run_json(*tiny, "--numerics", "bf16")
        self.assertEqual(bf16["numerics"], "bf16")
        self.assertNotEqual(bf16["logits_hash"], exact["logits_hash"])
        self.refuse(2, "multiply in i8x2,", *tiny, "--numerics", "i8x2")
        self.refuse(2, "no matmul's weights are quantized", "llm-inference", *TINY, "--random-type",
                    "f16", "-p", "x", "--numerics", "i8")  # fmt: skip
        self.refuse(2, "known: exact, bf16, f16, i8, i8x2, fast", *tiny, "--numerics", "fp8")

    def test_text_goes_to_stdout_and_figures_to_stderr(self):
        done = self.run_raw("llm-inference", *TINY, *GREEDY, "-p", "Hello", "-n", 12)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, self.infer(*GREEDY)["text"] + "\n")
        for word in ("prompt   5 tokens", "decode   12 tokens", "memory   mapped", "first token"):
            self.assertIn(word, done.stderr)
        self.assertNotIn("\r", done.stderr)  # progress is for terminals

    def test_kernel_times(self):
        answer = self.infer(*GREEDY, "--kernel-times")
        kernels = {kernel["name"]: kernel for kernel in answer["kernels"]}
        self.assertTrue(any(name.startswith("prefill") for name in kernels), kernels)
        attention = kernels["decode.attention"]
        self.assertEqual(attention["calls"], 2 * 11)  # layers x steps
        self.assertGreater(attention["total_s"], 0)

    def test_verbose_prints_plan_and_schedules(self):
        done = self.run_raw("llm-inference", *TINY, *GREEDY, "-p", "Hello", "-n", 2, "-v")
        self.assertIn("function prefill", done.stderr)
        self.assertIn("function decode", done.stderr)
        self.assertRegex(done.stderr, r"kernel \S+ +x\d+ +\{.*\} \((analytic|record|pinned)")
        self.assertRegex(done.stderr, r"buffer \S+ +at +\d+, \d+ bytes")

    def test_zero_tokens_runs_the_prompt(self):
        answer = self.infer(*GREEDY, count=0)
        self.assertEqual(answer["token_ids"], [])
        self.assertEqual(answer["text"], "")
        self.assertGreater(answer["timings"]["prefill_tokens_per_s"], 0)
        # The logits that a first token would be chosen from.
        self.assertEqual(answer["logits_hash"], self.infer(*GREEDY, count=1)["logits_hash"])
        done = self.run_raw("llm-inference", *TINY, "-p", "Hello", "-n", 0)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        self.assertIn("decode   no tokens (length)", done.stderr)
        self.assertNotIn("first token", done.stderr)

    def test_full_context_ends_generation(self):
        answer = self.infer(*GREEDY, "-c", 8, count=100)
        self.assertEqual(answer["finish_reason"], "context")
        self.assertEqual(answer["generated_tokens"], 4)  # three with room, one without

    def test_memory_is_taken_as_the_sequence_grows(self):
        """What is touched for four tokens is what the first one waits for: it does not grow with the
        context, whose caches would be 189 MB here, and begin with 126 MB of huge pages."""

        def peak(context):
            answer = self.run_json("llm-inference", "--random-weights", "smollm2", "-c", context,
                                   "--prompt-ids", 1, 2, 3, 4, "-n", 1, *GREEDY)  # fmt: skip
            return answer["memory"]["peak_rss_bytes"], answer["memory"]["kv_cache_bytes"]

        (small, _), (large, caches) = peak(64), peak(8192)
        self.assertGreater(caches, 180e6)
        self.assertLess(large - small, 32e6)

    def test_stop_string(self):
        text = self.infer(*GREEDY)["text"]
        stop = text[3:5]
        answer = self.infer(*GREEDY, "--stop", stop)
        self.assertEqual(answer["finish_reason"], "stop_string")
        self.assertEqual(answer["text"], text[: text.index(stop)])

    def test_prompt_ids_equal_the_text(self):
        ids = ",".join(str(byte) for byte in b"Hello")
        answer = self.run_json(
            "llm-inference", *TINY, *GREEDY, "--prompt-ids", ids, "-n", 12
        )
        self.assertEqual(answer["token_ids"], self.infer(*GREEDY)["token_ids"])

    # --- determinism ------------------------------------------------------------------------------

    def test_seed_decides(self):
        sampled = ["--temperature", 1, "--top-k", 0, "--top-p", 1, "--min-p", 0]
        ids = [self.infer(*sampled, "--seed", seed)["token_ids"] for seed in (1, 1, 2)]
        self.assertEqual(ids[0], ids[1])
        self.assertNotEqual(ids[0], ids[2])

    def test_chunks_threads_and_targets_agree(self):
        prompt = "The quick brown fox jumps over the lazy dog, again and again."
        reference = self.infer(*GREEDY, prompt=prompt)["token_ids"]
        variants = [("-t", 1), ("-t", 2), ("--prefill-chunk", 1), ("--prefill-chunk", 7)]
        variants += [("--target-features", "avx2"), ("--no-fuse",), ("--target", "reference")]
        if HAS_AVX512:
            variants.append(("--target-features", "avx512"))
        for variant in variants:
            with self.subTest(variant):
                self.assertEqual(self.infer(*GREEDY, *variant, prompt=prompt)["token_ids"], reference)

    def test_logits_file(self):
        files = []
        for options in ([], ["--prefill-chunk", 1], ["--target", "reference"]):
            files.append(self.folder / f"{len(files)}.npy")
            self.infer(*GREEDY, *EXACT, "--logits", files[-1], *options)
        first, *others = (np.load(file) for file in files)
        self.assertEqual(first.shape, (5, 512))
        self.assertEqual(first.dtype, np.float32)
        for other in others:
            worst = np.abs(first - other).max() / np.abs(first).max()
            self.assertLessEqual(worst, 1e-4)
        self.assertEqual(first[-1].argmax(), self.infer(*GREEDY, *EXACT)["token_ids"][0])

    # --- refusals ---------------------------------------------------------------------------------

    def write_config(self, **changes):
        config = {
            "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
            "vocab_size": 300, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
        }  # fmt: skip
        path = self.folder / "config.json"
        path.write_text(json.dumps(config | changes))
        return path

    def test_missing_model(self):
        self.refuse(3, "nosuchmodel.gguf", "llm-inference", "-m", "nosuchmodel", "-p", "x")
        self.refuse(3, "nosuchshape", "llm-inference", "--random-weights", "nosuchshape", "-p", "x")
        self.refuse(2, "no/such/file", "llm-inference", "-m", "no/such/file", "-p", "x")

    def test_bad_file(self):
        path = self.folder / "bad.gguf"
        path.write_bytes(b"GGUF\x03\0\0\0 and nothing more")
        for command in (["llm-inference", "-p", "x"], ["llm-bench"], ["tokenize", "x"]):
            self.refuse(2, str(path), *command, "-m", path)

    def test_bad_options(self):
        infer = ["llm-inference", *TINY]
        prompt = ["-p", "Hello"]
        self.refuse(2, "no prompt", *infer)
        self.refuse(2, "temperature", *infer, *prompt, "--temperature", -1)
        self.refuse(2, "temperature", *infer, *prompt, "--temperature", "nan")
        self.refuse(2, "top-p", *infer, *prompt, "--top-p", 0)
        self.refuse(2, "min-p", *infer, *prompt, "--min-p", 2)
        self.refuse(2, "top-k", *infer, *prompt, "--top-k", -5)
        self.refuse(2, "repeat-penalty", *infer, *prompt, "--repeat-penalty", 0)
        self.refuse(2, "max-tokens", *infer, *prompt, "-n", -3)
        self.refuse(2, "stop", *infer, *prompt, "--stop", "")
        self.refuse(2, "--system", *infer, *prompt, "--system", "x")
        self.refuse(2, "chat template", *infer, *prompt, "--chat")
        self.refuse(2, "--target abacus", *infer, *prompt, "--target", "abacus")
        self.refuse(2, "--random-type", *infer, *prompt, "--random-type", "q9_9")
        self.refuse(2, "no model", "llm-inference", *prompt)
        self.refuse(2, "there is nothing to measure", "llm-bench", *TINY, "-p", 0, "-n", 0)
        self.refuse(2, "exactly one text", "tokenize", "-m", "tiny")

    def test_what_does_not_fit(self):
        infer = ["llm-inference", *TINY]
        self.refuse(2, "5 tokens exceed the context of 4", *infer, "-p", "Hello", "-c", 4)
        self.refuse(2, "512", *infer, "-p", "Hello", "-c", 513)
        self.refuse(2, "vocabulary", *infer, "--prompt-ids", "1,512")
        # 128 Mi positions of 128 layers: refused with numbers, before anything is allocated.
        config = self.write_config(max_position_embeddings=1 << 27, num_hidden_layers=128)
        start = time.monotonic()
        self.refuse(2, "key/value cache of 134217728 positions", "llm-inference",
                    "--random-weights", config, "-p", "x", "-c", 1 << 27)  # fmt: skip
        self.assertLess(time.monotonic() - start, 10)

    def test_unwritable_outputs(self):
        infer = ["llm-inference", *TINY, *GREEDY, "-p", "Hello", "-n", 2]
        done = self.run_raw(*infer, "--logits", self.folder / "no" / "such" / "file.npy", "--json")
        self.assertEqual(done.returncode, 4, done.stderr)
        with open("/dev/full", "w") as full:
            done = subprocess.run([self.program, *map(str, infer)], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 4, done.stderr)

    def test_interruption_keeps_the_figures(self):
        # Enough tokens of a slow backend that the signal comes in their midst.
        command = [self.program, "llm-inference", "--random-weights", "tiny", "-p", "Hello"]
        command += ["-n", "500", "--target", "reference", "--no-fuse", "--ignore-eos"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as run:
            first = run.stdout.read(1)
            run.send_signal(signal.SIGINT)
            rest, figures = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 130, figures)
        self.assertTrue(first)
        self.assertIn("(interrupted)", figures)
        self.assertIn("tokens/s", figures)
        # Of whole logits, or not at all.
        self.assertNotIn("logits   0000000000000000", figures)

    def test_tokenizers_that_cannot_be_used(self):
        model = self.copy_model(lambda name, values: None)
        infer = ["llm-inference", "-m", model, *GREEDY, "-n", 2]
        (model / "tokenizer.json").unlink()
        advice = "--prompt-ids needs no tokenizer"
        self.refuse(3, f"tokenizer not found: the model brings none; {advice}", *infer, "-p", "x")
        (model / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")
        why = 'tokenizer.model): tokenizer model "tiktoken" is not supported'
        self.refuse(2, why, *infer, "-p", "x")
        self.refuse(2, f"BPE and unigram are; {advice}", *infer, "-p", "x")
        self.refuse(2, why, "tokenize", "-m", model, "x")
        self.refuse(2, why, "perplexity", "-m", model, "--file", __file__)
        self.assertEqual(len(self.run_json(*infer, "--prompt-ids", "5,6")["token_ids"]), 2)

    def test_tokenizer_of_sentencepiece(self):
        """The golden's model beside weights for fewer tokens, then for enough."""
        model = self.copy_model(lambda name, values: None)
        (model / "tokenizer.json").unlink()
        data = ROOT / "tests" / "golden" / "data" / "sentencepiece" / "llama.model"
        (model / "tokenizer.model").write_bytes(data.read_bytes())
        self.refuse(2, "it has 700 tokens but the model has embeddings for 320", "tokenize", "-m", model, "x")
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config | {"vocab_size": 700, "bos_token_id": 1}))
        ids = self.run_json("tokenize", "-m", model, "Hello  世界 <s>")["ids"]
        self.assertEqual(ids[-1], 1)
        text = self.run_json("tokenize", "-m", model, "--decode", " ".join(map(str, ids)))["text"]
        self.assertEqual(text, "Hello  世界 <s>")

    # --- logits that are no numbers ---------------------------------------------------------------

    def copy_model(self, change):
        """The tiny safetensors model with its weights changed: change(name, values)."""
        data = ROOT / "tests" / "golden" / "data" / "tiny"
        folder = self.folder / "model"
        folder.mkdir(exist_ok=True)
        for name in ("config.json", "tokenizer.json"):
            (folder / name).write_bytes((data / name).read_bytes())
        weights = model_files.read_safetensors(data / "model.safetensors")
        for name, values in weights.items():
            change(name, values)
        model_files.write_safetensors(folder / "model.safetensors", weights, False)
        return folder

    def commands(self, model):
        """Every command that runs a model, and after how many tokens its first logits are."""
        text = self.folder / "text.txt"
        text.write_text("hello there you all " * 10)
        infer = ["llm-inference", "-m", model, "--prompt-ids", "5,6,7"]
        logits = self.folder / "logits.npy"
        return (
            ([*infer, "-n", 2], 3), ([*infer, "-n", 0], 3), ([*infer, "-n", 0, "--logits", logits], 1),
            ([*infer, "-n", 2, "--target", "reference"], 3),
            (["perplexity", "-m", model, "--file", text, "--context", 16], 1),
            (["llm-bench", "-m", model, "-p", 4, "-n", 0, "-r", 1], 4),
            (["llm-bench", "-m", model, "-p", 0, "-n", 3, "-r", 1], 1),
        )  # fmt: skip

    def test_weights_that_are_no_numbers(self):
        for bad in (np.nan, np.inf):

            def change(name, values):
                if name == "model.norm.weight":
                    values[0] = bad

            model = self.copy_model(change)
            for command, tokens in self.commands(model):
                with self.subTest(command, bad=bad):
                    after = f"logits are no numbers (after {tokens} token{'s' if tokens > 1 else ''}"
                    weight = f"weight model.norm.weight has {bad} in row 0: the file is damaged"
                    self.refuse(4, after, *command)
                    self.refuse(4, weight, *command)
        self.assertFalse((self.folder / "logits.npy").exists())

    def test_computation_that_overflows(self):
        def change(name, values):
            if name in ("model.norm.weight", "lm_head.weight"):
                values *= 1e30

        model = self.copy_model(change)
        for command, _ in self.commands(model):
            with self.subTest(command):
                overflow = "all weights are numbers: with them, f32 overflows"
                compare = "all weights are numbers: look whether --target reference says the same"
                self.refuse(4, overflow if "reference" in command else compare, *command)

    def test_perplexity_beyond_numbers(self):
        # Logits in the millions: the likelihood is a number, its exponential none.
        def change(name, values):
            if name == "model.norm.weight":
                values *= 1e7

        text = self.folder / "text.txt"
        text.write_text("hello there you all " * 10)
        options = ["perplexity", "-m", self.copy_model(change), "--file", text, "--context", 16]
        self.refuse(4, "perplexity is out of range", *options)

    def test_base_logits_that_are_no_numbers(self):
        text = self.folder / "text.txt"
        text.write_text("The quick brown fox jumps over the lazy dog. ")
        options = ["perplexity", *TINY, "--file", text, "--context", 20]
        rows = self.run_json(*options)["tokens"]
        base = self.folder / "base.npy"
        for bad in (np.nan, np.inf):
            logits = np.zeros((rows, 512), np.float32)
            logits[7, 3] = bad
            np.save(base, logits)
            self.refuse(2, f"row 7): {bad} at id 3", *options, "--kl-against", base)
        logits[7] = -np.inf
        np.save(base, logits)
        self.refuse(2, "row 7): all are -inf", *options, "--kl-against", base)
        # A single -inf is a probability of 0, which adds nothing.
        logits[:] = 0
        logits[:, 3] = -np.inf
        np.save(base, logits)
        with_zero = self.run_json(*options, "--kl-against", base)["kl_divergence"]
        logits[:, 3] = -1e4
        np.save(base, logits)
        self.assertAlmostEqual(
            with_zero, self.run_json(*options, "--kl-against", base)["kl_divergence"], places=6
        )

    # --- the other commands -----------------------------------------------------------------------

    def test_bench(self):
        answer = self.run_json("llm-bench", *TINY, "-p", 16, "-n", 4, "-d", "0,32", "-r", 3)
        self.assertEqual(
            [row["test"] for row in answer["rows"]], ["pp16", "tg4", "pp16@d32", "tg4@d32"]
        )
        for row in answer["rows"]:
            self.assertEqual(len(row["samples"]), 3)
            self.assertEqual(row["median_tokens_per_s"], sorted(row["samples"])[1])
            self.assertIn("i8", row["numerics"])  # by default what the target is fast with

    def test_bench_formats(self):
        """Every format says the same tests; csv, jsonl and sql by llama-bench's names."""
        data = ROOT / "tests" / "golden" / "data" / "tiny"
        once = ["llm-bench", "-m", data, "-p", "16,8", "-n", 4, "-pg", "16,4", "--pg", "8,2",
                "-d", "0,32", "-r", 3, "--kv-cache", "f16", "--format"]  # fmt: skip
        names = ["pp16", "pp8", "tg4", "pp16+tg4", "pp8+tg2"]
        names += [f"{name}@d32" for name in names]
        counts = [(16, 0), (8, 0), (0, 4), (16, 4), (8, 2)] * 2
        table = self.run_raw(*once, "table").stdout.splitlines()
        self.assertEqual([line.split()[0] for line in table[1:]], names)
        rows = [line.split("|") for line in self.run_raw(*once, "md").stdout.splitlines()]
        self.assertEqual([row[-3].strip() for row in rows[2:]], names)
        self.assertEqual(rows[0][1].strip(), "model")
        for row in rows[2:]:
            self.assertRegex(row[-2], r"^ +[0-9.]+ ± [0-9.]+ $")

        lines = [json.loads(line) for line in self.run_raw(*once, "jsonl").stdout.splitlines()]
        samples = {"samples_ns", "samples_ts"}
        columns = set(lines[0]) - samples
        self.assertEqual([line["test"] for line in lines], names)
        self.assertEqual([(line["n_prompt"], line["n_gen"]) for line in lines], counts)
        weights = model_files.read_safetensors(data / "model.safetensors")
        parameters = sum(values.size for values in weights.values())
        for line, (prompt, generated) in zip(lines, counts):
            self.assertEqual(line["n_depth"], 32 if "@d32" in line["test"] else 0)
            self.assertEqual(line["model_n_params"], parameters)
            self.assertEqual(line["model_size"], 2 * parameters)  # the file has bf16
            self.assertEqual((line["type_k"], line["type_v"]), ("f16", "f16"))
            self.assertEqual(line["model_filename"], str(data))
            self.assertIn("llama", line["model_type"])
            times = np.array(line["samples_ns"], np.float64)
            rates = 1e9 * (prompt + generated) / times
            self.assertEqual(len(times), 3)
            np.testing.assert_allclose(line["samples_ts"], rates)
            self.assertLess(abs(line["avg_ns"] - times.mean()), 1)
            self.assertLess(abs(line["stddev_ns"] - times.std(ddof=1)), 1)
            np.testing.assert_allclose(line["avg_ts"], rates.mean())
            np.testing.assert_allclose(line["stddev_ts"], rates.std(ddof=1), rtol=1e-6, atol=1e-3)
            now = datetime.datetime.now(datetime.timezone.utc)
            began = datetime.datetime.fromisoformat(line["test_time"].replace("Z", "+00:00"))
            self.assertLess(abs((now - began).total_seconds()), 600)
        rows = list(csv.DictReader(io.StringIO(self.run_raw(*once, "csv").stdout)))
        self.assertEqual(set(rows[0]), columns)
        self.assertEqual([row["test"] for row in rows], names)
        self.assertGreater(min(float(row["avg_ts"]) for row in rows), 0)

        database = sqlite3.connect(":memory:")
        for _ in range(2):  # what a second run prints is added to the same table
            database.executescript(self.run_raw(*once, "sql").stdout)
        found = database.execute("SELECT test, n_prompt, n_gen, avg_ns, cpu_info FROM llama_bench")
        rows = found.fetchall()
        self.assertEqual([row[0] for row in rows], names * 2)
        self.assertEqual([row[1:3] for row in rows], counts * 2)
        for row in rows:
            self.assertIsInstance(row[3], int)
            self.assertEqual(row[4], lines[0]["cpu_info"])
        types = dict(row[1:3] for row in database.execute("PRAGMA table_info(llama_bench)"))
        self.assertEqual(set(types), columns)
        self.assertEqual(types["avg_ts"], "REAL")

    def test_bench_texts_are_quoted_for_sql(self):
        folder = self.folder / "it's; DROP TABLE"
        folder.mkdir()
        for file in (ROOT / "tests" / "golden" / "data" / "tiny").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        done = self.run_raw("llm-bench", "-m", folder, "-p", 4, "-n", 0, "-r", 1, "--format", "sql")
        database = sqlite3.connect(":memory:")
        database.executescript(done.stdout)
        names = database.execute("SELECT model_filename FROM llama_bench").fetchall()
        self.assertEqual(names, [(str(folder),)])

    def test_bench_pairs(self):
        """Only what is asked for together, and what is no pair is refused."""
        alone = self.run_json("llm-bench", *TINY, "-p", 0, "-n", 0, "-pg", "4,2", "-r", 1)["rows"]
        self.assertEqual([row["test"] for row in alone], ["pp4+tg2"])
        for wrong in ("5", "5,6,7", "0,4", "4,x", ",", "4,-1"):
            self.refuse(2, "--pg: ", "llm-bench", *TINY, "-pg", wrong)

    def test_perplexity(self):
        text = self.folder / "text.txt"
        text.write_text("The quick brown fox jumps over the lazy dog. " * 3)
        logits = self.folder / "logits.npy"
        window = 20
        options = ["perplexity", *TINY, "--file", text, "--context", window]
        answer = self.run_json(*options)
        ids = list(text.read_bytes())
        windows = len(ids) // window
        self.assertEqual(answer["tokens"], windows * (window - 1))

        # The same from the logits of each window as a prompt.
        rows, total = [], 0.0
        for index in range(windows):
            part = ids[index * window : (index + 1) * window]
            joined = ",".join(map(str, part))
            self.run_json("llm-inference", *TINY, *GREEDY, "--prompt-ids", joined, "-n", 0,
                          "--logits", logits)  # fmt: skip
            values = np.load(logits)[:-1].astype(np.float64)
            rows.append(values)
            log_sum = np.log(np.exp(values).sum(axis=1))
            total += (log_sum - values[np.arange(window - 1), part[1:]]).sum()
        self.assertAlmostEqual(answer["nll"], total / answer["tokens"], places=4)
        self.assertAlmostEqual(answer["perplexity"], np.exp(answer["nll"]), places=6)

        base = np.concatenate(rows)
        np.save(logits, base.astype(np.float32))
        same = self.run_json(*options, "--kl-against", logits)
        self.assertLess(abs(same["kl_divergence"]), 1e-6)
        self.assertEqual(same["same_top"], 1)
        # From a flat distribution: the mean over the vocabulary of log(1 / vocabulary) - log p.
        np.save(logits, np.zeros(base.shape, np.float16))
        logs = base - np.log(np.exp(base).sum(axis=1, keepdims=True))
        expected = (-np.log(base.shape[1]) - logs).mean()
        flat = self.run_json(*options, "--kl-against", logits)
        self.assertAlmostEqual(flat["kl_divergence"], expected, places=3)

        part = self.run_json(*options, "--max-tokens", 45)
        self.assertEqual(part["tokens"], 2 * (window - 1))
        self.refuse(2, "do not fill one window", *options, "--max-tokens", 5)
        np.save(logits, np.zeros((3, 7), np.float32))
        self.refuse(2, "base logits", *options, "--kl-against", logits)

    # --- a model beside another --------------------------------------------------------------------

    def perturbed(self):
        """The tiny model with its weights moved a little."""
        random = np.random.default_rng(1)

        def change(name, values):
            values += 0.05 * values.std() * random.standard_normal(values.shape).astype(np.float32)

        return self.copy_model(change)

    def window_logits(self, model, ids, window, *options):
        """(next tokens, their logits) of each whole window, by llm-inference."""
        file = self.folder / "rows.npy"
        rows, following = [], []
        for begin in range(0, len(ids) - window + 1, window):
            part = ids[begin : begin + window]
            self.run_json("llm-inference", "-m", model, *GREEDY, "-n", 0, "--logits", file,
                          "--prompt-ids", ",".join(map(str, part)), *options)  # fmt: skip
            rows.append(np.load(file)[:-1])
            following += part[1:]
        return np.array(following), np.concatenate(rows).astype(np.float64)

    def check_divergence(self, answer, base, ours, following):
        """What perplexity said, against numpy on both sides' logits."""
        log_base = base - np.log(np.exp(base).sum(axis=1, keepdims=True))
        log_ours = ours - np.log(np.exp(ours).sum(axis=1, keepdims=True))
        values = (np.exp(log_base) * (log_base - log_ours)).sum(axis=1)
        places = np.arange(len(following))
        base_nll, nll = (-logs[places, following].mean() for logs in (log_base, log_ours))
        self.assertEqual(answer["tokens"], len(following))
        for key, expected in {
            "nll": nll,
            "base_perplexity": np.exp(base_nll),
            "perplexity_ratio": np.exp(nll - base_nll),
            "kl_divergence": values.mean(),
            "kl_median": np.median(values),
            "kl_p99": np.percentile(values, 99),
            "kl_max": values.max(),
        }.items():
            np.testing.assert_allclose(answer[key], expected, rtol=2e-3, err_msg=key)
        same = (base.argmax(axis=1) == ours.argmax(axis=1)).mean()
        self.assertAlmostEqual(answer["same_top"], same)
        self.assertGreater(values.mean(), 1e-3)  # they do differ
        self.assertLess(same, 1)

    def test_divergence_from_another_model(self):
        data = ROOT / "tests" / "golden" / "data"
        tiny, model = data / "tiny", self.perturbed()
        options = ["perplexity", "-m", model, "--kl-against", tiny]
        # Against the logits that transformers computed of the base.
        golden = np.load(tiny / "logits.npz")
        ids = golden["ids"].tolist()
        answer = self.run_json(*options, "--file", tiny / "prompt.txt", "--context", len(ids), *EXACT)
        following, ours = self.window_logits(model, ids, len(ids), *EXACT)
        self.check_divergence(answer, golden["logits"][:-1].astype(np.float64), ours, following)
        self.assertEqual(answer["base"], {"source": str(tiny), "numerics": "exact", "kv_cache": "f32"})
        # Several windows, each in slices, ours and the base with caches of their own.
        text = self.folder / "text.txt"
        text.write_text((data / "text.txt").read_text()[:400])
        ids = self.run_json("tokenize", "-m", tiny, "--no-special", text.read_text())["ids"]
        answer = self.run_json(*options, "--file", text, "--context", 50, "--prefill-chunk", 7,
                               "--kv-cache", "bf16", "--kl-kv-cache", "f16")  # fmt: skip
        following, ours = self.window_logits(model, ids, 50, "--kv-cache", "bf16")
        _, base = self.window_logits(tiny, ids, 50, "--kv-cache", "f16")
        self.check_divergence(answer, base, ours, following)
        self.assertEqual(answer["base"]["kv_cache"], "f16")
        whole = self.run_json(*options, "--file", text, "--context", 50, "--kv-cache", "bf16",
                              "--kl-kv-cache", "f16")  # fmt: skip
        self.assertAlmostEqual(whole["kl_divergence"] / answer["kl_divergence"], 1, places=3)
        shown = self.run_raw(*options, "--file", text, "--context", 50).stdout
        for word in ("kl divergence  ", "  99 %  ", "ratio  ", "same top  ", f"base           {tiny}, "):
            self.assertIn(word, shown)

    def test_divergence_from_itself(self):
        """The same model computed alike differs in nothing, computed otherwise a little."""
        tiny = ROOT / "tests" / "golden" / "data" / "tiny"
        text = self.folder / "text.txt"
        text.write_text("The quick brown fox jumps over the lazy dog. " * 5)
        options = ["perplexity", "-m", tiny, "--file", text, "--context", 40, "--kl-against", tiny]
        for alike in (EXACT, ["--numerics", "bf16", "--kl-numerics", "bf16", "--kv-cache", "f16",
                              "--kl-kv-cache", "f16"]):  # fmt: skip
            same = self.run_json(*options, *alike)
            self.assertEqual([same[key] for key in ("kl_divergence", "kl_p99", "kl_max")], [0, 0, 0])
            self.assertEqual((same["same_top"], same["perplexity_ratio"]), (1, 1))
        other = self.run_json(*options, "--numerics", "bf16", "--kv-cache", "f32")
        self.assertEqual(other["numerics"], "bf16")
        self.assertEqual(other["base"]["numerics"], "exact")
        self.assertGreater(other["kl_divergence"], 0)
        self.assertLess(other["kl_divergence"], 1e-2)

    def test_what_cannot_be_compared(self):
        data = ROOT / "tests" / "golden" / "data"
        text = self.folder / "text.txt"
        text.write_text("The quick brown fox jumps over the lazy dog. " * 5)
        options = ["perplexity", "-m", data / "tiny", "--file", text, "--context", 40]
        self.refuse(3, "nosuchmodel", *options, "--kl-against", "nosuchmodel")
        self.refuse(2, "its vocabulary has 320 tokens, not 512", "perplexity", *TINY, "--file", text,
                    "--context", 40, "--kl-against", data / "tiny")  # fmt: skip
        self.refuse(2, "--kl-numerics", *options, "--kl-against", data / "tiny", "--kl-numerics", "i9")
        self.refuse(2, "--kl-kv-cache", *options, "--kl-against", data / "tiny", "--kl-kv-cache", "i9")
        self.refuse(2, "requires --kl-against", *options, "--kl-numerics", "exact")
        base = self.folder / "base.npy"
        np.save(base, np.zeros((1000, 320), np.float32))
        self.run_json(*options, "--kl-against", base)
        self.refuse(2, "stored logits have neither", *options, "--kl-against", base,
                    "--kl-numerics", "exact")  # fmt: skip
        # Ids that mean something else.
        model = self.copy_model(lambda name, values: None)
        tokenizer = json.loads((model / "tokenizer.json").read_text())
        vocabulary = tokenizer["model"]["vocab"]
        vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
        (model / "tokenizer.json").write_text(json.dumps(tokenizer))
        first = min(vocabulary["a"], vocabulary["b"])
        self.refuse(2, f'token {first} is "b" in its vocabulary, not "a"', *options, "--kl-against", model)
        # A base that computes no numbers is not taken for one.
        broken = self.copy_model(lambda name, values: values.fill(np.nan) if "norm" in name else None)
        self.refuse(4, "base logits are not usable", *options, "--kl-against", broken)

    def test_tokenize(self):
        config = self.folder / "model"
        config.mkdir()
        data = ROOT / "tests" / "golden" / "data" / "tiny"
        text = "Naïve café: 東京 🙂 <|im_end|>"
        answer = self.run_json("tokenize", "-m", data, text)
        back = self.run_raw("tokenize", "-m", data, "--decode", " ".join(map(str, answer["ids"])))
        self.assertEqual(back.stdout, text + "\n")
        plain = self.run_json("tokenize", "-m", data, text, "--no-special")
        self.assertGreater(len(plain["ids"]), len(answer["ids"]))
        lines = self.folder / "lines.jsonl"
        lines.write_text('"one"\n"two\\n"\n')
        done = self.run_raw("tokenize", "-m", data, "--jsonl", lines, "--json")
        rows = [json.loads(line)["ids"] for line in done.stdout.splitlines()]
        self.assertEqual(len(rows), 2)
        lines.write_text(f"{json.dumps(rows[0])}\n{json.dumps(rows[1])}\n")
        done = self.run_raw("tokenize", "-m", data, "--jsonl", lines, "--json", "--decode")
        texts = [json.loads(line)["text"] for line in done.stdout.splitlines()]
        self.assertEqual(texts, ["one", "two\n"])
        self.refuse(2, "vocabulary", "tokenize", "-m", data, "--decode", "1 99999")
        self.refuse(2, "token id", "tokenize", "-m", data, "--decode", "1 x")
        lines.write_text('"fine"\nnot json\n')
        done = self.run_raw("tokenize", "-m", data, "--jsonl", lines, "--json")
        self.assertEqual(done.returncode, 2)
        self.assertIn("line 2", done.stderr)

    def test_chat_templates(self):
        """A model's own template makes the prompt, and what it refuses is said in its words."""
        data = ROOT / "tests" / "golden" / "data"
        ask = ["--chat", "-p", " Why? ", "-n", 0, *GREEDY]
        self.refuse(2, "the model brings no chat template", "llm-inference", "-m",
                    data / "tiny-gpt2", *ask)  # fmt: skip
        model = self.copy_model(lambda name, values: None)
        template = model / "chat_template.jinja"

        def prompt_of(name, *arguments):
            template.write_text((data / "chat" / f"{name}.jinja").read_text())
            answer = self.run_json("llm-inference", "-m", model, *ask, *arguments)
            ids = " ".join(map(str, answer["prompt_ids"]))
            return self.run_raw("tokenize", "-m", model, "--decode", ids).stdout

        system = ["--system", "Be brief."]
        turn = "<start_of_turn>user\nBe brief.\n\nWhy?<end_of_turn>\n<start_of_turn>model\n"
        self.assertTrue(prompt_of("gemma3", *system).endswith(turn + "\n"))
        self.assertTrue(prompt_of("phi35").endswith("<|user|>\n Why? <|end|>\n<|assistant|>\n\n"))
        prompt = prompt_of("smollm3", *system)
        self.assertIn("## Custom Instructions\n\nBe brief.\n\n<|im_end|>\n", prompt)
        self.assertRegex(prompt, r"Today Date: \d\d [A-Z][a-z]+ 20\d\d\n")
        template.write_text((data / "chat" / "gemma2.jinja").read_text())
        self.refuse(2, "There is no role of a system", "llm-inference", "-m", model, *ask, *system)

    # --- a real model -----------------------------------------------------------------------------

    def test_smollm2_agrees_with_itself(self):
        if self.smollm2 is None:
            self.skipTest("SmolLM2 is not there")
        prompt = ["-p", "In 1969, the first human beings", "-n", 24, *GREEDY]
        variants = [("-t", 1), ("-t", 2), ("--target-features", "avx2")]
        if HAS_AVX512:
            variants.append(("--target-features", "avx512"))
        ids = {
            variant: self.run_json("llm-inference", "-m", self.smollm2, *prompt, *variant)["token_ids"]
            for variant in variants
        }
        for variant in variants:
            self.assertEqual(ids[variant], ids[variants[0]], variant)

    def test_smollm2_keeps_to_a_band_with_each_of_the_numerics(self):
        """What rounding operands costs a model of real numbers: by the reference, and on the CPU."""
        if self.smollm2 is None:
            self.skipTest("SmolLM2 is not there")
        options = ["perplexity", "-m", self.smollm2, "--file", ROOT / "tests/golden/data/text.txt",
                   "--context", 32, "--max-tokens", 32, "--target", "reference"]  # fmt: skip
        exact = self.run_json(*options)["nll"]
        for numerics, band in (("f16", 1e-3), ("i8", 5e-3), ("i8x2", 1e-4)):
            answer = self.run_json(*options, "--numerics", numerics)
            off = abs(answer["nll"] / exact - 1)
            self.assertLess(off, band, numerics)
            self.assertGreater(off, 0, numerics)
        options[options.index("--target"):] = ["--numerics"]
        options[options.index("--max-tokens") + 1] = 512
        exact, rounded = (self.run_json(*options, numerics)["nll"] for numerics in ("exact", "i8"))
        self.assertLess(abs(rounded / exact - 1), 5e-3)
        self.assertNotEqual(rounded, exact)

    def test_smollm2_chats(self):
        if self.smollm2 is None:
            self.skipTest("SmolLM2 is not there")
        # Its first token is so near to another that f32 alone is sure to choose it.
        answer = self.run_json("llm-inference", "-m", self.smollm2, "--chat", *GREEDY, *EXACT,
                               "-n", 48, "-p", "What is the capital of France?")  # fmt: skip
        self.assertIn("Paris", answer["text"])
        self.assertEqual(answer["finish_reason"], "stop")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernelforge", required=True)
    parser.add_argument("--model", help="SmolLM2's GGUF file (default: fetched by name)")
    parser.add_argument("tests", nargs="*", help="names of tests (default: all)")
    arguments = parser.parse_args()
    LlmTest.program = os.path.abspath(arguments.kernelforge)
    LlmTest.smollm2 = arguments.model or find_model("smollm2")
    loader = unittest.defaultTestLoader
    names = [f"LlmTest.{name}" for name in arguments.tests]
    suite = (
        loader.loadTestsFromNames(names, sys.modules[__name__])
        if names
        else loader.loadTestsFromTestCase(LlmTest)
    )
    return 0 if unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
