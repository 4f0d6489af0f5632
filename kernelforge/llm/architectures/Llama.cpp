// Llama (Touvron et al. 2023), whose GGUF files have the rows of Q and K permuted, so that RoPE
// rotates neighbours; and Mistral (Jiang et al. 2023), which sees a window of positions.
#include "kernelforge/llm/architectures/LlamaLike.h"

namespace kernelforge {

namespace {

constexpr HuggingFaceClass llamaClass{"LlamaForCausalLM", "llama"},
    mistralClass{"MistralForCausalLM", "mistral"};

class Llama : public LlamaLike {
public:
  Llama() : LlamaLike("llama", {llamaClass, mistralClass}) {}

  Expected<ModelDescription> fromGguf(const GgufModel &model) const override {
    return readLlamaGguf(model, name(), RopePairing::Interleaved);
  }

  Expected<ModelDescription> fromConfig(const JsonView &root,
                                        const HuggingFaceClass &kind) const override {
    if (kind.name == llamaClass.name)
      return readLlamaConfig(root, name(), {});
    KF_TRY(ModelDescription d,
           readLlamaConfig(
               root, name(),
               {.context = 131072, .kvHeads = 8, .attentionBias = false, .mlpBias = false}));
    KF_CHECK(readWindow(root, 4096, d));
    return d;
  }
};

} // namespace

const Architecture &llamaArchitecture() {
  static const Llama llama;
  return llama;
}

} // namespace kernelforge
