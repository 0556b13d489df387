#include "graft/io/torch_file.h"

#include <ATen/ATen.h>

#include <limits>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/io/pickle.h"
#include "graft/io/safetensors.h"
#include "graft/io/zip_archive.h"

namespace graft {
namespace {

using Bytes = std::span<const std::byte>;
using Kind = PickleValue::Kind;

at::ScalarType storage_type(const std::string& name, const std::string& where) {
  static const std::map<std::string, at::ScalarType> types = {
      {"torch FloatStorage", at::kFloat}, {"torch DoubleStorage", at::kDouble},
      {"torch HalfStorage", at::kHalf},   {"torch BFloat16Storage", at::kBFloat16},
      {"torch LongStorage", at::kLong},   {"torch IntStorage", at::kInt},
      {"torch ShortStorage", at::kShort}, {"torch CharStorage", at::kChar},
      {"torch ByteStorage", at::kByte},   {"torch BoolStorage", at::kBool}};
  const auto found = types.find(name);
  if (found == types.end())
    throw DataError(where, "a storage of type {}, expected one of plain numbers", name);
  return found->second;
}

class TensorReader {
 public:
  TensorReader(Bytes file, const std::string& where)
      : entries_(stored_entries(file, where)), where_(where), bytes_(static_cast<int64_t>(file.size())) {}

  TensorMap read() {
    const Bytes* pickle = nullptr;
    for (const auto& [name, bytes] : entries_) {
      if (!name.ends_with("/data.pkl")) continue;
      pickle = &bytes;
      folder_ = name.substr(0, name.size() - 8);
    }
    if (!pickle) throw DataError(where_, "no data.pkl in it, expected a file of torch.save");
    const auto order = entries_.find(folder_ + "byteorder");
    if (order != entries_.end() && text_of(order->second) != "little")
      throw DataError(where_, "numbers with the highest byte first, expected little");
    const PickleValue top = read_pickle(*pickle, where_);
    const size_t skipped = top.kind == Kind::call ? 2 : 0;
    const bool dictionary = top.kind == Kind::dictionary || called(top) == "collections OrderedDict";
    if (!dictionary) throw DataError(where_, "holds no dictionary, expected names with tensors");
    TensorMap tensors;
    const auto& items = top.items->values;
    for (size_t i = skipped; i + 1 < items.size(); i += 2) {
      if (items[i].kind != Kind::text)
        throw DataError(where_, "a key that is no text, expected names with tensors");
      tensors[items[i].text] = tensor(items[i + 1], items[i].text);
    }
    return tensors;
  }

 private:
  static std::string text_of(Bytes bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  /// The function of a call; "" for what is no call.
  static std::string called(const PickleValue& value) {
    return value.kind == Kind::call && value.items->values[0].kind == Kind::global
               ? value.items->values[0].text
               : "";
  }

  const std::vector<PickleValue>& arguments(const PickleValue& call, size_t least,
                                            const std::string& name) const {
    const PickleValue& list = call.items->values[1];
    if (list.kind != Kind::list || list.items->values.size() < least)
      throw DataError(where_, "{}: a call of {} with too few arguments", name, called(call));
    return list.items->values;
  }

  Tensor tensor(const PickleValue& value, const std::string& name) {
    if (called(value) == "torch._utils _rebuild_parameter") return tensor(arguments(value, 1, name)[0], name);
    if (called(value) != "torch._utils _rebuild_tensor_v2")
      throw DataError(where_, "{} is no tensor, expected names with tensors", name);
    const auto& given = arguments(value, 4, name);
    const Storage storage = this->storage(given[0], name);
    const std::vector<int64_t> shape = sizes(given[2], name), strides = sizes(given[3], name);
    const int64_t offset = given[1].integer;
    check(storage, offset, {shape, strides}, name);
    const Tensor view = values(storage).as_strided(shape, strides, offset);
    if (view.is_contiguous()) return view;
    spend(view_bytes_, view.numel() * static_cast<int64_t>(view.element_size()), name);
    return view.contiguous();
  }

  /// An honest file copies no more bytes than it has.
  void spend(int64_t& spent, int64_t bytes, const std::string& name) const {
    spent += bytes;
    if (spent > bytes_) throw DataError(where_, "{}: more values than the file has bytes for", name);
  }

  struct Storage {
    std::string key;
    Bytes bytes;
    at::ScalarType type;
    int64_t numel;
  };
  /// All of a storage's values, copied once: a file's bytes need not lie as numbers must, and tensors may
  /// share them.
  const Tensor& values(const Storage& storage) {
    const auto found = storages_.find(storage.key);
    if (found != storages_.end() && found->second.scalar_type() == storage.type &&
        found->second.numel() == storage.numel)
      return found->second;
    if (found != storages_.end()) throw DataError(where_, "data/{} is described in two ways", storage.key);
    spend(storage_bytes_, storage.numel * static_cast<int64_t>(c10::elementSize(storage.type)), storage.key);
    Tensor all = at::empty({storage.numel}, storage.type);
    if (all.nbytes() > 0) std::memcpy(all.data_ptr(), storage.bytes.data(), all.nbytes());
    return storages_.emplace(storage.key, all).first->second;
  }
  /// ("storage", type, key, device, number of values)
  Storage storage(const PickleValue& value, const std::string& name) const {
    const bool persistent = value.kind == Kind::persistent && value.items->values[0].kind == Kind::list;
    if (!persistent || value.items->values[0].items->values.size() < 5)
      throw DataError(where_, "{} has no storage, expected a tensor", name);
    const auto& said = value.items->values[0].items->values;
    if (said[1].kind != Kind::global || said[2].kind != Kind::text || said[4].kind != Kind::integer)
      throw DataError(where_, "{}: a storage that is not described as torch does", name);
    const auto entry = entries_.find(folder_ + "data/" + said[2].text);
    if (entry == entries_.end()) throw DataError(where_, "{}: no entry data/{}", name, said[2].text);
    const Storage out{said[2].text, entry->second, storage_type(said[1].text, where_), said[4].integer};
    const auto fits = static_cast<int64_t>(out.bytes.size() / c10::elementSize(out.type));
    if (out.numel < 0 || out.numel > fits)
      throw DataError(where_, "{}: {} values in {} bytes, expected at most {}", name, out.numel,
                      out.bytes.size(), fits);
    return out;
  }

  std::vector<int64_t> sizes(const PickleValue& value, const std::string& name) const {
    constexpr size_t kMostDimensions = 16;
    if (value.kind != Kind::list || value.items->values.size() > kMostDimensions)
      throw DataError(where_, "{}: a shape that is none", name);
    std::vector<int64_t> out;
    for (const PickleValue& item : value.items->values) {
      if (item.kind != Kind::integer || item.integer < 0)
        throw DataError(where_, "{}: a shape that is none", name);
      out.push_back(item.integer);
    }
    return out;
  }

  struct Form {
    const std::vector<int64_t>&shape, &strides;
  };
  /// The tensor lies within its storage, and has no more values.
  void check(const Storage& storage, int64_t offset, const Form& form, const std::string& name) const {
    bool fits = form.shape.size() == form.strides.size() && offset >= 0 && offset <= storage.numel;
    int64_t count = 1, last = offset;
    for (size_t i = 0; fits && i < form.shape.size(); ++i) {
      int64_t reach = 0;
      fits = !__builtin_mul_overflow(count, form.shape[i], &count) && count <= storage.numel &&
             !__builtin_mul_overflow(std::max<int64_t>(form.shape[i] - 1, 0), form.strides[i], &reach) &&
             !__builtin_add_overflow(last, reach, &last);
    }
    if (!fits || (count > 0 && last >= storage.numel))
      throw DataError(where_, "{} lies outside of its {} values", name, storage.numel);
  }

  std::map<std::string, Bytes> entries_;
  const std::string& where_;
  int64_t bytes_;  // of the file
  std::string folder_;
  std::map<std::string, Tensor> storages_;  // by key
  // What was copied: entries of an archive may overlap, and views may repeat values.
  int64_t storage_bytes_ = 0, view_bytes_ = 0;
};

}  // namespace

TensorMap parse_torch_file(Bytes bytes, const std::string& where) {
  return TensorReader(bytes, where).read();
}

TensorMap read_tensor_file(const std::filesystem::path& path) {
  return path.extension() == ".bin" ? read_torch_file(path) : read_safetensors(path);
}

TensorMap read_torch_file(const std::filesystem::path& path) {
  return parse_torch_file(MappedFile::open(path)->bytes(), path.string());
}

}  // namespace graft
