#include "kernelforge/support/Host.h"

#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <thread>

using namespace kernelforge;
namespace fs = std::filesystem;

namespace {

/// A folder that looks like the root of a machine.
class FakeRoot : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "kernelforge-host-XXXXXX").string();
    ASSERT_TRUE(mkdtemp(pattern.data()));
    root = pattern;
  }
  void TearDown() override { fs::remove_all(root); }

  void write(const std::string &path, const std::string &text) {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text;
  }
  void writeCpu(int cpu, const std::string &siblings) {
    write("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list",
          siblings + "\n");
  }

  fs::path root;
};

TEST_F(FakeRoot, ReadsTheMachine) {
  write("proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\n"
                        "model\t\t: 143\nmodel name\t: Xeon 8488C\nstepping\t: 8\n\n"
                        "processor\t: 1\nmodel\t: 1\nmodel name\t: another\n");
  write("proc/meminfo", "MemFree:  1 kB\nMemTotal:       16384 kB\n");
  write("etc/os-release", "NAME=\"x\"\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n");
  std::string cache = "sys/devices/system/cpu/cpu0/cache/index";
  const char *levels[] = {"1", "1", "2", "3"};
  const char *types[] = {"Data", "Instruction", "Unified", "Unified"};
  const char *sizes[] = {"48K", "32K", "2048K", "105M"};
  for (int i = 0; i < 4; ++i) {
    write(cache + std::to_string(i) + "/level", levels[i]);
    write(cache + std::to_string(i) + "/type", types[i]);
    write(cache + std::to_string(i) + "/size", sizes[i]);
  }
  int cpus[] = {0};
  Host host = readHost(root, cpus);
  EXPECT_EQ(host.cpu, "Xeon 8488C");
  EXPECT_EQ(host.vendor, "GenuineIntel");
  EXPECT_EQ(host.cpuModel, "GenuineIntel family 6 model 143 stepping 8, Xeon 8488C");
  EXPECT_EQ(host.memoryBytes, 16 << 20);
  EXPECT_EQ(host.l1dBytes, 48 << 10);
  EXPECT_EQ(host.l2Bytes, 2 << 20);
  EXPECT_EQ(host.l3Bytes, 105 << 20);
  EXPECT_EQ(host.os.find("Debian GNU/Linux 12 ("), 0u);
}

TEST_F(FakeRoot, CountsCoresNotThreads) {
  for (int cpu = 0; cpu < 4; ++cpu)
    writeCpu(cpu, std::to_string(cpu) + "," + std::to_string(cpu + 4));
  for (int cpu = 4; cpu < 8; ++cpu)
    writeCpu(cpu, std::to_string(cpu - 4) + "," + std::to_string(cpu));
  int all[] = {0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(readHost(root, all).physicalCores, 4);
  EXPECT_EQ(readHost(root, all).logicalCpus, 8);
  int siblingsOnly[] = {1, 5};
  EXPECT_EQ(readHost(root, siblingsOnly).physicalCores, 1);
  int apart[] = {1, 6};
  EXPECT_EQ(readHost(root, apart).physicalCores, 2);
  EXPECT_EQ(readHost(root, all).coreCpus, (std::vector{0, 1, 2, 3}));
  EXPECT_EQ(readHost(root, apart).coreCpus, (std::vector{1, 6}));
}

TEST_F(FakeRoot, HasTheNodesOfItsCpus) {
  for (int cpu = 0; cpu < 6; ++cpu) {
    writeCpu(cpu, std::to_string(cpu));
    write("sys/devices/system/node/node" + std::to_string(cpu / 2 * 5) + "/cpu" +
              std::to_string(cpu) + "/online",
          "1");
  }
  write("sys/devices/system/node/has_cpu", "0,5,10");
  int all[] = {0, 1, 2, 3, 4, 5}, some[] = {1, 4};
  EXPECT_EQ(readHost(root, all).memoryNodes, (std::vector{0, 5, 10}));
  EXPECT_EQ(readHost(root, some).memoryNodes, (std::vector{0, 10}));
  fs::remove_all(root / "sys/devices/system/node");
  EXPECT_TRUE(readHost(root, all).memoryNodes.empty());
}

TEST_F(FakeRoot, KeepsWithinTheControlGroup) {
  for (int cpu = 0; cpu < 8; ++cpu)
    writeCpu(cpu, std::to_string(cpu));
  write("proc/meminfo", "MemTotal: 1048576 kB\n");
  write("proc/self/cgroup", "0::/a/b\n");
  write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  write("sys/fs/cgroup/a/cpu.max", "250000 100000\n"); // a limit further up counts too
  write("sys/fs/cgroup/a/b/memory.max", "536870912\n");
  write("sys/fs/cgroup/a/memory.max", "max\n");
  int all[] = {0, 1, 2, 3, 4, 5, 6, 7};
  Host host = readHost(root, all);
  EXPECT_EQ(host.physicalCores, 3);
  EXPECT_EQ(host.logicalCpus, 8);
  EXPECT_EQ(host.memoryBytes, 512 << 20);
}

TEST_F(FakeRoot, KeepsWithinControlGroupsOfVersion1) {
  for (int cpu = 0; cpu < 8; ++cpu)
    writeCpu(cpu, std::to_string(cpu));
  write("proc/meminfo", "MemTotal: 1048576 kB\n");
  write("proc/self/cgroup", "9:name=systemd:/x\n5:cpuacct,cpu:/a/b\n4:memory:/a/b\n0::/\n");
  const std::string memory = "sys/fs/cgroup/memory/", cpu = "sys/fs/cgroup/cpu/";
  write(memory + "memory.limit_in_bytes", "9223372036854771712\n"); // none
  write(memory + "a/memory.limit_in_bytes", "536870912\n");         // counts too
  write(memory + "a/b/memory.limit_in_bytes", "805306368\n");
  write(cpu + "cpu.cfs_quota_us", "-1\n");
  write(cpu + "cpu.cfs_period_us", "100000\n");
  write(cpu + "a/b/cpu.cfs_quota_us", "250000\n");
  write(cpu + "a/b/cpu.cfs_period_us", "100000\n");
  int all[] = {0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(readHost(root, all).physicalCores, 3);
  EXPECT_EQ(readHost(root, all).memoryBytes, 512 << 20);
  // Without a number for the whole machine, none is none.
  fs::remove(root / "proc/meminfo");
  write("proc/self/cgroup", "4:memory:/\n");
  EXPECT_EQ(readHost(root, all).memoryBytes, 0);
}

TEST_F(FakeRoot, FindsControlGroupsWhereTheyAreMounted) {
  // A container: the process's path is the machine's, and the container's group is at the top.
  writeCpu(0, "0");
  int cpus[] = {0};
  write("proc/meminfo", "MemTotal: 1048576 kB\n");
  write("proc/self/cgroup", "4:memory:/docker/abc/inner\n0::/docker/abc\n");
  write("proc/self/mountinfo",
        "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw,mode=755\n"
        "35 31 0:32 /docker/abc /cg/mem rw,relatime shared:1 master:2 - cgroup cgroup rw,memory\n"
        "36 31 0:33 /docker/abc /cg/unified rw - cgroup2 cgroup2 rw,nsdelegate\n");
  write("cg/mem/memory.limit_in_bytes", "805306368\n");
  EXPECT_EQ(readHost(root, cpus).memoryBytes, 768 << 20);
  write("cg/mem/inner/memory.limit_in_bytes", "536870912\n");
  EXPECT_EQ(readHost(root, cpus).memoryBytes, 512 << 20);
  write("cg/unified/memory.max", "268435456\n");
  EXPECT_EQ(readHost(root, cpus).memoryBytes, 256 << 20);
  // A group that is not under the mount: at least the mount's own.
  write("proc/self/cgroup", "4:memory:/elsewhere\n");
  EXPECT_EQ(readHost(root, cpus).memoryBytes, 768 << 20);
}

TEST_F(FakeRoot, SaysUnknownOfWhatIsNotThere) {
  int cpus[] = {0, 1};
  Host host = readHost(root, cpus);
  EXPECT_EQ(host.cpu, "unknown");
  EXPECT_EQ(host.cpuModel, "unknown family unknown model unknown stepping unknown, unknown");
  EXPECT_EQ(host.physicalCores, 2);
  EXPECT_EQ(host.memoryBytes, 0);
  write("sys/devices/system/cpu/cpu0/cache/index0/level", "2");
  write("sys/devices/system/cpu/cpu0/cache/index0/size", "-5K");
  EXPECT_EQ(readHost(root, cpus).l2Bytes, 0);
}

TEST(Host, AThreadStaysWhereItIsToldTo) {
  std::thread([] {
    const std::vector<int> all = usableCpus();
    EXPECT_TRUE(stayOnCpus(std::span(all).last(1)));
    EXPECT_EQ(usableCpus(), std::vector{all.back()});
    EXPECT_FALSE(stayOnCpus({}));
    EXPECT_FALSE(stayOnCpus(std::vector{-1}));
    EXPECT_EQ(usableCpus(), std::vector{all.back()});
    EXPECT_TRUE(stayOnCpus(all));
    EXPECT_EQ(usableCpus(), all);
  }).join();
}

TEST(Host, ThisMachineHasWhatAllMachinesHave) {
  EXPECT_FALSE(usableCpus().empty());
  EXPECT_GE(host().physicalCores, 1);
  EXPECT_LE(host().physicalCores, host().logicalCpus);
  EXPECT_GT(host().memoryBytes, 0);
}

} // namespace
