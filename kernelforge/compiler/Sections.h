// Files of named sections, each with its length and checksum: what the object cache and program
// files are made of. A section is found by its length only after that was compared with what there
// is, and its bytes are given only after their checksum was right.
#pragma once

#include "kernelforge/support/Error.h"

#include <string>
#include <string_view>

namespace kernelforge {

/// Appends "NAME LENGTH SHA256\n", the bytes and a line break to `file`. `name` has no space.
void appendSection(std::string &file, std::string_view name, std::string_view bytes);

/// Takes the section `name` off the front of `rest`: its bytes, where they lie. Unusable, saying
/// what is wrong with that section, where it is not there, cut short or damaged.
Expected<std::string_view> takeSection(std::string_view &rest, std::string_view name);

} // namespace kernelforge
