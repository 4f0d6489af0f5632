// The roofline of a report as a picture that stands by itself.
#pragma once

#include "kernelforge/support/Error.h"
#include "kernelforge/support/Json.h"

#include <filesystem>
#include <string>

namespace kernelforge {

/// An SVG of the rows of `report` (as SuiteReport makes it) over arithmetic intensity (FLOP a byte)
/// and performance (GFLOP/s), both logarithmic, under the ceilings that were measured in the same
/// run, medians over its rounds (Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009). Rows
/// without a time, flops or bytes are left out; points of untrusted rows are hollow. Each point has
/// its row's name and figures as a title. Without points only the ceilings are drawn.
std::string rooflineSvg(const Json &report);

/// Writes that picture to `file`; errors as for writeOutput.
Status writeRooflineSvg(const std::filesystem::path &file, const Json &report);

} // namespace kernelforge
