// A small decoder with random weights that runs through the interpreter at any stage.
#pragma once

#include "kernelforge/backend/interpreter/Interpreter.h"
#include "kernelforge/ir/ModuleBuilder.h"

#include "mlir/IR/OwningOpRef.h"

#include <gtest/gtest.h>
#include <map>
#include <string>
#include <vector>

namespace kernelforge {

/// How far a module of a decoder is compiled before it is interpreted.
enum class Stage { Built, Decomposed, Merged, LaidOut, Fused, OneKernelEach };

/// A decoder with its weights, caches of one conversation and rope table; the functions "prefill"
/// (up to 16 tokens, 16 outputs) and "decode" (one token) over both.
class SmallDecoder {
public:
  SmallDecoder(ModelDescription description, Stage stage);

  /// Forgets the conversation.
  void reset();

  /// Appends `ids` to the conversation; gives the logits of the last `outputs` of them.
  std::vector<float> feed(const std::string &function, const std::vector<int32_t> &ids,
                          int64_t outputs);

  mlir::ModuleOp module() { return *owned; }

  /// Where feed puts what it feeds; tests change it to give wrong inputs.
  std::map<std::string, std::vector<int32_t>> override;
  Status last; ///< of the last feed

private:
  void *argument(mlir::func::FuncOp function, unsigned index);

  ModelDescription description;
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> owned;
  std::map<std::string, std::vector<std::byte>> weights; ///< in the layout of the module's types
  std::map<std::string, std::vector<float>> caches;
  std::map<std::string, std::vector<int32_t>> inputs;
  std::vector<float> rope;
  int32_t length = 0; ///< of the conversation
};

/// Dimensions of a decoder of two layers that tests vary.
ModelDescription smallLlama();

} // namespace kernelforge
