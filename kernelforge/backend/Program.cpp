// Checks of programs and of what they are run on.
#include "kernelforge/backend/Backend.h"
#include "kernelforge/support/CheckedArithmetic.h"

#include <fmt/format.h>

#include <algorithm>

namespace kernelforge {

namespace {

auto inconsistent(const Program &program, std::string why) {
  return unusable("program is inconsistent", program.function, std::move(why));
}

Status checkBuffers(const Program &program, std::span<const int64_t> maxima) {
  for (const Buffer &buffer : program.buffers) {
    auto bytes = checkedExtent(buffer.bytes, maxima);
    if (!bytes)
      return inconsistent(program, fmt::format("size of buffer '{}' overflows", buffer.name));
    if (buffer.kind != BufferKind::Intermediate)
      continue;
    auto end = checkedAdd(*bytes, buffer.offset);
    if (buffer.offset < 0 || buffer.offset % 64 != 0 || !end || *end > uint64_t(program.arenaBytes))
      return inconsistent(program, fmt::format("intermediate '{}' does not lie in the arena, on a "
                                               "multiple of 64 bytes",
                                               buffer.name));
  }
  std::vector<int> bound(program.buffers.size(), 0);
  for (const std::vector<int> *list : {&program.arguments, &program.results})
    for (int index : *list) {
      if (index < 0 || index >= int(program.buffers.size()))
        return inconsistent(program, fmt::format("there is no buffer {} to bind", index));
      if (++bound[index] > 1)
        return inconsistent(program,
                            fmt::format("buffer '{}' is bound twice", program.buffers[index].name));
    }
  for (size_t i = 0; i < program.buffers.size(); ++i)
    if ((program.buffers[i].kind == BufferKind::Intermediate) == (bound[i] == 1))
      return inconsistent(program,
                          fmt::format("buffer '{}' is {}", program.buffers[i].name,
                                      bound[i] ? "an intermediate and bound" : "bound nowhere"));
  return {};
}

Status checkArtifact(const Program &program, const Artifact &artifact) {
  if (!artifact.host ||
      (artifact.code.empty() && artifact.phases.empty() && artifact.workspaceBytes.multiplier == 0))
    return {};
  return inconsistent(program, fmt::format("'{}' has a host function, and code, phases or a "
                                           "workspace",
                                           artifact.kernel));
}

Status checkLaunch(const Program &program, const Launch &launch, std::span<const int64_t> maxima) {
  if (launch.artifact < 0 || launch.artifact >= int(program.artifacts.size()))
    return inconsistent(program, fmt::format("there is no artifact {}", launch.artifact));
  const Artifact &artifact = program.artifacts[launch.artifact];
  for (int buffer : launch.buffers)
    if (buffer < 0 || buffer >= int(program.buffers.size()))
      return inconsistent(program, fmt::format("a launch of '{}' names buffer {}, which is not "
                                               "there",
                                               artifact.kernel, buffer));
  std::vector<int64_t> sizes;
  for (int size : launch.sizes) {
    if (size < 0 || size >= int(maxima.size()))
      return inconsistent(program, fmt::format("a launch of '{}' names size {}, which is not there",
                                               artifact.kernel, size));
    sizes.push_back(maxima[size]);
  }
  if (sizes.size() != artifact.sizeNames.size())
    return inconsistent(program,
                        fmt::format("a launch of '{}' gives {} sizes of {}", artifact.kernel,
                                    sizes.size(), artifact.sizeNames.size()));
  for (const Phase &phase : artifact.phases) {
    if (!checkedProduct(phase.grid, sizes))
      return inconsistent(program, fmt::format("grid of '{}' overflows", artifact.kernel));
    if (phase.scratchBytes < 0)
      return inconsistent(program, fmt::format("'{}' has negative scratch", artifact.kernel));
  }
  return {};
}

/// A copy fills a result from what is bound as well.
Status checkCopy(const Program &program, const ResultCopy &copy, std::span<const int64_t> maxima) {
  auto isIn = [](const std::vector<int> &list, int buffer) {
    return std::find(list.begin(), list.end(), buffer) != list.end();
  };
  if (!isIn(program.results, copy.to) || copy.to == copy.from ||
      (!isIn(program.results, copy.from) && !isIn(program.arguments, copy.from)))
    return inconsistent(program, fmt::format("a copy from buffer {} to {} is not from an argument "
                                             "or result to another result",
                                             copy.from, copy.to));
  if (!checkedProduct(copy.bytes, maxima))
    return inconsistent(program, "the size of a copied result overflows");
  return {};
}

} // namespace

std::optional<uint64_t> checkedProduct(std::span<const Extent> extents,
                                       std::span<const int64_t> sizes) {
  uint64_t product = 1;
  for (const Extent &extent : extents) {
    auto value = checkedExtent(extent, sizes);
    auto next = value ? checkedMul(product, *value) : std::nullopt;
    if (!next || *next > uint64_t(INT64_MAX))
      return std::nullopt;
    product = *next;
  }
  return product;
}

std::optional<uint64_t> checkedExtent(const Extent &extent, std::span<const int64_t> sizes) {
  if (extent.multiplier < 0 || extent.divisor < 1 || extent.size < -1 ||
      extent.size >= int64_t(sizes.size()))
    return std::nullopt;
  if (extent.size < 0)
    return extent.multiplier;
  auto rounded = checkedRoundUp(sizes[extent.size], extent.divisor);
  if (!rounded)
    return std::nullopt;
  auto value = checkedMul(extent.multiplier, *rounded / extent.divisor);
  return value && *value <= uint64_t(INT64_MAX) ? value : std::nullopt;
}

Status checkProgram(const Program &program) {
  std::vector<int64_t> maxima;
  for (const ProgramSize &size : program.sizes) {
    if (size.min < 0 || size.min > size.max)
      return inconsistent(program, fmt::format("size '{}' has the empty range {} to {}", size.name,
                                               size.min, size.max));
    maxima.push_back(size.max);
  }
  if (program.arenaBytes < 0)
    return inconsistent(program, "the arena has a negative size");
  KF_CHECK(checkBuffers(program, maxima));
  for (const Artifact &artifact : program.artifacts)
    KF_CHECK(checkArtifact(program, artifact));
  for (const Launch &launch : program.launches)
    KF_CHECK(checkLaunch(program, launch, maxima));
  for (const ResultCopy &copy : program.copies)
    KF_CHECK(checkCopy(program, copy, maxima));
  return {};
}

Status checkBindings(const Program &program, const Bindings &bindings) {
  auto refused = [&](std::string why) {
    return unusable("run is refused", program.function, std::move(why));
  };
  if (bindings.sizes.size() != program.sizes.size())
    return refused(fmt::format("{} sizes are given where {} are needed", bindings.sizes.size(),
                               program.sizes.size()));
  for (size_t i = 0; i < program.sizes.size(); ++i) {
    const ProgramSize &size = program.sizes[i];
    if (bindings.sizes[i] < size.min || bindings.sizes[i] > size.max)
      return refused(fmt::format("size '{}' is {}, out of the range {} to {} that it was compiled "
                                 "for",
                                 size.name, bindings.sizes[i], size.min, size.max));
  }
  auto isCopied = [&](int buffer) {
    return std::any_of(program.copies.begin(), program.copies.end(), [&](const ResultCopy &copy) {
      return (copy.from == buffer || copy.to == buffer) &&
             checkedProduct(copy.bytes, bindings.sizes) != 0;
    });
  };
  auto checkPointers = [&](const char *what, std::span<const int> buffers,
                           std::span<void *const> pointers) -> Status {
    if (pointers.size() != buffers.size())
      return refused(fmt::format("{} {}s are bound where {} are needed", pointers.size(), what,
                                 buffers.size()));
    for (size_t i = 0; i < buffers.size(); ++i) {
      const Buffer &buffer = program.buffers[buffers[i]];
      if (!pointers[i] &&
          (buffer.bytes.evaluate(bindings.sizes.data()) != 0 || isCopied(buffers[i])))
        return refused(fmt::format("{} {} ('{}') is not bound", what, i, buffer.name));
    }
    return {};
  };
  KF_CHECK(checkPointers("argument", program.arguments, bindings.arguments));
  return checkPointers("result", program.results, bindings.results);
}

} // namespace kernelforge
