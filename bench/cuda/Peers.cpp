// Our kernels beside those of others on one NVIDIA GPU.
//
//   cuda-peers matmul [--group NAME]... [--product MxNxK[+bias[+gelu]]]...
//     beside cuBLASLt, in this process, in turns, over sets of operands that no cache holds
//   cuda-peers module FILE --data FOLDER
//     our side alone, for the scripts in bench/peers
#include "MatmulPeers.h"
#include "ModuleBench.h"

#include "kernelforge/support/Paths.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

using namespace kernelforge;
using namespace kernelforge::bench;

/// The records of this user; nothing where there is no home directory.
static std::optional<RecordStore> userRecords(bool none) {
  if (none)
    return std::nullopt;
  const auto folder = recordsDirectory();
  return folder ? std::optional(RecordStore(*folder)) : std::nullopt;
}

static Expected<std::map<std::string, int64_t>> parseSizes(const std::vector<std::string> &texts) {
  std::map<std::string, int64_t> sizes;
  for (const std::string &text : texts) {
    const size_t equals = text.find('=');
    char *end = nullptr;
    const char *number = equals == text.npos ? "" : text.c_str() + equals + 1;
    const int64_t value = std::strtoll(number, &end, 10);
    if (end == number || *end != '\0' || value < 0)
      return unusable("wrong usage", "--size " + text, "it is no NAME=N");
    sizes[text.substr(0, equals)] = value;
  }
  return sizes;
}

int main(int argc, char **argv) {
  CLI::App app("our kernels beside those of others on one NVIDIA GPU", "cuda-peers");
  app.require_subcommand(1);
  MatmulOptions matmul;
  ModuleOptions module;
  std::vector<std::string> groups = productGroups(), products, sizes;
  bool noRecords = false;
  std::string dry;
  Status status;

  CLI::App &compare = *app.add_subcommand("matmul", "products of bf16, beside cuBLASLt");
  compare.add_option("--group", groups, "groups of products")
      ->check(CLI::IsMember(productGroups()))
      ->capture_default_str();
  compare.add_option("--product", products, "in place of groups: MxNxK, +bias, +bias+gelu");
  compare.add_option("--cublas", matmul.cublas, "the library's file (libcublasLt.so.13)");
  compare.add_option("--rounds", matmul.rounds, "samples of each side")
      ->check(CLI::Range(3, 1000))
      ->capture_default_str();
  compare.add_option("--sample-ms", matmul.sampleMilliseconds, "how long a sample is, about")
      ->check(CLI::Range(1e-3, 1e3))
      ->capture_default_str();
  compare.add_option("--algorithms", matmul.algorithms, "of cuBLASLt's heuristic, at most")
      ->check(CLI::Range(1, 128))
      ->capture_default_str();
  compare.add_option("--seed", matmul.seed, "of the order of samples")->capture_default_str();
  compare.add_flag("--json", matmul.json, "a row of JSON each");
  compare.add_option("--dry", dry, "compile for this chip (sm_90a) and measure nothing");
  compare.add_option("--cuda-library", matmul.cudaLibrary, "the driver's file");
  compare.add_flag("--no-records", noRecords, "schedules as they are without records");
  compare.callback([&] {
    status = [&]() -> Status {
      matmul.records = userRecords(noRecords);
      for (const std::string &text : products) {
        KF_TRY(matmul.products.emplace_back(), parseProduct(text));
      }
      if (products.empty())
        for (const std::string &group : groups)
          std::ranges::copy(productsOf(group), std::back_inserter(matmul.products));
      return dry.empty() ? compareProducts(matmul) : compileProducts(matmul, dry);
    }();
  });

  CLI::App &serve = *app.add_subcommand("module", "a function, timed as standard input asks");
  serve.add_option("file", module.file, "a module with one function")->required();
  serve.add_option("--data", module.data, "folder of its arguments' bytes")->required();
  serve.add_option("--size", sizes, "value of a dynamic size: NAME=N");
  serve.add_option("--cuda-library", module.cudaLibrary, "the driver's file");
  serve.add_flag("--no-records", noRecords, "schedules as they are without records");
  serve.callback([&] {
    status = [&]() -> Status {
      module.records = userRecords(noRecords);
      KF_TRY(module.sizes, parseSizes(sizes));
      return serveModule(module);
    }();
  });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    return app.exit(error) == 0 ? 0 : int(ErrorKind::Unusable);
  }
  if (!status) {
    fmt::print(stderr, "cuda-peers: error: {}\n", status.error().line());
    return int(status.error().kind);
  }
  return 0;
}
