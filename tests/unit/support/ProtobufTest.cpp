#include "kernelforge/support/Protobuf.h"

#include <gmock/gmock.h>

using namespace kernelforge;
using testing::HasSubstr;

namespace {

std::string refusal(std::string_view message) {
  ProtobufReader reader(message, 100, "message is not usable", "f.model");
  while (!reader.atEnd())
    if (auto field = reader.next(); !field)
      return field.error().line();
  return "accepted";
}

TEST(Protobuf, ReadsFieldsOfAllKinds) {
  using namespace std::string_view_literals;
  const std::string_view message = "\x08\xac\x02"                             // 1: 300
                                   "\x12\x02hi"                               // 2: "hi"
                                   "\x1d\x00\x00\x80\x3f"                     // 3: the bits of 1.0f
                                   "\x21\x01\x00\x00\x00\x00\x00\x00\x80"     // 4: 2^63 + 1
                                   "\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff" // 5: -1
                                   "\x01"
                                   "\xfa\xff\xff\xff\x0f\x00"sv; // 2^29 - 1: ""
  ProtobufReader reader(message, 100, "", "");
  auto next = [&] {
    auto field = reader.next();
    EXPECT_TRUE(field) << field.error().line();
    return field ? *field : ProtobufField();
  };
  EXPECT_EQ(next().value, 300);
  const ProtobufField text = next();
  EXPECT_EQ(text.bytes, "hi");
  EXPECT_EQ(text.offset, 105);
  EXPECT_EQ(text.kind, ProtobufField::Kind::Bytes);
  EXPECT_EQ(next().value, 0x3f800000);
  EXPECT_EQ(next().value, 0x8000000000000001);
  EXPECT_EQ(next().value, UINT64_MAX);
  const ProtobufField last = next();
  EXPECT_EQ(last.number, (1u << 29) - 1);
  EXPECT_EQ(last.bytes, "");
  EXPECT_TRUE(reader.atEnd());
}

TEST(Protobuf, ChecksEveryLength) {
  using namespace std::string_view_literals;
  EXPECT_THAT(refusal("\x08"), HasSubstr("f.model, byte 101): the message ends within a number"));
  EXPECT_THAT(refusal("\x08\x80\x80"), HasSubstr("ends within a number"));
  EXPECT_THAT(refusal("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), HasSubstr("64 bits"));
  EXPECT_THAT(refusal("\x12\x03hi"),
              HasSubstr("byte 100): field 2 has 3 bytes, the message has 2"));
  EXPECT_THAT(refusal("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
              HasSubstr("has 18446744073709551615 bytes"));
  EXPECT_THAT(refusal("\x1d\x01\x02\x03"), HasSubstr("needs 4 bytes, the message has 3"));
  EXPECT_THAT(refusal("\x19\x01"), HasSubstr("needs 8 bytes"));
  EXPECT_THAT(refusal("\x00\x01"sv), HasSubstr("has the number 0"));
  EXPECT_THAT(refusal("\xf8\xff\xff\xff\x1f\x01"), HasSubstr("has the number 1073741823"));
  for (const char *kind : {"\x0b", "\x0c", "\x0e", "\x0f"})
    EXPECT_THAT(refusal(kind), HasSubstr("of the unknown kind")) << int(kind[0]);
}

} // namespace
