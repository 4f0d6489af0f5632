#!/usr/bin/env python3
"""The commands that answer, on a tiny random model, and on SmolLM2 where it is there.

    llm_test.py --kernelforge PATH [--model SMOLLM2.gguf]

Answers, determinism over threads, instruction sets and chunks, and every kind of refusal.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from llm_case import EXACT, GREEDY, ROOT, TINY, LlmCase, main

HAS_AVX512 = " avx512f " in Path("/proc/cpuinfo").read_text()


class LlmTest(LlmCase):
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

    def test_smollm2_chats(self):
        if self.smollm2 is None:
            self.skipTest("SmolLM2 is not there")
        # Its first token is so near to another that f32 alone is sure to choose it.
        answer = self.run_json("llm-inference", "-m", self.smollm2, "--chat", *GREEDY, *EXACT,
                               "-n", 48, "-p", "What is the capital of France?")  # fmt: skip
        self.assertIn("Paris", answer["text"])
        self.assertEqual(answer["finish_reason"], "stop")


if __name__ == "__main__":
    sys.exit(main(LlmTest, __doc__))
