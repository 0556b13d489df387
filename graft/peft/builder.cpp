#include "graft/peft/builder.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "graft/base/error.h"
#include "graft/base/log.h"
#include "graft/base/random.h"
#include "graft/ops/tensor_memory.h"
#include "graft/peft/saved_module.h"

namespace graft {
namespace {

at::ScalarType type_for(const Model& model) { return model.dtype == at::kDouble ? at::kDouble : at::kFloat; }

template <class Draw>
Tensor drawn(const std::vector<int64_t>& shape, at::ScalarType type, Draw draw) {
  Tensor values = at::empty(shape, at::kDouble);
  double* out = values.data_ptr<double>();
  for (int64_t i = 0; i < values.numel(); ++i) out[i] = draw();
  // Rounded to float32 in either type, so that equal seeds give equal adapters.
  return values.to(at::kFloat).to(type);
}

}  // namespace

std::string file_key(const std::string& path) { return "base_model.model." + path; }

Tensor widened(const Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? tensor : tensor.to(at::kFloat);
}

AdapterBuilder::AdapterBuilder(const TuningMethod& method, ConfigSource config, Model& model, uint64_t seed)
    : model_(model), seed_(seed), from_file_(config.from_file) {
  adapter_.method = &method;
  adapter_.config = std::move(config.json);
  for (const auto& [path, parameter] : model.named_parameters(true)) parameters_[path] = parameter;
}

void AdapterBuilder::reserve(const std::vector<int64_t>& shape) {
  const int64_t memory = ops::physical_memory();
  // A number that is trained has a gradient, whatever the optimizer keeps.
  int64_t bytes = from_file_ ? sizeof(float) : 2 * sizeof(float);
  bool fits = true;
  for (const int64_t size : shape) fits = fits && !__builtin_mul_overflow(bytes, size, &bytes);
  fits = fits && !__builtin_add_overflow(reserved_, bytes, &reserved_);
  if (!fits || (memory > 0 && reserved_ > memory)) {
    throw UsageError("method",
                     "{} with a tensor of shape [{}]: larger than this machine's memory, expected a smaller "
                     "rank or fewer targets",
                     adapter_.method->name, fmt::join(shape, ", "));
  }
}

Tensor AdapterBuilder::zeros(const std::vector<int64_t>& shape) {
  reserve(shape);
  return at::zeros(shape, type_for(model_));
}

Tensor AdapterBuilder::ones(const std::vector<int64_t>& shape) {
  reserve(shape);
  return at::ones(shape, type_for(model_));
}

Tensor AdapterBuilder::uniform(const std::string& key, const std::vector<int64_t>& shape, double bound) {
  if (from_file_) return zeros(shape);
  reserve(shape);
  RandomStream stream(seed_, key);
  return drawn(shape, type_for(model_), [&] { return (2 * stream.uniform() - 1) * bound; });
}

Tensor AdapterBuilder::normal(const std::string& key, const std::vector<int64_t>& shape,
                              double standard_deviation) {
  if (from_file_) return zeros(shape);
  reserve(shape);
  RandomStream stream(seed_, key);
  return drawn(shape, type_for(model_), [&] { return stream.normal() * standard_deviation; });
}

int64_t AdapterBuilder::draw_below(const std::string& key, int64_t i, int64_t bound) const {
  RandomStream stream(seed_, fmt::format("{}.{}", key, i));
  return static_cast<int64_t>(stream.below(static_cast<uint64_t>(bound)));
}

Tensor AdapterBuilder::train(const std::string& key, const Tensor& initial) {
  Tensor leaf =
      initial.detach().to(type_for(model_)).clone(at::MemoryFormat::Contiguous).requires_grad_(true);
  if (!adapter_.trained.emplace(key, leaf).second)
    throw InternalError("adapter", "two tensors named {}", key);
  return leaf;
}

Tensor AdapterBuilder::stand_in(const std::string& path, const std::string& key) {
  const Parameter& parameter = *parameters_.at(path);
  Tensor leaf = train(key, parameter.transposed ? parameter.base.t() : parameter.base);
  adapter_.stand_ins[path] = parameter.transposed ? leaf.t() : leaf;
  return leaf;
}

void AdapterBuilder::hook(const std::string& path, std::shared_ptr<LinearHook> hook) {
  if (!adapter_.linears.emplace(path, std::move(hook)).second) {
    throw UsageError("method", "{} is adapted twice, expected one way", path);
  }
}

void AdapterBuilder::hook(const std::string& path, std::shared_ptr<EmbeddingHook> hook) {
  if (!adapter_.embeddings.emplace(path, std::move(hook)).second) {
    throw UsageError("method", "{} is adapted twice, expected one way", path);
  }
}

void AdapterBuilder::hook(const std::string& path, std::shared_ptr<SublayerHook> hook) {
  if (!adapter_.sublayers.emplace(path, std::move(hook)).second) {
    throw UsageError("method", "{} is adapted twice, expected one way", path);
  }
}

void AdapterBuilder::save_module(const std::string& path) {
  saved_.push_back(path);
  // A copy of a tied table is the module's own: the other end keeps the base's.
  const auto weight = parameters_.find(path + ".weight");
  const bool tied = weight != parameters_.end() &&
                    std::count_if(parameters_.begin(), parameters_.end(),
                                  [&](const auto& other) { return other.second == weight->second; }) > 1;
  for (const auto& [name, parameter] : parameters_) {
    const std::string key = prefix_ + name;
    if (!name.starts_with(path + ".") || adapter_.trained.count(key)) continue;
    if (tied && name == weight->first) {
      const Tensor table = train(key, parameter->base);
      if (dynamic_cast<Embedding*>(model_.find(path))) {
        hook(path, std::shared_ptr<EmbeddingHook>(std::make_shared<SavedEmbedding>(table)));
      } else {
        hook(path, std::shared_ptr<LinearHook>(std::make_shared<SavedLinear>(table)));
      }
      continue;
    }
    stand_in(name, key);
  }
}

void AdapterBuilder::train_saved_modules(const std::vector<std::string>& names) {
  for (const std::string& path : module_paths(model_)) {
    const bool chosen = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return !name.empty() && path.ends_with(name);
    });
    if (chosen) save_module(path);
  }
  config()["modules_to_save"] = names.empty() ? Json(nullptr) : Json(names);
}

void AdapterBuilder::train_biases(const std::string& bias, const Targets& targets) {
  if (bias == "none") return;
  std::vector<std::string> adapted;
  for (const auto& [path, linear] : targets.linears) adapted.push_back(path + ".bias");
  const auto is_adapted = [&](const std::string& path) {
    return std::find(adapted.begin(), adapted.end(), path) != adapted.end();
  };
  std::map<const Parameter*, std::string> seen;
  for (const auto& [path, parameter] : model_.named_parameters(true)) {
    if (!path.ends_with(".bias") || (bias != "all" && !is_adapted(path))) continue;
    const std::string key =
        file_key(is_adapted(path) ? path.substr(0, path.size() - 5) + ".base_layer.bias" : path);
    if (const auto tied = seen.find(parameter.get()); tied != seen.end()) {
      keep(key, adapter_.trained.at(tied->second));  // PEFT writes a tied bias under each of its names
      continue;
    }
    if (adapter_.trained.count(file_key(path))) {
      // A head's bias is trained already; PEFT writes it, and the head's original, once more.
      const auto root = std::find_if(saved_.begin(), saved_.end(),
                                     [&](const std::string& saved) { return path.starts_with(saved + "."); });
      keep(file_key(*root + ".modules_to_save" + path.substr(root->size())),
           adapter_.trained.at(file_key(path)));
      keep(file_key(*root + ".original_module" + path.substr(root->size())), widened(parameter->base));
      continue;
    }
    stand_in(path, key);
    seen[parameter.get()] = key;
  }
}

void AdapterBuilder::warn_of_unmatched(const char* key, const Json& names) const {
  if (from_file_) return;
  for (const std::string& name : unmatched_names(model_, names))
    warn("{}: {} fits no module of this model", key, name);
}

void AdapterBuilder::set_fan_in_fan_out(const Targets& targets) {
  if (from_file_ || targets.linears.empty()) return;
  config()["fan_in_fan_out"] =
      std::all_of(targets.linears.begin(), targets.linears.end(),
                  [](const auto& target) { return target.second->weight->transposed; });
}

}  // namespace graft
