// Checks of what programs are bound to and run with: the same for every device.
#include "kernelforge/backend/Device.h"

#include <fmt/format.h>

namespace kernelforge {

namespace {

auto refused(const Program &program, std::string why) {
  return unusable("run is refused", program.function, std::move(why));
}

Status checkPiece(const Program &program, std::string_view what, const BufferRef &piece,
                  int64_t alignment) {
  const int64_t all = piece.memory ? piece.memory->bytes() : 0;
  if (piece.offset < 0 || piece.bytes < 0 || piece.offset > all || piece.bytes > all - piece.offset)
    return refused(program, fmt::format("{} lies beyond its memory", what));
  if (piece.offset % alignment != 0)
    return refused(program,
                   fmt::format("{} does not begin at a multiple of {} bytes", what, alignment));
  return {};
}

/// `what` is "argument" or "result"; `indices` are theirs in the program.
Status checkList(const Program &program, const char *what, std::span<const int> indices,
                 std::span<const BufferRef> bound, int64_t alignment) {
  if (bound.size() != indices.size())
    return refused(program, fmt::format("{} {}s are bound where {} are needed", bound.size(), what,
                                        indices.size()));
  for (size_t i = 0; i < bound.size(); ++i) {
    KF_CHECK(checkPiece(program,
                        fmt::format("{} {} ('{}')", what, i, program.buffers[indices[i]].name),
                        bound[i], alignment));
  }
  return {};
}

} // namespace

Status checkBuffers(const Program &program, const ProgramBuffers &buffers, int64_t alignment) {
  KF_CHECK(checkList(program, "argument", program.arguments, buffers.arguments, alignment));
  KF_CHECK(checkList(program, "result", program.results, buffers.results, alignment));
  if (buffers.arena.bytes < program.arenaBytes)
    return refused(program, fmt::format("the arena has {} bytes where {} are needed",
                                        buffers.arena.bytes, program.arenaBytes));
  return checkPiece(program, "the arena", buffers.arena, program.arenaBytes > 0 ? alignment : 1);
}

Status checkRun(const Program &program, const ProgramBuffers &buffers,
                std::span<const int64_t> sizes) {
  if (sizes.size() != program.sizes.size())
    return refused(program, fmt::format("{} sizes are given where {} are needed", sizes.size(),
                                        program.sizes.size()));
  for (size_t i = 0; i < sizes.size(); ++i) {
    const ProgramSize &size = program.sizes[i];
    if (sizes[i] < size.min || sizes[i] > size.max)
      return refused(program, fmt::format("size '{}' is {}, out of the range {} to {} that it was "
                                          "compiled for",
                                          size.name, sizes[i], size.min, size.max));
  }
  auto needed = [&](int index) {
    int64_t bytes = program.buffers[index].bytes.evaluate(sizes.data());
    for (const ResultCopy &copy : program.copies)
      if (copy.from == index || copy.to == index)
        bytes = std::max(bytes, int64_t(checkedExtent(copy.bytes, sizes).value_or(0)));
    return bytes;
  };
  auto check = [&](const char *what, std::span<const int> indices,
                   std::span<const BufferRef> bound) -> Status {
    for (size_t i = 0; i < indices.size(); ++i) {
      const std::string &name = program.buffers[indices[i]].name;
      const int64_t bytes = needed(indices[i]);
      if (bytes > 0 && !bound[i].memory)
        return refused(program, fmt::format("{} {} ('{}') is not bound", what, i, name));
      if (bytes > bound[i].bytes)
        return refused(program, fmt::format("{} {} ('{}') has {} bytes where {} are needed", what,
                                            i, name, bound[i].bytes, bytes));
    }
    return {};
  };
  KF_CHECK(check("argument", program.arguments, buffers.arguments));
  return check("result", program.results, buffers.results);
}

Status checkTransfer(uint64_t hostBytes, const BufferRef &buffer) {
  const int64_t all = buffer.memory ? buffer.memory->bytes() : 0;
  if (buffer.offset >= 0 && buffer.bytes >= 0 && buffer.offset <= all &&
      buffer.bytes <= all - buffer.offset && hostBytes == uint64_t(buffer.bytes))
    return {};
  return unusable("bytes cannot be copied", "device memory",
                  fmt::format("{} bytes of the host's and {} at {} of {} of the device's",
                              hostBytes, buffer.bytes, buffer.offset, all));
}

} // namespace kernelforge
