#include "kernelforge/eval/RooflineSvg.h"

#include "kernelforge/measure/Timing.h"
#include "kernelforge/support/OutputFile.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <map>
#include <numbers>
#include <optional>
#include <vector>

namespace kernelforge {
namespace {

// The picture's size and the plot in it, in pixels.
constexpr double width = 920, height = 540;
constexpr double left = 64, right = width - 20, top = 56, bottom = height - 52;

/// A kernel of a row.
struct Point {
  std::string family, title;
  double intensity, gflops;
  bool trusted;
};

/// What the machine computes or reads at most.
struct Ceiling {
  std::string name, unit;
  double value;
  bool isBandwidth() const { return unit == "GB/s"; }
  bool isInteger() const { return unit == "GOP/s"; }
};

std::optional<double> positive(const Json &object, const char *key) {
  auto found = object.find(key);
  if (found == object.end() || !found->is_number() || !(found->get<double>() > 0))
    return std::nullopt;
  return found->get<double>();
}

std::string textOf(const Json &object, const char *key) {
  auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

/// Three digits, without an exponent where it fits.
std::string digits(double value) {
  if (value >= 100)
    return fmt::format("{:.0f}", value);
  return fmt::format("{:.3g}", value);
}

std::vector<Point> pointsOf(const Json &report) {
  std::vector<Point> points;
  for (const Json &row : report.at("rows")) {
    const auto flops = positive(row, "flops"), bytes = positive(row, "bytes");
    const auto gflops = positive(row, "gflops"), time = positive(row, "median_ns");
    if (textOf(row, "status") != "ok" || !flops || !bytes || !gflops || !time)
      continue;
    std::string title = fmt::format("{}: {} GFLOP/s at {} FLOP a byte, {} us", textOf(row, "name"),
                                    digits(*gflops), digits(*flops / *bytes), digits(*time / 1e3));
    if (auto share = positive(row, "pct_roofline"))
      title += fmt::format(", {:.0f} % of the roofline", *share);
    const bool trusted = row.value("trusted", true);
    points.push_back({textOf(row, "family"), title, *flops / *bytes, *gflops, trusted});
  }
  return points;
}

std::vector<Ceiling> ceilingsOf(const Json &report) {
  std::map<std::string, std::vector<double>> values;
  const Json &anchors = report.at("anchors");
  auto add = [&](const Json &measured) {
    for (const auto &[name, value] : measured.items())
      if (value.is_number() && value.get<double>() > 0)
        values[name].push_back(value.get<double>());
  };
  for (const Json &round : anchors.value("per_round", Json::array()))
    add(round.value("values", Json::object()));
  if (values.empty())
    for (const char *side : {"before", "after"})
      add(anchors.value(side, Json::object()));
  const Json units = anchors.value("units", Json::object());
  std::vector<Ceiling> ceilings;
  for (auto &[name, samples] : values) {
    Ceiling ceiling{name, textOf(units, name.c_str()), median(samples)};
    if (ceiling.isBandwidth() || ceiling.isInteger() || ceiling.unit == "GFLOP/s")
      ceilings.push_back(ceiling);
  }
  return ceilings;
}

/// A logarithmic axis: the value `low` stands at pixel `begin`, `high` at `end`.
struct Axis {
  double low = 1, high = 10, begin = 0, end = 1;

  double at(double value) const {
    return begin + (end - begin) * std::log(value / low) / std::log(high / low);
  }
  /// 1, 2 and 5 of each power of ten, over more than three of these the powers alone.
  std::vector<double> ticks() const {
    std::vector<double> found;
    const bool few = std::log10(high / low) < 3;
    for (double power = std::pow(10, std::floor(std::log10(low))); power <= high; power *= 10)
      for (double mantissa : {1.0, 2.0, 5.0})
        if ((few || mantissa == 1) && power * mantissa >= low && power * mantissa <= high)
          found.push_back(power * mantissa);
    return found;
  }
};

/// Text in which nothing is markup.
std::string escaped(std::string_view text) {
  std::string result;
  for (char c : text)
    switch (c) {
    case '<':
      result += "&lt;";
      break;
    case '>':
      result += "&gt;";
      break;
    case '&':
      result += "&amp;";
      break;
    case '"':
      result += "&quot;";
      break;
    default:
      if (static_cast<unsigned char>(c) >= 0x20) // XML has no others
        result += c;
    }
  return result;
}

constexpr const char *inks[] = {"#1f6fb2", "#c2410c", "#15803d", "#7e22ce", "#0f766e", "#a16207"};

class Picture {
public:
  Picture(const Json &report, std::vector<Point> points, std::vector<Ceiling> ceilings)
      : report(report), points(std::move(points)), ceilings(std::move(ceilings)) {
    for (const Point &point : this->points)
      if (std::find(families.begin(), families.end(), point.family) == families.end())
        families.push_back(point.family);
    setRange();
  }

  std::string draw() {
    svg = fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" "
                      "width=\"{0}\" height=\"{1}\" font-family=\"sans-serif\" font-size=\"12\" "
                      "role=\"img\">\n<title>Roofline: kernels {2}</title>\n"
                      "<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n",
                      width, height, points.size());
    drawHead();
    drawAxes();
    drawCeilings();
    drawPoints();
    return svg + "</svg>\n";
  }

private:
  void setRange() {
    std::vector<double> xs, ys;
    for (const Point &point : points) {
      xs.push_back(point.intensity);
      ys.push_back(point.gflops);
    }
    for (const Ceiling &ceiling : ceilings)
      if (ceiling.isBandwidth())
        slowest = std::min(slowest, ceiling.value);
      else
        ys.push_back(highest = std::max(highest, ceiling.value));
    if (highest > 0 && std::isfinite(slowest))
      xs.push_back(highest / slowest);
    auto range = [](std::vector<double> values, double margin) {
      if (values.empty())
        values = {1};
      auto [least, most] = std::minmax_element(values.begin(), values.end());
      return std::pair(*least / margin, *most * margin);
    };
    std::tie(x.low, x.high) = range(xs, 2.5);
    std::tie(y.low, y.high) = range(ys, 2);
    x.begin = left, x.end = right, y.begin = bottom, y.end = top;
  }

  void text(double at, double line, std::string_view anchor, std::string_view words,
            std::string_view more = "") {
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" {}>{}</text>\n", at,
                       line, anchor, more, escaped(words));
  }

  void line(double x1, double y1, double x2, double y2, std::string_view style) {
    svg += fmt::format("<path d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}\" {}/>\n", x1, y1, x2, y2, style);
  }

  void drawHead() {
    const Json device = report.value("device", Json::object());
    const Json settings = report.value("settings", Json::object());
    std::string head = fmt::format("suite {}, {}", textOf(report, "suite"), textOf(device, "name"));
    if (auto threads = positive(settings, "threads"))
      head += fmt::format(", {:.0f} threads", *threads);
    head += ", " + textOf(report, "created").substr(0, 10);
    text(left, 20, "start", head, "fill=\"#374151\"");
    double at = left;
    for (size_t i = 0; i < families.size(); ++i) {
      mark(at + 5, 36, i, true, "");
      text(at + 16, 40, "start", families[i], "fill=\"#111827\"");
      at += 40 + 7.0 * static_cast<double>(families[i].size());
    }
  }

  void drawAxes() {
    constexpr std::string_view grid = "stroke=\"#e5e7eb\"", label = "fill=\"#4b5563\"";
    for (double value : x.ticks()) {
      line(x.at(value), top, x.at(value), bottom, grid);
      text(x.at(value), bottom + 18, "middle", digits(value), label);
    }
    for (double value : y.ticks()) {
      line(left, y.at(value), right, y.at(value), grid);
      text(left - 8, y.at(value) + 4, "end", digits(value), label);
    }
    text((left + right) / 2, height - 12, "middle", "arithmetic intensity, FLOP a byte", label);
    text(18, (top + bottom) / 2, "middle", "performance, GFLOP/s",
         fmt::format("{} transform=\"rotate(-90 18 {:.1f})\"", label, (top + bottom) / 2));
  }

  /// Level for arithmetic, rising for bandwidth, each up to where they meet.
  void drawCeilings() {
    double fastest = 0;
    for (const Ceiling &ceiling : ceilings)
      if (ceiling.isBandwidth())
        fastest = std::max(fastest, ceiling.value);
    std::vector<double> taken;
    for (const Ceiling &ceiling : ceilings) {
      const std::string label =
          fmt::format("{} {} {}", ceiling.name, digits(ceiling.value), ceiling.unit);
      const std::string style = fmt::format("stroke=\"#6b7280\" stroke-width=\"1.3\"{}",
                                            ceiling.isInteger() ? " stroke-dasharray=\"5 4\"" : "");
      if (!ceiling.isBandwidth()) {
        const double from = fastest > 0 ? std::max(x.low, ceiling.value / fastest) : x.low;
        line(x.at(from), y.at(ceiling.value), right, y.at(ceiling.value), style);
        double at = y.at(ceiling.value) - 5;
        if (std::any_of(taken.begin(), taken.end(),
                        [&](double other) { return std::abs(other - at) < 13; }))
          at += 17;
        taken.push_back(at);
        text(right - 2, at, "end", label, "fill=\"#4b5563\" font-size=\"11\"");
        continue;
      }
      // From the left or the lower edge up to the highest level.
      const double from = std::max(x.low, y.low / ceiling.value);
      const double to = highest > 0 ? std::min(x.high, highest / ceiling.value) : x.high;
      if (from >= to)
        continue;
      const double x1 = x.at(from), y1 = y.at(from * ceiling.value);
      const double x2 = x.at(to), y2 = y.at(to * ceiling.value);
      line(x1, y1, x2, y2, style);
      const double angle = std::atan2(y2 - y1, x2 - x1) * 180 / std::numbers::pi;
      text(x1 + 8, y1 - 6, "start", label,
           fmt::format(
               "fill=\"#4b5563\" font-size=\"11\" transform=\"rotate({:.1f} {:.1f} {:.1f})\"",
               angle, x1, y1));
    }
  }

  void drawPoints() {
    for (const Point &point : points) {
      const auto family = std::find(families.begin(), families.end(), point.family);
      mark(x.at(point.intensity), y.at(point.gflops),
           static_cast<size_t>(family - families.begin()), point.trusted, point.title);
    }
  }

  /// The mark of a family: its shape tells it, too, not its colour alone.
  void mark(double at, double line, size_t family, bool filled, std::string_view title) {
    constexpr const char *shapes[] = {"M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z",
                                      "M-4-4h8v8h-8z", "M0-5.5L5 4H-5z",
                                      "M0-5.5L5.5 0 0 5.5-5.5 0z", "M-5-4H5L0 5.5z"};
    const char *ink = inks[family % std::size(inks)];
    svg += fmt::format("<path transform=\"translate({:.1f} {:.1f})\" d=\"{}\" fill=\"{}\" "
                       "stroke=\"{}\" stroke-width=\"1.5\"",
                       at, line, shapes[family % std::size(shapes)], filled ? ink : "#ffffff", ink);
    svg += title.empty() ? "/>\n" : fmt::format("><title>{}</title></path>\n", escaped(title));
  }

  const Json &report;
  const std::vector<Point> points;
  const std::vector<Ceiling> ceilings;
  std::vector<std::string> families;
  double highest = 0, slowest = INFINITY;
  Axis x, y;
  std::string svg;
};

} // namespace

std::string rooflineSvg(const Json &report) {
  return Picture(report, pointsOf(report), ceilingsOf(report)).draw();
}

Status writeRooflineSvg(const std::filesystem::path &file, const Json &report) {
  return writeOutput(file, rooflineSvg(report));
}

} // namespace kernelforge
