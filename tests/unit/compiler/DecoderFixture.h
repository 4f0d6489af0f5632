// Small decoders with made-up weights that run through a Session on any backend, fed sequence by
// sequence.
#pragma once

#include "kernelforge/compiler/Session.h"
#include "kernelforge/ir/ModuleBuilder.h"

#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

namespace kernelforge {

/// A decoder's shape, the element type of each weight, and how it is fed.
struct DecoderCase {
  std::string name;
  ModelDescription description;
  std::function<ElementType(llvm::StringRef)> weightType; ///< empty: f32
  CacheDescription cache = {};
  static constexpr int64_t usualSequences = 3;
  int64_t sequences = usualSequences; ///< that run side by side
};
/// For messages of parametrized tests.
inline void PrintTo(const DecoderCase &decoder, std::ostream *stream) { *stream << decoder.name; }

/// Two layers like Llama's: RMS norm, grouped queries, RoPE, gated SiLU, tied embeddings.
ModelDescription llamaLike();
/// Two layers like GPT's: layer norm, GELU, no gate, biases, learned positions, a head of its own.
ModelDescription gptLike();
/// Three layers that differ, each with norms of its queries and keys: windows and tables of their
/// own, all positions without any; sinks in two of them; norms that multiply by 1 + weight.
ModelDescription normedHeads();
/// The same change to every layer.
void changeLayers(ModelDescription &d, const std::function<void(LayerDescription &)> &change);
/// Both, and decoders that differ from them in every switch that a description has.
std::vector<DecoderCase> decoderCases();

/// The case of that name.
DecoderCase decoderCase(const std::string &name);

/// Tokens of some sequences; a sequence without tokens takes no part.
using Batch = std::vector<std::vector<int32_t>>;

class TestDecoder {
public:
  /// Sequences of a case that says nothing else, positions of each, rows of one prefill.
  static constexpr int64_t sequences = DecoderCase::usualSequences, context = 40, maxRows = 32;

  /// The functions "prefill" (1 to maxRows rows) and "decode" (a row of each sequence) of a case.
  static mlir::OwningOpRef<mlir::ModuleOp> build(mlir::MLIRContext &context,
                                                 const DecoderCase &decoder);

  /// Options of a session that compiles for `level` ("native", "avx2"), with poison, without cache.
  static SessionOptions options(const std::string &level = "native");

  /// Compiles and binds everything; the module is parsed from `text` where that is given.
  static Expected<std::unique_ptr<TestDecoder>>
  create(const DecoderCase &decoder, SessionOptions options, const std::string &text = "");

  /// Appends tokens to the sequences, all rows in one call of `function`. Gives the result's rows:
  /// of every row where `all`, else of the last one of each sequence that has any.
  Expected<std::vector<float>> append(const std::string &function, const Batch &tokens,
                                      bool all = true);

  /// Forgets all sequences: nothing that was in their caches is left.
  void reset();

  /// Two prefills and three decode steps of a conversation; the results one after the other.
  Expected<std::vector<float>> converse();

  Session &session() { return *handle; }
  /// Bytes of a weight as bindWeight takes it, and its type.
  std::pair<ElementType, std::vector<std::byte>> weight(const WeightSlot &slot) const;

private:
  Status bindAll();
  void fillTable();
  int64_t width() const;
  /// Pages of a sequence; 0 where its positions follow each other.
  int64_t pages() const;
  /// Where the position of a sequence lies in the caches.
  int32_t slotOf(size_t sequence, int32_t position) const;

  DecoderCase decoder;
  std::unique_ptr<Session> handle;
  std::map<std::string, std::vector<std::byte>> weights;
  std::map<std::string, std::vector<std::byte>> caches;
  std::map<std::string, std::vector<float>> buffers; ///< rope tables, rows
  std::map<std::string, std::vector<int32_t>> inputs;
  std::vector<int32_t> lengths;
};

/// Euclidean distance of two results relative to the second's norm; infinite where their lengths
/// differ or one is not a number.
double relativeDistance(const std::vector<float> &actual, const std::vector<float> &expected);

/// The text of a module.
std::string printModule(mlir::ModuleOp module);

/// A temporary folder, removed with all that it holds; KERNELFORGE_HOME points at it meanwhile.
class TemporaryHome {
public:
  TemporaryHome();
  ~TemporaryHome();
  TemporaryHome(const TemporaryHome &) = delete;
  TemporaryHome &operator=(const TemporaryHome &) = delete;

  std::filesystem::path folder;

private:
  std::string before;
  bool hadBefore;
};

} // namespace kernelforge
