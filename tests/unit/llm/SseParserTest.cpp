#include "kernelforge/llm/remote/SseParser.h"

#include <gmock/gmock.h>
#include <vector>

using namespace kernelforge;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

std::vector<std::string> eventsOf(const std::vector<std::string> &parts) {
  SseParser parser("server");
  std::vector<std::string> events;
  auto take = [&](const SseEvent &event) {
    events.push_back((event.name.empty() ? "" : event.name + ": ") + event.data);
    return Status();
  };
  for (const std::string &part : parts)
    EXPECT_TRUE(parser.feed(part, take));
  EXPECT_TRUE(parser.finish(take));
  return events;
}

TEST(SseParser, LinesOfEveryKind) {
  EXPECT_THAT(eventsOf({"data: a\n\ndata:b\n\ndata:  c\n\n"}), ElementsAre("a", "b", " c"));
  EXPECT_THAT(eventsOf({"data: a\r\n\r\ndata: b\r\n\r\n"}), ElementsAre("a", "b"));
  EXPECT_THAT(eventsOf({"data: a\r\rdata: b\r\r"}), ElementsAre("a", "b"));
  EXPECT_THAT(eventsOf({"\xEF\xBB\xBF"
                        "data: a\n\n"}),
              ElementsAre("a"));
  EXPECT_THAT(eventsOf({": comment\n\n:\nid: 7\nretry: 3\ndata: a\n\n"}), ElementsAre("a"));
  // A name is of one event; of one without data, of none.
  EXPECT_THAT(eventsOf({"event: x\ndata: a\n\ndata: b\n\nevent:y\n\ndata: c\n\n"}),
              ElementsAre("x: a", "b", "c"));
  EXPECT_THAT(eventsOf({"data:\n\ndata\n\ndata: \n\n"}), ElementsAre("", "", ""));
  EXPECT_THAT(eventsOf({"data: a\ndata: b\ndata\n\n"}), ElementsAre("a\nb\n"));
  EXPECT_THAT(eventsOf({"datum: a\n\ndata: b"}), ElementsAre("b")); // no line ends it
  EXPECT_THAT(eventsOf({"\n\n\n"}), ElementsAre());
}

TEST(SseParser, SplitAtEveryByte) {
  for (const std::string end : {"\n", "\r\n", "\r"}) {
    const std::string text = "\xEF\xBB\xBF"
                             ": hi" +
                             end + "data: \xE4\xBD\xA0" + end + "data: b" + end + end +
                             "data: [DONE]" + end + end;
    for (size_t i = 0; i <= text.size(); ++i)
      for (size_t j = i; j <= text.size(); ++j)
        EXPECT_THAT(eventsOf({text.substr(0, i), text.substr(i, j - i), text.substr(j)}),
                    ElementsAre("\xE4\xBD\xA0\nb", "[DONE]"))
            << i << ", " << j;
  }
}

TEST(SseParser, EventsAreBounded) {
  auto ignore = [](const SseEvent &) { return Status(); };
  SseParser line("server", 100), many("server", 100);
  EXPECT_TRUE(line.feed("data: " + std::string(90, 'x'), ignore));
  Status status = line.feed(std::string(10, 'x'), ignore);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().line(), HasSubstr("more than 100 bytes"));
  for (int i = 0; i < 9; ++i)
    EXPECT_TRUE(many.feed("data: 123456789\n", ignore));
  EXPECT_FALSE(many.feed("data: 123456789\n", ignore));
  // What was given out does not count.
  SseParser events("server", 100);
  for (int i = 0; i < 100; ++i)
    EXPECT_TRUE(events.feed("data: 123456789\n\n", ignore));
}

TEST(SseParser, AnErrorOfWhoTakesEventsEndsIt) {
  SseParser parser("server");
  int taken = 0;
  Status status = parser.feed("data: a\n\ndata: b\n\n", [&](const SseEvent &) -> Status {
    ++taken;
    return failed("no", "here", "enough");
  });
  EXPECT_FALSE(status);
  EXPECT_EQ(taken, 1);
}

} // namespace
