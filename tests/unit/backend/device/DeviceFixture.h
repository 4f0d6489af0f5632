// What tests of devices share: programs that are put together piece by piece, and a device of the
// target whose test program it is.
#pragma once

#include "kernelforge/backend/Device.h"

#include <cstdint>
#include <gtest/gtest.h>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace kernelforge {

/// Puts a program together piece by piece. Buffers of the arena are laid out one behind another.
class ProgramMaker {
public:
  Program program;

  explicit ProgramMaker(std::string function) { program.function = std::move(function); }

  int size(std::string name, int64_t min, int64_t max);
  int argument(std::string name, Extent bytes, BufferKind kind = BufferKind::Argument);
  int result(std::string name, Extent bytes);
  /// `most`: bytes at the sizes' maxima.
  int intermediate(std::string name, Extent bytes, int64_t most);
  /// A kernel with as many sizes as it has names of sizes.
  int kernel(std::string name, std::string code, std::vector<Phase> phases,
             std::vector<std::string> sizes = {}, std::vector<Workspace> workspaces = {});
  void launch(int kernel, std::vector<int> buffers, std::vector<int> sizes = {});
  std::shared_ptr<const Program> done() { return std::make_shared<Program>(program); }
};

/// Parameters of a phase: buffers 0 to `buffers` - 1, the last of them written, then sizes.
std::vector<Parameter> parameters(int buffers, int sizes);

/// A phase that gives out[i] = in[i] * 2 + 1 for i < n, 64 elements a block: buffers in, out.
Phase affinePhase(std::string entry = "affine");

/// affine() of one argument, `launches` times over, by a kernel "my_kernel"; without code, the
/// target's.
std::shared_ptr<const Program> repeated(int launches, std::string code = {},
                                        Phase phase = affinePhase());

/// What the tests of a target give to those that all devices share: code of its own, by the
/// target's calling convention, and a device.
struct TestTarget {
  const char *kind;
  /// `affine`, see affinePhase().
  std::string affine;
  /// `number`, a buffer and as many blocks of one thread as there are tasks: result[i] += 3 * i.
  std::string number;
  /// Two phases. `sum_rows`: weight, workspace, n; a block sums 16 elements. `sum_all`: that
  /// workspace, one that stays and counts runs, result, n: the sum, and how often it was run.
  std::string sum;
  Expected<std::unique_ptr<Device>> (*create)();
  /// A device that runs what kernels are compiled to: create()'s, unless that one is made up.
  Expected<std::unique_ptr<Device>> (*createForKernels)();
  /// Makes a device lose itself; null where no other one could be made then.
  void (*lose)(Device &);
  /// A variable of the environment that makes it a failure that there is no device.
  const char *requiredBy;
};
/// Defined by each test program.
const TestTarget &testTarget();

/// Skips a test where there is no device, or fails it where one is required.
class DeviceTest : public testing::Test {
protected:
  void SetUp() override;

  BufferRef memory(int64_t bytes, MemoryUse use = MemoryUse::Transfer);
  /// Memory with these values.
  template <typename T> BufferRef holding(const std::vector<T> &values) {
    BufferRef ref = memory(int64_t(values.size() * sizeof(T)));
    put(ref, std::as_bytes(std::span(values)));
    return ref;
  }
  /// Memory of all ones.
  BufferRef poisoned(int64_t bytes);
  void put(const BufferRef &to, std::span<const std::byte> bytes);
  std::vector<std::byte> bytesOf(const BufferRef &from);
  template <typename T> std::vector<T> valuesOf(const BufferRef &from) {
    std::vector<T> values(from.bytes / sizeof(T));
    const BufferRef whole = {from.memory, from.offset, int64_t(values.size() * sizeof(T))};
    Expected<Ticket> ticket = device->download(whole, std::as_writable_bytes(std::span(values)));
    EXPECT_TRUE(ticket) << ticket.error().line();
    if (ticket)
      expectGood(device->wait(*ticket));
    return values;
  }

  std::unique_ptr<Executable> load(std::shared_ptr<const Program> program);
  std::unique_ptr<BoundProgram> bind(Executable &executable, ProgramBuffers buffers);
  void run(BoundProgram &program, std::vector<int64_t> sizes);
  static void expectGood(const Status &status) { EXPECT_TRUE(status) << status.error().line(); }

  std::unique_ptr<Device> device;
};

/// The line of an error that must be there.
template <typename T> std::string errorOf(const Expected<T> &value) {
  return value ? "no error" : value.error().line();
}
template <typename T> ErrorKind kindOf(const Expected<T> &value) {
  return value ? ErrorKind::No : value.error().kind;
}

} // namespace kernelforge
