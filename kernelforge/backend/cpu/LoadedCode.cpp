#include "kernelforge/backend/cpu/LoadedCode.h"

#include "kernelforge/codegen/cpu/Target.h"
#include "kernelforge/support/Amx.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "llvm/ADT/ScopeExit.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/TargetParser/Host.h"

namespace kernelforge {

namespace {

auto linkError(std::string where, llvm::Error error, const std::string &details = "") {
  std::string why = llvm::toString(std::move(error));
  if (!details.empty())
    why += "; " + details;
  return failed("kernels cannot be loaded", std::move(where), std::move(why));
}

Expected<std::unique_ptr<llvm::orc::LLJIT>> createJit() {
  initializeX86();
  llvm::orc::JITTargetMachineBuilder machine{llvm::Triple(llvm::sys::getProcessTriple())};
  auto jit = llvm::orc::LLJITBuilder()
                 .setJITTargetMachineBuilder(std::move(machine))
                 // Kernels see nothing of this process, and have no constructors to run.
                 .setLinkProcessSymbolsByDefault(false)
                 .setPlatformSetUp(llvm::orc::setUpInactivePlatform)
                 .create();
  if (!jit)
    return linkError("linker", jit.takeError());
  return std::move(*jit);
}

} // namespace

LoadedCode::~LoadedCode() = default;

Expected<std::unique_ptr<LoadedCode>> LoadedCode::load(std::span<const Artifact> artifacts) {
  std::unique_ptr<LoadedCode> code(new LoadedCode());
  auto hasNone = [](const Artifact &artifact) { return artifact.library.has_value(); };
  if (std::ranges::all_of(artifacts, hasNone)) {
    code->entries.resize(artifacts.size());
    return code;
  }
  amxState(); // the code may use AMX, which this process has to ask for
  KF_TRY(code->jit, createJit());
  llvm::orc::LLJIT &jit = *code->jit;
  llvm::orc::ExecutionSession &session = jit.getExecutionSession();
  std::string details; // what LLVM would print to stderr
  session.setErrorReporter([&](llvm::Error error) {
    details += (details.empty() ? "" : "; ") + llvm::toString(std::move(error));
  });
  // The reporter refers to this frame.
  auto restore = llvm::make_scope_exit(
      [&] { session.setErrorReporter([](llvm::Error error) { consumeError(std::move(error)); }); });

  llvm::orc::JITDylib &library = jit.getMainJITDylib();
  auto function = [](auto *address) {
    return llvm::orc::ExecutorSymbolDef(llvm::orc::ExecutorAddr::fromPtr(address),
                                        llvm::JITSymbolFlags::Exported |
                                            llvm::JITSymbolFlags::Callable);
  };
  if (auto error = library.define(llvm::orc::absoluteSymbols(
          {{jit.mangleAndIntern("memcpy"),
            function(static_cast<void *(*)(void *, const void *, size_t)>(&std::memcpy))},
           {jit.mangleAndIntern("memset"),
            function(static_cast<void *(*)(void *, int, size_t)>(&std::memset))}})))
    return linkError("memcpy, memset", std::move(error));

  llvm::orc::SymbolLookupSet wanted;
  for (const Artifact &artifact : artifacts) {
    if (artifact.library)
      continue;
    auto object = llvm::MemoryBuffer::getMemBuffer(artifact.code, artifact.entry,
                                                   /*RequiresNullTerminator=*/false);
    if (auto error = jit.addObjectFile(std::move(object)))
      return linkError(artifact.kernel, std::move(error), details);
    wanted.add(jit.mangleAndIntern(artifact.entry));
  }
  // One look-up for all: the linker works through them without coming back.
  auto found = session.lookup(llvm::orc::makeJITDylibSearchOrder(&library), std::move(wanted));
  if (!found)
    return linkError("all kernels", found.takeError(), details);
  for (const Artifact &artifact : artifacts)
    code->entries.emplace_back(artifact.library ? nullptr
                                                : (*found)[jit.mangleAndIntern(artifact.entry)]
                                                      .getAddress()
                                                      .toPtr<KernelEntry::Function>());
  return code;
}

} // namespace kernelforge
