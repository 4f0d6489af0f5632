// The wire format of protocol buffers, as far as reading one field after another.
// https://protobuf.dev/programming-guides/encoding
#pragma once

#include "kernelforge/support/Error.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace kernelforge {

/// One field of a message.
struct ProtobufField {
  enum class Kind : uint8_t { Varint = 0, Fixed64 = 1, Bytes = 2, Fixed32 = 5 };
  uint32_t number = 0;
  Kind kind = Kind::Varint;
  uint64_t value = 0;     ///< of a number, as its bits
  std::string_view bytes; ///< of Bytes: text or a message
  size_t offset = 0;      ///< of `bytes` in the file
};

/// Reads the fields of a message in order. Every length is checked against what is there. Errors
/// are Unusable and name file and offset; groups, which were given up long ago, are one.
class ProtobufReader {
public:
  /// `what` begins the error line, `where` is the file; `offset` is where `message` begins in it.
  /// All texts must outlive the reader.
  ProtobufReader(std::string_view message, size_t offset, std::string_view what,
                 std::string_view where)
      : message(message), base(offset), what(what), where(where) {}

  bool atEnd() const { return at == message.size(); }
  /// The next field; there is one.
  Expected<ProtobufField> next();

private:
  Expected<uint64_t> varint();
  Expected<uint64_t> fixed(size_t size);
  tl::unexpected<Error> error(size_t place, std::string why) const;

  std::string_view message;
  size_t at = 0, base;
  std::string_view what, where;
};

} // namespace kernelforge
