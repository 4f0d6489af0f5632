#include "kernelforge/codegen/Resources.h"

#include "kernelforge/codegen/Knobs.h"
#include "kernelforge/ir/Transformer.h"

#include <algorithm>
#include <span>

#include <fmt/format.h>
#include <fmt/ranges.h>

using namespace kernelforge;
using namespace kernelforge::transformer;

bool kernelforge::demandsResources(KernelOp kernel) {
  const DemandsAttr demands = kernel.getDemandsAttr();
  return demands && (demands.noSpills() || demands.maxRegisters());
}

/// What is spilled, for people; empty where nothing is known to be.
static std::string spillText(const KernelResources &resources) {
  if (!resources.loopSpills)
    return resources.spillBytes > 0
               ? fmt::format("a thread keeps {} bytes in memory", resources.spillBytes)
               : "";
  const std::vector<std::string> &all = *resources.loopSpills;
  if (all.empty())
    return "";
  constexpr size_t shown = 4;
  return fmt::format("{} instructions of inner loops use the stack: {}{}", all.size(),
                     fmt::join(std::span(all).first(std::min(shown, all.size())), "; "),
                     all.size() > shown ? "; ..." : "");
}

Status kernelforge::checkDemands(KernelOp kernel, const KernelResources &resources) {
  const DemandsAttr demands = kernel.getDemandsAttr();
  if (!demands)
    return {};
  auto broken = [&](const char *demand, std::string why) {
    return makeError(ErrorKind::No, "kernel does not keep to its demands",
                     kernelName(kernel) + ", " + demand, std::move(why),
                     "choose a schedule with a smaller register tile");
  };
  if (demands.noSpills())
    if (std::string why = spillText(resources); !why.empty())
      return broken("no_spills", std::move(why));
  if (const std::optional<int64_t> most = demands.maxRegisters();
      most && resources.registers > *most)
    return broken("max_registers", fmt::format("its code takes {} registers, and {} are the most",
                                               resources.registers, *most));
  return {};
}
