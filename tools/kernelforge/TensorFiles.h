// Tensors as .npy files: what `compile` takes and gives.
#pragma once

#include "kernelforge/problem/FunctionData.h"
#include "kernelforge/support/Npy.h"

namespace kernelforge::cli {

/// Values of all arguments from one array each, in order: f32, f16 and i32 as they are, bf16 as
/// uint16, a quantized weight as uint8 [rows, bytes of a row], a cache as float32 [slots, heads,
/// dim]. Sizes are taken from the arrays; `given` ones must agree. Unusable, naming the argument
/// and the array that it takes, where one does not fit; indices are checked.
Expected<FunctionData> dataFromFiles(const FunctionSignature &signature, const SizeValues &given,
                                     const std::vector<std::string> &files);

/// Writes a tensor in the same forms; `cache` as float32.
Status writeTensor(const std::string &file, const TensorData &tensor, bool cache);

/// Reads what a tensor is expected to be, as f32. Unusable where its shape or type differs.
Expected<std::vector<float>> readExpected(const std::string &file, const TensorData &tensor,
                                          bool cache);

} // namespace kernelforge::cli
