#include "kernelforge/llm/ModelNames.h"

#include "kernelforge/support/Paths.h"
#include "kernelforge/support/Suggest.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <string_view>

namespace kernelforge {

namespace fs = std::filesystem;

namespace {

/// Whether a text can only be meant as a path: a missing one is then a mistake in the path.
bool isWrittenAsPath(const std::string &text) {
  return text.empty() || text.find('/') != text.npos || text.ends_with(".gguf") ||
         text.ends_with(".safetensors") || text.ends_with(".json");
}

/// What scripts/models/fetch.py can fetch; a test holds both to the same names.
constexpr std::array<std::string_view, 2> fetchable = {"smollm2", "gemma3-270m"};

/// What a name can stand for: the GGUF files of the folder, without their ending, and what can be
/// fetched.
std::vector<std::string> namesIn(const fs::path &folder) {
  std::vector<std::string> names(fetchable.begin(), fetchable.end());
  std::error_code ignored;
  for (const fs::directory_entry &entry : fs::directory_iterator(folder, ignored))
    if (entry.path().extension() == ".gguf")
      names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

} // namespace

Expected<std::string> resolveModel(const std::string &nameOrPath) {
  std::error_code ignored; // what cannot be looked at does not exist for us
  if (isWrittenAsPath(nameOrPath) || fs::exists(nameOrPath, ignored))
    return nameOrPath;
  KF_TRY(fs::path folder, modelsDirectory());
  const fs::path file = folder / (nameOrPath + ".gguf");
  if (fs::exists(file, ignored))
    return file.string();
  std::string why = fmt::format("there is no such file or folder, and no {}", file.string());
  if (std::find(fetchable.begin(), fetchable.end(), nameOrPath) != fetchable.end())
    return missing(
        "model is not here", nameOrPath, std::move(why),
        fmt::format("run `python3 scripts/models/fetch.py {}`, which fetches it", nameOrPath));
  const std::string guess = didYouMean(nameOrPath, namesIn(folder));
  return missing("model is not here", nameOrPath, std::move(why),
                 guess + (guess.empty() ? "" : " Or ") +
                     fmt::format("name a GGUF file or a model's folder, or run `python3 "
                                 "scripts/models/fetch.py NAME` with one of {}",
                                 fmt::join(fetchable, ", ")));
}

} // namespace kernelforge
