#include "kernelforge/support/Protobuf.h"

#include <fmt/format.h>

namespace kernelforge {

tl::unexpected<Error> ProtobufReader::error(size_t place, std::string why) const {
  return unusable(what, fmt::format("{}, byte {}", where, base + place), why);
}

Expected<uint64_t> ProtobufReader::varint() {
  const size_t begin = at;
  uint64_t value = 0;
  for (int shift = 0; at < message.size(); shift += 7) {
    const auto byte = static_cast<uint8_t>(message[at++]);
    if (shift == 63 && byte > 1)
      return error(begin, "a number has more than 64 bits");
    value |= uint64_t(byte & 0x7f) << shift;
    if (byte < 0x80)
      return value;
  }
  return error(begin, "the message ends within a number");
}

Expected<uint64_t> ProtobufReader::fixed(size_t size) {
  if (message.size() - at < size)
    return error(
        at, fmt::format("a number needs {} bytes, the message has {}", size, message.size() - at));
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i)
    value |= uint64_t(static_cast<uint8_t>(message[at++])) << (8 * i);
  return value;
}

Expected<ProtobufField> ProtobufReader::next() {
  constexpr uint64_t maxNumber = (1u << 29) - 1;
  const size_t begin = at;
  KF_TRY(const uint64_t tag, varint());
  ProtobufField field;
  if (tag >> 3 == 0 || tag >> 3 > maxNumber)
    return error(begin, fmt::format("a field has the number {}", tag >> 3));
  field.number = static_cast<uint32_t>(tag >> 3);
  switch (tag & 7) {
  case 0: {
    KF_TRY(field.value, varint());
    break;
  }
  case 1: {
    KF_TRY(field.value, fixed(8));
    break;
  }
  case 2: {
    KF_TRY(const uint64_t size, varint());
    if (size > message.size() - at)
      return error(begin, fmt::format("field {} has {} bytes, the message has {}", field.number,
                                      size, message.size() - at));
    field.bytes = message.substr(at, size);
    field.offset = base + at;
    at += size;
    break;
  }
  case 5: {
    KF_TRY(field.value, fixed(4));
    break;
  }
  default:
    return error(begin, fmt::format("field {} is of the unknown kind {}", field.number, tag & 7));
  }
  field.kind = static_cast<ProtobufField::Kind>(tag & 7);
  return field;
}

} // namespace kernelforge
