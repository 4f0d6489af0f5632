#include "kernelforge/llm/ModelNames.h"

#include "kernelforge/support/Paths.h"

#include <filesystem>
#include <fmt/format.h>

namespace kernelforge {

namespace fs = std::filesystem;

namespace {

/// Whether a text can only be meant as a path: a missing one is then a mistake in the path.
bool isWrittenAsPath(const std::string &text) {
  return text.empty() || text.find('/') != text.npos || text.ends_with(".gguf") ||
         text.ends_with(".safetensors") || text.ends_with(".json");
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
  return missing("model is not here", nameOrPath,
                 fmt::format("there is no such file or folder, and no {}", file.string()),
                 "name a GGUF file or a model's folder, or run `python3 scripts/models/fetch.py "
                 "smollm2` and name smollm2");
}

} // namespace kernelforge
