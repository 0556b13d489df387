#include "graft/ops/adapted_linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "graft/ops/few_values.h"
#include "graft/ops/types.h"

namespace graft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// What a pass keeps of a map beside tensors that autograd knows.
struct Map {
  PackedWeight weight = {};
  Tensor bias = {};
  bool updated = false, own_rows = false;  // own_rows: the update reads other rows than the map's
  double scale = 1;
  PackedLowRank factors = {};
};

struct Maps : torch::CustomClassHolder {
  std::vector<Map> list;
};

/// The tensors of a pass in autograd's order: x, then of each update its rows (where they are its own), A, B.
struct Places {
  struct Place {
    size_t rows = 0, a = 0, b = 0;
  };
  std::vector<Place> of;
  size_t count = 1;

  explicit Places(const std::vector<Map>& maps) {
    for (const Map& map : maps) {
      Place place;
      if (map.updated) {
        if (map.own_rows) place.rows = count++;
        place.a = count++, place.b = count++;
      }
      of.push_back(place);
    }
  }
};

/// columns [n, r] as panels, r in whole lanes.
Tensor units_of(const Tensor& columns, at::ScalarType type) {
  return pack_units(padded_lanes(columns).to(type));
}

/// Few rows wait for A as they do for the weights: it is read as these are.
void pack_forward(PackedLowRank& factors, const LowRankUpdate& update, at::ScalarType type, bool few) {
  const at::NoGradGuard no_grad;
  const auto& [in, a, b, scale, packed] = update;
  factors.renew(a, b, scale, type);
  if (few && !factors.few_down.defined()) {
    const Tensor padded = at::constant_pad_nd(a, {0, 0, 0, lanes(a.size(0)) - a.size(0)}, 0);
    factors.few_down = pack_units(padded.to(type));
  }
  if (!few && !factors.down.defined()) factors.down = packed_side(a, true, type);
  if (!factors.up_units.defined()) factors.up_units = units_of(b * scale, type);
}

void pack_backward(PackedLowRank& factors, const Tensor& a, const Tensor& b, double scale,
                   at::ScalarType type) {
  factors.renew(a, b, scale, type);
  factors.up_side = packed_side(b * scale, false, type);
  factors.down_units = units_of(a.t(), type);
}

std::vector<Tensor> forward_products(const Tensor& x, const std::vector<Map>& maps,
                                     const std::vector<Tensor>& lows) {
  std::vector<PanelSum> sums;
  for (size_t i = 0; i < maps.size(); ++i) {
    PanelSum sum{.columns = maps[i].weight.source.size(0), .bias = maps[i].bias};
    sum.terms.push_back({x, maps[i].weight.forward});
    if (maps[i].updated) sum.terms.push_back({to_type(lows[i], x.scalar_type()), maps[i].factors.up_units});
    sums.push_back(std::move(sum));
  }
  return panel_sums(sums);
}

/// What was found for the updates, one after the other, in their maps' places.
std::vector<Tensor> by_map(const std::vector<Map>& maps, const std::vector<Tensor>& found) {
  std::vector<Tensor> out(maps.size());
  for (size_t i = 0, next = 0; i < maps.size(); ++i) {
    if (maps[i].updated) out[i] = found[next++];
  }
  return out;
}

/// Each update's rows · Aᵀ.
std::vector<Tensor> low_rows(const Tensor& x, const std::vector<Map>& maps, const Places& places,
                             at::TensorList inputs) {
  std::vector<LowRankRows> wanted;
  for (size_t i = 0; i < maps.size(); ++i) {
    if (!maps[i].updated) continue;
    const auto& [rows, a, b] = places.of[i];
    wanted.push_back({rows ? inputs[rows].contiguous() : x, maps[i].factors.down, inputs[a].size(0)});
  }
  return by_map(maps, low_rank_rows(wanted));
}

/// The same of few rows, in their type.
std::vector<Tensor> few_low_rows(const Tensor& x, const std::vector<Map>& maps, const Places& places,
                                 at::TensorList inputs) {
  std::vector<PanelSum> wanted;
  for (size_t i = 0; i < maps.size(); ++i) {
    if (!maps[i].updated) continue;
    const auto& [rows, a, b] = places.of[i];
    wanted.push_back({.terms = {{rows ? inputs[rows].contiguous() : x, maps[i].factors.few_down}},
                      .columns = lanes(inputs[a].size(0))});
  }
  return by_map(maps, panel_sums(wanted));
}

class AdaptedLinearOp : public torch::autograd::Function<AdaptedLinearOp> {
 public:
  static variable_list forward(AutogradContext* ctx, at::TensorList inputs,
                               const c10::intrusive_ptr<Maps>& maps) {
    const Places places(maps->list);
    const Tensor x = inputs[0].contiguous();
    const std::vector<Tensor> lows = low_rows(x, maps->list, places, inputs);
    variable_list saved = inputs.vec();
    saved[0] = reads_rows(*maps) ? x : Tensor();
    saved.insert(saved.end(), lows.begin(), lows.end());
    ctx->save_for_backward(saved);
    ctx->saved_data["maps"] = c10::IValue::make_capsule(maps);
    return forward_products(x, maps->list, lows);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto maps = c10::static_intrusive_pointer_cast<Maps>(ctx->saved_data["maps"].toCapsule());
    const Places places(maps->list);
    const variable_list saved = ctx->get_saved_variables();
    variable_list out(places.count + 1);
    for (Tensor& gradient : gradients) gradient = gradient.contiguous();
    const std::vector<Tensor> d_lows = low_gradients(*maps, gradients, saved, places);
    factor_gradients(ctx, *maps, gradients, saved, places, d_lows, out);
    row_gradients(ctx, *maps, gradients, places, d_lows, out);
    return out;
  }

 private:
  /// Whether the backward pass reads x: A's gradient does.
  static bool reads_rows(const Maps& maps) {
    return std::any_of(maps.list.begin(), maps.list.end(),
                       [](const Map& map) { return map.updated && !map.own_rows; });
  }

  /// Of each x Aᵀ, times the scale.
  static std::vector<Tensor> low_gradients(Maps& maps, const variable_list& gradients,
                                           const variable_list& saved, const Places& places) {
    std::vector<LowRankRows> wanted;
    for (size_t i = 0; i < maps.list.size(); ++i) {
      Map& map = maps.list[i];
      if (!map.updated) continue;
      const Tensor &a = saved[places.of[i].a], &b = saved[places.of[i].b];
      pack_backward(map.factors, a, b, map.scale, gradients[i].scalar_type());
      wanted.push_back({gradients[i], map.factors.up_side, b.size(1)});
    }
    return by_map(maps.list, low_rank_rows(wanted));
  }

  static void factor_gradients(AutogradContext* ctx, const Maps& maps, const variable_list& gradients,
                               const variable_list& saved, const Places& places,
                               const std::vector<Tensor>& d_lows, variable_list& out) {
    std::vector<LowRankSum> wanted;
    for (size_t i = 0; i < maps.list.size(); ++i) {
      if (!maps.list[i].updated) continue;
      const auto& [rows, a, b] = places.of[i];
      if (ctx->needs_input_grad(a)) wanted.push_back({d_lows[i], saved[rows].contiguous(), saved[a].size(0)});
      if (ctx->needs_input_grad(b))
        wanted.push_back({saved[places.count + i], gradients[i], saved[b].size(1)});
    }
    const std::vector<Tensor> found = low_rank_sums(wanted);
    for (size_t i = 0, next = 0; i < maps.list.size(); ++i) {
      if (!maps.list[i].updated) continue;
      const auto& [rows, a, b] = places.of[i];
      if (ctx->needs_input_grad(a)) out[a] = found[next++].contiguous();
      if (ctx->needs_input_grad(b)) out[b] = found[next++].t().mul(maps.list[i].scale);
    }
  }

  static void row_gradients(AutogradContext* ctx, const Maps& maps, const variable_list& gradients,
                            const Places& places, const std::vector<Tensor>& d_lows, variable_list& out) {
    std::vector<PanelSum> sums;
    std::vector<size_t> wanted;
    const int64_t columns = maps.list[0].weight.source.size(1);
    const auto narrow = [&](size_t i) {
      return PanelTerm{d_lows[i].to(gradients[i].scalar_type()), maps.list[i].factors.down_units};
    };
    if (ctx->needs_input_grad(0)) {
      PanelSum sum{.columns = columns};
      for (size_t i = 0; i < maps.list.size(); ++i) {
        sum.terms.push_back(gradient_term(gradients[i], maps.list[i].weight));
        if (maps.list[i].updated && !maps.list[i].own_rows) sum.terms.push_back(narrow(i));
      }
      sums.push_back(std::move(sum));
      wanted.push_back(0);
    }
    for (size_t i = 0; i < maps.list.size(); ++i) {
      if (!maps.list[i].own_rows || !ctx->needs_input_grad(places.of[i].rows)) continue;
      sums.push_back({.terms = {narrow(i)}, .columns = columns});
      wanted.push_back(places.of[i].rows);
    }
    const std::vector<Tensor> found = panel_sums(sums);
    for (size_t i = 0; i < found.size(); ++i) out[wanted[i]] = found[i];
  }
};

/// Panels for every weight, few enough terms for the kernels, and nothing that needs a gradient of its own.
bool has_fast_form(const Tensor& x, const std::vector<AdaptedLinear>& maps) {
  if (!has_kernels(x) || x.dim() != 2 || x.size(0) == 0) return false;
  const auto whole = [&](int64_t n) { return n * x.element_size() % 4 == 0; };
  return 2 * maps.size() <= kMostTerms && whole(x.size(1)) &&
         std::all_of(maps.begin(), maps.end(), [&](const AdaptedLinear& map) {
           const bool factors = !map.update || (map.update->a.scalar_type() == at::kFloat &&
                                                map.update->b.scalar_type() == at::kFloat);
           return map.int8 == nullptr && goes_in_panels(x, map.weight) && !wants_gradient(map.bias) &&
                  factors && whole(map.weight.size(0));
         });
}

/// Keeps what is packed where the caller has a place for it: of factors only where they stay as they are.
Map packed_map(const AdaptedLinear& map, const Tensor& x, bool to_rows, bool gradient) {
  PackedWeight own;
  PackedWeight& weight = map.packed ? *map.packed : own;
  pack_weight(weight, map.weight, x, {.backward = to_rows});
  Map out{.weight = weight, .bias = map.bias};
  if (!map.update) return out;
  const LowRankUpdate& update = *map.update;
  PackedLowRank fresh;
  PackedLowRank& factors = update.packed && !gradient ? *update.packed : fresh;
  pack_forward(factors, update, x.scalar_type(), !gradient && x.size(0) <= kFewRows);
  out.updated = true, out.own_rows = update.in.defined(), out.scale = update.scale, out.factors = factors;
  return out;
}

/// The maps in 8 bits together, the others one after the other; `terms` of the first.
std::vector<Tensor> base_outputs(const Tensor& x, const std::vector<AdaptedLinear>& maps,
                                 const std::vector<LowRankTerm>& terms) {
  std::vector<Int8Linear> rounded;
  std::vector<Tensor> out;
  for (size_t i = 0; i < maps.size(); ++i) {
    const AdaptedLinear& map = maps[i];
    PackedWeight own;
    if (map.int8) rounded.push_back({map.weight, map.bias, map.int8, terms[i]});
    out.push_back(map.int8 ? Tensor()
                           : frozen_linear(x, map.weight, map.bias, map.packed ? *map.packed : own));
  }
  if (rounded.empty()) return out;
  const std::vector<Tensor> found = int8_linears(x, rounded);
  auto next = found.begin();
  for (Tensor& y : out) {
    if (!y.defined()) y = *next++;
  }
  return out;
}

std::vector<Tensor> one_by_one(const Tensor& x, const std::vector<AdaptedLinear>& maps) {
  std::vector<Tensor> out = base_outputs(x, maps, std::vector<LowRankTerm>(maps.size()));
  for (size_t i = 0; i < maps.size(); ++i) {
    if (!maps[i].update) continue;
    const auto& [in, a, b, scale, packed] = *maps[i].update;
    PackedLowRank own;
    out[i] = low_rank_add(out[i], in.defined() ? in : x, a, b, scale, packed ? *packed : own);
  }
  return out;
}

/// Few rows in 8 bits of which nobody wants a gradient: updates join while their outputs are at hand.
bool few_terms_suffice(const Tensor& x, const std::vector<AdaptedLinear>& maps) {
  const auto even = [&](int64_t n) { return n % 2 == 0 || x.scalar_type() == at::kFloat; };
  return has_kernels(x) && x.dim() == 2 && x.size(0) > 0 && x.size(0) <= kFewRows && !wants_gradient(x) &&
         even(x.size(1)) && std::all_of(maps.begin(), maps.end(), [&](const AdaptedLinear& map) {
           if (!map.int8 || wants_gradient(map.bias)) return false;
           if (!map.update) return true;
           const auto& [in, a, b, scale, packed] = *map.update;
           return even(b.size(0)) && a.scalar_type() == at::kFloat && b.scalar_type() == at::kFloat &&
                  !wants_gradient(in) && !wants_gradient(a) && !wants_gradient(b);
         });
}

std::vector<Tensor> with_terms(const Tensor& x, const std::vector<AdaptedLinear>& maps) {
  const at::NoGradGuard no_grad;
  const Tensor rows = x.contiguous();
  std::vector<LowRankTerm> terms(maps.size());
  std::vector<LowRankRows> wanted;
  for (size_t i = 0; i < maps.size(); ++i) {
    if (!maps[i].update) continue;
    const auto& [in, a, b, scale, packed] = *maps[i].update;
    PackedLowRank own;
    PackedLowRank& factors = packed ? *packed : own;
    factors.pack(a, b, scale, x.scalar_type());
    wanted.push_back({in.defined() ? in.contiguous() : rows, factors.down, a.size(0)});
    terms[i] = {{}, factors.up, scale};
  }
  const std::vector<Tensor> lows = low_rank_rows(wanted);
  for (size_t i = 0, next = 0; i < maps.size(); ++i) {
    if (maps[i].update) terms[i].low = lows[next++];
  }
  return base_outputs(rows, maps, terms);
}

}  // namespace

std::vector<Tensor> adapted_linears(const Tensor& x, const std::vector<AdaptedLinear>& maps) {
  if (!has_fast_form(x, maps)) return few_terms_suffice(x, maps) ? with_terms(x, maps) : one_by_one(x, maps);
  std::vector<Tensor> inputs = {x};
  bool gradient = wants_gradient(x);
  for (const AdaptedLinear& map : maps) {
    if (!map.update) continue;
    if (map.update->in.defined()) inputs.push_back(map.update->in);
    inputs.insert(inputs.end(), {map.update->a, map.update->b});
  }
  for (const Tensor& input : inputs) gradient = gradient || wants_gradient(input);
  auto held = c10::make_intrusive<Maps>();
  for (const AdaptedLinear& map : maps) held->list.push_back(packed_map(map, x, wants_gradient(x), gradient));
  if (gradient) return AdaptedLinearOp::apply(at::TensorList(inputs), held);
  const at::NoGradGuard no_grad;
  const Tensor rows = x.contiguous();
  const Places places(held->list);
  return forward_products(rows, held->list,
                          rows.size(0) <= kFewRows ? few_low_rows(rows, held->list, places, inputs)
                                                   : low_rows(rows, held->list, places, inputs));
}

std::vector<Tensor> adapted_linears_plain(const Tensor& x, const std::vector<AdaptedLinear>& maps) {
  std::vector<Tensor> out;
  for (const AdaptedLinear& map : maps) {
    Tensor y = frozen_linear_plain(x, map.weight, map.bias);
    if (map.update) {
      const auto& [in, a, b, scale, packed] = *map.update;
      y = low_rank_add_plain(y, in.defined() ? in : x, a, b, scale);
    }
    out.push_back(y);
  }
  return out;
}

}  // namespace graft::ops
