// PEFT's LORA keys; AdaLoRA has them too.
#pragma once
#include "graft/peft/method_config.h"

namespace graft {

/// The values of init_lora_weights that are implemented.
Check<Json> lora_init_check();

struct LoraConfig : TargetedConfig {
  int64_t r = 8;
  double lora_alpha = 8, lora_dropout = 0;
  bool fan_in_fan_out = false, use_rslora = false, lora_bias = false;
  std::string bias = "none";
  Json init_lora_weights = true;
  Json rank_pattern = Json::object(), alpha_pattern = Json::object();
  Json trainable_token_indices;
  bool use_dora = false, save_as_lora = false;
  Json eva_config, layer_replication;
  // Keys whose only implemented value is the default.
  Json unset, loftq_config = Json::object(), not_set = false;
  std::string megatron_core = "megatron.core";
  int64_t qalora_group_size = 16;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    TargetedConfig::fields(self, visit);
    visit("r", self.r, "rank of the update", at_least<int64_t>(1));
    visit("lora_alpha", self.lora_alpha, "the update counts lora_alpha / r");
    visit("lora_dropout", self.lora_dropout, "dropout of the update's input", between(0.0, 1.0));
    visit("fan_in_fan_out", self.fan_in_fan_out,
          "the file holds the base's weight as [in, out]; set by the model");
    visit("bias", self.bias, "which biases of the base are trained too",
          one_of({"none", "all", "lora_only"}));
    visit("use_rslora", self.use_rslora, "the update counts lora_alpha / √r");
    visit("lora_bias", self.lora_bias, "a trained bias on B");
    visit("init_lora_weights", self.init_lora_weights,
          "true: B zero; gaussian: A normal; false: A and B random; orthogonal; pissa, pissa_niter_N, olora: "
          "from "
          "the weight; eva: from the data",
          lora_init_check());
    visit("eva_config", self.eva_config, "eva: rho, tau, use_label_mask, whiten, adjust_scaling_factors");
    visit("layer_replication", self.layer_replication,
          "ranges [first, last) of layers that make a deeper model");
    visit("save_as_lora", self.save_as_lora,
          "pissa, olora: the file is plain LoRA of rank 2r, which needs no change of the base");
    visit("rank_pattern", self.rank_pattern, "ranks by pattern of the path; the first that matches counts");
    visit("alpha_pattern", self.alpha_pattern, "lora_alpha by pattern of the path");
    visit("trainable_token_indices", self.trainable_token_indices, "token ids whose embeddings are trained");
    visit("use_dora", self.use_dora, "magnitude and direction apart (DoRA)");
    unimplemented(self, visit);
  }

  template <class Self, class Visitor>
  static void unimplemented(Self& self, Visitor& visit) {
    for (const char* name :
         {"alora_invocation_tokens", "arrow_config", "corda_config", "kasa_config", "lora_ga_config",
          "monteclora_config", "target_parameters", "use_bdlora", "velora_config", "megatron_config"}) {
      visit(name, self.unset, "not implemented", only_unset());
    }
    for (const char* name : {"use_qalora", "ensure_weight_tying"}) {
      visit(name, self.not_set, "not implemented", only_unset());
    }
    visit("loftq_config", self.loftq_config, "not implemented", only_unset());
    visit("megatron_core", self.megatron_core, "without effect");
    visit("qalora_group_size", self.qalora_group_size, "without effect");
  }
};

}  // namespace graft
