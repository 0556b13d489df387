// TensorBoard's event file: records of length, masked CRC-32C and a protobuf Event.
// Source: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto, framework/summary.proto.
#pragma once
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace graft {

/// CRC-32C (Castagnoli), and as TFRecord stores it.
uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);

class EventFile {
 public:
  /// A new file, beginning with the version event. Errors: DataError.
  explicit EventFile(const std::filesystem::path& path, double wall_time);
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;
  /// One event with these scalars. Errors: DataError (disk full).
  void add(double wall_time, int64_t step, const std::vector<std::pair<std::string, double>>& scalars);

 private:
  void write(const std::string& event);
  std::filesystem::path path_;
  std::FILE* file_ = nullptr;
};

}  // namespace graft
