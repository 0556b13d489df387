// Keys of bottleneck adapters: AdapterHub's, and those that only graft knows.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "graft/nn/activation.h"
#include "graft/peft/method_config.h"

namespace graft {

/// What stands under "config" in AdapterHub's adapter_config.json.
struct BottleneckConfig {
  bool mh_adapter = false, output_adapter = true, cross_adapter = false;
  Json reduction_factor = 16;  // a number, or a mapping from layers to numbers
  std::string non_linearity = "relu";
  bool original_ln_before = false, original_ln_after = true, ln_before = false, ln_after = false;
  Json residual_before_ln = true;  // or "post_add"
  bool adapter_residual_before_ln = false, is_parallel = false, use_gating = false;
  std::string init_weights = "bert";
  Json init_weights_seed, scaling = 1.0, inv_adapter, inv_adapter_reduction_factor;
  std::vector<int64_t> leave_out;
  double dropout = 0, stochastic_depth = 0;
  bool phm_layer = false, phm_bias = true, factorized_phm_W = true, shared_W_phm = false;
  bool shared_phm_rule = true, factorized_phm_rule = false, learn_phm = true;
  int64_t phm_dim = 4, phm_rank = 1;
  std::string phm_c_init = "normal", hypercomplex_nonlinearity = "glorot-uniform";
  double phm_init_range = 1e-4;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    places(self, visit);
    shape(self, visit);
    phm(self, visit);
    refused(self, visit);
  }

 private:
  template <class Self, class Visitor>
  static void places(Self& self, Visitor& visit) {
    visit("mh_adapter", self.mh_adapter, "an adapter behind self-attention");
    visit("output_adapter", self.output_adapter, "an adapter behind the feed-forward part");
    visit("cross_adapter", self.cross_adapter, "an adapter behind cross-attention");
    visit("leave_out", self.leave_out, "layers without adapters, from 0; a decoder's count on");
    visit("is_parallel", self.is_parallel, "beside the sublayer, not behind it");
    visit("original_ln_before", self.original_ln_before, "the model's sum and norm come before the adapter");
    visit("residual_before_ln", self.residual_before_ln,
          "what is added to the adapter's output: true: the sublayer's; post_add: the stream; false: the "
          "norm's",
          only_values({true, false, "post_add"}));
    visit("ln_before", self.ln_before, "a trained norm in front");
    visit("ln_after", self.ln_after, "a trained norm behind");
    visit("adapter_residual_before_ln", self.adapter_residual_before_ln, "ln_after's norm is over the sum");
  }
  template <class Self, class Visitor>
  static void shape(Self& self, Visitor& visit) {
    visit("reduction_factor", self.reduction_factor,
          "hidden size / bottleneck; or a mapping from layers, and default, to such");
    visit("non_linearity", self.non_linearity, "activation in the bottleneck", one_of(activation_names()));
    visit("scaling", self.scaling, "factor of the adapter's output: a number, learned, or channel");
    visit("dropout", self.dropout, "of the adapter's output", between(0.0, 0.99));
    visit("init_weights", self.init_weights, "first values", one_of({"bert", "mam_adapter", "houlsby"}));
    visit("init_weights_seed", self.init_weights_seed, "kept in files; draws come from train.seed");
  }
  template <class Self, class Visitor>
  static void phm(Self& self, Visitor& visit) {
    visit("phm_layer", self.phm_layer, "maps are sums of Kronecker products (Compacter)");
    visit("phm_dim", self.phm_dim, "number of products in a sum", between<int64_t>(1, 1024));
    visit("phm_rank", self.phm_rank, "rank of their second factors", between<int64_t>(1, 65536));
    visit("phm_bias", self.phm_bias, "the maps have biases");
    visit("factorized_phm_W", self.factorized_phm_W, "second factors are products of thin matrices");
    visit("shared_W_phm", self.shared_W_phm, "second factors are one for all layers");
    visit("shared_phm_rule", self.shared_phm_rule, "first factors are one for all layers");
    visit("factorized_phm_rule", self.factorized_phm_rule, "first factors are products of vectors");
    visit("learn_phm", self.learn_phm, "first factors are trained");
    visit("phm_c_init", self.phm_c_init, "first values of first factors", one_of({"normal", "uniform"}));
    visit("phm_init_range", self.phm_init_range, "their deviation", at_least(0.0));
    visit("hypercomplex_nonlinearity", self.hypercomplex_nonlinearity, "first values of second factors",
          one_of({"glorot-uniform", "glorot-normal", "normal", "phm"}));
  }
  /// Settings that change the numbers and of which only these values are implemented.
  template <class Self, class Visitor>
  static void refused(Self& self, Visitor& visit) {
    const auto only = [](auto value) {
      using Value = decltype(value);
      return Check<Value>{[](const Check<Value>& check, const Value& given) { return given == check.low; },
                          value,
                          {},
                          {},
                          fmt::format("{}: nothing else is implemented", value)};
    };
    visit("original_ln_after", self.original_ln_after, "the model's sum and norm come last", only(true));
    visit("use_gating", self.use_gating, "a gate for each sequence", only(false));
    visit("stochastic_depth", self.stochastic_depth, "chance to leave an adapter out", only(0.0));
    visit("inv_adapter", self.inv_adapter, "invertible adapters behind the embeddings", only_unset());
    visit("inv_adapter_reduction_factor", self.inv_adapter_reduction_factor, "their size");
  }
};

/// What a recipe may say beside; kept under "graft" in the file.
struct BottleneckExtras {
  std::optional<int64_t> bottleneck_size;
  int64_t drop_layers = 0;
  std::optional<int64_t> random_drop;
  bool train_norms = false;
  std::vector<std::string> modules_to_save;
  std::string adapter_name = "default";

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("bottleneck_size", self.bottleneck_size, "width of the bottleneck, in place of reduction_factor");
    visit("drop_layers", self.drop_layers, "AdapterDrop: the lowest layers that get no adapters",
          at_least<int64_t>(0));
    visit("random_drop", self.random_drop,
          "AdapterDrop: at every pass of training 0 to this many of the lowest layers go without adapters");
    visit("train_norms", self.train_norms, "all norms of the model are trained too (as Houlsby et al. do)");
    visit("modules_to_save", self.modules_to_save, "modules trained whole beside the adapter");
    visit("adapter_name", self.adapter_name, "name of the adapter in its file");
  }
};

}  // namespace graft
