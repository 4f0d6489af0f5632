#include "kernelforge/llm/Normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>

namespace kernelforge {

std::string composeUtf8(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2 *form = icu::Normalizer2::getNFCInstance(status);
  std::string composed;
  icu::StringByteSink<std::string> sink(&composed, static_cast<int32_t>(text.size()));
  if (U_SUCCESS(status))
    form->normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink,
                        nullptr, status);
  // Its tables are part of the library: it fails where there is no memory, and then nothing works.
  return U_SUCCESS(status) ? composed : std::string(text);
}

} // namespace kernelforge
