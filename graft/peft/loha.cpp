#include "graft/peft/loha.h"

#include <ATen/ATen.h>

#include "graft/peft/adapt_linears.h"
#include "graft/peft/lycoris.h"

namespace graft {
namespace {

/// s · (w1_a w1_b) ⊙ (w2_a w2_b).
class LohaLinear : public LycorisLinear {
 public:
  LohaLinear(std::array<Tensor, 4> parts, double scale, LycorisDropout dropout)
      : LycorisLinear(dropout), parts_(std::move(parts)), scale_(scale) {}

 protected:
  Tensor update() const override {
    return scale_ * at::matmul(parts_[0], parts_[1]) * at::matmul(parts_[2], parts_[3]);
  }

 private:
  std::array<Tensor, 4> parts_;  // w1_a [out, r], w1_b [r, in], w2_a [out, r], w2_b [r, in]
  double scale_;
};

void adapt(AdapterBuilder& builder, const LycorisConfig& config, const std::string& path,
           const Linear& linear) {
  const int64_t r = config.rank(path);
  const auto part = [&](const char* name, std::vector<int64_t> shape) {
    const std::string key = file_key(path + "." + name);
    const bool zero = config.init_weights != Json(false) && std::string(name) == "hada_w2_b";
    return builder.train(key,
                         zero ? builder.zeros(shape) : builder.uniform(key, shape, kaiming_bound(shape[1])));
  };
  std::array<Tensor, 4> parts = {part("hada_w1_a", {linear.out(), r}), part("hada_w1_b", {r, linear.in()}),
                                 part("hada_w2_a", {linear.out(), r}), part("hada_w2_b", {r, linear.in()})};
  const LycorisDropout dropout{config.rank_dropout, config.module_dropout, true};
  builder.hook(path, std::shared_ptr<LinearHook>(
                         std::make_shared<LohaLinear>(std::move(parts), config.scale(path), dropout)));
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  return adapt_linears<LycorisConfig>({kLoha, TargetColumn::lora}, ConfigSource(given), model, seed, adapt);
}

}  // namespace

const TuningMethod kLoha = {"loha", "LOHA", create, method_help<LycorisConfig>};

}  // namespace graft
