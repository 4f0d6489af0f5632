#include "kernelforge/codegen/webgpu/WgslFunction.h"

#include "kernelforge/codegen/simt/Builder.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"

#include <fmt/format.h>

using namespace mlir;
using namespace kernelforge;
using namespace kernelforge::webgpu;

/// Operations in one expression, beyond which a part of it gets a name.
static constexpr int mostOperations = 14;

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

void WgslFunction::define(Value value, std::string name, Memory memory) {
  known[value] = std::move(name);
  memories[value] = memory;
}

void WgslFunction::defineInPieces(Value value, std::string name, std::string at) {
  define(value, std::move(name));
  readers[value] = std::move(at);
}

/// The name that a value's location gives it; a value without one is named after its type.
static StringRef wantedName(Value value) {
  if (auto name = dyn_cast<NameLoc>(value.getLoc()))
    return name.getName().getValue();
  if (isa<VectorType>(value.getType()))
    return "quad";
  return value.getType().isF32() ? "value" : value.getType().isInteger(1) ? "condition" : "at";
}

std::string WgslFunction::variableFor(Value value) {
  std::string name = names.take(wantedName(value));
  known[value] = name;
  return name;
}

/// Longest line; what is longer goes on in the next one.
static constexpr size_t lineLength = 100;

/// Where to break `text` so that at most `length` characters stay in the line: before a sum or a
/// difference or after a comma, or else at any space; 0 where there is none.
static size_t breakPlace(StringRef text, size_t length) {
  for (size_t at = length; at > length / 2; --at)
    if (text[at] == ' ' && (text[at - 1] == ',' || text[at + 1] == '+' || text[at + 1] == '-'))
      return at;
  const size_t space = text.take_front(length + 1).rfind(' ');
  return space == StringRef::npos ? 0 : space;
}

void WgslFunction::line(const std::string &text) {
  StringRef rest = text;
  std::string before = indent;
  while (before.size() + rest.size() > lineLength) {
    const size_t at = breakPlace(rest, lineLength - before.size());
    if (at == 0)
      break;
    out += before + rest.take_front(at).str() + "\n";
    rest = rest.drop_front(at + 1);
    before = indent + "    ";
  }
  out += before + rest.str() + "\n";
}

//===----------------------------------------------------------------------===//
// What is written where it is used
//===----------------------------------------------------------------------===//

/// Whether nothing stands above a half (i16): it is an f16 that was rounded to.
static bool isWholeWord(Value half) {
  auto bits = half.getDefiningOp<arith::BitcastOp>();
  return bits && bits.getIn().getDefiningOp<arith::TruncFOp>();
}

/// Casts between types that are one and the same in WGSL. Halves, f16 and i16, are words there,
/// with anything above them.
bool WgslFunction::isTransparent(Operation *op) {
  if (isa<arith::IndexCastUIOp, arith::IndexCastOp, arith::TruncIOp>(op))
    return true;
  if (isa<arith::BitcastOp>(op))
    return op->getResult(0).getType().getIntOrFloatBitWidth() == 16;
  return isa<arith::ExtUIOp>(op) && isWholeWord(op->getOperand(0));
}

/// What has a value and does nothing else. Calls are of functions that the language has.
static bool isArithmetic(Operation *op) {
  return isa_and_nonnull<arith::ArithDialect, math::MathDialect, vector::VectorDialect>(
             op->getDialect()) ||
         isa<func::CallOp>(op);
}

/// What has a value and is computed by all threads of a subgroup together, where it stands.
static bool isCollective(Operation *op) {
  return isa<gpu::ShuffleOp, gpu::SubgroupReduceOp, gpu::SubgroupMmaLoadMatrixOp,
             gpu::SubgroupMmaComputeOp, gpu::SubgroupMmaElementwiseOp>(op);
}

/// True where nothing between a load and the statement that it would be written in can change what
/// it loads.
bool WgslFunction::staysUntilUsed(Operation *load) {
  Operation *statement = *load->user_begin();
  while (isInline(statement))
    statement = *statement->user_begin();
  for (Operation *op = load->getNextNode(); op && op != statement; op = op->getNextNode())
    if (op->getNumRegions() > 0 ||
        isa<memref::StoreOp, gpu::BarrierOp, gpu::SubgroupMmaStoreMatrixOp>(op))
      return false;
  return true;
}

int WgslFunction::sizeOf(Operation *op) {
  int size = isTransparent(op) ? 0 : 1;
  for (Value operand : op->getOperands())
    if (Operation *inner = operand.getDefiningOp();
        inner && !known.contains(operand) && !isa<arith::ConstantOp>(inner) && isInline(inner))
      size += sizeOf(inner);
  return size;
}

bool WgslFunction::decideInline(Operation *op) {
  if (isa<arith::ConstantOp, gpu::SubgroupMmaConstantMatrixOp>(op) || isTransparent(op))
    return true;
  if (isa<vector::ExtractOp, vector::SplatOp>(op) &&
      (known.contains(op->getOperand(0)) || op->getOperand(0).getDefiningOp<arith::ConstantOp>()))
    return true; // "x.y" and "vec4<f32>(x)" are as short as a name
  if (isa<arith::TruncFOp>(op) && op->hasOneUse() && isa<vector::BitCastOp>(*op->user_begin()))
    return true; // they are one operation
  if (op->getNumResults() != 1 || isa<NameLoc>(op->getLoc()) || !op->hasOneUse() ||
      (*op->user_begin())->getBlock() != op->getBlock())
    return false;
  if (auto load = dyn_cast<memref::LoadOp>(op)) {
    if (load->hasAttr(simt::uniformAttrName))
      return false;
    return memories.lookup(load.getMemRef()) == Memory::Constant || staysUntilUsed(op);
  }
  return isArithmetic(op) && sizeOf(op) <= mostOperations;
}

bool WgslFunction::isInline(Operation *op) {
  // Its own operands do not count while it is decided: they are decided after it.
  auto [entry, isNew] = inlined.try_emplace(op, false);
  if (!isNew)
    return entry->second;
  const bool decision = decideInline(op);
  inlined[op] = decision;
  return decision;
}

//===----------------------------------------------------------------------===//
// Statements
//===----------------------------------------------------------------------===//

Expected<std::string> WgslFunction::print(func::FuncOp function) {
  trusts = !options.emulatesMatrices &&
           function.walk([](gpu::SubgroupMmaComputeOp) { return WalkResult::interrupt(); })
               .wasInterrupted();
  printBlock(function.getBody().front());
  if (!unknown.empty())
    return failed("WGSL cannot be printed", function.getSymName().str(),
                  fmt::format("{} has no text in it", unknown));
  return out;
}

void WgslFunction::printBlock(Block &body) {
  for (Operation &op : body.without_terminator())
    printOp(&op);
}

void WgslFunction::printOp(Operation *op) {
  if (!isa<scf::IfOp>(op) && op->getNumResults() == 1 && known.contains(op->getResult(0)))
    return;
  if (auto variable = inPlace.find(op); variable != inPlace.end()) {
    const std::string name = variable->second; // the map may move
    line(fmt::format("{} = {};", name, plainOf(compute(op))));
    known[op->getResult(0)] = name;
    return;
  }
  const bool isValue = isArithmetic(op) || isCollective(op) || isa<memref::LoadOp>(op);
  if (isValue && (op->use_empty() || isInline(op)))
    return;
  TypeSwitch<Operation *>(op)
      .Case([&](scf::ForOp loop) { printFor(loop); })
      .Case([&](scf::IfOp branch) { printIf(branch); })
      .Case([&](gpu::BarrierOp) { line("workgroupBarrier();"); })
      .Case([&](gpu::BlockIdOp id) { known[id.getResult()] = blockNumber; })
      .Case([&](gpu::ThreadIdOp id) {
        const std::string name = variableFor(id.getResult());
        line(fmt::format("let {} = local_id.x;", name));
      })
      .Case([&](gpu::LaneIdOp id) {
        if (options.emulatesMatrices) {
          const std::string name = variableFor(id.getResult());
          line(fmt::format("let {} = local_id.x % 32u;", name));
          return;
        }
        helpers.lane = true;
        known[id.getResult()] = laneName;
      })
      .Case([&](gpu::SubgroupMmaConstantMatrixOp) {})
      .Case([&](gpu::SubgroupMmaStoreMatrixOp store) {
        if (options.emulatesMatrices) {
          line(helpers.emulated.store(
                   cast<gpu::MMAMatrixType>(store.getSrc().getType()), plain(store.getSrc()).text,
                   plain(store.getDstMemref()).text,
                   cast<MemRefType>(store.getDstMemref().getType()).getElementType(),
                   plain(store.getIndices()[0]).text, store.getLeadDimension().getZExtValue()) +
               ";");
          return;
        }
        line(fmt::format("subgroupMatrixStore<row_major>(&{}, {}, {}, {}u);",
                         plain(store.getDstMemref()).text, plain(store.getIndices()[0]).text,
                         plain(store.getSrc()).text, store.getLeadDimension().getZExtValue()));
      })
      .Case([&](memref::StoreOp store) { printStore(store); })
      .Default([&](Operation *) {
        if (!isValue) {
          refuse(op);
          return;
        }
        if (trusts && op->hasAttr(simt::uniformAttrName)) {
          line("workgroupBarrier();");
          helpers.trusts = true;
        }
        const std::string text = plainOf(compute(op));
        line(fmt::format("let {} = {};", variableFor(op->getResult(0)), text));
      });
}

void WgslFunction::printStore(memref::StoreOp store) {
  const std::string memory = expression(store.getMemRef()).text;
  const std::string place = plain(store.getIndices()[0]).text;
  if (!store.getMemRefType().getElementType().isInteger(16)) {
    line(fmt::format("{}[{}] = {};", memory, place, plain(store.getValue()).text));
    return;
  }
  // Another thread may write the other half of the word, at any time: each changes its own bits.
  const std::string at = names.take("half_at"), shift = names.take("shift");
  line(fmt::format("let {} = {};", at, place));
  line(fmt::format("let {} = ({} & 1u) << 4u;", shift, at));
  line(fmt::format("atomicAnd(&{}[{} >> 1u], ~(0xffffu << {}));", memory, at, shift));
  line(fmt::format("atomicOr(&{}[{} >> 1u], ({} & 0xffffu) << {});", memory, at,
                   operand(store.getValue(), Tight::Unary), shift));
}

std::string WgslFunction::plainOf(const Expression &expression) {
  return expression.isSigned ? "u32(" + expression.text + ")" : expression.text;
}

/// The number of the iteration argument of the loop around `loop` that is carried through `loop`
/// and nothing else: it needs no variable of its own.
static BlockArgument carriedThrough(scf::ForOp loop, unsigned i) {
  auto outer = dyn_cast<scf::ForOp>(loop->getParentOp());
  auto init = dyn_cast<BlockArgument>(loop.getInitArgs()[i]);
  Value result = loop.getResult(i);
  if (!outer || !init || init.getOwner() != outer.getBody() || init.getArgNumber() == 0 ||
      !init.hasOneUse() || !result.hasOneUse())
    return {};
  OpOperand &use = *result.use_begin();
  const bool isYielded = use.getOwner() == outer.getBody()->getTerminator() &&
                         use.getOperandNumber() == init.getArgNumber() - 1;
  return isYielded ? init : BlockArgument();
}

/// What an operation adds its products to.
static Value accumulatorOf(Operation *op) {
  if (auto fma = dyn_cast<math::FmaOp>(op))
    return fma.getC();
  if (auto multiply = dyn_cast<gpu::SubgroupMmaComputeOp>(op))
    return multiply.getOpC();
  return {};
}

/// The branch of `block` that computes a value for nothing but one use.
static OpResult branchOf(Value value, Block *block) {
  auto result = dyn_cast<OpResult>(value);
  auto branch = result ? dyn_cast<scf::IfOp>(result.getOwner()) : scf::IfOp();
  const bool isThere =
      branch && branch->getBlock() == block && branch.elseBlock() && result.hasOneUse();
  return isThere ? result : OpResult();
}

/// What branches make of a value that a loop carries or leave as it is: the result of one in the
/// loop's body, then those of branches within it. Empty where anything reads the value from there
/// on.
static SmallVector<OpResult> changesOf(scf::ForOp loop, OpResult result, Value carried) {
  SmallVector<OpResult> changes = {result};
  llvm::SmallPtrSet<OpOperand *, 4> yielded;
  for (size_t next = 0; next < changes.size(); ++next) {
    OpResult change = changes[next];
    for (Region &side : change.getOwner()->getRegions()) {
      OpOperand &value = side.front().getTerminator()->getOpOperand(change.getResultNumber());
      yielded.insert(&value);
      if (OpResult inner = branchOf(value.get(), &side.front()))
        changes.push_back(inner);
    }
  }
  const bool isReadBefore = llvm::all_of(carried.getUses(), [&](OpOperand &use) {
    Operation *there = loop.getBody()->findAncestorOpInBlock(*use.getOwner());
    if (!there || yielded.contains(&use))
      return there != nullptr;
    return there->isBeforeInBlock(result.getOwner()) ||
           (there == result.getOwner() && changes.size() == 1);
  });
  return isReadBefore ? changes : SmallVector<OpResult>();
}

/// Finds what is added to carried value `i` of a loop and nothing else, one after the other, or to
/// what branches made of it: each is done in place.
void WgslFunction::findChain(scf::ForOp loop, unsigned i, const std::string &variable) {
  SmallVector<Operation *> chain;
  BlockArgument carried = loop.getRegionIterArg(i);
  Value value = loop.getBody()->getTerminator()->getOperand(i);
  SmallVector<OpResult> changes;
  while (value != carried) {
    if (OpResult result = branchOf(value, loop.getBody())) {
      changes = changesOf(loop, result, carried);
      if (changes.empty())
        return;
      break;
    }
    Operation *op = value.getDefiningOp();
    Value before = op && op->getBlock() == loop.getBody() ? accumulatorOf(op) : Value();
    if (!before || !value.hasOneUse())
      return;
    chain.push_back(op);
    value = before;
  }
  if (changes.empty() && !carried.hasOneUse())
    return;
  for (OpResult change : changes)
    known[change] = variable;
  for (Operation *op : chain)
    inPlace[op] = variable;
}

void WgslFunction::printFor(scf::ForOp loop) {
  std::vector<std::string> variables;
  for (auto [i, carried] : llvm::enumerate(loop.getRegionIterArgs())) {
    if (BlockArgument outer = carriedThrough(loop, static_cast<unsigned>(i))) {
      std::string name = known.lookup(outer); // the map may move
      known[carried] = std::move(name);
    } else {
      const std::string init = plain(loop.getInitArgs()[i]).text;
      line(fmt::format("var {} = {};", variableFor(carried), init));
    }
    variables.push_back(known[carried]);
    known[loop.getResult(static_cast<unsigned>(i))] = variables.back();
  }
  for (unsigned i = 0; i < variables.size(); ++i)
    findChain(loop, i, variables[i]);
  // The bound is looked at in every step: what is more than a name or number is computed before.
  Expression end = plain(loop.getUpperBound());
  Operation *bound = loop.getUpperBound().getDefiningOp();
  if (bound && !isa<arith::ConstantOp>(bound) && !known.contains(loop.getUpperBound())) {
    const std::string name = names.take("end");
    line(fmt::format("let {} = {};", name, end.text));
    end = {name};
  }
  const std::string begin = plain(loop.getLowerBound()).text;
  const std::string counter = variableFor(loop.getInductionVar());
  const std::string step = plain(loop.getStep()).text;
  line(fmt::format("for (var {} = {}; {} < {}; {}) {{", counter, begin, counter, end.text,
                   step == "1u" ? counter + "++" : counter + " += " + step));
  indent += "  ";
  printBlock(*loop.getBody());
  assign(loop.getBody()->getTerminator()->getOperands(), variables);
  indent.resize(indent.size() - 2);
  line("}");
}

/// Whether it is what a new variable holds.
static bool isZero(Value value) {
  if (auto splat = value.getDefiningOp<vector::SplatOp>())
    value = splat.getInput();
  return matchPattern(value, m_Zero()) || matchPattern(value, m_PosZeroFloat());
}

void WgslFunction::printIf(scf::IfOp branch) {
  std::vector<std::string> variables;
  llvm::SmallDenseSet<size_t> declared; // the others are variables of a loop
  for (auto [i, result] : llvm::enumerate(branch.getResults())) {
    if (!known.contains(result)) {
      line(fmt::format("var {} = {};", variableFor(result), zeroText(result.getType())));
      declared.insert(i);
    }
    variables.push_back(known[result]);
  }
  line(fmt::format("if ({}) {{", plain(branch.getCondition()).text));
  auto side = [&](Block *body) {
    indent += "  ";
    printBlock(*body);
    SmallVector<Value> values;
    std::vector<std::string> changed;
    for (auto [i, value] : llvm::enumerate(body->getTerminator()->getOperands()))
      if (!isZero(value) || !declared.contains(i)) { // zero is what it is declared as
        values.push_back(value);
        changed.push_back(variables[i]);
      }
    assign(values, changed);
    indent.resize(indent.size() - 2);
  };
  side(branch.thenBlock());
  if (branch.elseBlock()) {
    const size_t before = out.size();
    line("} else {");
    const size_t empty = out.size();
    side(branch.elseBlock());
    if (out.size() == empty)
      out.resize(before);
  }
  line("}");
}

/// True where `text` mentions the variable.
static bool mentions(StringRef text, StringRef name) {
  auto isPart = [](char c) { return llvm::isAlnum(c) || c == '_'; };
  for (size_t at = text.find(name); at != StringRef::npos; at = text.find(name, at + 1)) {
    const size_t end = at + name.size();
    if ((at == 0 || !isPart(text[at - 1])) && (end == text.size() || !isPart(text[end])))
      return true;
  }
  return false;
}

void WgslFunction::assign(ValueRange values, ArrayRef<std::string> variables) {
  std::vector<std::string> texts;
  bool dependsOnOther = false;
  for (auto [i, value] : llvm::enumerate(values)) {
    texts.push_back(plain(value).text);
    for (size_t j = 0; j < i; ++j)
      dependsOnOther |= texts[j] != variables[j] && mentions(texts[i], variables[j]);
  }
  if (dependsOnOther) // all are computed before any is assigned
    for (auto [i, text] : llvm::enumerate(texts))
      if (text != variables[i]) {
        const std::string name = names.take("next_" + variables[i]);
        line(fmt::format("let {} = {};", name, text));
        text = name;
      }
  for (auto [i, value] : llvm::enumerate(values)) {
    if (texts[i] == variables[i])
      continue;
    auto sum = value.getDefiningOp<arith::AddFOp>();
    if (!dependsOnOther && sum && !known.contains(value) &&
        expression(sum.getLhs()).text == variables[i])
      line(fmt::format("{} += {};", variables[i], plain(sum.getRhs()).text));
    else
      line(fmt::format("{} = {};", variables[i], texts[i]));
  }
}
