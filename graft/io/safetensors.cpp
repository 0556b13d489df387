#include "graft/io/safetensors.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <future>

#include "graft/base/error.h"
#include "graft/io/tensor_stream.h"

namespace graft {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian");

/// The format's own limit: what a reader may be made to parse.
constexpr size_t kMaxHeader = 100'000'000;
/// As many as ATen's operations take.
constexpr size_t kMaxDimensions = 64;

struct TypeName {
  const char* name;
  at::ScalarType type;
};
/// In the order of PEFT's files, which is from the last to the first of the format's list of types.
constexpr TypeName kTypes[] = {
    {"I64", at::kLong}, {"F64", at::kDouble}, {"F32", at::kFloat}, {"I32", at::kInt}, {"BF16", at::kBFloat16},
    {"F16", at::kHalf}, {"I16", at::kShort},  {"I8", at::kChar},   {"U8", at::kByte}, {"BOOL", at::kBool},
};
/// Types that the format has and graft does not compute in.
constexpr const char* kOtherTypes[] = {"F8_E4M3",     "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ",
                                       "F8_E5M2FNUZ", "F6_E2M3", "F6_E3M2", "F4",
                                       "U16",         "U32",     "U64",     "C64"};

size_t rank_of(at::ScalarType type) {
  for (size_t i = 0; i < std::size(kTypes); ++i) {
    if (kTypes[i].type == type) return i;
  }
  throw DataError("safetensors", "type {} has no name in the format", at::toString(type));
}

/// Reads and checks one header; every number in it is doubted.
class HeaderReader {
 public:
  HeaderReader(std::span<const std::byte> bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  Json read_header() {
    if (bytes_.size() < 8) fail("{} bytes, expected at least the header's length (8 bytes)", bytes_.size());
    uint64_t length;
    std::memcpy(&length, bytes_.data(), 8);
    if (length > kMaxHeader)
      fail("header of {} bytes, expected at most {}; is it a safetensors file?", length, kMaxHeader);
    if (length > bytes_.size() - 8) {
      fail("truncated: header of {} bytes, but only {} follow its length", length, bytes_.size() - 8);
    }
    data_ = 8 + length;
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data() + 8), length);
    if (!text.starts_with('{')) fail("header does not begin with {{; is it a safetensors file?");
    Json header = parse_json(text, where_ + ": header");
    if (!header.is_object()) fail("header is no JSON object");
    return header;
  }

  Json metadata(const Json& value) const {
    if (!value.is_object()) fail("__metadata__ is no object");
    for (const auto& [key, item] : value.items()) {
      if (!item.is_string()) fail("__metadata__.{} is {}, expected a string", key, item.type_name());
    }
    return value;
  }

  TensorEntry entry(const std::string& name, const Json& value) const {
    if (!value.is_object()) fail_tensor(name, "described by {}, expected an object", value.type_name());
    TensorEntry out{name, {}, {}, 0, 0};
    for (const char* key : {"dtype", "shape", "data_offsets"}) {
      if (!value.contains(key)) fail_tensor(name, "no {} in the header", key);
    }
    out.dtype = type(name, value["dtype"]);
    out.shape = shape(name, value["shape"]);
    const Json& offsets = value["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
        !offsets[1].is_number_unsigned()) {
      fail_tensor(name, "data_offsets {}, expected two byte positions", shown(offsets));
    }
    const uint64_t begin = offsets[0].get<uint64_t>(), end = offsets[1].get<uint64_t>();
    if (begin > end) fail_tensor(name, "data_offsets {} run backwards", shown(offsets));
    if (end > bytes_.size() - data_) {
      fail_tensor(name, "ends at byte {} of the data, but the file has only {}; is it truncated?", end,
                  bytes_.size() - data_);
    }
    const uint64_t expected = bytes_of(out);
    if (end - begin != expected) {
      fail_tensor(name, "takes {} bytes, but shape {} of {} needs {}", end - begin, shown(value["shape"]),
                  value["dtype"].get<std::string>(), expected);
    }
    out.begin = data_ + begin;
    out.end = data_ + end;
    return out;
  }

  /// Together the tensors are the data: no overlap, no hole, nothing behind.
  void check_cover(const std::vector<TensorEntry>& entries) const {
    std::vector<const TensorEntry*> order;
    for (const TensorEntry& entry : entries) order.push_back(&entry);
    std::stable_sort(order.begin(), order.end(), [](const TensorEntry* a, const TensorEntry* b) {
      return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
    });
    size_t at = data_;
    for (const TensorEntry* entry : order) {
      if (entry->begin < at)
        fail_tensor(entry->name, "overlaps the tensor before it by {} bytes", at - entry->begin);
      if (entry->begin > at)
        fail_tensor(entry->name, "begins {} bytes behind the tensor before it", entry->begin - at);
      at = entry->end;
    }
    if (at != bytes_.size()) fail("{} bytes behind the last tensor, expected none", bytes_.size() - at);
  }

 private:
  template <class... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> message, Args&&... args) const {
    throw DataError(where_, "{}", fmt::format(message, std::forward<Args>(args)...));
  }
  template <class... Args>
  [[noreturn]] void fail_tensor(const std::string& name, fmt::format_string<Args...> message,
                                Args&&... args) const {
    throw DataError(where_, "tensor {} {}", name.size() <= 200 ? name : name.substr(0, 200) + "...",
                    fmt::format(message, std::forward<Args>(args)...));
  }
  static std::string shown(const Json& value) {
    const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    return text.size() <= 80 ? text : text.substr(0, 77) + "...";
  }

  at::ScalarType type(const std::string& name, const Json& value) const {
    if (!value.is_string()) fail_tensor(name, "has dtype {}, expected a type's name", shown(value));
    const std::string& text = value.get_ref<const std::string&>();
    for (const TypeName& known : kTypes) {
      if (text == known.name) return known.type;
    }
    for (const char* other : kOtherTypes) {
      if (text == other) {
        fail_tensor(name, "has type {}, which graft does not read; convert it to BF16, F16 or F32 first",
                    text);
      }
    }
    fail_tensor(name, "has unknown dtype {}, expected F32, BF16, F16, F64, I64, I32, I16, I8, U8 or BOOL",
                shown(value));
  }

  std::vector<int64_t> shape(const std::string& name, const Json& value) const {
    if (!value.is_array()) fail_tensor(name, "has shape {}, expected a list", shown(value));
    if (value.size() > kMaxDimensions)
      fail_tensor(name, "has {} dimensions, expected at most {}", value.size(), kMaxDimensions);
    std::vector<int64_t> out;
    // Strides overflow where a dimension of 0 hides large ones: those count as 1 here.
    int64_t product = 16;
    for (const Json& size : value) {
      if (!size.is_number_unsigned() || size.get<uint64_t>() > INT64_MAX) {
        fail_tensor(name, "has shape {}, expected sizes of 0 or more", shown(value));
      }
      out.push_back(static_cast<int64_t>(size.get<uint64_t>()));
      if (__builtin_mul_overflow(product, std::max<int64_t>(out.back(), 1), &product)) {
        fail_tensor(name, "has shape {}, more elements than any file holds", shown(value));
      }
    }
    return out;
  }

  static uint64_t bytes_of(const TensorEntry& entry) {
    uint64_t bytes = c10::elementSize(entry.dtype);
    for (const int64_t size : entry.shape) bytes *= static_cast<uint64_t>(size);
    return bytes;
  }

  std::span<const std::byte> bytes_;
  const std::string& where_;
  size_t data_ = 0;
};

/// Names as the format's own writer escapes them.
std::string quoted(const std::string& text) { return Json(text).dump(); }

std::vector<const TensorSpecs::value_type*> file_order(const TensorSpecs& specs) {
  std::vector<const TensorSpecs::value_type*> order;
  for (const auto& item : specs) order.push_back(&item);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return rank_of(a->second.dtype) < rank_of(b->second.dtype);
  });
  return order;
}

std::string header_of(const std::vector<const TensorSpecs::value_type*>& order, const Json& metadata) {
  std::string text = "{";
  if (!metadata.empty()) text += "\"__metadata__\":" + metadata.dump();
  size_t offset = 0;
  for (const auto* item : order) {
    const TensorSpec& spec = item->second;
    const size_t end = offset + spec.bytes();
    text += fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{},{}]}}",
                        text.size() > 1 ? "," : "", quoted(item->first), safetensors_dtype(spec.dtype),
                        Json(spec.shape).dump(), offset, end);
    offset = end;
  }
  text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

[[noreturn]] void fail_promise(const std::filesystem::path& path, const std::string& name) {
  throw InternalError(path.string(), "{} is not of the type and shape that its header says", name);
}

/// Bytes that a thread makes before it writes them: they are still in its cache.
constexpr size_t kPartBytes = size_t{1} << 18;

struct Place {
  const std::filesystem::path& path;
  const std::string& name;
  const TensorSpec& spec;
  size_t offset;
};

void write_rows(AtomicFile& file, const Place& place, const StreamedTensor::Rows& make) {
  const int64_t rows = place.spec.shape.at(0);
  const size_t row_bytes = place.spec.bytes() / static_cast<size_t>(std::max<int64_t>(1, rows));
  const int64_t part =
      std::max<int64_t>(1, static_cast<int64_t>(kPartBytes / std::max<size_t>(1, row_bytes)));
  at::parallel_for(0, (rows + part - 1) / part, 1, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin * part; first < std::min(end * part, rows); first += part) {
      const int64_t count = std::min(part, rows - first);
      const Tensor made = make(first, count).contiguous();
      if (made.scalar_type() != place.spec.dtype || made.nbytes() != static_cast<size_t>(count) * row_bytes)
        fail_promise(place.path, place.name);
      file.write_at(place.offset + static_cast<size_t>(first) * row_bytes, made.const_data_ptr(),
                    made.nbytes());
    }
  });
  file.send_on();
}

void write_whole(AtomicFile& file, const Place& place, const Tensor& whole) {
  if (!file.has_places()) return file.write(whole.const_data_ptr(), whole.nbytes());
  file.write_at(place.offset, whole.const_data_ptr(), whole.nbytes());
  file.send_on();
}

}  // namespace

Safetensors Safetensors::open(const std::filesystem::path& path) {
  std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  Safetensors out = parse(file->bytes(), path.string());
  out.file_ = std::move(file);
  return out;
}

Safetensors Safetensors::parse(std::span<const std::byte> bytes, std::string where) {
  Safetensors out;
  out.bytes_ = bytes;
  out.where_ = std::move(where);
  HeaderReader reader(bytes, out.where_);
  const Json header = reader.read_header();
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      out.metadata_ = reader.metadata(value);
    } else {
      out.entries_.push_back(reader.entry(name, value));
    }
  }
  reader.check_cover(out.entries_);
  std::sort(out.entries_.begin(), out.entries_.end(),
            [](const TensorEntry& a, const TensorEntry& b) { return a.name < b.name; });
  return out;
}

Tensor Safetensors::tensor(const TensorEntry& entry) const {
  const auto options = at::TensorOptions().dtype(entry.dtype);
  const std::byte* data = bytes_.data() + entry.begin;
  const size_t bytes = entry.end - entry.begin;
  const bool aligned = reinterpret_cast<uintptr_t>(data) % c10::elementSize(entry.dtype) == 0;
  if (file_ && aligned && bytes > 0 && entry.dtype != at::kBool) {
    // The mapping is read-only; nobody writes to a frozen weight.
    void* start = const_cast<std::byte*>(data);
    return at::from_blob(
        start, entry.shape, [file = file_](void*) {}, options);
  }
  Tensor out = at::empty(entry.shape, options);
  if (bytes > 0) std::memcpy(out.data_ptr(), data, bytes);
  // A byte other than 0 and 1 is no bool.
  return entry.dtype == at::kBool && bytes > 0 ? out.view(at::kByte).ne(0) : out;
}

TensorMap Safetensors::tensors() const {
  TensorMap out;
  for (const TensorEntry& entry : entries_) out.emplace(entry.name, tensor(entry));
  return out;
}

TensorMap read_safetensors(const std::filesystem::path& path) { return Safetensors::open(path).tensors(); }

size_t TensorSpec::bytes() const {
  size_t bytes = c10::elementSize(dtype);
  for (const int64_t size : shape) bytes *= static_cast<size_t>(size);
  return bytes;
}

TensorSpecs specs_of(const TensorMap& tensors) {
  TensorSpecs specs;
  for (const auto& [name, tensor] : tensors) specs[name] = {tensor.scalar_type(), tensor.sizes().vec()};
  return specs;
}

void stream_safetensors(const std::filesystem::path& path, const TensorSpecs& specs,
                        const TensorSource& source, const Json& metadata) {
  const auto order = file_order(specs);
  const std::string header = header_of(order, metadata);
  AtomicFile file(path);
  const uint64_t length = header.size();
  file.write(&length, 8);
  file.write(header);
  size_t offset = 8 + header.size();
  // One tensor is written while the next is made.
  std::future<void> writing;
  for (const auto* item : order) {
    const StreamedTensor made = source(item->first);
    const Place place{path, item->first, item->second, offset};
    if (writing.valid()) writing.get();
    offset += place.spec.bytes();
    if (made.rows && file.has_places()) {
      write_rows(file, place, made.rows);
      continue;
    }
    const Tensor given = made.rows ? made.rows(0, place.spec.shape.at(0)) : made.whole;
    const Tensor whole = given.detach().cpu().contiguous();
    if (whole.scalar_type() != place.spec.dtype || whole.sizes().vec() != place.spec.shape)
      fail_promise(path, place.name);
    writing = std::async(std::launch::async, [&file, place, whole] { write_whole(file, place, whole); });
  }
  if (writing.valid()) writing.get();
  file.commit();
}

void write_safetensors(const std::filesystem::path& path, const TensorMap& tensors, const Json& metadata) {
  stream_safetensors(
      path, specs_of(tensors), [&](const std::string& name) { return tensors.at(name); }, metadata);
}

std::string safetensors_dtype(at::ScalarType type) { return kTypes[rank_of(type)].name; }

}  // namespace graft
