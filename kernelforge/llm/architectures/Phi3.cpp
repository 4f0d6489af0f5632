// Phi-3 (Abdin et al. 2024) and Phi-4-mini: like Llama, with Q, K and V in one tensor, gate and up
// in one, a window, and longrope. GGUF files have their rows as checkpoints do.
#include "kernelforge/llm/architectures/LlamaLike.h"

#include <fmt/format.h>

namespace kernelforge {

namespace {

class Phi3 : public LlamaLike {
public:
  Phi3() : LlamaLike("phi3", {{"Phi3ForCausalLM", "phi3"}}) {}

  Expected<ModelDescription> fromGguf(const GgufModel &model) const override {
    return readLlamaGguf(model, name(), RopePairing::HalfSplit);
  }

  Expected<ModelDescription> fromConfig(const JsonView &root,
                                        const HuggingFaceClass &) const override {
    KF_TRY(ModelDescription d,
           readLlamaConfig(root, name(),
                           {.context = 4096,
                            .rope = {.originalContext = 4096, .rotatesPart = true},
                            .epsilon = 1e-5,
                            .attentionBias = false,
                            .mlpBias = false}));
    KF_CHECK(readWindow(root, 0, d));
    return d;
  }

  TensorSource locate(const WeightSlot &slot, const ModelDescription &d,
                      WeightNaming naming) const override {
    if (slot.layer < 0)
      return LlamaLike::locate(slot, d, naming);
    const LayerDescription &layer = d.layers[static_cast<size_t>(slot.layer)];
    const int64_t q = layer.attention.queryDim(), kv = layer.attention.kvDim();
    const int64_t width = layer.mlp.width;
    const bool isGguf = naming == WeightNaming::Gguf;
    auto rows = [&](std::string_view tensor, int64_t first, int64_t all) {
      const std::string_view kind = slot.kind == WeightKind::Bias ? "bias" : "weight";
      return TensorSource{
          {fmt::format("{}.{}.{}.{}", isGguf ? "blk" : "model.layers", slot.layer, tensor, kind)},
          first,
          all};
    };
    const std::string_view qkv = isGguf ? "attn_qkv" : "self_attn.qkv_proj",
                           gateAndUp = isGguf ? "ffn_up" : "mlp.gate_up_proj";
    if (slot.part == "attn_q")
      return rows(qkv, 0, q + 2 * kv);
    if (slot.part == "attn_k")
      return rows(qkv, q, q + 2 * kv);
    if (slot.part == "attn_v")
      return rows(qkv, q + kv, q + 2 * kv);
    if (slot.part == "ffn_gate")
      return rows(gateAndUp, 0, 2 * width);
    if (slot.part == "ffn_up")
      return rows(gateAndUp, width, 2 * width);
    return LlamaLike::locate(slot, d, naming);
  }
};

} // namespace

const Architecture &phi3Architecture() {
  static const Phi3 phi3;
  return phi3;
}

} // namespace kernelforge
