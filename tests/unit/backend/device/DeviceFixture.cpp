#include "DeviceFixture.h"

#include <cstdlib>

namespace kernelforge {

int ProgramMaker::size(std::string name, int64_t min, int64_t max) {
  program.sizes.push_back({std::move(name), min, max});
  return int(program.sizes.size()) - 1;
}

int ProgramMaker::argument(std::string name, Extent bytes, BufferKind kind) {
  program.buffers.push_back({std::move(name), kind, std::move(bytes), 0});
  program.arguments.push_back(int(program.buffers.size()) - 1);
  return program.arguments.back();
}

int ProgramMaker::result(std::string name, Extent bytes) {
  program.buffers.push_back({std::move(name), BufferKind::Argument, std::move(bytes), 0});
  program.results.push_back(int(program.buffers.size()) - 1);
  return program.results.back();
}

int ProgramMaker::intermediate(std::string name, Extent bytes, int64_t most) {
  program.buffers.push_back(
      {std::move(name), BufferKind::Intermediate, std::move(bytes), program.arenaBytes});
  program.arenaBytes += (most + 255) / 256 * 256;
  return int(program.buffers.size()) - 1;
}

int ProgramMaker::kernel(std::string name, std::string code, std::vector<Phase> phases,
                         std::vector<std::string> sizes, std::vector<Workspace> workspaces) {
  Artifact artifact;
  artifact.kernel = std::move(name);
  artifact.code = std::move(code);
  artifact.launching = {std::move(phases), std::move(workspaces)};
  artifact.sizeNames = std::move(sizes);
  program.artifacts.push_back(std::move(artifact));
  return int(program.artifacts.size()) - 1;
}

void ProgramMaker::launch(int kernel, std::vector<int> buffers, std::vector<int> sizes) {
  program.launches.push_back({kernel, std::move(buffers), std::move(sizes), -1});
}

std::vector<Parameter> parameters(int buffers, int sizes) {
  std::vector<Parameter> all;
  for (int i = 0; i < buffers; ++i)
    all.push_back({Parameter::Kind::Buffer, i, i + 1 < buffers ? Access::Read : Access::Write});
  for (int i = 0; i < sizes; ++i)
    all.push_back({Parameter::Kind::Size, i, Access::Read});
  return all;
}

Phase affinePhase(std::string entry) {
  Phase phase;
  phase.entry = std::move(entry);
  phase.parameters = parameters(2, 1);
  phase.grid = Extent(1, 0, 64);
  phase.block = {64, 1, 1};
  return phase;
}

std::shared_ptr<const Program> repeated(int launches, std::string code, Phase phase) {
  ProgramMaker maker("repeated");
  const int n = maker.size("n", 2, 1000);
  const int in = maker.argument("in", Extent(4, n)), out = maker.result("out", Extent(4, n));
  const int kernel = maker.kernel("my_kernel", code.empty() ? testTarget().affine : std::move(code),
                                  {std::move(phase)}, {"n"});
  for (int i = 0; i < launches; ++i)
    maker.launch(kernel, {in, out}, {n});
  return maker.done();
}

void DeviceTest::SetUp() {
  // One device stays, and with it the driver: what a driver that was closed has leaked cannot be
  // told from what we have.
  static auto *const keeper = new Expected<std::unique_ptr<Device>>(testTarget().create());
  (void)keeper;
  Expected<std::unique_ptr<Device>> made = testTarget().create();
  if (!made) {
    if (std::getenv(testTarget().requiredBy))
      FAIL() << made.error().line();
    GTEST_SKIP() << made.error().line();
  }
  device = std::move(*made);
}

BufferRef DeviceTest::memory(int64_t bytes, MemoryUse use) {
  Expected<BufferRef> ref = device->allocate(bytes, use);
  EXPECT_TRUE(ref) << ref.error().line();
  return ref ? *ref : BufferRef{};
}

BufferRef DeviceTest::poisoned(int64_t bytes) {
  BufferRef ref = memory(bytes);
  put(ref, std::vector<std::byte>(bytes, std::byte(0xff)));
  return ref;
}

void DeviceTest::put(const BufferRef &to, std::span<const std::byte> bytes) {
  Expected<Ticket> ticket = device->upload(bytes, to);
  ASSERT_TRUE(ticket) << ticket.error().line();
}

std::vector<std::byte> DeviceTest::bytesOf(const BufferRef &from) {
  return valuesOf<std::byte>(from);
}

std::unique_ptr<Executable> DeviceTest::load(std::shared_ptr<const Program> program) {
  auto loaded = device->load({&program, 1});
  EXPECT_TRUE(loaded) << loaded.error().line();
  return loaded ? std::move(loaded->front()) : nullptr;
}

std::unique_ptr<BoundProgram> DeviceTest::bind(Executable &executable, ProgramBuffers buffers) {
  auto bound = executable.bind(std::move(buffers));
  EXPECT_TRUE(bound) << bound.error().line();
  return bound ? std::move(*bound) : nullptr;
}

void DeviceTest::run(BoundProgram &program, std::vector<int64_t> sizes) {
  Expected<Ticket> ticket = program.submit(sizes);
  ASSERT_TRUE(ticket) << ticket.error().line();
  expectGood(device->wait(*ticket));
}

} // namespace kernelforge
