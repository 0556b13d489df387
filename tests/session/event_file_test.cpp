#include "graft/session/event_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "tests/train/fakes.h"

namespace graft {
namespace {

/// A reader of its own: records, then protobuf fields by number.
struct Field {
  uint64_t number = 0;
  std::string bytes;  // of wire types 1, 2 and 5
};

uint64_t read_varint(const std::string& bytes, size_t& at) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes.at(at++));
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
}

std::multimap<uint64_t, Field> parse(const std::string& bytes) {
  std::multimap<uint64_t, Field> fields;
  for (size_t at = 0; at < bytes.size();) {
    const uint64_t tag = read_varint(bytes, at);
    Field field;
    size_t size = 0;
    switch (tag & 7) {
      case 0:
        field.number = read_varint(bytes, at);
        break;
      case 1:
        size = 8;
        break;
      case 2:
        size = read_varint(bytes, at);
        break;
      case 5:
        size = 4;
        break;
      default:
        ADD_FAILURE() << "wire type " << (tag & 7);
    }
    field.bytes = bytes.substr(at, size);
    EXPECT_EQ(field.bytes.size(), size);
    at += size;
    fields.emplace(tag >> 3, field);
  }
  return fields;
}

template <class T>
T number(const std::string& bytes) {
  T value{};
  EXPECT_EQ(bytes.size(), sizeof value);
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

/// CRC-32C bit by bit, and the mask undone.
uint32_t slow_crc(const std::string& bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? (crc >> 1) ^ 0x82F63B78 : crc >> 1;
  }
  return ~crc;
}

uint32_t unmasked(uint32_t masked) {
  const uint32_t rotated = masked - 0xA282EAD8;
  return (rotated >> 17) | (rotated << 15);
}

std::vector<std::string> records(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  std::vector<std::string> out;
  for (size_t at = 0; at < bytes.size();) {
    const auto length = number<uint64_t>(bytes.substr(at, 8));
    EXPECT_EQ(unmasked(number<uint32_t>(bytes.substr(at + 8, 4))), slow_crc(bytes.substr(at, 8)));
    out.push_back(bytes.substr(at + 12, length));
    EXPECT_EQ(unmasked(number<uint32_t>(bytes.substr(at + 12 + length, 4))), slow_crc(out.back()));
    at += 16 + length;
  }
  return out;
}

TEST(Crc32c, KnownValues) {
  EXPECT_EQ(crc32c(""), 0U);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);            // the polynomial's check value
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43U);
}

TEST(EventFile, IsReadBack) {
  const test::TestFolder folder;
  const auto path = folder.path() / "events.out.tfevents.1.host.1";
  {
    EventFile file(path, 12.5);
    file.add(13.25, 300, {{"train/loss", 0.75}, {"train/learning_rate", 4e-4}});
  }
  const auto events = records(path);
  ASSERT_EQ(events.size(), 2U);
  const auto version = parse(events[0]);
  EXPECT_EQ(number<double>(version.find(1)->second.bytes), 12.5);
  EXPECT_EQ(version.find(3)->second.bytes, "brain.Event:2");
  const auto event = parse(events[1]);
  EXPECT_EQ(number<double>(event.find(1)->second.bytes), 13.25);
  EXPECT_EQ(event.find(2)->second.number, 300U);
  const auto summary = parse(event.find(5)->second.bytes);
  ASSERT_EQ(summary.count(1), 2U);
  const auto value = parse(summary.find(1)->second.bytes);
  EXPECT_EQ(value.find(1)->second.bytes, "train/loss");
  EXPECT_EQ(number<float>(value.find(2)->second.bytes), 0.75F);
}

TEST(EventFile, SaysWhyItCannotWrite) {
  EXPECT_THROW(EventFile("/missing/folder/events", 0), DataError);
  EXPECT_THROW(EventFile("/dev/full", 0), DataError);
}

}  // namespace
}  // namespace graft
