// Weights of FP8 as safetensors ship them: a tensor of numbers e4m3 and beside it one of scales.
#pragma once

#include "kernelforge/llm/WeightFile.h"
#include "kernelforge/support/Error.h"

namespace kernelforge {

/// Rows and columns that have one scale where there is neither one for a row nor one for all.
inline constexpr int64_t fp8Block = 128;

/// True for numbers e4m3, whose dtype is no ElementType by itself.
bool isFp8(const StoredTensor &tensor);

/// The scales of a matrix of numbers e4m3: what its numbers are multiplied with.
struct Fp8Scales {
  const StoredTensor *tensor;
  int64_t rows, columns; ///< of the matrix that have one scale
};

/// Finds the scales of a matrix [out, in] (NAME_scale_inv or NAME_scale: f32, bf16 or f16, one for
/// each 128 x 128 numbers, for each row, or for all) and checks that they can be joined with it:
/// Unusable where they are missing, of another type or shape, or where rows are no whole number of
/// f8_e4m3's blocks. `where` names the file.
Expected<Fp8Scales> findFp8Scales(const StoredTensor &matrix,
                                  const NamedList<StoredTensor> &tensors, const std::string &where);

/// Writes rows [first, first + count) of the matrix as blocks of ElementType::F8_E4M3 to `out`,
/// which takes the bytes of so many rows.
void joinFp8(const StoredTensor &matrix, const Fp8Scales &scales, int64_t first, int64_t count,
             std::byte *out);

} // namespace kernelforge
