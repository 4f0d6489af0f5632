// Runs the function of a module that stands on standard input for the target cuda, its PTX
// emulated, and verifies it: what `kernelforge compile - --run` does on a GPU, and in the same
// words.
//
//     ptx-run [--target-cpu CHIP] [--size NAME=N]... [--seed N] [--no-fuse]
#include "EmulatedCudaDevice.h"

#include "kernelforge/compiler/Pipelines.h"
#include "kernelforge/measure/AccuracyJson.h"
#include "kernelforge/problem/FunctionRun.h"

#include "mlir/Parser/Parser.h"

#include <fmt/format.h>

#include <charconv>
#include <iostream>
#include <iterator>

using namespace kernelforge;

namespace {

struct Options {
  std::string chip = "sm_90a";
  std::map<std::string, int64_t> sizes;
  uint64_t seed = 0;
  bool fuse = true;
};

Expected<int64_t> numberOf(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return unusable("wrong usage", std::string(text), "it is no number");
  return value;
}

Expected<Options> read(std::span<char *const> words) {
  Options options;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (word == "--no-fuse") {
      options.fuse = false;
      continue;
    }
    if (i + 1 == words.size())
      return unusable("wrong usage", std::string(word), "its value is missing");
    const std::string_view value = words[++i];
    if (word == "--target-cpu") {
      options.chip = value;
    } else if (word == "--seed") {
      KF_TRY(const int64_t seed, numberOf(value));
      options.seed = static_cast<uint64_t>(seed);
    } else if (word == "--size") {
      const size_t equals = value.find('=');
      KF_TRY(const int64_t number, numberOf(value.substr(std::min(equals, value.size() - 1) + 1)));
      options.sizes[std::string(value.substr(0, equals))] = number;
    } else {
      return unusable("wrong usage", std::string(word), "there is no such option");
    }
  }
  return options;
}

Expected<Json> verified(const Options &options, const std::string &text) {
  SessionOptions made;
  KF_TRY(made.target, parseTarget("cuda", options.chip, ""));
  made.openDevice = [] { return Expected<std::unique_ptr<Device>>(createEmulatedCudaDevice()); };
  made.fuse = options.fuse;
  made.cache = false;
  made.poison = true;
  KF_TRY(std::unique_ptr<Session> session, Session::create(made));
  DiagnosticText diagnostics(&session->context());
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &session->context());
  if (!module)
    return unusable("module does not parse", "standard input", diagnostics.take("no diagnostics"));
  KF_TRY(mlir::func::FuncOp function, findFunction(*module, ""));
  KF_TRY(FunctionSignature signature, readSignature(function));
  KF_TRY(SizeValues sizes, chooseSizes(signature, options.sizes));
  KF_TRY(FunctionData data, randomData(signature, sizes, options.seed));
  KF_TRY(std::vector<TensorData> reference, runReference(*module, signature, data));
  KF_CHECK(session->compile(std::move(module)));
  KF_TRY(FunctionRun run, FunctionRun::create(*session, signature, data));
  run.poisonResults();
  KF_CHECK(run.run());
  Json accuracy = Json::array();
  bool pass = true;
  const std::vector<const TensorData *> outputs = outputsOf(signature, data);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Accuracy each = compareValues(outputs[i]->toFloats(), reference[i].toFloats(),
                                        toleranceOf(signature, *outputs[i]));
    pass = pass && each.pass;
    accuracy.push_back(accuracyJson(each, "f64"));
  }
  return Json{{"pass", pass}, {"accuracy", accuracy}};
}

} // namespace

int main(int count, char **words) {
  const std::string text(std::istreambuf_iterator<char>(std::cin), {});
  auto options = read(std::span(words, static_cast<size_t>(count)).subspan(1));
  auto answer = options ? verified(*options, text) : tl::unexpected(options.error());
  if (!answer) {
    std::cerr << "kernelforge: error: " << answer.error().line() << "\n";
    return static_cast<int>(answer.error().kind);
  }
  std::cout << answer->dump() << "\n";
  return (*answer)["pass"] ? 0 : 1;
}
