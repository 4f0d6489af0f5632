// Programs as JSON and bytes of code, and back: messages to workers, the object cache, files.
#pragma once

#include "kernelforge/backend/Program.h"
#include "kernelforge/support/Json.h"

#include <string_view>

namespace kernelforge {

/// Everything of an artifact but its code.
Json artifactJson(const Artifact &artifact);

/// The same back, with `code`. Unusable, naming the field, where the JSON is of another form.
Expected<Artifact> artifactFrom(const Json &json, std::string_view code);

/// A whole program; the code of its artifacts is appended to `code`.
Json programJson(const Program &program, std::string &code);

/// The same back. Unusable, naming the field, where the JSON is of another form or `code` has other
/// than its bytes. Whether the program is consistent is checkProgram()'s to say.
Expected<Program> programFrom(const Json &json, std::string_view code);

} // namespace kernelforge
