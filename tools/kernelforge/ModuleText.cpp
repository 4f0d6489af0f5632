#include "ModuleText.h"

#include "kernelforge/support/MappedFile.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::cli;

static Expected<std::string> readModuleText(const std::string &file) {
  if (file != "-")
    return readFile(file, "module is not usable", maxModuleBytes);
  std::string text;
  char chunk[1 << 16];
  while (size_t count = std::fread(chunk, 1, sizeof(chunk), stdin)) {
    text.append(chunk, count);
    if (text.size() > maxModuleBytes)
      return unusable("module is not usable", "standard input",
                      fmt::format("it is larger than {} bytes", maxModuleBytes));
  }
  if (std::ferror(stdin))
    return failed("module cannot be read", "standard input", "reading failed");
  return text;
}

Expected<OwningOpRef<ModuleOp>> cli::parseModule(MLIRContext *context, const std::string &file) {
  KF_TRY(std::string text, readModuleText(file));
  return parseModuleText(context, text, file == "-" ? "standard input" : file);
}
