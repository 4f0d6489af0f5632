"""onnxruntime: GenAI, whose builder takes no quantized GGUF: transformers widens the file's weights to f32, and the
builder quantizes them again to int4 in blocks of 32 with zero points, as q4_1 has them. Done once, as
`by_onnxruntime.py GGUF FOLDER`."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

#: Blocks of 32, and products of int8 as ours are by default (accuracy_level 4).
OPTIONS = ["block_size=32", "is_symmetric=false", "accuracy_level=4", "shared_embeddings=false"]


def convert(path, folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path, wide = Path(path), Path(folder) / "f32"
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(wide)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name)
    model.hf_quantizer = None  # it has widened the weights, and would refuse to save them
    model.config.__dict__.pop("quantization_config", None)
    model.save_pretrained(wide)
    line = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", wide, "-o", Path(folder) / "int4",
            "-p", "int4", "-e", "cpu", "-c", Path(folder) / "cache", "--extra_options", *OPTIONS]  # fmt: skip
    subprocess.run([str(word) for word in line], check=True)
    shutil.rmtree(wide)


def converted(path):
    """The folder of the model, which is made where it is not there."""
    status = Path(path).stat()
    key = hashlib.sha256(f"{path} {status.st_size} {status.st_mtime_ns} {OPTIONS}".encode()).hexdigest()[:16]
    folder = Path(sys.prefix) / "models" / key
    if not folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        subprocess.run([sys.executable, __file__, path, part], check=True)
        part.rename(folder)
    return folder / "int4"


class Model:
    def __init__(self, path, threads, context):
        import onnxruntime
        import onnxruntime_genai

        folder, self.genai, self.context = converted(path), onnxruntime_genai, context
        config = onnxruntime_genai.Config(str(folder))
        options = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self.model = onnxruntime_genai.Model(config)
        self.vocab_size = json.loads((folder / "genai_config.json").read_text())["model"]["vocab_size"]
        self.version = f"{onnxruntime.__version__}, GenAI {onnxruntime_genai.__version__}, int4 in blocks of 32"

    def started(self, tokens):
        parameters = self.genai.GeneratorParams(self.model)
        parameters.set_search_options(max_length=self.context, min_length=self.context, do_sample=False)
        generator = self.genai.Generator(self.model, parameters)
        if tokens:
            generator.append_tokens(tokens)
        return generator

    def prefill(self, before, tokens):
        generator = self.started(before)
        begin = time.perf_counter()
        generator.append_tokens(tokens)
        return time.perf_counter() - begin

    def generate(self, before, count):
        generator = self.started(before)
        generator.generate_next_token()  # from the prompt's logits
        begin = time.perf_counter()
        for _ in range(count):
            generator.generate_next_token()
        return time.perf_counter() - begin


if __name__ == "__main__":
    convert(*sys.argv[1:])
