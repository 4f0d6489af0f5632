"""OpenVINO: GenAI's pipeline, which reads the GGUF file itself."""

import numpy as np
import openvino
import openvino_genai


class Model:
    def __init__(self, path, threads, context):
        self.pipeline = openvino_genai.LLMPipeline(path, "CPU", INFERENCE_NUM_THREADS=threads)
        self.vocab_size = len(self.pipeline.get_tokenizer().get_vocab())
        self.version = openvino_genai.__version__

    def run(self, tokens, count):
        """What the pipeline measured: generates `count` tokens behind `tokens`."""
        ids = openvino.Tensor(np.array([tokens], np.int64))
        inputs = openvino_genai.TokenizedInputs(ids, openvino.Tensor(np.ones((1, len(tokens)), np.int64)))
        config = openvino_genai.GenerationConfig(max_new_tokens=count, ignore_eos=True, do_sample=False,
                                                 apply_chat_template=False)  # fmt: skip
        return self.pipeline.generate(inputs, config).perf_metrics

    def prefill(self, before, tokens):
        if before:
            raise RuntimeError("a prompt behind a depth is not timed by itself")
        return self.run(tokens, 1).get_ttft().mean * 1e-3

    def generate(self, before, count):
        """Seconds of `count` steps of one token, by the mean between tokens: the first is the prompt's."""
        return count * self.run(before, count + 1).get_tpot().mean * 1e-3
