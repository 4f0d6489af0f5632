#include "kernelforge/support/Npy.h"

#include <gtest/gtest.h>

#include <cstring>
#include <unistd.h>

using namespace kernelforge;

namespace {

/// A file of version 1 with this header and `dataBytes` zeros.
std::string npyFile(std::string header, size_t dataBytes, char version = 1) {
  std::string bytes("\x93NUMPY", 6);
  bytes += version;
  bytes += '\0';
  bytes += static_cast<char>(header.size() & 0xff);
  bytes += static_cast<char>(header.size() >> 8);
  if (version > 1)
    bytes += std::string(2, '\0');
  return bytes + header + std::string(dataBytes, '\0');
}

Expected<NpyArray> parse(const std::string &bytes) {
  return parseNpy(std::as_bytes(std::span(bytes)), "test.npy");
}

TEST(Npy, WritesWhatItReads) {
  const std::string path = testing::TempDir() + "/kf-npy-" + std::to_string(getpid()) + ".npy";
  const std::vector<float> values{1, -2, 3.5f, 0, 5, 6};
  for (const std::vector<uint64_t> &shape :
       {std::vector<uint64_t>{2, 3}, {6}, {1, 6, 1}, {3, 1, 2}}) {
    ASSERT_TRUE(writeNpy(path, NpyType::F32, shape, std::as_bytes(std::span(values))));
    auto array = readNpy(path);
    ASSERT_TRUE(array) << array.error().line();
    EXPECT_EQ(array->type, NpyType::F32);
    EXPECT_EQ(array->shape, shape);
    EXPECT_EQ(array->elements(), 6u);
    ASSERT_EQ(array->data.size(), 24u);
    EXPECT_EQ(std::memcmp(array->data.data(), values.data(), 24), 0);
  }
  unlink(path.c_str());
}

TEST(Npy, ReadsWhatNumpyWrites) {
  // As numpy 1 and 2 write it, and with other spacing, order and quotes.
  for (const char *header : {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  \n",
                             "{\"shape\":(2,3),\"descr\":\"<f4\",\"fortran_order\":False}"}) {
    auto array = parse(npyFile(header, 24));
    ASSERT_TRUE(array) << array.error().line();
    EXPECT_EQ(array->shape, (std::vector<uint64_t>{2, 3}));
  }
  EXPECT_TRUE(parse(npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 4)));
  EXPECT_TRUE(parse(npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3), }", 0)));
  EXPECT_TRUE(parse(npyFile("{'descr': '|u1', 'fortran_order': False, 'shape': (5,), }", 5, 2)));
  EXPECT_TRUE(parse(npyFile("{'descr': '<i8', 'fortran_order': True, 'shape': (2,), }", 16, 3)));
}

struct BadFile {
  std::string bytes, why;
};

TEST(Npy, RefusesWhatItCannotRead) {
  const std::string good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  const BadFile files[] = {
      {"", "does not begin"},
      {"PK\x03\x04 a zip archive", "does not begin"},
      {npyFile(good, 24, 4), "version 4"},
      {npyFile(good, 24, 0), "version 0"},
      {npyFile(good, 23), "holds 23 bytes"},
      {npyFile(good, 25), "holds 25 bytes"},
      {npyFile(good, 0).substr(0, 40), "beyond the file"},
      {npyFile(good, 24, 2).substr(0, 10), "ends in its header"},
      {npyFile("{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }", 24), "'>f4'"},
      {npyFile("{'descr': '<c8', 'fortran_order': False, 'shape': (3,), }", 24), "'<c8'"},
      {npyFile("{'descr': '|O', 'fortran_order': False, 'shape': (3,), }", 24), "'|O'"},
      {npyFile("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", 24), "Fortran"},
      {npyFile("{'descr': '<f4', 'shape': (2, 3), }", 24), "no 'fortran_order'"},
      {npyFile("{'fortran_order': False, 'shape': (2, 3), }", 24), "no 'descr'"},
      {npyFile("{'descr': '<f4', 'fortran_order': False, }", 24), "no 'shape'"},
      {npyFile("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", 24),
       "twice"},
      {npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3), }", 24), "no size"},
      {npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (2.5, 3), }", 24), "not closed"},
      {npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3", 24), "not closed"},
      {npyFile("{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2, 3), }", 24),
       "not understood"},
      {npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'extra': 1}", 24),
       "not understood"},
      {npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,2,3), }", 24),
       "more than 8"},
      {npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", 0),
       "more than 2^64"},
      {npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387905,), }", 4),
       "more than 2^64"},
      {npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,), }",
               4),
       "no size"},
      {npyFile("import os", 0), "lacks a '{'"},
      {npyFile(good + "{}", 24), "goes on"},
  };
  for (const BadFile &file : files) {
    auto array = parse(file.bytes);
    ASSERT_FALSE(array) << file.why;
    EXPECT_EQ(array.error().kind, ErrorKind::Unusable);
    EXPECT_NE(array.error().why.find(file.why), std::string::npos)
        << array.error().why << " lacks: " << file.why;
  }
}

TEST(Npy, SurvivesEveryTruncationAndFlippedByte) {
  const std::string good =
      npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 24);
  for (size_t length = 0; length < good.size(); ++length)
    EXPECT_FALSE(parse(good.substr(0, length)));
  for (size_t i = 0; i < good.size(); ++i)
    for (int flip : {0x01, 0x20, 0x80, 0xff}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ flip);
      if (auto array = parse(bad))
        EXPECT_EQ(array->data.size(), array->elements() * elementBytes(array->type));
    }
}

} // namespace
