#include "kernelforge/backend/GpuLaunches.h"

#include <fmt/format.h>

#include <algorithm>

namespace kernelforge {

std::string blockObstacle(const Phase &phase, const Limits &limits, const char *sharedName) {
  int64_t threads = 1;
  for (int64_t side : phase.block) {
    if (side < 1 || side > limits.threadsPerBlock)
      return fmt::format("a side of its block has {} threads", side);
    threads *= side;
  }
  if (threads > limits.threadsPerBlock)
    return fmt::format("its block has {} threads where {} are the most", threads,
                       limits.threadsPerBlock);
  if (phase.sharedBytes > limits.sharedBytes)
    return fmt::format("it needs {} bytes of {} memory where {} are the most", phase.sharedBytes,
                       sharedName, limits.sharedBytes);
  return {};
}

Expected<std::vector<std::vector<int64_t>>> keptWorkspaces(const Program &program) {
  std::vector<std::vector<int64_t>> all(program.artifacts.size());
  for (const Launch &launch : program.launches) {
    const Artifact &artifact = program.artifacts[launch.artifact];
    std::vector<int64_t> &own = all[launch.artifact];
    own.resize(artifact.launching.workspaces.size());
    std::vector<int64_t> sizes;
    for (int size : launch.sizes)
      sizes.push_back(program.sizes[size].max);
    for (size_t i = 0; i < own.size(); ++i) {
      const Workspace &workspace = artifact.launching.workspaces[i];
      if (workspace.contents != Workspace::Contents::ZeroedOnce)
        continue;
      const auto bytes = checkedExtent(workspace.bytes, sizes);
      if (!bytes)
        return unusable("program cannot be bound", artifact.kernel,
                        "the size of a workspace overflows");
      own[i] = std::max(own[i], int64_t(*bytes));
    }
  }
  return all;
}

} // namespace kernelforge
