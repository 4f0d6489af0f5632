// What PTX calls the operations and comparisons that are emulated.
#pragma once

#include "Instruction.h"

#include <map>
#include <string_view>
#include <utility>

namespace kernelforge::ptx {

/// Operations by the first word of their names.
inline const std::map<std::string_view, Op> operations = {
    {"ld", Op::Load},         {"st", Op::Store},          {"mov", Op::Move},
    {"cvta", Op::Move},       {"cvt", Op::Convert},       {"add", Op::Add},
    {"sub", Op::Sub},         {"mul", Op::Mul},           {"mad", Op::Mad},
    {"fma", Op::Mad},         {"div", Op::Div},           {"rem", Op::Rem},
    {"min", Op::Min},         {"max", Op::Max},           {"neg", Op::Neg},
    {"abs", Op::Abs},         {"not", Op::Not},           {"and", Op::And},
    {"or", Op::Or},           {"xor", Op::Xor},           {"shl", Op::ShiftLeft},
    {"shr", Op::ShiftRight},  {"shf", Op::FunnelLeft},    {"bfe", Op::ExtractBits},
    {"bfi", Op::InsertBits},  {"prmt", Op::Permute},      {"rcp", Op::Reciprocal},
    {"sqrt", Op::SquareRoot}, {"copysign", Op::CopySign}, {"setp", Op::SetPredicate},
    {"selp", Op::Select},     {"bra", Op::Branch},        {"bar", Op::Barrier},
    {"barrier", Op::Barrier}, {"ret", Op::Return},        {"atom", Op::AtomicAdd}};

/// Those whose names are taken as a whole, longest first where one begins like another.
inline const std::pair<std::string_view, Op> wholeNames[] = {
    {"mbarrier.init.shared::cta.b64", Op::InitBarrier},
    {"mbarrier.arrive.expect_tx.shared::cta.b64", Op::ExpectBytes},
    {"mbarrier.arrive.shared::cta.b64", Op::Arrive},
    {"mbarrier.try_wait.parity.shared::cta.b64", Op::TryWait},
    {"cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes", Op::LoadBox},
    {"cp.async.bulk.tensor.2d.global.shared::cta.bulk_group", Op::StoreBox},
    {"cp.async.bulk.commit_group", Op::CommitStores},
    {"cp.async.bulk.wait_group.read", Op::WaitStores},
    {"cp.async.bulk.wait_group", Op::WaitStores},
    {"bar.warp.sync", Op::MeetWarp},
    {"vote.sync.any.pred", Op::AnyLane},
    {"ex2.approx.ftz.f32", Op::PowerOfTwo},
    {"rcp.approx.ftz.f32", Op::Reciprocal},
    {"barrier.cluster.arrive.release", Op::ArriveCluster},
    {"barrier.cluster.wait.acquire", Op::WaitCluster},
    {"mapa.shared::cluster.u32", Op::MapShared},
    {"stmatrix.sync.aligned.m8n8.x4.shared::cta.b16", Op::StoreMatrices},
    {"shfl.sync.idx.b32", Op::Shuffle},
    {"shfl.sync.bfly.b32", Op::ShuffleXor},
    {"dp4a.s32.s32", Op::DotBytes},
    {"cvt.rni.f32.f32", Op::Round},
    {"cvt.rn.bf16.f32", Op::PackHalves},
    {"cvt.rn.bf16x2.f32", Op::PackHalves},
    {"cvt.rn.f16x2.f32", Op::PackHalves},
    {"fence.mbarrier_init.release.cluster", Op::Nothing},
    {"fence.proxy.async.shared::cta", Op::Nothing},
    {"prefetch.tensormap", Op::Nothing},
    {"cp.async.bulk.prefetch.tensor.2d.L2.global", Op::Nothing},
    {"griddepcontrol.launch_dependents", Op::Nothing},
    {"griddepcontrol.wait", Op::WaitPrevious},
    {"setmaxnreg.inc.sync.aligned.u32", Op::Nothing},
    {"setmaxnreg.dec.sync.aligned.u32", Op::Nothing},
    // Products are done where they stand.
    {"wgmma.fence.sync.aligned", Op::Nothing},
    {"wgmma.commit_group.sync.aligned", Op::Nothing},
    {"wgmma.wait_group.sync.aligned", Op::Nothing},
};

/// And whether they hold for NaN, too.
inline const std::map<std::string_view, std::pair<Compare, bool>> comparisons = {
    {"eq", {Compare::Eq, false}},      {"ne", {Compare::Ne, false}},
    {"lt", {Compare::Lt, false}},      {"le", {Compare::Le, false}},
    {"gt", {Compare::Gt, false}},      {"ge", {Compare::Ge, false}},
    {"lo", {Compare::Lt, false}},      {"ls", {Compare::Le, false}},
    {"hi", {Compare::Gt, false}},      {"hs", {Compare::Ge, false}},
    {"equ", {Compare::Eq, true}},      {"neu", {Compare::Ne, true}},
    {"ltu", {Compare::Lt, true}},      {"leu", {Compare::Le, true}},
    {"gtu", {Compare::Gt, true}},      {"geu", {Compare::Ge, true}},
    {"num", {Compare::Number, false}}, {"nan", {Compare::NotNumber, false}}};

/// What else may stand in a name and changes nothing here. Where rounding is named, it is what the
/// host's arithmetic does, and its conversions to integers.
inline const std::string_view ignored[] = {
    "rn", "rzi", "to", "uni", "sync", "aligned", "nc", "wrap", "L1::no_allocate", "L2::256B"};

} // namespace kernelforge::ptx
