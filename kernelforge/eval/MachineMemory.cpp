#include "kernelforge/eval/MachineMemory.h"

#include "kernelforge/support/AtomicFile.h"

using namespace kernelforge;

namespace fs = std::filesystem;

/// States of the last runs by machine, the oldest first.
using States = std::vector<std::pair<std::string, std::vector<MachineState>>>;

static Expected<States> readStates(const fs::path &file) {
  States states;
  KF_TRY(JsonDocument document,
         readJsonFile(file.string(), "memory of the machine is not usable", configJsonLimits));
  KF_TRY(auto members, document.root().members());
  for (const auto &[name, runs] : members) {
    KF_TRY(auto elements, runs.elements(MachineMemory::runs));
    std::vector<MachineState> &read = states.emplace_back(name, std::vector<MachineState>()).second;
    for (const JsonView &element : elements) {
      KF_TRY(MachineState state, readMachine(element));
      read.push_back(state);
    }
  }
  return states;
}

MachineState MachineMemory::recall() const {
  MachineState best;
  if (Expected<States> states = readStates(file))
    for (const auto &[name, runs] : *states)
      for (const MachineState &state : runs)
        if (name == machine)
          best = bestOf(best, state);
  return best;
}

Status MachineMemory::remember(const MachineState &state) const {
  States states = readStates(file).value_or(States());
  auto own = std::ranges::find(states, machine, &States::value_type::first);
  if (own == states.end()) {
    if (states.size() >= machines)
      states.erase(states.begin());
    own = states.insert(states.end(), {machine, {}});
  }
  own->second.push_back(state);
  if (own->second.size() > runs)
    own->second.erase(own->second.begin());
  Json json = Json::object();
  for (const auto &[name, read] : states)
    for (const MachineState &each : read)
      json[name].push_back(machineJson(each));
  std::error_code error;
  if (!file.parent_path().empty() && !fs::create_directories(file.parent_path(), error) && error)
    return failed("memory of the machine cannot be written", file.string(), error.message());
  return writeFileAtomically(file, json.dump(1) + "\n");
}
