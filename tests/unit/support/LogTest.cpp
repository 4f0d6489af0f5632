#include "kernelforge/support/Log.h"

#include <cstdlib>
#include <gtest/gtest.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/ostream_sink.h>
#include <sstream>

using namespace kernelforge;

namespace {

TEST(Log, GoesNowhereUntilItIsAskedFor) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  logger().error("nobody asked");
  logger().warn("nobody asked");
  logger().flush();
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Log, GoesToStandardErrorFromTheLevelOn) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  std::shared_ptr<spdlog::logger> before = setLogger(nullptr);
  logToStandardError(spdlog::level::warn);
  logger().info("too little");
  logger().warn("{} lines", 3);
  logger().flush();
  setLogger(before);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "kernelforge: warning: 3 lines\n");
}

TEST(Log, GoesWhereAProgramSendsIt) {
  std::ostringstream text;
  std::shared_ptr<spdlog::logger> before = setLogger(std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text)));
  logger().warn("seen");
  setLogger(before);
  logger().warn("not seen");
  EXPECT_NE(text.str().find("] seen\n"), std::string::npos) << text.str();
  EXPECT_EQ(text.str().find("not seen"), std::string::npos);
}

TEST(Log, LevelOfTheEnvironment) {
  const auto level = [](const char *text) {
    ::setenv("KERNELFORGE_LOG", text, 1);
    return logLevelFromEnvironment(spdlog::level::warn);
  };
  EXPECT_EQ(level("debug"), spdlog::level::debug);
  EXPECT_EQ(level("off"), spdlog::level::off);
  EXPECT_EQ(level(""), spdlog::level::warn);
  const auto wrong = level("debgu");
  ASSERT_FALSE(wrong) << "it would switch warnings off";
  EXPECT_EQ(wrong.error().kind, ErrorKind::Unusable);
  EXPECT_NE(wrong.error().hint.find("did you mean 'debug'?"), std::string::npos);
  ::unsetenv("KERNELFORGE_LOG");
  EXPECT_EQ(logLevelFromEnvironment(spdlog::level::err), spdlog::level::err);
}

} // namespace
