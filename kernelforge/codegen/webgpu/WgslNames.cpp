#include "kernelforge/codegen/webgpu/WgslNames.h"

#include "llvm/ADT/StringExtras.h"

using namespace llvm;
using namespace kernelforge::webgpu;

/// Keywords, reserved words and the functions that are called.
static bool isReserved(StringRef name) {
  static const llvm::StringSet<> words = [] {
    llvm::StringSet<> all;
    SmallVector<StringRef> split;
    StringRef(
        "alias break case const const_assert continue continuing default diagnostic discard else "
        "enable false fn for if let loop override requires return struct switch true var while "
        "NULL Self abstract active alignas alignof as asm asm_fragment async attribute auto await "
        "become cast catch class co_await co_return co_yield coherent column_major common compile "
        "compile_fragment concept const_cast consteval constexpr constinit crate debugger decltype "
        "delete demote demote_to_helper do dynamic_cast enum explicit export extends extern "
        "external fallthrough filter final finally friend from fxgroup get goto groupshared highp "
        "impl implements import inline instanceof interface layout lowp macro macro_rules match "
        "mediump meta mod module move mut mutable namespace new nil noexcept noinline "
        "nointerpolation non_coherent noncoherent noperspective null nullptr of operator package "
        "packoffset partition pass patch pixelfragment precise precision premerge priv protected "
        "pub public readonly ref regardless register reinterpret_cast require resource restrict "
        "self set shared sizeof smooth snorm static static_assert static_cast std subroutine super "
        "target template this thread_local throw trait try type typedef typeid typename typeof "
        "union unless unorm unsafe unsized use using varying virtual volatile wgsl where with "
        "writeonly yield array atomic bool f16 f32 i32 u32 vec2 vec3 vec4 ptr sampler texture "
        "abs bitcast exp max min round select sqrt tanh unpack2x16float workgroupBarrier "
        "workgroupUniformLoad read read_write write storage uniform workgroup function private "
        "atomicAnd atomicOr erf safe_tanh round_to_f16 round_to_bf16 pack2x16float unpack_halves "
        "to_halves_2 to_halves_4 pair_halves_2 pair_halves_4 Launch launch "
        "tasks width workgroup_id "
        "local_id")
        .split(split, ' ');
    for (StringRef word : split)
      all.insert(word);
    return all;
  }();
  return words.contains(name);
}

std::string WgslNames::take(StringRef wanted) {
  std::string base;
  for (char c : wanted)
    base += isAlnum(c) ? c : '_';
  // Two underscores at the front are reserved, and one alone is no name.
  base.erase(0, std::min(base.find_first_not_of('_'), base.size()));
  if (base.empty() || isDigit(base.front()))
    base.insert(0, "v");
  if (isReserved(base))
    base += "_";
  std::string name = base;
  for (unsigned i = 1; isTaken(name); ++i)
    name = base + (base.back() == '_' ? "" : "_") + std::to_string(i);
  taken.insert(name);
  return name;
}
