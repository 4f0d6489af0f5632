// A decoded instruction.
#pragma once

#include "Ptx.h"

namespace kernelforge::ptx {

struct Type {
  enum Kind : uint8_t { Predicate, Bits, Unsigned, Signed, Float };
  Kind kind = Bits;
  uint8_t bits = 32;
};

enum class Op : uint8_t {
  Load,
  Store,
  Move,
  Pack,   ///< several narrow registers as one
  Unpack, ///< and back
  Convert,
  Add,
  Sub,
  Mul,
  Mad,
  Div,
  Rem,
  Min,
  Max,
  Neg,
  Abs,
  Not,
  And,
  Or,
  Xor,
  ShiftLeft,
  ShiftRight,
  FunnelLeft,
  FunnelRight,
  ExtractBits,
  InsertBits,
  Permute,
  Reciprocal,
  SquareRoot,
  CopySign,
  SetPredicate,
  Select,
  Branch,
  Barrier,
  Return,
  // Of a warp or warpgroup, which comes there together.
  Shuffle,
  ShuffleXor,
  MeetWarp,
  AnyLane, ///< whether any of the warp has a predicate
  StoreMatrices,
  WarpProduct,
  Product,
  ProductOfRegisters, ///< its left operand is in registers of the warp
  // Of other memory than registers, whenever it is done.
  InitBarrier,
  Arrive,
  ExpectBytes,
  TryWait,
  WaitPrevious,
  LoadBox,
  StoreBox,
  CommitStores,
  WaitStores,
  ArriveCluster,
  WaitCluster,
  MapShared, ///< where another block of the cluster has what this one has there
  DotBytes,  ///< products of signed bytes, added up
  Round,     ///< to a whole number, still f32
  PowerOfTwo,
  AtomicAdd,
  PackHalves, ///< one or two f32 as narrow numbers
  Nothing,    ///< changes nothing here: fences, hints, shares of registers
};

enum class Part : uint8_t { Low, High, Wide }; ///< of a product
/// Cluster: the shared memory of any of its blocks.
enum class Space : uint8_t { Parameter, Global, Shared, Cluster };
enum class Compare : uint8_t { Eq, Ne, Lt, Le, Gt, Ge, Number, NotNumber };

struct Operand {
  enum Kind : uint8_t { None, Register, Immediate, Special };
  Kind kind = None;
  uint8_t bits = 64;  ///< of a register
  unsigned index = 0; ///< of the register: all types are numbered together
  uint64_t value = 0; ///< an immediate; what is added to an address
};

/// Special registers, by Operand::index: x, y and z of each, and the number in the warp.
enum SpecialRegister : unsigned {
  ThreadId = 0,
  BlockSize = 3,
  BlockId = 6,
  GridSize = 9,
  Lane = 12
};

struct Instruction {
  Op op = Op::Return;
  Type type, source; ///< `source`: of what is converted
  Part part = Part::Low;
  Space space = Space::Global;
  Compare compare = Compare::Eq;
  bool isUnordered = false; ///< a comparison that holds for NaN, too
  bool isGuarded = false, guardIsNegated = false;
  unsigned guard = 0; ///< register
  uint8_t results = 0, operands = 0;
  std::array<Operand, 4> result;
  std::array<Operand, 5> operand; ///< of a store: address in operand 0, values after it
  unsigned target = 0;            ///< of a branch
  std::vector<Operand> sums;      ///< of a product: read and written; of a warp's: all it reads
  unsigned columns = 0;           ///< of a product
  bool isOfColumns = false;       ///< of a product: neighbours in memory are columns
  bool isBf16 = false;            ///< numbers of a product, or that are packed; else f16
  bool isPair = false;            ///< of two narrow numbers each
  unsigned line = 0;
};

} // namespace kernelforge::ptx
