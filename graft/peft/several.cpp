#include "graft/peft/several.h"

#include <algorithm>

#include "graft/base/error.h"
#include "graft/base/fields.h"
#include "graft/base/file.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostParts = 16;
const TuningMethod kSeveral = {"several methods", nullptr, nullptr, nullptr};

class SublayerChain : public SublayerHook {
 public:
  void add(std::shared_ptr<SublayerHook> hook) { hooks_.push_back(std::move(hook)); }
  Tensor forward(const SublayerPass& pass, RandomStream* dropout) override {
    SublayerPass next = pass;
    for (const auto& hook : hooks_) next.output = hook->forward(next, dropout);
    return next.output;
  }

 private:
  std::vector<std::shared_ptr<SublayerHook>> hooks_;
};

[[noreturn]] void refuse(const std::string& place, const std::string& name, const std::string& remedy) {
  throw UsageError("method", "{}: {} is taken by a method before it in the list, expected {}", name, place,
                   remedy);
}

/// Puts parts into one adapter, one after another.
class Joiner {
 public:
  Joiner() { joined_.method = &kSeveral; }
  void add(Adapter& part, const std::string& name) {
    if (!part.parts.empty()) throw UsageError("method", "{}: a list in a list, expected one list", name);
    if (part.compute_stand_ins) throw UsageError("method", "{} moves every tensor, expected it alone", name);
    for (const auto& [path, hook] : part.linears) {
      if (!joined_.linears.emplace(path, hook).second)
        refuse(path, name, "target_modules that do not overlap");
    }
    for (const auto& [path, hook] : part.embeddings) {
      if (!joined_.embeddings.emplace(path, hook).second) refuse(path, name, "one method for each embedding");
    }
    if (part.input && joined_.input) refuse("the model's input", name, "one soft prompt or prefix");
    if (part.input) joined_.input = part.input;
    for (const auto& [path, hook] : part.sublayers) chain(path, hook);
    share_stand_ins(part, name);
    add_tensors(part, name);
    add_calls(part);
  }
  Adapter finish() { return std::move(joined_); }

 private:
  void chain(const std::string& path, const std::shared_ptr<SublayerHook>& hook) {
    auto& slot = joined_.sublayers[path];
    if (!slot) {
      slot = hook;
      return;
    }
    auto& made = chains_[path];
    if (!made) {
      made = std::make_shared<SublayerChain>();
      made->add(slot);
      slot = made;
    }
    made->add(hook);
  }

  /// A base tensor that several parts train is the first one's.
  void share_stand_ins(Adapter& part, const std::string& name) {
    for (auto& [path, tensor] : part.stand_ins) {
      const auto first = joined_.stand_ins.find(path);
      if (first == joined_.stand_ins.end()) {
        joined_.stand_ins[path] = tensor;
        continue;
      }
      const auto own = leaf_of(part, tensor);
      if (own == part.trained.end() || !first->second.is_same(heads_[path]))
        refuse(path, name, "each base tensor in one of them");
      own->second = heads_[path];
      tensor = heads_[path];
    }
    for (const auto& [path, tensor] : part.stand_ins) {
      if (leaf_of(part, tensor) != part.trained.end()) heads_.emplace(path, tensor);
    }
  }

  static TensorMap::iterator leaf_of(Adapter& part, const Tensor& tensor) {
    return std::find_if(part.trained.begin(), part.trained.end(),
                        [&](const auto& row) { return row.second.is_same(tensor); });
  }

  void add_tensors(const Adapter& part, const std::string& name) {
    for (const auto& [key, tensor] : part.trained) {
      const bool known = std::any_of(joined_.trained.begin(), joined_.trained.end(),
                                     [&](const auto& row) { return row.second.is_same(tensor); });
      if (!known) joined_.trained[name + "/" + key] = tensor;
    }
    for (const auto& [key, tensor] : part.untrained) joined_.untrained[name + "/" + key] = tensor;
    for (const auto& [key, tensor] : part.state) joined_.state[name + "/" + key] = tensor;
  }

  void add_calls(const Adapter& part) {
    if (part.auxiliary_loss) {
      const auto before = joined_.auxiliary_loss, own = part.auxiliary_loss;
      joined_.auxiliary_loss = [before, own] { return before ? before() + own() : own(); };
    }
    if (part.adjust_gradients) {
      const auto before = joined_.adjust_gradients, own = part.adjust_gradients;
      joined_.adjust_gradients = [before, own] {
        if (before) before();
        own();
      };
    }
    if (part.after_step) {
      const auto before = joined_.after_step, own = part.after_step;
      joined_.after_step = [before, own](int64_t step) {
        if (before) before(step);
        own(step);
      };
    }
  }

  Adapter joined_;
  TensorMap heads_;  // by base tensor path: trained ones, as they are (not transposed)
  std::map<std::string, std::shared_ptr<SublayerChain>> chains_;
};

/// "lora", and "lora_2" where there is one already.
std::string folder_name(const std::string& method, const std::vector<std::string>& taken) {
  std::string name = method;
  for (int i = 2; std::find(taken.begin(), taken.end(), name) != taken.end(); ++i)
    name = fmt::format("{}_{}", method, i);
  return name;
}

}  // namespace

Adapter several(std::vector<Adapter> parts, std::vector<std::string> names) {
  Joiner joiner;
  for (size_t i = 0; i < parts.size(); ++i) joiner.add(parts[i], names[i]);
  Adapter joined = joiner.finish();
  joined.config = Json::object();
  joined.parts = std::move(parts);
  joined.part_names = std::move(names);
  return joined;
}

Adapter create_adapter(const Json& method, const std::function<Adapter(const Json& one)>& create) {
  if (!method.is_array()) return create(method);
  std::vector<Adapter> parts;
  std::vector<std::string> names;
  for (const Json& one : method) {
    parts.push_back(create(one));
    names.push_back(folder_name(parts.back().method->name, names));
  }
  return several(std::move(parts), std::move(names));
}

Adapter create_adapter(const Json& method, Model& model, uint64_t seed) {
  return create_adapter(method, [&](const Json& one) {
    return tuning_method(one.at("name").get<std::string>()).create(one, model, seed);
  });
}

bool is_adapter_folder(const fs::path& folder) {
  return fs::exists(folder / "adapter_config.json") || fs::exists(folder / kAdapterList);
}

std::vector<fs::path> adapter_folders(const fs::path& folder) {
  const fs::path list = folder / kAdapterList;
  if (!fs::exists(list)) return {folder};
  const std::string where = list.string();
  const Json document = read_json(list);
  std::vector<std::string> names;
  try {
    read_value(document, names, where);
  } catch (const UsageError& error) {
    throw DataError(where, "{}", error.what());
  }
  if (names.empty() || names.size() > kMostParts)
    throw DataError(where, "{} folders, expected 1 to {}", names.size(), kMostParts);
  std::vector<fs::path> folders;
  for (const std::string& name : names) {
    const bool plain =
        !name.empty() && name.find_first_of("/\\") == std::string::npos && !name.starts_with('.');
    if (!plain || !fs::exists(folder / name / "adapter_config.json"))
      throw DataError(where, "'{}' is no adapter's folder beside it, expected one", name);
    folders.push_back(folder / name);
  }
  return folders;
}

}  // namespace graft
