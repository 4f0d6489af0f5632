// --block: a transformer block's dimensions, as the user wrote them.
#pragma once

#include "kernelforge/ir/ModelDescription.h"
#include "kernelforge/support/ElementType.h"
#include "kernelforge/support/Error.h"

#include <string>

namespace kernelforge::cli {

/// Help text of the option.
inline constexpr const char *blockHelp =
    "d_model=N,heads=N,kv_heads=N,head_dim=N,d_ff=N,norm=rms|layer,"
    "activation=silu|gelu|gelu_tanh|relu,gated=BOOL,rope=BOOL,layers=N,vocab=N,context=N";

/// The block of `text`: d_model and heads must be given, the rest has defaults (kv_heads = heads,
/// head_dim = d_model / heads, d_ff = 4 d_model, rms, silu, gated, rope, 1 layer, no vocabulary, a
/// context of 4096). Unusable, naming the key and what it may be, where a key is unknown or given
/// twice, a value is none, or the dimensions do not fit together.
Expected<ModelDescription> parseBlock(const std::string &text);

/// Unusable where rows of the model's weight matrices are no whole number of blocks of `type`.
Status checkWeightType(const ModelDescription &description, ElementType type);

/// By name, for options. Unusable, naming all, where it is not known or no type of weights.
Expected<ElementType> parseWeightType(const std::string &name,
                                      const std::string &option = "--weights");

} // namespace kernelforge::cli
