// Winners that come with the program: schedules that were measured on devices and processors which
// many have, so that nobody needs to tune what others have tuned. They are part of it and never
// written.
#pragma once

#include "kernelforge/records/Record.h"

#include <optional>
#include <string_view>
#include <vector>

namespace kernelforge {

/// Lines of records as a log has them, looked up without reading them all.
class ShippedRecords {
public:
  /// `lines` must stay.
  explicit ShippedRecords(std::vector<std::string_view> lines) : texts(std::move(lines)) {}

  /// Those of this program.
  static const ShippedRecords &ofProgram();

  /// Whether there may be records of what a key was made for: the target and what runs it.
  bool cover(const RecordKey &key) const;

  /// The record of a kernel's generated code on the same kind of machine, the last where there are
  /// several; nothing where there is none. A device is known by its name, a processor by the
  /// microarchitecture and vector extensions that code is generated for, with as many threads.
  /// Drivers, LLVM's version and what a processor is sold as are left out of account: they change
  /// how fast a schedule is, hardly which one is best.
  std::optional<Record> find(const RecordKey &key) const;

  /// All of them; lines that are no records of this version are left out.
  std::vector<Record> all() const;

private:
  std::vector<std::string_view> texts; ///< of files
};

/// A device's name without its driver: of DeviceInfo::identity(), what stands before the comma.
std::string_view deviceNameOf(std::string_view identity);

} // namespace kernelforge
