// A report as a page that people read: docs/evaluation.md says how.
#pragma once

#include "kernelforge/support/Error.h"
#include "kernelforge/support/Json.h"

#include <filesystem>
#include <string>

namespace kernelforge {

/// The page of `report` and, where there is one, of its "comparison": one HTML file that needs no
/// other and asks no address for anything. It holds the report as it is, so whatever the report
/// lacks or has of another type is shown as missing; no text in it can become markup or code, and
/// bytes that are no UTF-8 become U+FFFD. The page itself forbids everything but its own scripts
/// and styles, which are named by their hashes (Content Security Policy Level 3).
std::string htmlReport(const Json &report);

/// Writes that page to `file`; errors as for writeOutput.
Status writeHtmlReport(const std::filesystem::path &file, const Json &report);

} // namespace kernelforge
