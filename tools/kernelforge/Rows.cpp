#include "Rows.h"

#include "Usage.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

using namespace kernelforge;
using namespace kernelforge::cli;

void cli::addFormatOption(CLI::App &command, std::string &format,
                          const std::vector<std::string> &formats) {
  format = formats.front();
  command.add_option("--format", format, "how rows are printed")
      ->check(oneOf(formats))
      ->capture_default_str();
}

/// A cell of CSV, quoted where it has to be.
static std::string csvCell(const std::string &cell) {
  if (cell.find_first_of(",\"\n\r") == cell.npos)
    return cell;
  std::string quoted = "\"";
  for (char c : cell)
    quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

static void printCsv(const RowTable &table) {
  auto line = [](const std::vector<std::string> &cells) {
    std::vector<std::string> quoted;
    std::transform(cells.begin(), cells.end(), std::back_inserter(quoted), csvCell);
    print(fmt::format("{}\n", fmt::join(quoted, ",")));
  };
  line(table.columns);
  for (const auto &row : table.rows)
    line(row);
}

static void printAligned(const RowTable &table, bool markdown) {
  std::vector<size_t> widths;
  for (size_t i = 0; i < table.columns.size(); ++i) {
    widths.push_back(table.columns[i].size());
    for (const auto &row : table.rows)
      widths[i] = std::max(widths[i], row[i].size());
  }
  auto line = [&](const std::vector<std::string> &cells) {
    std::string text;
    for (size_t i = 0; i < cells.size(); ++i) {
      text += markdown ? "| " : i > 0 ? "  " : "";
      text += i == 0 ? fmt::format("{:<{}}", cells[i], widths[i])
                     : fmt::format("{:>{}}", cells[i], widths[i]);
      text += markdown ? " " : "";
    }
    print(text + (markdown ? "|\n" : "\n"));
  };
  line(table.columns);
  if (markdown) {
    std::string rule;
    for (size_t i = 0; i < widths.size(); ++i)
      rule += (i == 0 ? "|:" : "|-") + std::string(widths[i], '-') + (i == 0 ? "-" : ":");
    print(rule + "|\n");
  }
  for (const auto &row : table.rows)
    line(row);
}

void cli::printRows(const RowTable &table, const std::vector<Json> &json,
                    const std::string &format) {
  if (format == "jsonl")
    for (const Json &row : json)
      printJson(row);
  else if (format == "csv")
    printCsv(table);
  else
    printAligned(table, format == "md");
}
