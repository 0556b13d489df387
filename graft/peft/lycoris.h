// What LoHa and LoKr have in common: their config's keys, and the two kinds of dropout.
#pragma once
#include "graft/peft/delta_linear.h"
#include "graft/peft/method_config.h"

namespace graft {

struct LycorisConfig : TargetedConfig {
  int64_t r = 8;
  double alpha = 8, rank_dropout = 0, module_dropout = 0;
  Json use_effective_conv2d = false, init_weights = true;
  Json rank_pattern = Json::object(), alpha_pattern = Json::object();

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    TargetedConfig::fields(self, visit);
    visit("r", self.r, "rank of the parts", at_least<int64_t>(1));
    visit("alpha", self.alpha, "the update counts alpha / r");
    visit("rank_dropout", self.rank_dropout, "rows of the update that are dropped", between(0.0, 1.0));
    visit("module_dropout", self.module_dropout, "how often a map's whole update is dropped",
          between(0.0, 1.0));
    visit("use_effective_conv2d", self.use_effective_conv2d, "for convolutions, of which there are none",
          only_values({false, true}));
    visit("init_weights", self.init_weights, "true: the update starts at zero",
          only_values({true, false, "lycoris"}));
    visit("rank_pattern", self.rank_pattern, "ranks by pattern of the path");
    visit("alpha_pattern", self.alpha_pattern, "alpha by pattern of the path");
  }
  int64_t rank(const std::string& path) const;
  double scale(const std::string& path) const;
};

struct LycorisDropout {
  double rank = 0, module = 0;
  bool rescale = false;  // the rows that stay count more
};

class LycorisLinear : public DeltaLinear {
 public:
  explicit LycorisLinear(LycorisDropout dropout) : dropout_(dropout) {}

 protected:
  Tensor delta(const Linear& base, RandomStream* dropout) const override;
  virtual Tensor update() const = 0;  // [out, in]

 private:
  LycorisDropout dropout_;
};

}  // namespace graft
