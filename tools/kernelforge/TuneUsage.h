// Which options of tune go together: one that would do nothing is refused.
#pragma once

#include "Command.h"

namespace kernelforge::cli {

/// Unusable where what to tune is not said, or twice, or where an option is given that what is
/// asked for has no use for.
Status checkTuneUsage(const CLI::App &command);

} // namespace kernelforge::cli
