// Winners that come with the program: schedules that were measured on devices which many have, so
// that nobody needs to tune what others have tuned. They are part of it and never written.
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

  /// Whether there may be records of a device: its DeviceInfo::identity().
  bool cover(std::string_view identity) const;

  /// The record of a kernel's generated code on a device of that name, the last where there are
  /// several; nothing where there is none. A device's driver and LLVM's version are left out of
  /// account: they change how fast a schedule is, hardly which one is best.
  std::optional<Record> find(const RecordKey &key) const;

  /// All of them; lines that are no records of this version are left out.
  std::vector<Record> all() const;

private:
  std::vector<std::string_view> texts; ///< of files
};

/// A device's name without its driver: of DeviceInfo::identity(), what stands before the comma.
std::string_view deviceNameOf(std::string_view identity);

} // namespace kernelforge
