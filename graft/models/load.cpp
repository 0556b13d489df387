#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "graft/base/error.h"
#include "graft/base/log.h"
#include "graft/models/build.h"
#include "graft/models/model.h"

namespace graft {
namespace {

bool starts_with_one(const std::string& key, const std::vector<std::string>& starts) {
  return std::any_of(starts.begin(), starts.end(), [&](const auto& s) { return key.starts_with(s); });
}
bool ends_with_one(const std::string& key, const std::vector<std::string>& ends) {
  return std::any_of(ends.begin(), ends.end(), [&](const auto& e) { return key.ends_with(e); });
}

/// A parameter under all of its paths.
struct Slot {
  std::shared_ptr<Parameter> parameter;
  std::vector<std::string> paths;
  std::vector<int64_t> file_shape() const {
    auto shape = parameter->shape;
    if (parameter->transposed) std::reverse(shape.begin(), shape.end());
    return shape;
  }
};

std::vector<Slot> slots_of(const Model& model) {
  std::vector<Slot> slots;
  std::unordered_map<const Parameter*, size_t> seen;
  for (const auto& [path, parameter] : model.named_parameters(true)) {
    const auto [at, fresh] = seen.emplace(parameter.get(), slots.size());
    if (fresh) slots.push_back({parameter, {}});
    slots[at->second].paths.push_back(path);
  }
  return slots;
}

/// What does not fit, gathered so that all of it is reported at once.
struct Problems {
  std::vector<std::string> missing, unexpected, others;

  void raise(const std::string& where) const {
    std::vector<std::string> parts;
    const auto list = [&](const char* what, const std::vector<std::string>& names) {
      if (names.empty()) return;
      const size_t shown = std::min<size_t>(names.size(), 12);
      const std::vector<std::string> head(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown));
      parts.push_back(
          fmt::format("{}{}{}", what, fmt::join(head, ", "),
                      shown < names.size() ? fmt::format(" and {} more", names.size() - shown) : ""));
    };
    list("missing ", missing);
    list("unexpected ", unexpected);
    list("", others);
    if (!parts.empty()) throw DataError(where, "weights do not fit config.json: {}", fmt::join(parts, "; "));
  }
};

/// The file's tensors under the model's paths; what has no place is left over or a problem.
class Placement {
 public:
  Placement(const Family& family, const std::vector<Slot>& slots, const TensorMap& tensors,
            Problems& problems)
      : family_(family) {
    for (const Slot& slot : slots) {
      for (const std::string& path : slot.paths) known_.emplace(path, Tensor());
    }
    for (const auto& [key, tensor] : tensors) {
      const std::string path = path_of(key);
      if (path.empty()) {
        if (!left_over(key)) problems.unexpected.push_back(key);
      } else if (known_[path].defined()) {
        problems.others.push_back(path + " is in the file twice");
      } else {
        known_[path] = tensor;
      }
    }
  }
  /// Undefined where the file has none.
  const Tensor& at(const std::string& path) const { return known_.at(path); }

 private:
  std::string path_of(std::string key) const {
    for (const auto& [from, to] : family_.renames) {
      if (const size_t at = key.find(from); at != std::string::npos) key.replace(at, from.size(), to);
    }
    std::vector<std::string> candidates = {key, family_.prefix + key};
    if (!family_.prefix.empty() && key.starts_with(family_.prefix)) {
      candidates.push_back(key.substr(family_.prefix.size()));
    }
    for (const std::string& candidate : candidates) {
      if (known_.contains(candidate)) return candidate;
    }
    return "";
  }
  bool left_over(const std::string& key) const {
    return ends_with_one(key, family_.buffers) || starts_with_one(key, family_.heads);
  }
  const Family& family_;
  std::unordered_map<std::string, Tensor> known_;
};

/// Weights that are only read to be rounded to 8 bits, or as numbers: they stay as they lie in the file, so
/// that no second copy of them is made. An embedding, or a head with its exact gradient, is of the model's
/// type.
std::unordered_set<const Parameter*> kept_as_they_are(Model& model) {
  std::unordered_set<const Parameter*> kept;
  for (const auto& [path, module] : model.named_modules()) {
    const auto* const linear = dynamic_cast<const Linear*>(module);
    const bool rounded = linear != nullptr && linear->int8() && !linear->int8()->exact_gradient;
    if (rounded && !linear->weight->transposed) kept.insert(linear->weight.get());
  }
  for (const auto& [path, module] : model.named_modules()) {
    if (const auto* const table = dynamic_cast<const Embedding*>(module)) kept.erase(table->weight.get());
  }
  return kept;
}

Tensor ready(const Tensor& tensor, const Parameter& parameter, at::ScalarType dtype) {
  const Tensor converted = tensor.to(dtype);
  return parameter.transposed ? converted.t().contiguous() : converted;
}

/// Paths of one slot that the file holds with different values: such tensors are not tied, whatever the
/// config says.
bool ties_differ(const Slot& slot, const Placement& placement) {
  Tensor first;
  for (const std::string& path : slot.paths) {
    const Tensor& tensor = placement.at(path);
    if (!tensor.defined()) continue;
    if (first.defined() && (tensor.sizes() != first.sizes() || !at::equal(tensor, first))) return true;
    first = tensor;
  }
  return false;
}

/// An untied map onto the vocabulary has a bias of its own; transformers keeps another one beside it that it
/// never uses.
bool is_untied_bias(const Slot& slot) { return slot.paths[0].ends_with(".decoder.bias"); }

class Loader {
 public:
  Loader(const Family& family, Model& model, const Checkpoint& checkpoint, const LoadOptions& options)
      : family_(family),
        model_(model),
        options_(options),
        slots_(slots_of(model)),
        kept_(kept_as_they_are(model)),
        where_(checkpoint.folder.string()),
        placement_(family, slots_, checkpoint.tensors, problems_) {}

  /// The file's map onto the vocabulary is not its word embedding.
  bool head_differs() const {
    const Linear* const head = model_.output_embedding();
    return head != nullptr && std::any_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
             return slot.parameter == head->weight && ties_differ(slot, placement_);
           });
  }

  void fill() {
    for (const Slot& slot : slots_) fill(slot);
    problems_.raise(where_);
    if (!fresh_.empty()) {
      warn("{}: new tensors with random values: {}", where_, fmt::join(fresh_, ", "));
    }
  }

 private:
  /// What an adapter's file does not hold (a pooler) is the same in every run, whatever its seed: whoever
  /// opens the file draws it again.
  LoadOptions drawing(const std::string& path) const {
    LoadOptions out = options_;
    const std::vector<std::string> saved = model_.head_modules();
    const bool held = std::any_of(saved.begin(), saved.end(),
                                  [&](const std::string& name) { return path.starts_with(name + "."); });
    if (!held) out.seed = 0;
    return out;
  }

  void fill(const Slot& slot) {
    const bool of_head = starts_with_one(slot.paths[0], family_.heads);
    Tensor found;
    for (const std::string& path : slot.paths) {
      if (!found.defined()) found = placement_.at(path);
    }
    const auto shape = slot.file_shape();
    const bool fits = found.defined() && found.sizes().vec() == shape;
    if (ties_differ(slot, placement_) && !is_untied_bias(slot))
      problems_.others.push_back(
          fmt::format("{} differ, expected one tied tensor", fmt::join(slot.paths, " and ")));
    if (found.defined() && !at::isFloatingType(found.scalar_type())) {
      problems_.others.push_back(
          fmt::format("{} is of type {}", slot.paths[0], at::toString(found.scalar_type())));
    } else if (fits) {
      const bool known = found.scalar_type() == at::kFloat || found.scalar_type() == at::kBFloat16;
      const bool kept = known && kept_.contains(slot.parameter.get());
      slot.parameter->base = ready(found, *slot.parameter, kept ? found.scalar_type() : options_.dtype);
    } else if (of_head && (!found.defined() || options_.num_labels || options_.head)) {
      draw(model_, slot.paths[0], *slot.parameter, drawing(slot.paths[0]));
      fresh_.push_back(slot.paths[0]);
    } else if (!found.defined()) {
      problems_.missing.push_back(slot.paths[0]);
    } else {
      problems_.others.push_back(fmt::format("{} has shape [{}], expected [{}]", slot.paths[0],
                                             fmt::join(found.sizes().vec(), ", "), fmt::join(shape, ", ")));
    }
  }

  const Family& family_;
  Model& model_;
  const LoadOptions& options_;
  std::vector<Slot> slots_;
  std::unordered_set<const Parameter*> kept_;
  std::string where_;
  Problems problems_;
  Placement placement_;
  std::vector<std::string> fresh_;
};

/// The families whose layers differ in nothing but their weights.
bool layers_are_alike(const Json& config) {
  static const std::vector<std::string> types{"llama", "mistral", "phi3", "qwen2", "qwen3"};
  const std::string type = config.value("model_type", "");
  return std::find(types.begin(), types.end(), type) != types.end() &&
         !config.value("use_sliding_window", false);
}

/// Each new layer's layer in the checkpoint. Errors: UsageError.
std::vector<int64_t> layer_sources(const Model& model, const LoadOptions& options) {
  const int64_t layers = model.info().num_layers;
  std::vector<int64_t> sources;
  for (const auto& [first, last] : options.layer_replication) {
    if (first < 0 || last <= first || last > layers) {
      throw UsageError("layer_replication", "[{}, {}], expected a range within 0 to {}", first, last, layers);
    }
    for (int64_t layer = first; layer < last; ++layer) sources.push_back(layer);
  }
  if (!layers_are_alike(model.config)) {
    throw UsageError("layer_replication",
                     "with {}, expected llama, mistral, phi3, qwen2 or qwen3 without windows",
                     model.info().model_type);
  }
  return sources;
}

/// Whose layers are `model`'s in the order of options.layer_replication; the weights are shared, not copied.
std::unique_ptr<Model> replicated(const Model& model, const Blueprint& blueprint,
                                  const LoadOptions& options) {
  const std::vector<int64_t> sources = layer_sources(model, options);
  Blueprint deeper = blueprint;
  deeper.config["num_hidden_layers"] = sources.size();
  if (const auto types = model.config.find("layer_types"); types != model.config.end() && types->is_array()) {
    Json chosen = Json::array();
    for (const int64_t layer : sources) chosen.push_back(types->at(static_cast<size_t>(layer)));
    deeper.config["layer_types"] = chosen;
  }
  auto out = deeper.build(options);
  std::map<std::string, Tensor> bases;
  for (const auto& [path, parameter] : model.named_parameters()) bases[path] = parameter->base;
  const std::string list = "layers.";
  for (const auto& [path, parameter] : out->named_parameters()) {
    std::string source = path;
    if (const size_t at = path.find(list); at != std::string::npos) {
      const size_t begin = at + list.size(), end = path.find('.', begin);
      const auto layer = static_cast<size_t>(std::stoll(path.substr(begin, end - begin)));
      source.replace(begin, end - begin, std::to_string(sources[layer]));
    }
    parameter->base = bases.at(source);
  }
  out->layer_replication = options.layer_replication;
  return out;
}

}  // namespace

std::unique_ptr<Model> load_model(const Checkpoint& checkpoint, const LoadOptions& options) {
  const std::string where = checkpoint.folder.string();
  Blueprint blueprint = Blueprint::of(checkpoint.config, options, where);
  auto model = blueprint.build(options);
  auto loader = std::make_unique<Loader>(*blueprint.family, *model, checkpoint, options);
  if (loader->head_differs()) {
    blueprint.config["tie_word_embeddings"] = false;
    model = blueprint.build(options);
    loader = std::make_unique<Loader>(*blueprint.family, *model, checkpoint, options);
  }
  loader->fill();
  if (!options.layer_replication.empty()) model = replicated(*model, blueprint, options);
  model->name_or_path = where;
  return model;
}

}  // namespace graft
