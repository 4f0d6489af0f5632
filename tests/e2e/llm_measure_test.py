#!/usr/bin/env python3
"""llm-bench and perplexity on a tiny random model, and on SmolLM2 where it is there.

    llm_measure_test.py --kernelforge PATH [--model SMOLLM2.gguf]

Formats of llm-bench, perplexity, and how far a model is from another one.
"""

import csv
import datetime
import io
import json
import sqlite3
import sys

import numpy as np
from llm_case import EXACT, GREEDY, ROOT, TINY, LlmCase, main, model_files


class LlmMeasureTest(LlmCase):
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


if __name__ == "__main__":
    sys.exit(main(LlmMeasureTest, __doc__))
