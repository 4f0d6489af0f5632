// Opens a model as the command line does, and its tokenizer: a summary and exit code 0, or one
// error line and the error's exit code. With --tokenize TEXT it prints the ids of a text as well.
#include "kernelforge/llm/ModelFile.h"
#include "kernelforge/llm/Tokenizer.h"

#include <fmt/format.h>
#include <string_view>

using namespace kernelforge;

namespace {

Status probe(const std::string &path, std::string_view text) {
  KF_TRY(ModelFile model, openModel(path));
  KF_CHECK(model.checkFiles());
  const ModelDescription &d = model.description;
  uint64_t sum = 0; // every byte is read once, so that a span beyond its file is noticed
  for (const Weight &weight : model.weights)
    for (std::byte b : weight.bytes)
      sum += std::to_integer<uint64_t>(b);
  fmt::print("{}: {} layers, {} dimensions, {} weights, byte sum {}\n", model.name, d.layers.size(),
             d.modelDim, model.weights.size(), sum);
  if (model.tokenizer.present()) {
    KF_TRY(Tokenizer tokenizer, Tokenizer::load(model.tokenizer));
    KF_TRY(auto ids, tokenizer.encode(text, true));
    fmt::print("{} tokens in the vocabulary; ids:", tokenizer.vocabSize());
    for (TokenId id : ids)
      fmt::print(" {}", id);
    fmt::print("\n");
  }
  for (const std::string &warning : model.warnings)
    fmt::print(stderr, "kernelforge: warning: {}\n", escapeControls(warning));
  return {};
}

} // namespace

int main(int argc, char **argv) {
  const bool hasText = argc == 4 && std::string_view(argv[2]) == "--tokenize";
  if (argc != 2 && !hasText) {
    fmt::print(stderr, "usage: model-probe MODEL [--tokenize TEXT]\n");
    return 2;
  }
  Status status = probe(argv[1], hasText ? argv[3] : "Hello, world 123");
  if (status)
    return 0;
  fmt::print(stderr, "kernelforge: error: {}\n", status.error().line());
  return static_cast<int>(status.error().kind);
}
