#include "graft/peft/lora_init.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "graft/base/error.h"

namespace graft {
namespace {

constexpr const char* kNiter = "pissa_niter_";

/// N of "pissa_niter_N"; nothing for any other value.
std::optional<int64_t> iterations_of(const Json& init) {
  if (!init.is_string()) return {};
  const std::string text = init.get<std::string>();
  const std::string digits = text.starts_with(kNiter) ? text.substr(std::string(kNiter).size()) : "";
  if (digits.empty() || digits.size() > 4 || digits.find_first_not_of("0123456789") != std::string::npos)
    return {};
  return std::stoll(digits);
}

/// Errors: DataError for a weight that has no directions to start from.
Tensor finite_weight(const LoraSpot& spot) {
  Tensor weight = widened(spot.linear.weight->base);
  if (!weight.isfinite().all().item<bool>())
    throw DataError("init_lora_weights", "{}.weight has values that are not finite, expected a sound model",
                    spot.path);
  return weight;
}

Tensor random_matrix(RandomStream& stream, int64_t rows, int64_t columns, at::ScalarType type) {
  Tensor values = at::empty({rows, columns}, at::kDouble);
  double* out = values.data_ptr<double>();
  for (int64_t i = 0; i < values.numel(); ++i) out[i] = stream.normal();
  return values.to(type);
}

/// U √(S / s) and √(S / s) Vᵀ: their product times s is the strongest part of the weight.
void start_pissa(const LoraSpot& spot, const Json& init, LoraTensors& lora) {
  const Tensor weight = finite_weight(spot);
  LowRankSvd parts;
  if (const auto iterations = iterations_of(init)) {
    parts = low_rank_svd(weight, spot.r, *iterations, spot.path);
  } else {
    const auto [u, s, vt] = at::linalg_svd(weight, false);
    parts = {u.narrow(1, 0, spot.r), s.narrow(0, 0, spot.r), vt.narrow(0, 0, spot.r)};
  }
  const Tensor root = (parts.s / lora.scale).sqrt();
  lora.a0 = (root.unsqueeze(1) * parts.vt).contiguous();
  lora.b0 = (parts.u * root).contiguous();
}

void start_olora(const LoraSpot& spot, LoraTensors& lora) {
  const auto [q, r] = at::linalg_qr(finite_weight(spot));
  lora.a0 = r.narrow(0, 0, spot.r).contiguous();
  lora.b0 = q.narrow(1, 0, spot.r).contiguous();
}

/// A from the even, B from the odd rows of one orthogonal matrix: B A is zero, neither of them is.
void start_orthogonal(AdapterBuilder& builder, const LoraSpot& spot, Tensor& a, Tensor& b) {
  if (spot.r % 2 != 0)
    throw UsageError("r", "{} with init_lora_weights orthogonal, expected an even rank", spot.r);
  const std::string key = file_key(spot.path);
  const auto q = std::get<0>(at::linalg_qr(builder.normal(key + ".lora_Q", {spot.r, spot.r}, 1)));
  const Tensor left = builder.normal(key + ".lora_A", {spot.linear.in(), spot.r / 2}, 0.1);
  const Tensor right = builder.normal(key + ".lora_B", {spot.linear.out(), spot.r / 2}, 0.1);
  a = at::matmul(left, q.slice(0, 0, spot.r, 2)).t();
  b = at::matmul(right, q.slice(0, 1, spot.r, 2));
}

double doubled(const Json& value, double factor) {
  double number = 0;
  read_value(value, number, "pattern");
  return number * factor;
}

Json as_number(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e9) return static_cast<int64_t>(value);
  return value;
}

}  // namespace

bool starts_from_weight(const Json& init) {
  return init == Json("pissa") || init == Json("olora") || iterations_of(init).has_value();
}

Check<Json> lora_init_check() {
  return {[](const Check<Json>& check, const Json& value) {
            return starts_from_weight(value) ||
                   std::find(check.choices.begin(), check.choices.end(), value) != check.choices.end();
          },
          {},
          {},
          {true, false, "gaussian", "orthogonal", "eva"},
          "true, false, gaussian, orthogonal, eva, pissa, pissa_niter_N or olora"};
}

LowRankSvd low_rank_svd(const Tensor& matrix, int64_t r, int64_t iterations, const std::string& name) {
  const at::NoGradGuard no_grad;
  // Not the run's seed: who reads a file must find the same directions.
  RandomStream stream(0, name + ".subspace");
  const auto basis = [](const Tensor& x) { return std::get<0>(at::linalg_qr(x)); };
  Tensor q = basis(at::matmul(matrix, random_matrix(stream, matrix.size(1), r, matrix.scalar_type())));
  for (int64_t i = 0; i < iterations; ++i) q = basis(at::matmul(matrix, basis(at::matmul(matrix.t(), q))));
  const auto [u, s, vt] = at::linalg_svd(at::matmul(q.t(), matrix), false);
  return {at::matmul(q, u), s, vt};
}

void start_lora(AdapterBuilder& builder, const LoraConfig& config, const LoraSpot& spot, LoraTensors& lora) {
  const at::NoGradGuard no_grad;
  const std::string a_key = file_key(spot.path + ".lora_A.weight"),
                    b_key = file_key(spot.path + ".lora_B.weight");
  const Json& init = config.init_lora_weights;
  const int64_t in = spot.linear.in(), out = spot.linear.out();
  Tensor a, b;
  if (starts_from_weight(init)) {
    if (spot.r > std::min(in, out)) {
      throw UsageError("r", "{} at {} [{}, {}], expected at most the smaller side with init_lora_weights {}",
                       spot.r, spot.path, out, in, init.dump());
    }
    if (init == Json("olora")) {
      start_olora(spot, lora);
    } else {
      start_pissa(spot, init, lora);
    }
    a = lora.a0;
    b = lora.b0;
  } else if (init == Json("orthogonal") && !builder.from_file()) {
    start_orthogonal(builder, spot, a, b);
  } else {
    const auto rank = static_cast<double>(spot.r);
    a = init == Json("gaussian")
            ? builder.normal(a_key, {spot.r, in}, 1 / rank)
            : builder.uniform(a_key, {spot.r, in}, 1 / std::sqrt(static_cast<double>(in)));
    b = init == Json(false) ? builder.uniform(b_key, {out, spot.r}, 1 / std::sqrt(rank))
                            : builder.zeros({out, spot.r});
  }
  lora.a = builder.train(a_key, a);
  lora.b = builder.train(b_key, b);
}

void convert_to_plain(const std::map<std::string, LoraTensors>& maps, TensorMap& tensors, Json& config) {
  const bool rooted = config.value("use_rslora", false);
  for (const auto& [path, lora] : maps) {
    Tensor& a = tensors.at(file_key(path + ".lora_A.weight"));
    Tensor& b = tensors.at(file_key(path + ".lora_B.weight"));
    a = at::cat({a, lora.a0.to(a.scalar_type())}, 0);
    b = at::cat({b, -lora.b0.to(b.scalar_type())}, 1);
  }
  // Updates of embeddings have no initial values; they take the new rank with zeros.
  for (auto& [key, tensor] : tensors) {
    if (key.ends_with(".lora_embedding_A")) tensor = at::cat({tensor, at::zeros_like(tensor)}, 0);
    if (key.ends_with(".lora_embedding_B")) tensor = at::cat({tensor, at::zeros_like(tensor)}, 1);
  }
  const double alpha_factor = rooted ? std::sqrt(2.0) : 2.0;  // the scale stays as it is
  config["r"] = as_number(doubled(config["r"], 2));
  config["lora_alpha"] = as_number(doubled(config["lora_alpha"], alpha_factor));
  for (auto& [key, value] : config["rank_pattern"].items()) value = as_number(doubled(value, 2));
  for (auto& [key, value] : config["alpha_pattern"].items()) value = as_number(doubled(value, alpha_factor));
  config["init_lora_weights"] = true;
}

}  // namespace graft
