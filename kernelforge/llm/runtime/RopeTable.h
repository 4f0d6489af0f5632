// The table that `rope` reads: cosines and sines of every position's angles.
#pragma once

#include "kernelforge/ir/ModelDescription.h"

#include <vector>

namespace kernelforge {

/// [positions, rotaryDim] f32: row p holds cos(p * f_i) for i < rotaryDim / 2, then sin(p * f_i),
/// with f_i = theta^(-2i / rotaryDim) / factor_i, each times the description's magnitude. Angles
/// are rounded to f32 before cos and sin, as the models were trained and as their reference does.
std::vector<float> makeRopeTable(const RopeDescription &rope, int64_t positions);

} // namespace kernelforge
