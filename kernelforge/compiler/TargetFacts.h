// What this build knows of kinds of targets beyond making code for them. Targets.cpp answers.
#pragma once

#include "kernelforge/support/Error.h"

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace kernelforge {

/// Kinds of targets that a build can have: those of this one first, the default before all.
std::vector<std::string> knownTargetKinds();

/// The version of the calling convention between code for targets of `kind` and their device, as
/// this build has it: compiled programs of another one are not to be run. Errors as
/// findGenerator's.
Expected<int> conventionOf(std::string_view kind);

/// The names of the devices that this machine has of a kind, where its library chooses among
/// several; `words` as DeviceOptions::words. Empty for other kinds, and where there is none.
std::vector<std::string> deviceNames(std::string_view kind,
                                     const std::map<std::string, std::string> &words);

/// Files of libraries that devices of this build open at run time and that do not come with a
/// system, as far as they are here: a package brings them along.
std::vector<std::string> deviceLibraries();

/// Settings of this process's environment that libraries of devices look at. For programs, before
/// they start threads.
void prepareEnvironment();

} // namespace kernelforge
