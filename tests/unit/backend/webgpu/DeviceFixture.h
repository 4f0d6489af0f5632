// A WebGPU device for tests, and programs of hand-written WGSL.
#pragma once

#include "kernelforge/backend/webgpu/WebGpuDevice.h"

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
  int kernel(std::string name, std::string wgsl, std::vector<Phase> phases,
             std::vector<std::string> sizes = {}, std::vector<Workspace> workspaces = {});
  void launch(int kernel, std::vector<int> buffers, std::vector<int> sizes = {});
  std::shared_ptr<const Program> done() { return std::make_shared<Program>(program); }
};

/// Parameters of a phase: buffers 0 to `buffers` - 1, the last of them written, then sizes.
std::vector<Parameter> parameters(int buffers, int sizes);

/// A kernel that gives out[i] = in[i] * 2 + 1 for i < n, 64 elements a block: buffers in, out.
Phase affinePhase(std::string entry = "affine");
extern const char *const affineText;

/// Skips a test where there is no adapter, or fails it where KERNELFORGE_REQUIRE_WEBGPU is set. The
/// library is what KERNELFORGE_TEST_WEBGPU_LIBRARY names, if it does.
class DeviceTest : public testing::Test {
protected:
  void SetUp() override;
  static WebGpuOptions options();

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
