#!/usr/bin/env python3
"""SmolLM2 through the command line against goldens that transformers made in f32.

    smollm2_test.py --kernelforge PATH [--model FILE] [--short] [--tokens N] [--threads N...]
                    [--only TEST] [--prompts N] [-- options of every call]

--short leaves out perplexity and most positions (for slow backends and second targets), --only all
tests but one. Exits with 77 where the model is not there and cannot be fetched.
"""

import argparse
import json
import sys
import unittest

import numpy as np
from product import DATA, SKIP, Product, find_model, is_native

LOGIT_TOLERANCE = 2e-4  # of the position's largest |logit|
PREFILL_TOLERANCE = 1e-4
PERPLEXITY_TOLERANCE = 1e-3  # relative
DEFAULT_BAND = 5e-3  # the same, of the numerics and the cache that are the default
MARGIN = 0.02  # greedy choices closer than this may go either way


class SmolLM2Test(unittest.TestCase):
    product = None
    model = None
    short = False
    tokens = 0
    threads = ()
    prompts = None

    @classmethod
    def setUpClass(cls):
        cls.golden = json.loads((DATA / "smollm2.json").read_text())

    def test_logits(self):
        # The first positions of a longer prompt see nothing of what follows, so fewer tokens of
        # the same text have the same goldens.
        text = self.golden["prefixes"]["64"] if self.short else self.golden["logits"]["text"]
        ids, logits = self.product.logits(self.model, text)
        positions = len(ids)
        self.assertEqual(ids, self.golden["logits"]["ids"][:positions])
        golden = dict(np.load(DATA / "smollm2_logits.npz"))
        columns = golden.pop("columns")
        golden = {name: values[:positions] for name, values in golden.items()}
        self.assertEqual(logits.shape[0], positions)
        self.assertTrue(np.isfinite(logits).all())
        tolerance = LOGIT_TOLERANCE * golden["max_abs"][:, None]
        for what, ours, theirs in (
            ("top", np.take_along_axis(logits, golden["top_ids"], axis=1), golden["top_values"]),
            ("columns", logits[:, columns], golden["column_values"]),
        ):
            worst = np.max(np.abs(ours - theirs) / golden["max_abs"][:, None])
            print(f"logits, {what}: worst difference {worst:.2e} x max |logit|")
            self.assertTrue((np.abs(ours - theirs) <= tolerance).all(), f"{what}: {worst:.2e}")
        margins = golden["top_values"][:, 0] - golden["top_values"][:, 1]
        decided = margins > tolerance[:, 0]
        np.testing.assert_array_equal(
            logits.argmax(axis=1)[decided], golden["top_ids"][decided, 0]
        )

    def test_greedy(self):
        for case in self.golden["greedy"][: self.prompts]:
            for threads in self.threads:
                with self.subTest(prompt=case["prompt"], threads=threads):
                    self.check_greedy(case, ["-t", threads])

    def check_greedy(self, case, options):
        """A choice differs from the golden one only where the two best are close; after one that
        does, the golden token is fed on."""
        golden = case["token_ids"]
        count = min(self.tokens, len(golden))
        answer = self.product.generate(self.model, case["prompt"], count, *options)
        self.assertEqual(answer["prompt_ids"], case["prompt_ids"])
        if answer["token_ids"] == golden:
            self.assertEqual(answer["text"], case["text"])
        ids, done = answer["token_ids"], 0
        while ids != golden[done:count]:
            same = next((i for i, pair in enumerate(zip(ids, golden[done:count]))
                         if pair[0] != pair[1]), len(ids))  # fmt: skip
            self.assertLess(same, len(ids), f"it ends after {done + same} tokens of {count}")
            done += same
            self.assertLess(case["margins"][done], MARGIN,
                            f"token {done}: {ids[same]} is chosen for {golden[done]}")  # fmt: skip
            print(f"token {done} goes the other way: margin {case['margins'][done]}")
            done += 1
            if done == count:
                return
            prefix = case["prompt_ids"] + golden[:done]
            ids = self.product.continue_ids(self.model, prefix, count - done, *options)

    def test_prefill_equals_decode(self):
        for count, text in self.golden["prefixes"].items():
            if self.short and int(count) > 7:
                continue
            with self.subTest(tokens=count):
                ids, whole = self.product.logits(self.model, text)
                self.assertEqual(len(ids), int(count))
                _, stepwise = self.product.logits(self.model, text, "--prefill-chunk", 1)
                self.assertEqual(whole.shape, stepwise.shape)
                scale = np.abs(whole).max(axis=1, keepdims=True)
                worst = np.max(np.abs(whole - stepwise) / scale)
                print(f"prefill of {count}: worst difference {worst:.2e} x max |logit|")
                self.assertLessEqual(worst, PREFILL_TOLERANCE)

    def test_perplexity(self):
        if self.short:
            self.skipTest("short run")
        golden = self.golden["perplexity"]
        options = ["-m", self.model, "--file", DATA / "text.txt", "--context", golden["context"],
                   "--max-tokens", golden["text_tokens"]]  # fmt: skip
        answer = self.product.run("perplexity", *options)
        self.assertEqual(answer["tokens"], golden["tokens"])
        for key in ("nll", "perplexity"):
            relative = abs(answer[key] / golden[key] - 1)
            print(f"perplexity, {key}: {answer[key]:.6f}, relative difference {relative:.2e}")
            self.assertLessEqual(relative, PERPLEXITY_TOLERANCE)
        usual = self.usual.run("perplexity", *options)  # what a user has who says nothing
        relative = abs(usual["perplexity"] / golden["perplexity"] - 1)
        print(f"perplexity, {usual['numerics']} by default: relative difference {relative:.2e}")
        self.assertLessEqual(relative, DEFAULT_BAND)

    def test_capital_of_france(self):
        answer = self.product.generate(self.model, "The capital of France is", 32)
        self.assertIn("Paris", answer["text"])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernelforge", required=True)
    parser.add_argument("--model", help="GGUF file (default: fetched by name)")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--tokens", type=int, default=64, help="greedy tokens of each prompt")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of greedy runs")
    parser.add_argument("--only", help="name of the one test to run")
    parser.add_argument("--prompts", type=int, help="greedy runs (default: all)")
    parser.add_argument("options", nargs="*", help="options of every call, after --")
    arguments = parser.parse_args()
    if is_native(arguments.options):
        print("[SKIP] AVX2 is all that this machine has")
        return SKIP
    SmolLM2Test.model = arguments.model or find_model("smollm2")
    if SmolLM2Test.model is None:
        print("[SKIP] smollm2_test: the model is not there and cannot be fetched")
        return SKIP
    SmolLM2Test.product = Product(arguments.kernelforge, arguments.options)
    SmolLM2Test.usual = Product(arguments.kernelforge, arguments.options, exact=False)
    SmolLM2Test.short = arguments.short
    SmolLM2Test.tokens = arguments.tokens
    SmolLM2Test.threads = arguments.threads
    SmolLM2Test.prompts = arguments.prompts
    loader = unittest.defaultTestLoader
    suite = loader.loadTestsFromTestCase(SmolLM2Test)
    if arguments.only:
        suite = loader.loadTestsFromName(arguments.only, SmolLM2Test)
    return 0 if unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
