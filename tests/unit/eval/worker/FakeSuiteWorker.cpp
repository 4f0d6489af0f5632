// A suite worker that measures nothing: `fake-suite-worker CONFIG suite-worker` answers with times
// drawn as CONFIG says: {"seed", "rows": [{"name", "ns", "noise", "placement", ...}], "fault",
// "at", "after"}. Noise is the deviation of a sample's logarithm, placement that of a process. A
// fault (die, hang, garbage, error, protocol) happens to the command `at` after it was answered
// `after` times.
#include "kernelforge/support/CounterRandom.h"
#include "kernelforge/support/Json.h"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <numbers>
#include <regex>
#include <unistd.h>

using namespace kernelforge;

namespace {

/// How many processes of that configuration were started before; counts this one.
uint64_t countStart(const std::string &config) {
  const std::string file = config + ".starts";
  uint64_t starts = 0;
  std::ifstream(file) >> starts;
  std::ofstream(file) << starts + 1;
  return starts;
}

class Normal {
public:
  explicit Normal(uint64_t seed) : seed(seed) {}
  double next() {
    const double radius = std::sqrt(-2 * std::log(1 - randomUniform(seed, counter)));
    const double angle = 2 * std::numbers::pi * randomUniform(seed, counter + 1);
    counter += 2;
    return radius * std::cos(angle);
  }

private:
  uint64_t seed, counter = 0;
};

void answer(const Json &json) { std::cout << json.dump() << std::endl; }

/// Answers no more as it should.
void fail(const std::string &fault) {
  if (fault == "die")
    std::abort();
  if (fault == "hang")
    ::sleep(600);
  if (fault == "garbage")
    std::cout << "[kernelforge] ready" << std::endl;
  if (fault == "protocol")
    answer({{"ok", true}, {"protocol", 2}, {"rows", Json::array()}});
  if (fault == "error")
    answer({{"ok", false},
            {"error",
             {{"code", 3},
              {"what", "row cannot be run"},
              {"where", "row a"},
              {"why", "it is not here"},
              {"hint", "leave it out"}}}});
}

} // namespace

int main(int, char **argv) {
  const std::string path = argv[1];
  const Json config = Json::parse(std::ifstream(path));
  const std::string fault = config.value("fault", ""), at = config.value("at", "");
  int after = config.value("after", 0);
  const uint64_t start = countStart(path);
  Normal normal(mixBits(config.value("seed", uint64_t(0)) + 1000 * start));
  Json rows = Json::array();
  std::vector<double> placed;
  for (std::string line; std::getline(std::cin, line);) {
    const Json request = Json::parse(line);
    const std::string command = request["command"];
    if (command == at && after-- <= 0) {
      fail(fault);
      continue;
    }
    if (command == "open") {
      const std::regex filter(request["filter"].get<std::string>());
      for (const Json &row : config["rows"])
        if (std::regex_search(row["name"].get<std::string>(), filter)) {
          rows.push_back(row);
          const auto starts = row.value("starts", std::vector<double>());
          placed.push_back(row.value("ns", 1000.0) * (start < starts.size() ? starts[start] : 1) *
                           std::exp(row.value("placement", 0.0) * normal.next()));
        }
      answer({{"ok", true},
              {"protocol", 1},
              {"kernelforge", {{"git_commit", config.value("commit", "")}}},
              {"rows", rows}});
    } else if (command == "measure") {
      const size_t row = request["row"];
      answer({{"ok", true},
              {"ns", placed[row] * std::exp(rows[row].value("noise", 0.01) * normal.next())}});
    }
  }
  return 0;
}
