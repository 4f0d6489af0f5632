// Checks of programs and of what they are run on.
#include "kernelforge/backend/Program.h"
#include "kernelforge/codegen/LaunchingJson.h"
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
  auto refuse = [&](const char *why) {
    return inconsistent(program, fmt::format("'{}' {}", artifact.kernel, why));
  };
  if (artifact.library.has_value() == (artifact.variant == "generated"))
    return refuse(artifact.library ? "is generated, and a library call"
                                   : "is of another variant, and no library call");
  if (!artifact.library)
    return {};
  if (!artifact.code.empty() || artifact.launching != Launching{})
    return refuse("is a library call, and has code or phases");
  if (artifact.library->sizes != artifact.sizeNames.size())
    return refuse("is a library call with other sizes than the kernel's");
  if (Status status = checkLibraryCall(*artifact.library); !status)
    return inconsistent(program, fmt::format("'{}': {}", artifact.kernel, status.error().why));
  return {};
}

/// A library reads and writes what its problem says, at as many rows as the launch has: nobody else
/// looks at how much that is.
Status checkCall(const Program &program, const Launch &launch) {
  const Artifact &artifact = program.artifacts[launch.artifact];
  const LibraryCall &call = *artifact.library;
  const MatmulProblem &problem = call.problem;
  if (launch.buffers.size() != call.buffers())
    return inconsistent(program,
                        fmt::format("a launch of '{}' has {} buffers of {}", artifact.kernel,
                                    launch.buffers.size(), call.buffers()));
  // The most rows, and the least that buffers are which follow another size.
  std::vector<int64_t> sizes;
  for (const ProgramSize &size : program.sizes)
    sizes.push_back(size.min);
  int64_t rows = problem.m;
  if (call.rowsSize >= 0) {
    const int size = launch.sizes[call.rowsSize];
    rows = sizes[size] = program.sizes[size].max;
  }
  if (rows > problem.m)
    return inconsistent(program, fmt::format("a launch of '{}' has {} rows where its library call "
                                             "has {} at most",
                                             artifact.kernel, rows, problem.m));
  auto check = [&](unsigned index, uint64_t needed) -> Status {
    const Buffer &buffer = program.buffers[launch.buffers[index]];
    if (*checkedExtent(buffer.bytes, sizes) >= needed)
      return {};
    return inconsistent(program, fmt::format("buffer '{}' has fewer than the {} bytes that '{}' "
                                             "takes there",
                                             buffer.name, needed, artifact.kernel));
  };
  const auto rowsOf = [&](int64_t width) { return 4 * uint64_t(rows) * uint64_t(width); };
  KF_CHECK(check(call.bufferOf(call.input), rowsOf(problem.k)));
  KF_CHECK(check(call.bufferOf(call.weight), problem.weightBytes()));
  if (call.bias)
    KF_CHECK(check(call.bufferOf(*call.bias), 4 * uint64_t(problem.n)));
  if (call.residual)
    KF_CHECK(check(call.bufferOf(*call.residual), rowsOf(problem.n)));
  return check(call.buffers() - 1, rowsOf(problem.n));
}

Status checkLaunch(const Program &program, const Launch &launch, std::span<const int64_t> maxima) {
  if (launch.artifact < 0 || launch.artifact >= int(program.artifacts.size()))
    return inconsistent(program, fmt::format("there is no artifact {}", launch.artifact));
  const Artifact &artifact = program.artifacts[launch.artifact];
  const std::vector<Workspace> &workspaces = artifact.launching.workspaces;
  if (launch.buffers.size() < workspaces.size())
    return inconsistent(program, fmt::format("a launch of '{}' has fewer buffers than workspaces",
                                             artifact.kernel));
  const size_t firstWorkspace = launch.buffers.size() - workspaces.size();
  for (size_t i = 0; i < launch.buffers.size(); ++i) {
    const int buffer = launch.buffers[i];
    // What a bound program keeps to itself is no buffer of the program.
    if (buffer == -1 && i >= firstWorkspace &&
        workspaces[i - firstWorkspace].contents == Workspace::Contents::ZeroedOnce)
      continue;
    if (buffer < 0 || buffer >= int(program.buffers.size()))
      return inconsistent(program, fmt::format("a launch of '{}' names buffer {}, which is not "
                                               "there",
                                               artifact.kernel, buffer));
  }
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
  if (artifact.library)
    KF_CHECK(checkCall(program, launch));
  else if (Status status =
               checkLaunching(artifact.launching, int(firstWorkspace), int(sizes.size()));
           !status)
    return inconsistent(program, fmt::format("'{}': {}", artifact.kernel, status.error().why));
  for (const std::vector<Extent> *terms : {&artifact.cost.flopTerms, &artifact.cost.byteTerms})
    for (const Extent &term : *terms)
      if (!checkedExtent(term, sizes))
        return inconsistent(program, fmt::format("cost of '{}' overflows", artifact.kernel));
  for (const Phase &phase : artifact.launching.phases) {
    if (!checkedExtent(phase.grid, sizes))
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
  if (!checkedExtent(copy.bytes, maxima))
    return inconsistent(program, "the size of a copied result overflows");
  return {};
}

} // namespace

std::optional<uint64_t> checkedExtent(const Extent &extent, std::span<const int64_t> sizes) {
  if (extent.multiplier < 0)
    return std::nullopt;
  uint64_t value = extent.multiplier;
  for (const Term &term : extent.product) {
    if (term.divisor < 1 || term.beyond < 0 || term.size < 0 ||
        term.size >= int64_t(sizes.size()) || sizes[term.size] < 0)
      return std::nullopt;
    auto rounded = checkedRoundUp(term.above(sizes.data()), term.divisor);
    if (rounded && *rounded > uint64_t(INT64_MAX) - uint64_t(term.divisor))
      return std::nullopt; // evaluate() counts in signed numbers
    auto next = rounded ? checkedMul(value, *rounded / term.divisor) : std::nullopt;
    if (!next || *next > uint64_t(INT64_MAX))
      return std::nullopt;
    value = *next;
  }
  return extent.atMost ? std::min(value, uint64_t(*extent.atMost)) : value;
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

} // namespace kernelforge
