// Makes the page of a report, as `kernelforge benchmark-suite --html` does: the browser test's way
// in, which needs no compiler behind it.
//
//   html-probe REPORT.json PAGE.html

#include "kernelforge/eval/Html.h"

#include <fmt/format.h>

namespace kernelforge {
namespace {

Status run(const std::string &report, const std::string &page) {
  KF_TRY(JsonDocument document, readJsonFile(report, "report is not usable"));
  return writeHtmlReport(page, document.value());
}

} // namespace
} // namespace kernelforge

int main(int argc, char **argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: html-probe REPORT.json PAGE.html\n");
    return 2;
  }
  if (auto status = kernelforge::run(argv[1], argv[2]); !status) {
    fmt::print(stderr, "html-probe: error: {}\n", status.error().line());
    return 2;
  }
  return 0;
}
