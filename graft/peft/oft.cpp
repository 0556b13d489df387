#include "graft/peft/oft.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "graft/base/log.h"
#include "graft/peft/adapt_linears.h"
#include "graft/peft/delta_linear.h"

namespace graft {
namespace {

struct OftConfig : TargetedConfig {
  int64_t r = 0, oft_block_size = 32, num_cayley_neumann_terms = 5;
  double module_dropout = 0, eps = 6e-5;
  bool fan_in_fan_out = false, init_weights = true, coft = false, block_share = false,
       use_cayley_neumann = true;
  std::string bias = "none";

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    TargetedConfig::fields(self, visit);
    visit("r", self.r, "number of blocks; 0: by oft_block_size", at_least<int64_t>(0));
    visit("oft_block_size", self.oft_block_size, "size of a block; 0: by r", at_least<int64_t>(0));
    visit("num_cayley_neumann_terms", self.num_cayley_neumann_terms, "terms of the series",
          at_least<int64_t>(1));
    visit("module_dropout", self.module_dropout, "without effect, as in PEFT", between(0.0, 1.0));
    visit("eps", self.eps, "with coft: how far a block may turn", at_least(0.0));
    visit("fan_in_fan_out", self.fan_in_fan_out,
          "the file holds the base's weight as [in, out]; set by the model");
    visit("init_weights", self.init_weights, "rotations start as the identity");
    visit("coft", self.coft, "keeps every block close to the identity");
    visit("block_share", self.block_share, "one block for all");
    visit("use_cayley_neumann", self.use_cayley_neumann, "a series in place of the exact Cayley transform");
    visit("bias", self.bias, "which biases of the base are trained too", one_of({"none", "all", "oft_only"}));
  }
};

struct OftRotation {
  int64_t block = 0, terms = 0;
  bool series = true, constrained = false;
  double eps = 0;
};

/// The strict upper triangles [n, b(b-1)/2] as skew matrices [n, b, b].
Tensor skew(const Tensor& triangles, int64_t block) {
  const Tensor places = at::triu_indices(block, block, 1);
  const Tensor flat = places[0] * block + places[1];
  const Tensor upper =
      at::zeros({triangles.size(0), block * block}, triangles.options()).index_copy(1, flat, triangles);
  const Tensor square = upper.view({-1, block, block});
  return square - square.transpose(1, 2);
}

/// I + 2 (Q + Q² + …) + Q^(K-1): what approximates (I + Q)(I - Q)⁻¹; three terms count as four, as in PEFT.
Tensor series_rotation(const Tensor& q, int64_t terms) {
  Tensor r = at::eye(q.size(1), q.options()).expand_as(q);
  if (terms == 1) return r;
  r = r + 2 * q;
  if (terms == 2) return r;
  Tensor power = at::bmm(q, q);
  r = r + 2 * power;
  for (int64_t i = 3; i < terms - 1; ++i) {
    power = at::bmm(power, q);
    r = r + 2 * power;
  }
  return r + at::bmm(power, q);
}

/// x' = x · blockdiag(R), each block from its own skew matrix.
class OftLinear : public RotatedLinear {
 public:
  OftLinear(Tensor triangles, OftRotation rotation) : triangles_(std::move(triangles)), rotation_(rotation) {}

 protected:
  Tensor rotated(const Tensor& x, RandomStream*) const override {
    if (rotation_.constrained) constrain();
    const Tensor q = skew(triangles_, rotation_.block);
    const Tensor blocks = rotation_.series ? series_rotation(q, rotation_.terms) : exact(q);
    const Tensor split = x.view({x.size(0), -1, rotation_.block}).transpose(0, 1);  // [n, T, b]
    const Tensor turned = at::matmul(split, blocks.expand({split.size(0), -1, -1}));
    return turned.transpose(0, 1).reshape(x.sizes());
  }

 private:
  /// (I - Q)(I + Q)⁻¹.
  static Tensor exact(const Tensor& q) {
    const Tensor identity = at::eye(q.size(1), q.options()).expand_as(q);
    return at::linalg_solve(identity + q, identity - q, /*left=*/false);
  }
  /// Projects the stored triangles: ‖Q‖ of a block at most eps / √blocks.
  void constrain() const {
    const at::NoGradGuard no_grad;
    const double limit = rotation_.eps / std::sqrt(static_cast<double>(triangles_.size(0)));
    const Tensor norms = skew(triangles_, rotation_.block).flatten(1).norm(2, {1}, true);
    Tensor stored = triangles_;
    stored.copy_(at::where(norms <= limit, stored, stored * (limit / norms)));
  }
  Tensor triangles_;
  OftRotation rotation_;
};

/// The divisor of `in` next to `wanted`; the lower one of two.
int64_t fitting_block(int64_t in, int64_t wanted) {
  for (int64_t away = 0; away < in; ++away) {
    if (wanted - away > 0 && in % (wanted - away) == 0) return wanted - away;
    if (wanted + away <= in && in % (wanted + away) == 0) return wanted + away;
  }
  return in;
}

int64_t block_size(const OftConfig& config, const std::string& path, int64_t in) {
  if ((config.r == 0) == (config.oft_block_size == 0)) {
    throw UsageError("oft_block_size", "{} with r {}, expected exactly one of them above 0",
                     config.oft_block_size, config.r);
  }
  const int64_t wanted =
      config.r == 0 ? std::min(config.oft_block_size, in) : in / fitting_block(in, std::min(config.r, in));
  const int64_t block = fitting_block(in, wanted);
  if (config.r == 0 && block != config.oft_block_size) {
    warn("{}: oft_block_size {} does not divide {}; {} is used", path, config.oft_block_size, in, block);
  }
  return block;
}

void adapt(AdapterBuilder& builder, const OftConfig& config, const std::string& path, const Linear& linear) {
  const int64_t block = block_size(config, path, linear.in());
  const int64_t blocks = config.block_share ? 1 : linear.in() / block;
  const std::string key = file_key(path + ".oft_R.weight");
  const std::vector<int64_t> shape = {blocks, block * (block - 1) / 2};
  const Tensor triangles =
      builder.train(key, config.init_weights ? builder.zeros(shape) : builder.normal(key, shape, 0.1));
  const OftRotation rotation{block, config.num_cayley_neumann_terms, config.use_cayley_neumann, config.coft,
                             config.eps};
  builder.hook(path, std::shared_ptr<LinearHook>(std::make_shared<OftLinear>(triangles, rotation)));
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  ConfigSource source(given);
  if (source.from_file && !source.json.contains("oft_block_size")) {
    throw UsageError("oft_block_size",
                     "not there, expected it: this file is of an older OFT that PEFT reads no more");
  }
  // One of the two sizes given means the other is not used.
  if (!source.from_file && source.json.contains("r") && !source.json.contains("oft_block_size")) {
    source.json["oft_block_size"] = 0;
  }
  return adapt_linears<OftConfig>({kOft, TargetColumn::lora}, source, model, seed, adapt);
}

}  // namespace

const TuningMethod kOft = {"oft", "OFT", create, method_help<OftConfig>};

}  // namespace graft
