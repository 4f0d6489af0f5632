#include "kernelforge/support/Version.h"

namespace kernelforge {

const Version &version() {
  static const Version version{KERNELFORGE_VERSION, KERNELFORGE_COMMIT, KERNELFORGE_BUILD_TYPE};
  return version;
}

} // namespace kernelforge
