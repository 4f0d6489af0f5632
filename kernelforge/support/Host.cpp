#include "kernelforge/support/Host.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <optional>
#include <sched.h>
#include <set>
#include <sstream>
#include <string_view>
#include <sys/utsname.h>

#include <fmt/format.h>

namespace kernelforge {
namespace fs = std::filesystem;

namespace {

/// First line of a small system file; empty where it cannot be read.
std::string firstLine(const fs::path &file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view space = " \t\r\n\"";
  size_t begin = text.find_first_not_of(space);
  if (begin == std::string_view::npos)
    return {};
  return text.substr(begin, text.find_last_not_of(space) - begin + 1);
}

/// The value of the first line "KEY<separator>VALUE" of a file, trimmed.
std::optional<std::string> lookUp(const fs::path &file, std::string_view key, char separator) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    size_t at = line.find(separator);
    if (at != std::string::npos && trim(std::string_view(line).substr(0, at)) == key)
      return std::string(trim(std::string_view(line).substr(at + 1)));
  }
  return std::nullopt;
}

/// The number that `text` begins with; the rest of the text goes to `rest`.
std::optional<int64_t> leadingNumber(std::string_view text, std::string_view *rest = nullptr) {
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || value < 0)
    return std::nullopt;
  if (rest)
    *rest = text.substr(end - text.data());
  return value;
}

/// "32K", "1024K", "32M" as bytes.
int64_t cacheBytes(std::string_view text) {
  std::string_view unit;
  auto value = leadingNumber(text, &unit);
  if (!value || *value > (int64_t(1) << 40))
    return 0;
  if (unit.starts_with("K"))
    return *value << 10;
  if (unit.starts_with("M"))
    return *value << 20;
  return *value;
}

void readCaches(const fs::path &cpu, Host &host) {
  for (int index = 0; index < 16; ++index) {
    fs::path cache = cpu / "cache" / fmt::format("index{}", index);
    std::string level = firstLine(cache / "level");
    if (level.empty())
      return;
    int64_t bytes = cacheBytes(firstLine(cache / "size"));
    if (level == "1" && firstLine(cache / "type") == "Data")
      host.l1dBytes = bytes;
    else if (level == "2")
      host.l2Bytes = bytes;
    else if (level == "3")
      host.l3Bytes = bytes;
  }
}

/// Numbers of the nodes, folders "node0" and so on, that have a CPU of `cpus`.
std::vector<int> nodesOf(const fs::path &folder, std::span<const int> cpus) {
  constexpr std::string_view prefix = "node";
  std::vector<int> nodes;
  std::error_code error;
  for (const fs::directory_entry &entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const auto number =
        name.starts_with(prefix) ? leadingNumber(name.substr(prefix.size())) : std::nullopt;
    const auto isThere = [&](int cpu) {
      std::error_code ignored;
      return fs::exists(entry.path() / fmt::format("cpu{}", cpu), ignored);
    };
    if (number && *number <= std::numeric_limits<int>::max() && std::ranges::any_of(cpus, isThere))
      nodes.push_back(static_cast<int>(*number));
  }
  std::ranges::sort(nodes);
  return nodes;
}

/// Whether a list "a,b,c" has an entry.
bool lists(std::string_view list, std::string_view entry) {
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    if (list.substr(begin, end - begin) == entry)
      return true;
    begin = end + 1;
  }
  return false;
}

/// This process's group in the hierarchy of a controller ("memory", "cpu") of version 1, or in that
/// of version 2 where `controller` is empty. From /proc/self/cgroup, whose lines are
/// "5:cpu,cpuacct:/a/b" and "0::/a/b".
std::optional<fs::path> groupOf(const fs::path &root, std::string_view controller) {
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos)
      continue;
    const std::string_view names = std::string_view(line).substr(first + 1, second - first - 1);
    if (controller.empty() ? line.starts_with("0::") : lists(names, controller))
      return fs::path(line.substr(second + 1));
  }
  return std::nullopt;
}

/// A hierarchy of control groups: where its files are, and which group those at the top are of. In
/// a container that is the container's own group, while /proc/self/cgroup may say the machine's
/// path.
struct Hierarchy {
  fs::path folder;
  fs::path top = "/";
};

/// From /proc/self/mountinfo, whose lines are "ID PARENT DEVICE TOP FOLDER OPTIONS [MORE...] - KIND
/// SOURCE CONTROLLERS"; else the usual place.
Hierarchy hierarchyOf(const fs::path &root, std::string_view controller) {
  std::ifstream in(root / "proc/self/mountinfo");
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string skipped, top, folder, field, kind, source, options;
    fields >> skipped >> skipped >> skipped >> top >> folder;
    while (fields >> field && field != "-")
      ;
    fields >> kind >> source >> options;
    if (controller.empty() ? kind == "cgroup2" : kind == "cgroup" && lists(options, controller))
      return {root / fs::path(folder).relative_path(), top};
  }
  return {root / "sys/fs/cgroup" / controller};
}

/// Calls `visit` with the folder of this process's control group and each one above it: a limit may
/// be set at any level.
template <typename Visit>
void forEachControlGroup(const fs::path &root, std::string_view controller, Visit visit) {
  const std::optional<fs::path> group = groupOf(root, controller);
  if (!group)
    return;
  const Hierarchy hierarchy = hierarchyOf(root, controller);
  fs::path relative = group->lexically_relative(hierarchy.top);
  if (relative.empty() || *relative.begin() == "..") // of a machine that we do not see
    relative = group->relative_path();
  for (relative = relative == "." ? fs::path() : relative;; relative = relative.parent_path()) {
    visit(hierarchy.folder / relative);
    if (relative.empty())
      return;
  }
}

void limitMemory(Host &host, std::optional<int64_t> limit) {
  constexpr int64_t unlimited = int64_t(1) << 60; // version 1 says so by a number near 2^63
  if (limit && *limit > 0 && *limit < unlimited)
    host.memoryBytes = host.memoryBytes ? std::min(host.memoryBytes, *limit) : *limit;
}

/// Microseconds of processor time in each period.
void limitCores(Host &host, std::optional<int64_t> used, std::optional<int64_t> period) {
  if (used && period && *used > 0 && *period > 0)
    host.physicalCores = static_cast<int>(
        std::clamp<int64_t>(*used / *period + (*used % *period != 0), 1, host.physicalCores));
}

/// Both versions may be there at once; a controller is in one of them.
void applyControlGroups(const fs::path &root, Host &host) {
  auto number = [](const fs::path &file) { return leadingNumber(firstLine(file)); };
  forEachControlGroup(root, "", [&](const fs::path &group) {
    limitMemory(host, number(group / "memory.max"));
    const std::string line = firstLine(group / "cpu.max"); // "max 100000" or "200000 100000"
    std::string_view rest;
    const auto used = leadingNumber(line, &rest);
    limitCores(host, used, leadingNumber(trim(rest)));
  });
  forEachControlGroup(root, "memory", [&](const fs::path &group) {
    limitMemory(host, number(group / "memory.limit_in_bytes"));
  });
  forEachControlGroup(root, "cpu", [&](const fs::path &group) {
    // A quota of -1 is none.
    limitCores(host, number(group / "cpu.cfs_quota_us"), number(group / "cpu.cfs_period_us"));
  });
}

} // namespace

std::vector<int> usableCpus() {
  // The kernel refuses a mask smaller than its own; grow until it is content.
  for (int capacity = 1024; capacity <= (1 << 20); capacity *= 2) {
    cpu_set_t *mask = CPU_ALLOC(capacity);
    if (!mask)
      break;
    size_t bytes = CPU_ALLOC_SIZE(capacity);
    std::vector<int> cpus;
    bool fits = sched_getaffinity(0, bytes, mask) == 0;
    for (int cpu = 0; fits && cpu < capacity; ++cpu)
      if (CPU_ISSET_S(cpu, bytes, mask))
        cpus.push_back(cpu);
    CPU_FREE(mask);
    if (!cpus.empty())
      return cpus;
  }
  return {0};
}

bool stayOnCpus(std::span<const int> cpus) {
  if (cpus.empty() || cpus.front() < 0)
    return false;
  const int capacity = 1 + *std::ranges::max_element(cpus);
  const size_t bytes = CPU_ALLOC_SIZE(capacity);
  cpu_set_t *mask = CPU_ALLOC(capacity);
  if (!mask)
    return false;
  CPU_ZERO_S(bytes, mask);
  for (int cpu : cpus)
    CPU_SET_S(cpu, bytes, mask);
  const bool done = sched_setaffinity(0, bytes, mask) == 0;
  CPU_FREE(mask);
  return done;
}

Host readHost(const fs::path &root, std::span<const int> usable) {
  Host host;
  auto cpuinfo = [&](std::string_view key) {
    return lookUp(root / "proc/cpuinfo", key, ':').value_or("unknown");
  };
  host.cpu = cpuinfo("model name");
  host.vendor = cpuinfo("vendor_id");
  host.cpuModel =
      fmt::format("{} family {} model {} stepping {}, {}", host.vendor, cpuinfo("cpu family"),
                  cpuinfo("model"), cpuinfo("stepping"), host.cpu);

  fs::path cpus = root / "sys/devices/system/cpu";
  std::set<std::string> cores; // SMT siblings have the same list
  for (int cpu : usable) {
    std::string siblings =
        firstLine(cpus / fmt::format("cpu{}", cpu) / "topology/thread_siblings_list");
    if (cores.insert(siblings.empty() ? fmt::format("{}", cpu) : siblings).second)
      host.coreCpus.push_back(cpu);
  }
  host.memoryNodes = nodesOf(root / "sys/devices/system/node", usable);
  host.logicalCpus = std::max<int>(1, usable.size());
  host.physicalCores = std::max<int>(1, cores.size());
  if (!usable.empty())
    readCaches(cpus / fmt::format("cpu{}", usable.front()), host);

  if (auto total = lookUp(root / "proc/meminfo", "MemTotal", ':'))
    if (auto kibibytes = leadingNumber(*total); kibibytes && *kibibytes < (int64_t(1) << 50))
      host.memoryBytes = *kibibytes << 10;
  applyControlGroups(root, host);

  host.os = lookUp(root / "etc/os-release", "PRETTY_NAME", '=').value_or("unknown");
  if (utsname name; uname(&name) == 0)
    host.os += fmt::format(" ({} {})", name.sysname, name.release);
  return host;
}

const Host &host() {
  static const Host machine = readHost("/", usableCpus());
  return machine;
}

} // namespace kernelforge
