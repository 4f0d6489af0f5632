#include "kernelforge/eval/Html.h"

#include "kernelforge/eval/Embedded.h"
#include "kernelforge/ir/Hash.h"
#include "kernelforge/support/OutputFile.h"

#include <cassert>
#include <functional>

namespace kernelforge {
namespace {

constexpr std::string_view library = "chart.min.js";
constexpr std::string_view style = "html/report.css";
constexpr std::string_view page = "html/report.html";

/// The value of a hexadecimal digit in lower case.
unsigned digitValue(char digit) { return digit <= '9' ? digit - '0' : digit - 'a' + 10; }

/// What a Content-Security-Policy calls a script or style of these bytes: its SHA-256 in base64.
std::string policySource(std::string_view bytes) {
  constexpr std::string_view alphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  // 256 bits are 42 groups of 6 and one of 4: three hexadecimal digits make two of base64.
  std::string hex = sha256Hex(bytes) + "00";
  std::string base64;
  for (size_t i = 0; i + 3 <= hex.size(); i += 3) {
    unsigned bits = digitValue(hex[i]) << 8 | digitValue(hex[i + 1]) << 4 | digitValue(hex[i + 2]);
    base64 += alphabet[bits >> 6];
    base64 += alphabet[bits & 63];
  }
  base64.back() = '=';
  return "'sha256-" + base64 + "'";
}

/// Our scripts after the library that they use, in the order of CMakeLists.txt.
std::vector<std::string_view> scripts() {
  std::vector<std::string_view> found{embeddedFile(library)};
  for (const EmbeddedFile &file : embeddedFiles())
    if (file.name != library && file.name.ends_with(".js"))
      found.push_back(file.bytes);
  return found;
}

std::string policy() {
  std::string text = "default-src 'none'; base-uri 'none'; form-action 'none'; style-src " +
                     policySource(embeddedFile(style)) + "; script-src";
  for (std::string_view script : scripts())
    text += " " + policySource(script);
  return text;
}

std::string scriptElements() {
  std::string text;
  for (std::string_view script : scripts())
    text.append("<script>").append(script).append("</script>\n");
  return text;
}

/// JSON that HTML takes for nothing but text: a script element ends at "</script", and "<!--" in it
/// changes how it ends. A `<` occurs in strings only, where \u003c means the same.
std::string jsonForHtml(const Json &report) {
  std::string json = report.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  std::string text;
  text.reserve(json.size());
  for (char c : json) {
    if (c == '<')
      text += "\\u003c";
    else
      text += c;
  }
  return text;
}

} // namespace

std::string htmlReport(const Json &report) {
  const std::pair<std::string_view, std::function<std::string()>> fields[] = {
      {"{{policy}}", policy},
      {"{{style}}", [] { return std::string(embeddedFile(style)); }},
      {"{{report}}", [&] { return jsonForHtml(report); }},
      {"{{scripts}}", scriptElements},
  };
  // From the front to the back, each once: what is put in is never looked at again.
  std::string_view rest = embeddedFile(page);
  std::string text;
  for (const auto &[name, value] : fields) {
    size_t at = rest.find(name);
    assert(at != std::string_view::npos && "report.html has the fields in this order");
    text.append(rest.substr(0, at)).append(value());
    rest.remove_prefix(at + name.size());
  }
  return text.append(rest);
}

Status writeHtmlReport(const std::filesystem::path &file, const Json &report) {
  return writeOutput(file, htmlReport(report));
}

} // namespace kernelforge
