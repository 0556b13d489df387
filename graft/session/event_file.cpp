#include "graft/session/event_file.h"

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

#include "graft/base/error.h"

namespace graft {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are written as they lie in memory");

std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < table.size(); ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0x82F63B78U : 0U);
    table[i] = value;
  }
  return table;
}

template <class T>
std::string raw(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}

// Protobuf's wire types: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
std::string tag(uint32_t field, uint32_t wire_type) { return varint(field << 3 | wire_type); }
std::string bytes_field(uint32_t field, const std::string& bytes) {
  return tag(field, 2) + varint(bytes.size()) + bytes;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static const std::array<uint32_t, 256> table = crc_table();
  uint32_t crc = ~0U;
  for (const char c : bytes) crc = table[(crc ^ static_cast<unsigned char>(c)) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8U;
}

EventFile::EventFile(const std::filesystem::path& path, double wall_time) : path_(path) {
  file_ = std::fopen(path.c_str(), "wb");
  if (!file_) throw DataError(path.string(), "cannot be written: {}", std::strerror(errno));
  write(tag(1, 1) + raw(wall_time) + bytes_field(3, "brain.Event:2"));
}

EventFile::~EventFile() { std::fclose(file_); }

void EventFile::add(double wall_time, int64_t step,
                    const std::vector<std::pair<std::string, double>>& scalars) {
  std::string summary;
  for (const auto& [name, value] : scalars) {
    summary += bytes_field(1, bytes_field(1, name) + tag(2, 5) + raw(static_cast<float>(value)));
  }
  write(tag(1, 1) + raw(wall_time) + tag(2, 0) + varint(static_cast<uint64_t>(step)) +
        bytes_field(5, summary));
}

void EventFile::write(const std::string& event) {
  const std::string length = raw(static_cast<uint64_t>(event.size()));
  const std::string record = length + raw(masked_crc32c(length)) + event + raw(masked_crc32c(event));
  if (std::fwrite(record.data(), 1, record.size(), file_) != record.size() || std::fflush(file_) != 0) {
    throw DataError(path_.string(), "cannot be written: {}", std::strerror(errno));
  }
}

}  // namespace graft
