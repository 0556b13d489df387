#include "graft/peft/eva.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "graft/base/error.h"
#include "graft/base/log.h"
#include "graft/peft/adapt_linears.h"
#include "graft/peft/incremental_pca.h"
#include "graft/peft/lora.h"
#include "graft/peft/lora_init.h"

namespace graft {
namespace {

/// Batches after which directions that still turn are taken as they are.
constexpr int64_t kMostBatches = 512;

struct EvaConfig {
  double rho = 2, tau = 0.99;
  bool use_label_mask = true, whiten = false, adjust_scaling_factors = true;
  int64_t label_mask_value = -100;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("rho", self.rho, "a map's rank is at most rho times the mean", at_least(1.0));
    visit("tau", self.tau, "directions stand still from this cosine on", between(0.0, 1.0));
    visit("use_label_mask", self.use_label_mask, "only rows with a label count");
    visit("label_mask_value", self.label_mask_value, "the label of the others", between<int64_t>(-100, -100));
    visit("whiten", self.whiten, "directions are divided by the root of their singular value");
    visit("adjust_scaling_factors", self.adjust_scaling_factors, "alpha goes with the rank: the scale stays");
  }
};

/// One map's inputs of the last batch; the map computes as it is.
class InputRecorder : public LinearHook {
 public:
  Tensor forward(const Linear& base, const Tensor& x, RandomStream*) override {
    input = x.detach();
    return base.apply(x);
  }
  Tensor input;
};

struct Spot {
  std::string path;
  int64_t rank = 0;  // before the ranks are spread
  int64_t most = 0;  // what it may get
  size_t group = 0;  // spots with equal inputs share directions
};

class Study {
 public:
  Study(const EvaConfig& eva, const LoraConfig& config, Model& model) : eva_(eva), model_(model) {
    const Targets targets = find_targets(model, rules_of(config));
    for (const auto& [path, linear] : targets.linears) {
      const int64_t rank = rank_at(path, config.rank_pattern, config.r);
      Spot spot{path, rank, std::llrint(static_cast<double>(rank) * eva.rho)};
      if (spot.most > linear->in()) {
        throw UsageError("eva_config.rho", "{} directions at {}, expected at most its {} inputs", spot.most,
                         path, linear->in());
      }
      budget_ += rank;
      spots_.push_back(spot);
      recorders_.push_back(std::make_shared<InputRecorder>());
      linear->hook = recorders_.back();
    }
  }
  ~Study() { detach(model_); }
  Study(const Study&) = delete;
  Study& operator=(const Study&) = delete;

  void run(const StudyBatches& batches) {
    const at::NoGradGuard no_grad;
    for (int64_t i = 0; i < kMostBatches; ++i) {
      const StudyBatch batch = batches();
      model_.run(batch.batch);
      if (groups_.empty()) group_equal_inputs();
      bool still = i > 0;
      for (size_t g = 0; g < groups_.size(); ++g) still = add(g, batch.rows) && still;
      const bool all =
          std::all_of(groups_.begin(), groups_.end(), [](const auto& pca) { return pca.ready(); });
      if (all) spread();
      if (all && still) return;
    }
    for (const IncrementalPca& pca : groups_) {
      if (!pca.ready())
        throw UsageError("train.batch_size",
                         "no batch with {} rows, expected as many as EVA takes directions", pca.directions());
    }
    warn("eva: the directions still turn after {} batches; taken as they are", kMostBatches);
  }

  const std::vector<Spot>& spots() const { return spots_; }
  /// A's first value [rank, in] at a spot.
  Tensor start(size_t spot) const {
    const IncrementalPca& pca = groups_[spots_[spot].group];
    const int64_t rank = ranks_[spot];
    const Tensor a = pca.components().narrow(0, 0, rank);
    return eva_.whiten ? a / pca.singular_values().narrow(0, 0, rank).sqrt().unsqueeze(1) : a;
  }
  int64_t rank(size_t spot) const { return ranks_[spot]; }

 private:
  void group_equal_inputs() {
    std::vector<size_t> first;  // of each group
    for (size_t i = 0; i < spots_.size(); ++i) {
      const Tensor& input = recorders_[i]->input;
      const auto same = std::find_if(first.begin(), first.end(), [&](size_t other) {
        const Tensor& known = recorders_[other]->input;
        return known.sizes() == input.sizes() && known.equal(input);
      });
      spots_[i].group = static_cast<size_t>(same - first.begin());
      if (same == first.end()) first.push_back(i);
    }
    for (size_t g = 0; g < first.size(); ++g) {
      int64_t most = 0;
      for (const Spot& spot : spots_) most = spot.group == g ? std::max(most, spot.most) : most;
      for (Spot& spot : spots_) spot.most = spot.group == g ? most : spot.most;
      groups_.emplace_back(most, spots_[first[g]].path);
    }
    first_ = first;
    for (const Spot& spot : spots_) ranks_.push_back(spot.most);
  }

  /// → whether those directions that are needed stood still.
  bool add(size_t group, const Tensor& rows) {
    Tensor input = recorders_[first_[group]]->input;
    if (rows.defined() && eva_.use_label_mask) input = input.index_select(0, rows);
    IncrementalPca& pca = groups_[group];
    if (input.size(0) < pca.directions()) return false;
    const Tensor before = pca.components();
    pca.add(input);
    if (!before.defined()) return false;
    int64_t needed = 0;
    for (size_t i = 0; i < spots_.size(); ++i) {
      if (spots_[i].group == group) needed = std::max(needed, ranks_[i]);
    }
    if (needed == 0) return true;
    const Tensor cosine = (before * pca.components()).sum(1).narrow(0, 0, needed);
    return cosine.ge(eva_.tau).all().item<bool>();
  }

  /// The budget goes to the directions that explain most of their map's variance.
  void spread() {
    std::vector<std::pair<double, size_t>> shares;
    for (size_t i = 0; i < spots_.size(); ++i) {
      const Tensor explained = groups_[spots_[i].group].explained();
      for (int64_t k = 0; k < spots_[i].most; ++k) shares.emplace_back(explained[k].item<double>(), i);
    }
    std::stable_sort(shares.begin(), shares.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    std::fill(ranks_.begin(), ranks_.end(), 0);
    for (int64_t k = 0; k < std::min<int64_t>(budget_, static_cast<int64_t>(shares.size())); ++k)
      ++ranks_[shares[static_cast<size_t>(k)].second];
  }

  EvaConfig eva_;
  Model& model_;
  int64_t budget_ = 0;
  std::vector<Spot> spots_;
  std::vector<std::shared_ptr<InputRecorder>> recorders_;
  std::vector<IncrementalPca> groups_;
  std::vector<size_t> first_;   // by group: the spot whose inputs count
  std::vector<int64_t> ranks_;  // by spot
};

/// The config with the ranks that the data gave: explicit targets, rank_pattern, alpha_pattern.
Json spread_config(const Json& given, const LoraConfig& config, const EvaConfig& eva, const Study& study) {
  Json out = given, targets = Json::array(), ranks = Json::object(), alphas = Json::object();
  for (size_t i = 0; i < study.spots().size(); ++i) {
    const Spot& spot = study.spots()[i];
    const int64_t rank = study.rank(i);
    if (rank == 0) continue;
    targets.push_back(spot.path);
    if (rank != config.r) ranks[spot.path] = rank;
    double alpha = pattern_value(spot.path, config.alpha_pattern, config.lora_alpha, "alpha_pattern");
    if (eva.adjust_scaling_factors) alpha *= static_cast<double>(rank) / static_cast<double>(spot.rank);
    if (alpha != config.lora_alpha) alphas[spot.path] = alpha;
  }
  out["target_modules"] = targets;
  out["rank_pattern"] = ranks;
  out["alpha_pattern"] = alphas;
  out["eva_config"] = write_fields(eva);
  return out;
}

}  // namespace

Adapter create_lora_from_data(const Json& given, Model& model, uint64_t seed, const StudyBatches& batches) {
  if (given.value("init_lora_weights", Json()) != Json("eva")) return create_lora(kLora, given, model, seed);
  ConfigSource source(given);
  LoraConfig config = read_method_config<LoraConfig>(source, kLora.peft_type, model);
  const auto eva =
      config.eva_config.is_null() ? EvaConfig{} : read_fields<EvaConfig>(config.eva_config, "eva_config");
  if (config.target_modules.is_null())
    config.target_modules = default_targets(TargetColumn::lora, model.info().model_type);
  Study study(eva, config, model);
  study.run(batches);
  Adapter adapter = create_lora(kLora, spread_config(given, config, eva, study), model, seed);
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < study.spots().size(); ++i) {
    if (study.rank(i) == 0) continue;
    adapter.trained.at(file_key(study.spots()[i].path + ".lora_A.weight")).copy_(study.start(i));
  }
  return adapter;
}

}  // namespace graft
