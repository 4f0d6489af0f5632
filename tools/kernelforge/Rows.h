// Rows of measurements as a user wants to read them: --format table, csv, md or jsonl.
#pragma once

#include "Command.h"

#include <string>
#include <vector>

namespace kernelforge::cli {

/// Adds --format, which takes one of `formats`, the first where it is not given.
void addFormatOption(CLI::App &command, std::string &format,
                     const std::vector<std::string> &formats = {"table", "csv", "md", "jsonl"});

/// A table of text. Each row has as many cells as there are columns.
struct RowTable {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;
};

/// Prints rows to standard output: `json` (one value a row) for jsonl, `table` for the others. The
/// first column of a table is aligned to the left, the others, figures, to the right.
void printRows(const RowTable &table, const std::vector<Json> &json, const std::string &format);

} // namespace kernelforge::cli
