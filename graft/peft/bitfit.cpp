#include "graft/peft/bitfit.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "graft/base/error.h"
#include "graft/peft/parts.h"

namespace graft {
namespace {

struct BitfitConfig : PartsConfig {
  Json biases;
  bool add_biases = false;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    PartsConfig::fields(self, visit);
    visit("biases", self.biases,
          "kinds of biases: query, key, value, attention_output, intermediate, output, layernorm, …; null: "
          "all");
    visit("add_biases", self.add_biases, "linear maps without a bias get one, which starts as zeros");
  }
};

/// BitFit's names for what families call by their roles.
std::string kind_of_role(const std::string& role) {
  if (role == "mlp_up" || role == "mlp_gate") return "intermediate";
  return role == "mlp_down" ? "output" : role;
}

/// What a bias may be called in `biases`, the narrowest name last.
std::vector<std::string> kinds_of(const Model& model, const std::string& path) {
  if (in_norm(path)) {
    const bool encoder = !model.info().is_decoder && !model.info().is_encoder_decoder;
    if (!encoder || path.find(".layer") == std::string::npos) return {"layernorm"};
    return {"layernorm",
            path.find("attention.") == std::string::npos ? "output_layernorm" : "attention_layernorm"};
  }
  const std::string module = path.substr(0, path.rfind('.'));
  if (module.find("pooler") != std::string::npos) return {"pooler"};
  for (const Role& role : model.roles()) {
    if (module.ends_with(role.suffix)) return {kind_of_role(role.name)};
  }
  return {"other"};
}

/// The biases that a config chooses; remembers which kinds there are.
class Choice {
 public:
  Choice(const BitfitConfig& config, const Model& model) : config_(config), model_(model) {
    if (!config.biases.is_null() && config.biases != Json("all"))
      read_value(config.biases, wanted_, "method.biases");
  }
  /// Heads and poolers are always trained, as in the authors' code.
  bool takes(const std::string& path) {
    if (!config_.takes(path)) return false;
    if (in_head(model_, path)) return true;
    const std::vector<std::string> kinds = kinds_of(model_, path);
    seen_.insert(kinds.begin(), kinds.end());
    const bool pooler = kinds == std::vector<std::string>{"pooler"};
    const bool wanted =
        wanted_.empty() || pooler || std::any_of(kinds.begin(), kinds.end(), [&](const auto& kind) {
          return std::find(wanted_.begin(), wanted_.end(), kind) != wanted_.end();
        });
    found_ = found_ || wanted;
    return wanted;
  }
  /// Errors: UsageError for a kind that this model does not have, or no bias at all.
  void check() const {
    for (const std::string& kind : wanted_) {
      if (!seen_.empty() && !seen_.contains(kind)) {
        throw UsageError("biases", "{}, expected kinds that this {} model has: {}{}", kind,
                         model_.info().model_type, fmt::join(seen_, ", "),
                         did_you_mean(kind, {seen_.begin(), seen_.end()}));
      }
    }
    if (found_) return;
    throw UsageError(
        "method",
        "bitfit on a {} model, which has no biases to train, expected add_biases: true or another "
        "method",
        model_.info().model_type);
  }

 private:
  const BitfitConfig& config_;
  const Model& model_;
  std::vector<std::string> wanted_;
  std::set<std::string> seen_;
  bool found_ = false;
};

/// A bias where the base has none.
class AddedBias : public LinearHook {
 public:
  explicit AddedBias(Tensor bias) : bias_(std::move(bias)) {}
  Tensor forward(const Linear& base, const Tensor& x, RandomStream*) override {
    const Tensor out = base.apply(x);
    return out + bias_.to(out.scalar_type());
  }

 private:
  Tensor bias_;
};

void add_biases(AdapterBuilder& builder, Choice& choice) {
  for (const auto& [path, module] : builder.model().named_modules()) {
    auto* linear = dynamic_cast<Linear*>(module);
    const std::string bias = path + ".bias";
    if (!linear || linear->bias || in_head(builder.model(), bias) || !choice.takes(bias)) continue;
    builder.hook(path, std::make_shared<AddedBias>(builder.train(bias, builder.zeros({linear->out()}))));
  }
}

Adapter create(const Json& given, Model& model, uint64_t) {
  const ConfigSource source = parts_source(kBitfit, given, model);
  const auto config = read_fields<BitfitConfig>(source.json, "method");
  AdapterBuilder builder(kBitfit, source, model, 0);
  Choice choice(config, model);
  for (const auto& [path, parameter] : model.named_parameters()) {
    if ((path.ends_with(".bias") || in_head(model, path)) && choice.takes(path)) builder.stand_in(path, path);
  }
  if (config.add_biases) add_biases(builder, choice);
  choice.check();
  return builder.finish();
}

}  // namespace

const TuningMethod kBitfit = {"bitfit", nullptr, create, method_help<BitfitConfig>, 1e-3};

}  // namespace graft
