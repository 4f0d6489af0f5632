// The check that a file's tensors are the weights that a description asks for.
#pragma once

#include "kernelforge/llm/WeightFile.h"
#include "kernelforge/llm/architectures/Architecture.h"
#include "kernelforge/support/PageMemory.h"

namespace kernelforge {

/// Weights in the order of weightSlots(), and the memory of those that do not lie in the file as
/// they are needed: matrices that are stored [in, out], and those of FP8, whose scales are apart.
struct BoundWeights {
  NamedList<Weight> weights;
  PageMemory owned;
};

/// Finds every weight of the description among `tensors` and checks its shape and type. Tensors
/// that are left over are an error too (a model with them would compute something else), except
/// those that the family knows to be redundant. `where` names the file. Errors are Unusable, or
/// Failed where memory cannot be had.
Expected<BoundWeights> bindWeights(const Architecture &architecture,
                                   const ModelDescription &description,
                                   const NamedList<StoredTensor> &tensors, WeightNaming naming,
                                   const std::string &where);

/// The first element of the weights that is no finite number, as "NAME has nan in row 3" (a row of
/// a vector is all of it), under the name that its file has; empty where there is none. Reads all
/// weights.
std::string describeNonFinite(const NamedList<Weight> &weights);

} // namespace kernelforge
