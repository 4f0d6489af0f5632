#include "kernelforge/codegen/simt/Emit.h"
#include "kernelforge/codegen/simt/Step.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::simt;
using namespace kernelforge::transformer;

/// The kernel's operations in order: "rms_norm, matmul".
static std::string operations(KernelOp kernel) {
  std::string text;
  for (Operation &op : kernel.getBody().front().without_terminator())
    text += (text.empty() ? "" : ", ") + op.getName().stripDialect().str();
  return text;
}

static std::string scheduleText(const KernelAnalysis &kernel) {
  switch (kernel.family()) {
  case KernelFamily::Matmul:
    return fmt::format("{} columns x {} rows a workgroup", threads, matmul::rowsOfThread(kernel));
  case KernelFamily::Attention:
    return fmt::format("one query head of one row a workgroup, {} keys at a time", threads);
  case KernelFamily::Rowwise:
    return fmt::format("one row a workgroup of {} threads", threads);
  case KernelFamily::Step:
    return step::scheduleText(kernel);
  }
  llvm_unreachable("a family without a description");
}

std::vector<std::string> simt::describe(const KernelAnalysis &kernel) {
  KernelOp op = kernel.kernel();
  return {fmt::format("{}: {} ({})", kernel.name(), op.getFamily().str(), operations(op)),
          scheduleText(kernel)};
}

std::string simt::commentText(ArrayRef<std::string> lines) {
  std::string text;
  for (const std::string &line : lines) {
    text += "// ";
    for (char c : escapeControls(line))
      text += static_cast<unsigned char>(c) < 0x80
                  ? std::string(1, c)
                  : fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    text += "\n";
  }
  return text;
}
