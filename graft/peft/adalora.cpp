#include "graft/peft/adalora.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "graft/peft/adapt_linears.h"
#include "graft/peft/delta_linear.h"
#include "graft/peft/lora_config.h"
#include "graft/peft/rank_allocator.h"

namespace graft {
namespace {

struct AdaLoraConfig : LoraConfig {
  int64_t target_r = 8, init_r = 12, tinit = 0, tfinal = 0, delta_t = 1;
  double beta1 = 0.85, beta2 = 0.85, orth_reg_weight = 0.5;
  std::optional<int64_t> total_step;
  AdaLoraConfig() { rank_pattern = nullptr; }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    LoraConfig::fields(self, visit);
    visit("target_r", self.target_r, "mean rank at the end", at_least<int64_t>(1));
    visit("init_r", self.init_r, "rank at the start", at_least<int64_t>(1));
    visit("tinit", self.tinit, "steps before the first triplet is taken away", at_least<int64_t>(0));
    visit("tfinal", self.tfinal, "steps with the final ranks", at_least<int64_t>(0));
    visit("deltaT", self.delta_t, "steps between two allocations", at_least<int64_t>(1));
    visit("beta1", self.beta1, "smoothing of the sensitivity", between(0.0, 1.0));
    visit("beta2", self.beta2, "smoothing of its uncertainty", between(0.0, 1.0));
    visit("orth_reg_weight", self.orth_reg_weight, "weight of the loss that keeps A and B orthogonal",
          at_least(0.0));
    visit("total_step", self.total_step, "steps of the training");
  }
};

/// W x + b + alpha / (init_r + 1e-5) · B (E ⊙ A dropout(x)).
class AdaLoraLinear : public FactoredLinear {
 public:
  AdaLoraLinear(Triplets tensors, double scale, double dropout)
      : FactoredLinear(scale, dropout), tensors_(std::move(tensors)) {}

 protected:
  Factors factors(const Linear&) const override { return {tensors_.e * tensors_.a, tensors_.b}; }

 private:
  Triplets tensors_;
};

/// The rank that a file's rank_pattern leaves this map, by its booleans; init_r without one.
int64_t kept_rank(const AdaLoraConfig& config, const std::string& path) {
  if (!config.rank_pattern.is_object()) return config.init_r;
  for (const auto& [key, kept] : config.rank_pattern.items()) {
    if (key.substr(0, key.find(".lora_E")) != path) continue;
    if (!kept.is_array() || static_cast<int64_t>(kept.size()) != config.init_r) {
      fail_value(kept, "rank_pattern." + key, fmt::format("{} booleans", config.init_r));
    }
    return std::count(kept.begin(), kept.end(), Json(true));
  }
  return config.init_r;
}

Triplets adapt(AdapterBuilder& builder, const AdaLoraConfig& config, const std::string& path,
               const Linear& linear) {
  const int64_t r = kept_rank(config, path);
  const std::string a = file_key(path + ".lora_A"), b = file_key(path + ".lora_B"),
                    e = file_key(path + ".lora_E");
  const bool zero = config.init_lora_weights != Json(false);
  Triplets tensors{path, builder.train(a, builder.normal(a, {r, linear.in()}, 0.02)),
                   builder.train(b, builder.normal(b, {linear.out(), r}, 0.02)),
                   builder.train(e, zero ? builder.zeros({r, 1}) : builder.normal(e, {r, 1}, 0.02))};
  const double alpha = config.lora_alpha > 0 ? config.lora_alpha : static_cast<double>(config.init_r);
  const double scale = alpha / (static_cast<double>(config.init_r) + 1e-5);
  builder.hook(path, std::shared_ptr<LinearHook>(
                         std::make_shared<AdaLoraLinear>(tensors, scale, config.lora_dropout)));
  return tensors;
}

/// The mean of ‖A Aᵀ - I‖ and ‖Bᵀ B - I‖ over all maps.
Tensor orthogonality(const std::vector<Triplets>& maps, double weight) {
  Tensor sum;
  for (const Triplets& map : maps) {
    const Tensor identity = at::eye(map.a.size(0), map.a.options());
    const Tensor one =
        (at::matmul(map.a, map.a.t()) - identity).norm() + (at::matmul(map.b.t(), map.b) - identity).norm();
    sum = sum.defined() ? sum + one : one;
  }
  return weight * sum / (2 * static_cast<double>(maps.size()));
}

/// The file holds the kept triplets only, and says in rank_pattern which they are.
void save_kept(const RankAllocator& allocator, TensorMap& tensors, Json& config) {
  if (!allocator.masked()) return;
  Json pattern = Json::object();
  for (size_t i = 0; i < allocator.maps().size(); ++i) {
    const std::string& path = allocator.maps()[i].path;
    const Tensor kept = allocator.kept()[i], rows = at::nonzero(kept).squeeze(1);
    Json booleans = Json::array();
    for (int64_t k = 0; k < kept.numel(); ++k) booleans.push_back(kept[k].item<bool>());
    pattern[path + ".lora_E"] = booleans;
    for (const auto& [name, dim] :
         {std::pair{".lora_A", 0}, std::pair{".lora_B", 1}, std::pair{".lora_E", 0}}) {
      Tensor& tensor = tensors.at(file_key(path + name));
      if (tensor.size(dim) == kept.numel()) tensor = tensor.index_select(dim, rows);
    }
  }
  config["rank_pattern"] = pattern;
}

void check(const AdaLoraConfig& config) {
  if (config.use_dora || config.use_rslora || config.lora_bias) {
    throw UsageError("method", "use_dora, use_rslora or lora_bias with adalora, expected none of them");
  }
  if (!config.init_lora_weights.is_boolean()) {
    throw UsageError("init_lora_weights", "{} with adalora, expected true or false",
                     config.init_lora_weights.dump());
  }
  if (config.save_as_lora) throw UsageError("save_as_lora", "with adalora, expected lora");
  if (!config.layer_replication.is_null())
    throw UsageError("layer_replication", "with adalora, expected none: not implemented");
  if (!config.total_step || *config.total_step <= 0) {
    throw UsageError("total_step", "{}, expected the number of steps that the training takes",
                     config.total_step ? std::to_string(*config.total_step) : "null");
  }
  if (config.tinit >= *config.total_step - config.tfinal) {
    throw UsageError("tinit", "{}, expected less than total_step {} - tfinal {}", config.tinit,
                     *config.total_step, config.tfinal);
  }
}

RankSchedule schedule_of(const AdaLoraConfig& config) {
  return {config.init_r,  config.target_r,    config.tinit, config.tfinal,
          config.delta_t, *config.total_step, config.beta1, config.beta2};
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  std::vector<Triplets> maps;
  AdaLoraConfig read;
  const auto adapt_one = [&](AdapterBuilder& builder, const AdaLoraConfig& config, const std::string& path,
                             const Linear& linear) {
    if (maps.empty()) check(config);
    maps.push_back(adapt(builder, config, path, linear));
    read = config;
  };
  Adapter adapter = adapt_linears<AdaLoraConfig>({kAdaLora, TargetColumn::adalora, true}, ConfigSource(given),
                                                 model, seed, adapt_one);
  adapter.config.erase("save_as_lora");  // LoRA's, and graft's own
  adapter.auxiliary_loss = [maps, weight = read.orth_reg_weight] { return orthogonality(maps, weight); };
  const bool pruned = read.rank_pattern.is_object() && !read.rank_pattern.empty();
  if (pruned) return adapter;  // the final ranks are in the file
  const auto allocator = std::make_shared<RankAllocator>(schedule_of(read), maps);
  adapter.state = allocator->state();
  adapter.after_step = [allocator](int64_t step) { allocator->after_step(step - 1); };
  adapter.before_saving = [allocator](TensorMap& tensors, Json& config) {
    save_kept(*allocator, tensors, config);
  };
  return adapter;
}

}  // namespace

const TuningMethod kAdaLora = {"adalora", "ADALORA", create, method_help<AdaLoraConfig>, 0, "total_step"};

}  // namespace graft
