#include "graft/peft/bottleneck_build.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "graft/base/error.h"
#include "graft/peft/adapterhub_file.h"
#include "graft/peft/phm_projection.h"

namespace graft {
namespace {

constexpr double kBertDeviation = 0.02, kHoulsbyDeviation = 0.01;
/// Of rules that are not shared, in AdapterHub as in the original.
constexpr double kOwnRuleDeviation = 0.01;
/// Wider than this a bottleneck is a mistake, and would be allocated.
constexpr int64_t kWidest = 1 << 16;

struct MapSizes {
  int64_t in, out;
};

/// Makes one adapter's parts after another.
class BottleneckMaker {
 public:
  BottleneckMaker(AdapterBuilder& builder, const BottleneckPlan& plan)
      : builder_(builder),
        config_(plan.config),
        extras_(plan.extras),
        hidden_(builder.model().info().hidden_size),
        shared_key_(adapterhub_shared_key(builder.model(), extras_.adapter_name)) {}

  bool wants(const SublayerPlace& place) const {
    const auto& out = config_.leave_out;
    if (std::find(out.begin(), out.end(), place.layer) != out.end()) return false;
    switch (place.kind) {
      case SublayerKind::attention:
        return config_.mh_adapter;
      case SublayerKind::cross_attention:
        return config_.cross_adapter;
      default:
        return config_.output_adapter;
    }
  }

  void add(const SublayerPlace& place) {
    const std::string key = adapterhub_key(place.path, extras_.adapter_name);
    const int64_t size = size_of(place.layer);
    BottleneckParts parts;
    parts.activation = activation(config_.non_linearity);
    parts.dropout = config_.dropout;
    parts.parallel = config_.is_parallel;
    parts.swapped = adapterhub_swaps(place.path);
    parts.joined_before = config_.original_ln_before;
    parts.residual_before_norm = config_.adapter_residual_before_ln;
    parts.residual = residual();
    if (config_.ln_before) parts.norm_before = norm_before(key);
    if (config_.ln_after) parts.norm_after = norm(key + "adapter_norm_after");
    parts.down =
        projection(key + (config_.ln_before ? "adapter_down.1" : "adapter_down.0"), "down", {hidden_, size});
    parts.up = projection(key + "adapter_up", "up", {size, hidden_});
    scale(parts, key);
    drop(parts, place);
    builder_.hook(place.path,
                  std::shared_ptr<SublayerHook>(std::make_shared<BottleneckLayer>(std::move(parts))));
  }

 private:
  int64_t size_of(int64_t layer) const {
    Json factor = config_.reduction_factor;
    if (factor.is_object()) {
      const std::string own = std::to_string(layer);
      factor = factor.contains(own) ? factor[own] : factor.value("default", Json());
    }
    if (!factor.is_number() || !(factor.get<double>() > 0)) {
      throw UsageError("reduction_factor",
                       "{} (layer {}), expected a number above 0, or a mapping with default",
                       config_.reduction_factor.dump(), layer);
    }
    const int64_t size = bottleneck_size(hidden_, factor.get<double>());
    if (size > kWidest)
      throw UsageError("reduction_factor", "{}: a bottleneck of {}, expected at most {}", factor.dump(), size,
                       kWidest);
    return size;
  }

  BottleneckParts::Residual residual() const {
    using Residual = BottleneckParts::Residual;
    if (config_.residual_before_ln == Json(true) || !config_.original_ln_before) return Residual::output;
    return config_.residual_before_ln == Json(false) ? Residual::normed : Residual::stream;
  }

  AdapterNorm norm(const std::string& key) {
    return {builder_.train(key + ".weight", builder_.ones({hidden_})),
            builder_.train(key + ".bias", builder_.zeros({hidden_}))};
  }

  /// AdapterHub's file holds this norm a second time, as a part of the way down.
  AdapterNorm norm_before(const std::string& key) {
    AdapterNorm made = norm(key + "adapter_norm_before");
    builder_.keep(key + "adapter_down.0.weight", made.weight);
    builder_.keep(key + "adapter_down.0.bias", made.bias);
    return made;
  }

  void scale(BottleneckParts& parts, const std::string& key) {
    if (config_.scaling.is_number()) {
      parts.scale = config_.scaling.get<double>();
    } else if (config_.scaling == Json("learned") || config_.scaling == Json("channel")) {
      parts.trained_scale =
          builder_.train(key + "scaling", builder_.ones({config_.scaling == Json("learned") ? 1 : hidden_}));
    } else {
      throw UsageError("scaling", "{}, expected a number, learned or channel", config_.scaling.dump());
    }
  }

  void drop(BottleneckParts& parts, const SublayerPlace& place) {
    if (!extras_.random_drop) return;
    if (*extras_.random_drop < 0)
      throw UsageError("method.random_drop", "{}, expected at least 0", *extras_.random_drop);
    auto& state = drops_[place.in_decoder ? 1 : 0];
    parts.draws = !state;
    if (!state) state = std::make_shared<RandomDrop>(RandomDrop{*extras_.random_drop, 0});
    parts.drop = state;
    parts.layer = place.layer_of_stack;
  }

  Tensor first_weight(const std::string& key, const MapSizes& sizes, bool up) const {
    const std::vector<int64_t> shape{sizes.out, sizes.in};
    if (config_.init_weights == "mam_adapter") {
      return up ? builder_.zeros(shape)
                : builder_.uniform(key, shape, 1 / std::sqrt(static_cast<double>(sizes.in)));
    }
    if (config_.init_weights == "bert") return builder_.normal(key, shape, kBertDeviation);
    // A normal distribution cut at two deviations: the inverse of its distribution function over uniform
    // draws.
    const double kept = std::erf(2 / std::sqrt(2.0));
    return at::erfinv(builder_.uniform(key, shape, kept)) * (std::sqrt(2.0) * kHoulsbyDeviation);
  }

  std::shared_ptr<Projection> projection(const std::string& key, const std::string& name,
                                         const MapSizes& sizes) {
    if (config_.phm_layer) return phm(key, name, sizes);
    const std::string weight = key + ".weight";
    const Tensor first = builder_.train(weight, first_weight(weight, sizes, name == "up"));
    return std::make_shared<LinearProjection>(first,
                                              builder_.train(key + ".bias", builder_.zeros({sizes.out})));
  }

  std::shared_ptr<Projection> phm(const std::string& key, const std::string& name, const MapSizes& sizes) {
    const int64_t n = config_.phm_dim;
    if (sizes.in % n != 0 || sizes.out % n != 0) {
      throw UsageError("phm_dim",
                       "{} does not divide {} and {}, expected a divisor of hidden size and bottleneck", n,
                       sizes.in, sizes.out);
    }
    const PhmFactor rule = this->rule(config_.shared_phm_rule ? shared_key_ : key + ".");
    const PhmFactor weight =
        second_factor(config_.shared_W_phm ? shared_key_ + "W_" + name : key + ".W", sizes);
    const Tensor bias = config_.phm_bias ? builder_.train(key + ".b", builder_.zeros({sizes.out})) : Tensor();
    return std::make_shared<PhmProjection>(rule, weight, bias);
  }

  /// The tensor of this key: made where it is new.
  template <class Make>
  Tensor once(const std::string& key, bool trained, Make make) {
    const auto found = made_.find(key);
    if (found != made_.end()) return found->second;
    const Tensor first = make();
    if (!trained) builder_.keep(key, first);
    return made_[key] = trained ? builder_.train(key, first) : first;
  }

  PhmFactor rule(const std::string& prefix) {
    const int64_t n = config_.phm_dim;
    const double own = config_.phm_c_init == "uniform" ? 1.0 : config_.phm_init_range;
    const double range = config_.shared_phm_rule ? own : kOwnRuleDeviation;
    const auto make = [&](const std::string& name, const std::vector<int64_t>& shape) {
      const std::string key = prefix + name;
      return once(key, config_.learn_phm, [&] {
        return config_.phm_c_init == "uniform" ? builder_.uniform(key, shape, range)
                                               : builder_.normal(key, shape, range);
      });
    };
    if (!config_.factorized_phm_rule) return {make("phm_rule", {n, n, n}), {}};
    return {make("phm_rule_left", {n, n, 1}), make("phm_rule_right", {n, 1, n})};
  }

  PhmFactor second_factor(const std::string& key, const MapSizes& sizes) {
    const int64_t n = config_.phm_dim, in = sizes.in / n, out = sizes.out / n, k = config_.phm_rank;
    if (!config_.factorized_phm_W) return {factor(key, {n, in, out}), {}};
    return {factor(key + "_left", {n, in, k}), factor(key + "_right", {n, k, out})};
  }

  Tensor factor(const std::string& key, const std::vector<int64_t>& shape) {
    // Glorot's, with the original's gain of √2.
    const auto sum = static_cast<double>(shape[1] + shape[2]);
    const std::string& kind = config_.hypercomplex_nonlinearity;
    Tensor made = once(key, true, [&] {
      if (kind == "normal") return builder_.normal(key, shape, config_.phm_init_range);
      if (kind == "glorot-uniform") return builder_.uniform(key, shape, std::sqrt(12 / sum));
      return builder_.normal(key, shape, std::sqrt(4 / sum));
    });
    if (made.sizes().vec() != shape)
      throw UsageError("shared_W_phm", "layers with bottlenecks of different widths, expected one width");
    return made;
  }

  AdapterBuilder& builder_;
  const BottleneckConfig& config_;
  const BottleneckExtras& extras_;
  int64_t hidden_;
  std::string shared_key_;
  std::map<std::string, Tensor> made_;
  std::shared_ptr<RandomDrop> drops_[2];
};

}  // namespace

int64_t bottleneck_size(int64_t hidden, double factor) {
  const auto width = static_cast<double>(hidden);
  // As Python divides: exactly, then down.
  const double size = std::round((width - std::fmod(width, factor)) / factor);
  return size < 1 ? 1 : static_cast<int64_t>(std::min(size, 1e15));
}

void add_bottlenecks(AdapterBuilder& builder, const BottleneckPlan& plan) {
  BottleneckMaker maker(builder, plan);
  const auto places = sublayer_places(builder.model());
  for (const SublayerPlace& place : places) {
    if (maker.wants(place)) maker.add(place);
  }
  if (builder.adapter().sublayers.empty()) {
    throw UsageError(
        "method",
        "no layer gets an adapter, expected mh_adapter, output_adapter or cross_adapter, and leave_out "
        "or drop_layers short of all {} places",
        places.size());
  }
}

}  // namespace graft
