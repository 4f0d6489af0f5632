#!/usr/bin/env python3
"""The same weights in every file format give the same tokens.

    formats_test.py --kernelforge PATH [--model SMOLLM2.gguf] [--tokens N] [--only TEST ...] [-- options of every call]

A tiny model of each family with goldens of its own, and the first layers of SmolLM2 where its file is there, are
written as safetensors (f32 and bf16, one file and three shards) by the `safetensors` library and
as GGUF by the `gguf` library.
"""

import argparse
import json
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

import model_files
import numpy as np
from product import DATA, SKIP, Product, find_model, is_native

TOLERANCE = 2e-4  # of the largest |logit|
PREFILL_TOLERANCE = 1e-4


class FormatsTest(unittest.TestCase):
    product = None
    smollm2 = None
    tokens = 0

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="kernelforge-formats-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def variants(self, weights, config, vocabulary, bf16_kinds):
        """Writes every format; yields (name, path)."""
        for bf16 in bf16_kinds:
            kind = "bf16" if bf16 else "f32"
            path = self.folder / f"{kind}.gguf"
            model_files.write_gguf(path, weights, config, vocabulary, bf16)
            yield f"gguf {kind}", path
            for shards in (1, 3):
                path = self.folder / f"{kind}-{shards}"
                model_files.write_hf_directory(path, weights, config, vocabulary, bf16, shards)
                yield f"safetensors {kind}, {shards} file(s)", path

    def test_tiny_llama(self):
        self.check_tiny(DATA / "tiny")

    def test_tiny_gpt2(self):
        self.check_tiny(DATA / "tiny-gpt2")

    def test_tiny_qwen3(self):
        # How formats differ is known from llama; a file of each has what is this family's own.
        self.check_tiny(DATA / "tiny-qwen3", ("gguf f32", "safetensors bf16, 1 file(s)"))

    def test_tiny_qwen2(self):
        self.check_tiny(DATA / "tiny-qwen2", ("gguf f32", "safetensors bf16, 1 file(s)"))

    def test_tiny_mistral(self):
        self.check_tiny(DATA / "tiny-mistral", ("gguf f32", "safetensors bf16, 1 file(s)"))

    def test_tiny_gemma2(self):
        self.check_tiny(DATA / "tiny-gemma2", ("gguf f32", "safetensors bf16, 1 file(s)"))

    def test_tiny_gemma3(self):
        self.check_tiny(DATA / "tiny-gemma3", ("gguf f32", "safetensors bf16, 1 file(s)"))

    def test_tiny_phi3(self):
        # The text is longer than the context before longrope, and so is the session's.
        self.check_tiny(DATA / "tiny-phi3", ("gguf f32", "safetensors bf16, 1 file(s)"))

    def test_tiny_smollm3(self):
        self.check_tiny(DATA / "tiny-smollm3", ("gguf f32", "safetensors bf16, 1 file(s)"))

    def test_rules_that_stretch_rope(self):
        folder = DATA / "tiny"
        weights, config, vocabulary = model_files.read_hf_directory(folder)
        rules = json.loads((folder / "rope.json").read_text())
        golden = np.load(folder / "logits_rope.npz")
        plain = np.load(folder / "logits.npz")
        text = (folder / "prompt.txt").read_text()
        # A dynamic rule goes by the session's context: here that of the golden's whole text.
        context = ["--context", len(plain["ids"])]
        for rule, change in rules.items():
            changed = config | change
            path = self.folder / rule
            model_files.write_hf_directory(path, weights, changed, vocabulary, bf16=False)
            paths = {"safetensors": path}
            if rule != "dynamic":  # which GGUF files cannot say
                paths["gguf"] = self.folder / f"{rule}.gguf"
                model_files.write_gguf(paths["gguf"], weights, changed, vocabulary, bf16=False)
            expected = golden[rule]
            scale = np.abs(expected).max(axis=1, keepdims=True)
            self.assertGreater(np.max(np.abs(plain["logits"] - expected) / scale), 100 * TOLERANCE)
            for form, path in paths.items():
                for chunk in ([], ["--prefill-chunk", 1]):
                    with self.subTest(rule=rule, form=form, chunk=chunk):
                        _, logits = self.product.logits(path, text, *context, *chunk)
                        worst = np.max(np.abs(logits - expected) / scale)
                        print(f"{rule}, {form} {chunk}: worst difference {worst:.2e} x max |logit|")
                        self.assertLessEqual(worst, TOLERANCE)

    def test_tiny_qwen3_with_windows_in_some_layers(self):
        folder = DATA / "tiny-qwen3"
        weights, config, vocabulary = model_files.read_hf_directory(folder)
        config |= json.loads((folder / "windows.json").read_text())
        path = self.folder / "windows"
        model_files.write_hf_directory(path, weights, config, vocabulary, bf16=False)
        expected = np.load(folder / "logits_windows.npz")["logits"]
        scale = np.abs(expected).max(axis=1, keepdims=True)
        for chunk in ([], ["--prefill-chunk", 1]):
            _, logits = self.product.logits(path, (folder / "prompt.txt").read_text(), *chunk)
            worst = np.max(np.abs(logits - expected) / scale)
            print(f"windows {chunk}: worst difference {worst:.2e} x max |logit|")
            self.assertLessEqual(worst, TOLERANCE)
        # The windows are seen: without them the logits are others.
        full = np.load(folder / "logits.npz")["logits"]
        self.assertGreater(np.max(np.abs(full - expected) / scale), 100 * TOLERANCE)

    def check_tiny(self, folder, formats=None):
        weights, config, vocabulary = model_files.read_hf_directory(folder)
        prompt = (folder / "prompt.txt").read_text()
        golden = np.load(folder / "logits.npz")
        scale = np.abs(golden["logits"]).max(axis=1, keepdims=True)
        first_ids = None
        # The weights are numbers that bf16 holds exactly: one golden serves both types.
        for name, path in self.variants(weights, config, vocabulary, (False, True)):
            if formats and name not in formats:
                continue
            with self.subTest(name):
                ids, logits = self.product.logits(path, prompt)
                self.assertEqual(ids, golden["ids"].tolist())
                worst = np.max(np.abs(logits - golden["logits"]) / scale)
                print(f"{name}: worst difference {worst:.2e} x max |logit|")
                self.assertLessEqual(worst, TOLERANCE)
                _, stepwise = self.product.logits(path, prompt, "--prefill-chunk", 1)
                worst = np.max(np.abs(logits - stepwise) / scale)
                print(f"{name}: prefill and decode differ by {worst:.2e} x max |logit|")
                self.assertLessEqual(worst, PREFILL_TOLERANCE)
                answer = self.product.generate(path, prompt, self.tokens, "--ignore-eos")
                first_ids = first_ids or answer["token_ids"]
                self.assertEqual(len(answer["token_ids"]), self.tokens)
                self.assertEqual(answer["token_ids"], first_ids)

    def test_truncated_smollm2(self):
        if self.smollm2 is None:
            self.skipTest("SmolLM2 is not there")
        layers = 2
        weights, config, vocabulary = model_files.read_gguf(self.smollm2)
        config = config | {"num_hidden_layers": layers}
        names = model_files.name_map(layers)
        weights = {name: values for name, values in weights.items() if name in names}
        prompt = "The lamp had burned from dusk to dawn."
        for bf16 in (False, True):
            ids = {}
            for name, path in self.variants(weights, config, vocabulary, (bf16,)):
                answer = self.product.generate(path, prompt, self.tokens, "--ignore-eos")
                ids[name] = answer["prompt_ids"], answer["token_ids"]
            first = next(iter(ids.values()))
            for name, value in ids.items():
                with self.subTest(name):
                    self.assertEqual(value, first)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernelforge", required=True)
    parser.add_argument("--model", help="SmolLM2's GGUF file (default: fetched by name)")
    parser.add_argument("--tokens", type=int, default=48, help="tokens to generate")
    parser.add_argument("--only", nargs="+", help="names of the tests to run")
    parser.add_argument("--tiny", action="store_true", help="without SmolLM2")
    parser.add_argument("options", nargs="*", help="options of every call, after --")
    arguments = parser.parse_args()
    if is_native(arguments.options):
        print("[SKIP] AVX2 is all that this machine has")
        return SKIP
    FormatsTest.product = Product(arguments.kernelforge, arguments.options)
    FormatsTest.tokens = arguments.tokens
    FormatsTest.smollm2 = None if arguments.tiny else arguments.model or find_model("smollm2")
    if arguments.only:
        suite = unittest.TestSuite(map(FormatsTest, arguments.only))
    else:
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(FormatsTest)
    return 0 if unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
