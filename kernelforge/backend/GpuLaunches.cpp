#include "kernelforge/backend/GpuLaunches.h"

#include <fmt/format.h>

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

Expected<std::vector<std::vector<BufferRef>>>
makeKeptWorkspaces(const Program &program,
                   const std::function<Expected<BufferRef>(int64_t bytes)> &allocate) {
  std::vector<std::vector<BufferRef>> all(program.artifacts.size());
  for (const Launch &launch : program.launches) {
    const Artifact &artifact = program.artifacts[launch.artifact];
    std::vector<BufferRef> &own = all[launch.artifact];
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
      if (!own[i].memory || uint64_t(own[i].bytes) < *bytes) {
        KF_TRY(own[i], allocate(int64_t(*bytes)));
      }
    }
  }
  return all;
}

} // namespace kernelforge
