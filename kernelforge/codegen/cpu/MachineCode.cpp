#include "kernelforge/codegen/cpu/MachineCode.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include <fmt/format.h>

#include "llvm/ADT/StringExtras.h"
#include "llvm/MC/MCAsmInfo.h"
#include "llvm/MC/MCContext.h"
#include "llvm/MC/MCDisassembler/MCDisassembler.h"
#include "llvm/MC/MCInst.h"
#include "llvm/MC/MCInstPrinter.h"
#include "llvm/MC/MCInstrAnalysis.h"
#include "llvm/MC/MCInstrInfo.h"
#include "llvm/MC/MCRegisterInfo.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/MCTargetOptions.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/TargetSelect.h"

namespace kernelforge {

namespace {

tl::unexpected<Error> unreadable(std::string why) {
  return unusable("object file is not usable", "", std::move(why));
}

/// LLVM's knowledge of a target's instructions.
class Instructions {
public:
  static Expected<std::unique_ptr<Instructions>> make(const Target &target) {
    initializeX86();
    LLVMInitializeX86Disassembler();
    std::string error;
    const llvm::Target *x86 = llvm::TargetRegistry::lookupTarget(target.triple, error);
    if (!x86)
      return missing("disassembler is not here", target.triple, error);
    std::unique_ptr<Instructions> made(new Instructions(*x86, target));
    if (!made->disassembler || !made->analysis)
      return missing("disassembler is not here", target.triple,
                     "this LLVM has none for the target");
    return made;
  }

  llvm::MCInstrDesc descriptionOf(const llvm::MCInst &inst) const {
    return info->get(inst.getOpcode());
  }
  std::string text(const llvm::MCInst &inst, uint64_t address) const {
    std::string text;
    llvm::raw_string_ostream stream(text);
    printer->printInst(&inst, address, "", *subtarget, stream);
    std::replace(text.begin(), text.end(), '\t', ' ');
    return llvm::StringRef(text).trim().str();
  }
  llvm::StringRef registerName(unsigned number) const { return registers->getName(number); }

private:
  Instructions(const llvm::Target &x86, const Target &target)
      : registers(x86.createMCRegInfo(target.triple)),
        assembly(x86.createMCAsmInfo(*registers, target.triple, llvm::MCTargetOptions())),
        subtarget(x86.createMCSubtargetInfo(target.triple, target.chip, target.featureString())),
        info(x86.createMCInstrInfo()),
        context(llvm::Triple(target.triple), assembly.get(), registers.get(), subtarget.get()),
        disassembler(x86.createMCDisassembler(*subtarget, context)),
        analysis(x86.createMCInstrAnalysis(info.get())),
        printer(x86.createMCInstPrinter(llvm::Triple(target.triple), /*SyntaxVariant=*/0, *assembly,
                                        *info, *registers)) {}

  std::unique_ptr<llvm::MCRegisterInfo> registers;
  std::unique_ptr<llvm::MCAsmInfo> assembly;
  std::unique_ptr<llvm::MCSubtargetInfo> subtarget;
  std::unique_ptr<llvm::MCInstrInfo> info;
  llvm::MCContext context;

public:
  std::unique_ptr<llvm::MCDisassembler> disassembler;
  std::unique_ptr<llvm::MCInstrAnalysis> analysis;

private:
  std::unique_ptr<llvm::MCInstPrinter> printer;
};

/// The instructions of one function and where each may go on.
class Function {
public:
  Function(const Instructions &known, uint64_t begin) : known(known), begin(begin) {}

  Status read(llvm::ArrayRef<uint8_t> bytes) {
    for (uint64_t at = 0, size = 0; at < bytes.size(); at += size) {
      Instruction instruction{begin + at, 0, {}};
      if (known.disassembler->getInstruction(instruction.inst, size, bytes.slice(at),
                                             instruction.address,
                                             llvm::nulls()) != llvm::MCDisassembler::Success)
        return unreadable(fmt::format("there is no instruction at offset {:#x}", at));
      instruction.size = size;
      all.push_back(std::move(instruction));
    }
    return {};
  }

  void addTo(MachineCode &code, std::set<std::string> &vectors) {
    for (size_t i = 0; i < all.size(); ++i) {
      const llvm::MCInst &inst = all[i].inst;
      for (const llvm::MCOperand &operand : inst)
        if (operand.isReg() && operand.getReg() != 0)
          if (llvm::StringRef name = known.registerName(operand.getReg());
              name.contains("MM") && name.size() > 3)
            vectors.insert(name.drop_front(3).str());
    }
    for (const std::set<size_t> &loop : innermostLoops()) {
      SpillingLoop found{static_cast<int64_t>(loop.size()), {}};
      for (size_t i : loop)
        if (usesStack(all[i].inst))
          found.spills.push_back(fmt::format("+{:#x}: {}", all[i].address - begin,
                                             known.text(all[i].inst, all[i].address)));
      if (!found.spills.empty())
        code.spillingLoops.push_back(std::move(found));
    }
  }

private:
  struct Instruction {
    uint64_t address, size;
    llvm::MCInst inst;
  };

  /// Frames are addressed from the stack pointer: they are of a fixed size.
  bool usesStack(const llvm::MCInst &inst) const {
    const llvm::MCInstrDesc description = known.descriptionOf(inst);
    return (description.mayLoad() || description.mayStore()) &&
           llvm::any_of(inst, [&](const llvm::MCOperand &operand) {
             return operand.isReg() && operand.getReg() != 0 &&
                    known.registerName(operand.getReg()) == "RSP";
           });
  }

  std::vector<std::vector<size_t>> successors() const {
    std::map<uint64_t, size_t> byAddress;
    for (size_t i = 0; i < all.size(); ++i)
      byAddress[all[i].address] = i;
    std::vector<std::vector<size_t>> next(all.size());
    for (size_t i = 0; i < all.size(); ++i) {
      const llvm::MCInstrDesc description = known.descriptionOf(all[i].inst);
      uint64_t target = 0;
      if (description.isBranch() &&
          known.analysis->evaluateBranch(all[i].inst, all[i].address, all[i].size, target))
        if (auto found = byAddress.find(target); found != byAddress.end())
          next[i].push_back(found->second);
      if (!description.isBarrier() && i + 1 < all.size())
        next[i].push_back(i + 1);
    }
    return next;
  }

  /// By their instructions. Code from structured loops has one entry to each cycle, so an edge to
  /// what a walk still is within leads to the entry of one.
  std::vector<std::set<size_t>> innermostLoops() const {
    const std::vector<std::vector<size_t>> next = successors();
    std::vector<std::vector<size_t>> previous(all.size());
    for (size_t i = 0; i < next.size(); ++i)
      for (size_t to : next[i])
        previous[to].push_back(i);
    std::map<size_t, std::set<size_t>> loops; // by entry
    enum class State : uint8_t { New, Within, Left };
    std::vector<State> states(all.size(), State::New);
    std::vector<std::pair<size_t, size_t>> path; // instruction, edges taken
    // What only a jump table leads to begins walks of its own.
    for (size_t start = 0; start < all.size(); ++start) {
      if (states[start] != State::New)
        continue;
      states[start] = State::Within;
      path.emplace_back(start, 0);
      while (!path.empty()) {
        auto &[at, taken] = path.back();
        if (taken == next[at].size()) {
          states[at] = State::Left;
          path.pop_back();
          continue;
        }
        const size_t to = next[at][taken++];
        if (states[to] == State::Within)
          addLoop(to, at, previous, loops[to]);
        else if (states[to] == State::New) {
          states[to] = State::Within;
          path.emplace_back(to, 0);
        }
      }
    }
    std::vector<std::set<size_t>> innermost;
    for (const auto &[entry, body] : loops)
      if (llvm::none_of(loops, [&, &entry = entry, &body = body](const auto &other) {
            return other.first != entry && body.contains(other.first);
          }))
        innermost.push_back(body);
    return innermost;
  }

  /// What reaches the edge from `last` to `entry` without going through the entry.
  static void addLoop(size_t entry, size_t last, const std::vector<std::vector<size_t>> &previous,
                      std::set<size_t> &body) {
    body.insert(entry);
    std::vector<size_t> open{last};
    while (!open.empty()) {
      const size_t at = open.back();
      open.pop_back();
      if (body.insert(at).second)
        open.insert(open.end(), previous[at].begin(), previous[at].end());
    }
  }

  const Instructions &known;
  uint64_t begin;
  std::vector<Instruction> all;
};

} // namespace

Expected<MachineCode> readMachineCode(std::string_view object, const Target &target) {
  KF_TRY(auto known, Instructions::make(target));
  auto file = llvm::object::ObjectFile::createObjectFile(
      llvm::MemoryBufferRef(llvm::StringRef(object.data(), object.size()), "kernel"));
  if (!file)
    return unreadable(llvm::toString(file.takeError()));
  const auto *elf = llvm::dyn_cast<llvm::object::ELFObjectFileBase>(file->get());
  if (!elf)
    return unreadable("it is no ELF file");
  MachineCode code;
  std::set<std::string> vectors;
  for (const llvm::object::ELFSymbolRef symbol : elf->symbols()) {
    auto type = symbol.getType();
    if (!type)
      return unreadable(llvm::toString(type.takeError()));
    auto section = symbol.getSection();
    if (!section)
      return unreadable(llvm::toString(section.takeError()));
    auto address = symbol.getAddress();
    if (!address)
      return unreadable(llvm::toString(address.takeError()));
    if (*type != llvm::object::SymbolRef::ST_Function || *section == elf->section_end())
      continue;
    auto content = (*section)->getContents();
    if (!content)
      return unreadable(llvm::toString(content.takeError()));
    const uint64_t offset = *address - (*section)->getAddress();
    if (offset > content->size() || symbol.getSize() > content->size() - offset)
      return unreadable("a function lies outside its section");
    const auto *bytes = reinterpret_cast<const uint8_t *>(content->data());
    Function function(*known, *address);
    KF_CHECK(function.read(llvm::ArrayRef(bytes + offset, symbol.getSize())));
    function.addTo(code, vectors);
  }
  code.vectorRegisters = static_cast<int64_t>(vectors.size());
  return code;
}

} // namespace kernelforge
