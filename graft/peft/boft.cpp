#include "graft/peft/boft.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "graft/peft/adapt_linears.h"
#include "graft/peft/delta_linear.h"

namespace graft {
namespace {

struct BoftConfig : TargetedConfig {
  int64_t boft_block_size = 4, boft_block_num = 0, boft_n_butterfly_factor = 1;
  double boft_dropout = 0;
  bool fan_in_fan_out = false, init_weights = true;
  std::string bias = "none";

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    TargetedConfig::fields(self, visit);
    visit("boft_block_size", self.boft_block_size, "size of a block; 0: by boft_block_num",
          at_least<int64_t>(0));
    visit("boft_block_num", self.boft_block_num, "number of blocks; 0: by boft_block_size",
          at_least<int64_t>(0));
    visit("boft_n_butterfly_factor", self.boft_n_butterfly_factor, "how many rotations follow one another",
          at_least<int64_t>(1));
    visit("boft_dropout", self.boft_dropout, "blocks of one factor that are the identity", between(0.0, 1.0));
    visit("fan_in_fan_out", self.fan_in_fan_out,
          "the file holds the base's weight as [in, out]; set by the model");
    visit("init_weights", self.init_weights, "rotations start as the identity");
    visit("bias", self.bias, "which biases of the base are trained too",
          one_of({"none", "all", "boft_only"}));
  }
};

/// Rows of the block butterfly: within groups of in / groups rows, pieces of half a block at even places,
/// then those at odd places.
Tensor butterfly(int64_t in, int64_t groups, int64_t piece) {
  const int64_t group = in / groups;
  std::vector<int64_t> order;
  order.reserve(static_cast<size_t>(in));
  for (int64_t begin = 0; begin < in; begin += group) {
    for (const int64_t odd : {0, 1}) {
      for (int64_t start = odd * piece; start < group; start += 2 * piece) {
        for (int64_t i = 0; i < piece; ++i) order.push_back(begin + start + i);
      }
    }
  }
  return at::tensor(order, at::kLong);
}

/// ((x · Rot) Wᵀ) ⊙ s + b; Rot the product of P blockdiag(Q) Pᵀ, later factors on the left.
class BoftLinear : public RotatedLinear {
 public:
  BoftLinear(Tensor blocks, Tensor scale, std::vector<Tensor> orders, double dropout)
      : blocks_(std::move(blocks)), scale_(std::move(scale)), orders_(std::move(orders)), dropout_(dropout) {}

 protected:
  Tensor rotated(const Tensor& x, RandomStream* dropout) const override {
    const Tensor turns = dropped(rotations(), dropout);
    Tensor out = x;
    for (size_t i = orders_.size(); i-- > 0;) {
      out = turned(out, turns[static_cast<int64_t>(i)], orders_[i]);
    }
    return out;
  }
  Tensor output_scale() const override { return scale_.view({-1}); }

 private:
  /// Cayley transforms of the blocks' skew parts [m, n, b, b].
  Tensor rotations() const {
    const Tensor flat = blocks_.flatten(0, 1);
    const Tensor skew = 0.5 * (flat - flat.transpose(1, 2));
    const Tensor identity = at::eye(flat.size(1), flat.options()).expand_as(flat);
    return at::linalg_solve(identity + skew, identity - skew, /*left=*/false).view(blocks_.sizes());
  }
  /// x P blockdiag(Q) Pᵀ, (P v)[i] = v[order[i]].
  static Tensor turned(const Tensor& x, const Tensor& blocks, const Tensor& order) {
    const Tensor inverse = at::argsort(order);
    const Tensor split = x.index_select(1, inverse).view({x.size(0), blocks.size(0), blocks.size(1)});
    const Tensor product = at::matmul(split.transpose(0, 1), blocks).transpose(0, 1).reshape(x.sizes());
    return product.index_select(1, order);
  }
  Tensor dropped(const Tensor& turns, RandomStream* dropout) const {
    const auto count = static_cast<int64_t>(dropout_ * static_cast<double>(turns.size(1)));
    if (!dropout || count == 0) return turns;
    const auto factor = static_cast<int64_t>(dropout->below(static_cast<uint64_t>(turns.size(0))));
    std::vector<int64_t> blocks(static_cast<size_t>(turns.size(1)));
    for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<int64_t>(i);
    for (size_t i = blocks.size(); i > 1; --i) std::swap(blocks[i - 1], blocks[dropout->below(i)]);
    Tensor mask = at::zeros({turns.size(0), turns.size(1), 1, 1}, turns.options());
    for (int64_t i = 0; i < count; ++i) mask[factor][blocks[static_cast<size_t>(i)]] = 1;
    return (1 - mask) * turns + mask * at::eye(turns.size(3), turns.options());
  }

  Tensor blocks_;  // [m, in / b, b, b]
  Tensor scale_;   // [out, 1]
  std::vector<Tensor> orders_;
  double dropout_;
};

void check_butterfly(const BoftConfig& config, const std::string& path, int64_t blocks, int64_t size) {
  const int64_t extra = config.boft_n_butterfly_factor - 1;
  if (extra == 0) return;
  const bool fits = extra < 30 && blocks % (int64_t{1} << extra) == 0 && blocks % 2 == 0 && size % 2 == 0;
  if (!fits) {
    throw UsageError("boft_n_butterfly_factor",
                     "{} for {} blocks of {} at {}, expected an even block size and blocks that 2^{} divides",
                     config.boft_n_butterfly_factor, blocks, size, path, extra);
  }
}

void adapt(AdapterBuilder& builder, const BoftConfig& config, const std::string& path, const Linear& linear) {
  if ((config.boft_block_size == 0) == (config.boft_block_num == 0)) {
    throw UsageError("boft_block_size", "{} with boft_block_num {}, expected exactly one of them above 0",
                     config.boft_block_size, config.boft_block_num);
  }
  const int64_t divisor = std::max(config.boft_block_size, config.boft_block_num);
  if (linear.in() % divisor != 0) {
    throw UsageError("boft_block_size", "{} for {} with {} inputs, expected a divisor of them", divisor, path,
                     linear.in());
  }
  const int64_t size = config.boft_block_size ? config.boft_block_size : linear.in() / config.boft_block_num;
  const int64_t blocks = linear.in() / size, factors = config.boft_n_butterfly_factor;
  check_butterfly(config, path, blocks, size);
  std::vector<Tensor> orders;
  for (int64_t i = 0; i < factors; ++i) {
    orders.push_back(factors == 1 ? at::arange(linear.in()) : butterfly(linear.in(), blocks >> i, size / 2));
  }
  const std::string r = file_key(path + ".boft_R"), s = file_key(path + ".boft_s");
  const std::vector<int64_t> shape = {factors, blocks, size, size};
  const Tensor turns =
      builder.train(r, config.init_weights ? builder.zeros(shape) : builder.normal(r, shape, 0.1));
  const Tensor ones = builder.ones({linear.out(), 1});
  const Tensor scale =
      builder.train(s, config.init_weights ? ones : ones + builder.normal(s, {linear.out(), 1}, 0.1));
  builder.hook(path, std::shared_ptr<LinearHook>(
                         std::make_shared<BoftLinear>(turns, scale, std::move(orders), config.boft_dropout)));
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  ConfigSource source(given);
  if (!source.from_file && source.json.contains("boft_block_num") &&
      !source.json.contains("boft_block_size")) {
    source.json["boft_block_size"] = 0;
  }
  return adapt_linears<BoftConfig>({kBoft, TargetColumn::lora}, source, model, seed, adapt);
}

}  // namespace

const TuningMethod kBoft = {"boft", "BOFT", create, method_help<BoftConfig>};

}  // namespace graft
