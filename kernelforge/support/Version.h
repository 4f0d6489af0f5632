// Which version of the program this is, for reports that outlive it.
#pragma once

namespace kernelforge {

struct Version {
  const char *number;    ///< "0.1.0"
  const char *gitCommit; ///< of the sources when the build was configured; "unknown" outside git
  const char *buildType; ///< "Release", "Debug" or "Sanitize"
};

const Version &version();

} // namespace kernelforge
