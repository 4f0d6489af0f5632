// Writers of small model files for the loaders' tests: every field can be made wrong.
#pragma once

#include "kernelforge/llm/ModelConfig.h"
#include "kernelforge/support/Error.h"

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <unistd.h>
#include <vector>

namespace kernelforge::test {

template <typename T> std::string raw(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

inline std::span<const std::byte> asBytes(const std::string &text) {
  return std::as_bytes(std::span(text));
}

/// The error line of a result, or "accepted".
template <typename T> std::string line(const Expected<T> &result) {
  return result ? "accepted" : result.error().line();
}

/// A GGUF file in memory. Value types are the format's numbers.
struct GgufWriter {
  struct Entry {
    std::string key;
    uint32_t type;
    std::string payload;
  };
  struct Tensor {
    std::string name;
    std::vector<uint64_t> dims; ///< innermost first, as in the file
    uint32_t type = 0;
    std::string data;
    std::optional<uint64_t> offset = {};
  };

  std::string magic = "GGUF";
  uint32_t version = 3;
  std::optional<uint64_t> tensorCount, entryCount;
  std::vector<Entry> entries;
  std::vector<Tensor> tensors;
  uint64_t alignment = 32;

  static std::string text(std::string_view value) {
    return raw<uint64_t>(value.size()) + std::string(value);
  }

  /// Sets or replaces a key.
  void put(const std::string &key, uint32_t type, std::string payload) {
    for (Entry &entry : entries)
      if (entry.key == key) {
        entry.type = type;
        entry.payload = std::move(payload);
        return;
      }
    entries.push_back({key, type, std::move(payload)});
  }
  void u32(const std::string &key, uint32_t value) { put(key, 4, raw(value)); }
  void f32(const std::string &key, float value) { put(key, 6, raw(value)); }
  void boolean(const std::string &key, uint8_t value) { put(key, 7, raw(value)); }
  void string(const std::string &key, std::string_view value) { put(key, 8, text(value)); }
  void strings(const std::string &key, const std::vector<std::string> &values) {
    std::string payload = raw<uint32_t>(8) + raw<uint64_t>(values.size());
    for (const std::string &value : values)
      payload += text(value);
    put(key, 9, payload);
  }
  template <typename T>
  void array(const std::string &key, uint32_t type, const std::vector<T> &values) {
    std::string payload = raw(type) + raw<uint64_t>(values.size());
    for (T value : values)
      payload += raw(value);
    put(key, 9, payload);
  }
  void remove(const std::string &key) {
    std::erase_if(entries, [&](const Entry &entry) { return entry.key == key; });
  }
  void removeTensor(const std::string &name) {
    std::erase_if(tensors, [&](const Tensor &tensor) { return tensor.name == name; });
  }
  Tensor &tensor(const std::string &name) {
    for (Tensor &tensor : tensors)
      if (tensor.name == name)
        return tensor;
    ADD_FAILURE() << "no tensor " << name;
    return tensors.front();
  }
  void f32Tensor(const std::string &name, std::vector<uint64_t> dims, float value = 0) {
    uint64_t count = 1;
    for (uint64_t dim : dims)
      count *= dim;
    std::string data;
    for (uint64_t i = 0; i < count; ++i)
      data += raw(value);
    tensors.push_back({name, std::move(dims), 0, std::move(data)});
  }

  void pad(std::string &bytes) const {
    bytes.resize((bytes.size() + alignment - 1) / alignment * alignment);
  }
  std::string build() const {
    std::string out = magic + raw(version) + raw<uint64_t>(tensorCount.value_or(tensors.size())) +
                      raw<uint64_t>(entryCount.value_or(entries.size()));
    for (const Entry &entry : entries)
      out += text(entry.key) + raw(entry.type) + entry.payload;
    std::string data;
    for (const Tensor &tensor : tensors) {
      out += text(tensor.name) + raw<uint32_t>(tensor.dims.size());
      for (uint64_t dim : tensor.dims)
        out += raw(dim);
      out += raw(tensor.type) + raw<uint64_t>(tensor.offset.value_or(data.size()));
      data += tensor.data;
      pad(data);
    }
    pad(out);
    return out + data;
  }
};

/// One layer, 8 dimensions, 2 heads of 4, 1 key/value head, mlp of 16, 5 tokens.
inline GgufWriter tinyGguf() {
  GgufWriter g;
  g.string("general.architecture", "llama");
  g.u32("llama.block_count", 1);
  g.u32("llama.context_length", 64);
  g.u32("llama.embedding_length", 8);
  g.u32("llama.feed_forward_length", 16);
  g.u32("llama.attention.head_count", 2);
  g.u32("llama.attention.head_count_kv", 1);
  g.f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  g.string("tokenizer.ggml.model", "gpt2");
  g.string("tokenizer.ggml.pre", "smollm");
  g.strings("tokenizer.ggml.tokens", {"<s>", "</s>", "a", "b", "ab"});
  g.array<int32_t>("tokenizer.ggml.token_type", 5, {3, 3, 1, 1, 1});
  g.strings("tokenizer.ggml.merges", {"a b"});
  g.u32("tokenizer.ggml.bos_token_id", 0);
  g.u32("tokenizer.ggml.eos_token_id", 1);
  g.f32Tensor("token_embd.weight", {8, 5}, 0.5f);
  g.f32Tensor("blk.0.attn_norm.weight", {8}, 1);
  g.f32Tensor("blk.0.attn_q.weight", {8, 8});
  g.f32Tensor("blk.0.attn_k.weight", {8, 4});
  g.f32Tensor("blk.0.attn_v.weight", {8, 4});
  g.f32Tensor("blk.0.attn_output.weight", {8, 8});
  g.f32Tensor("blk.0.ffn_norm.weight", {8}, 1);
  g.f32Tensor("blk.0.ffn_gate.weight", {8, 16});
  g.f32Tensor("blk.0.ffn_up.weight", {8, 16});
  g.f32Tensor("blk.0.ffn_down.weight", {16, 8});
  g.f32Tensor("output_norm.weight", {8}, 1);
  return g;
}

/// The bytes of a safetensors file with this header text and data.
inline std::string safetensors(const std::string &header, const std::string &data) {
  return raw<uint64_t>(header.size()) + header + data;
}

/// A safetensors file of f32 tensors, all zero.
inline std::string safetensors(const std::map<std::string, std::vector<uint64_t>> &shapes) {
  nlohmann::json header = nlohmann::json::object();
  uint64_t offset = 0;
  for (const auto &[name, shape] : shapes) {
    uint64_t bytes = 4;
    for (uint64_t dim : shape)
      bytes *= dim;
    header[name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  return safetensors(header.dump(), std::string(offset, '\0'));
}

/// The tensors of the model of tinyGguf() under Hugging Face's names.
inline std::map<std::string, std::vector<uint64_t>> tinyShapes() {
  const std::string layer = "model.layers.0.";
  return {{"model.embed_tokens.weight", {5, 8}},
          {layer + "input_layernorm.weight", {8}},
          {layer + "self_attn.q_proj.weight", {8, 8}},
          {layer + "self_attn.k_proj.weight", {4, 8}},
          {layer + "self_attn.v_proj.weight", {4, 8}},
          {layer + "self_attn.o_proj.weight", {8, 8}},
          {layer + "post_attention_layernorm.weight", {8}},
          {layer + "mlp.gate_proj.weight", {16, 8}},
          {layer + "mlp.up_proj.weight", {16, 8}},
          {layer + "mlp.down_proj.weight", {8, 16}},
          {"model.norm.weight", {8}}};
}

inline nlohmann::json tinyConfig() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"num_hidden_layers", 1},
          {"hidden_size", 8},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"intermediate_size", 16},
          {"vocab_size", 5},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},
          {"tie_word_embeddings", true},
          {"bos_token_id", 0},
          {"eos_token_id", 1}};
}

/// What a config.json of these fields says.
inline Expected<ModelConfig> configOf(const nlohmann::json &fields) {
  auto document = parseJson(fields.dump(), "model file is not usable", "config.json");
  if (!document)
    return tl::unexpected(document.error());
  return configFromJson(*document);
}

/// A test with a folder of its own that is removed afterwards.
class FolderTest : public testing::Test {
protected:
  FolderTest() {
    const auto *test = testing::UnitTest::GetInstance()->current_test_info();
    folder = std::filesystem::temp_directory_path() /
             ("kernelforge-" + std::to_string(::getpid()) + "-" + test->name());
    std::filesystem::create_directories(folder);
  }
  ~FolderTest() override { std::filesystem::remove_all(folder); }

  std::string path(const std::string &name) const { return (folder / name).string(); }
  std::string write(const std::string &name, std::string_view content) const {
    std::ofstream(path(name), std::ios::binary) << content;
    return path(name);
  }

  std::filesystem::path folder;
};

} // namespace kernelforge::test
