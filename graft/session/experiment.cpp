#include "graft/session/experiment.h"

#include <algorithm>
#include <cmath>
#include <future>

#include "graft/base/error.h"
#include "graft/io/checkpoint.h"
#include "graft/nn/rotary_config.h"
#include "graft/peft/bottleneck.h"
#include "graft/peft/lora.h"
#include "graft/session/adapter_head.h"
#include "graft/session/memory_plan.h"
#include "graft/session/session.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

using Examples = std::vector<Example>;

Json scratch_config(const fs::path& path) {
  return read_json(fs::is_directory(path) ? path / "config.json" : path);
}

/// The longest sequence by config.json; 0 where it does not say.
int64_t positions_of(const Json& config) {
  for (const char* key : {"max_position_embeddings", "n_positions"}) {
    if (!config.is_object() || !config.contains(key) || !config[key].is_number_integer()) continue;
    return std::max(config[key].get<int64_t>(), RotaryConfig::read(config).longest());
  }
  return 0;
}

Examples read_split(const Recipe& recipe, Split split) {
  const fs::path path = split_path(recipe.data, split);
  if (path.empty()) return {};
  return read_examples(path, source_options(recipe.data, recipe.task.value("name", ""), split));
}

LoadOptions load_options(const Recipe& recipe, const Task& task) {
  LoadOptions options;
  set_dtype(options, recipe.model.dtype);
  options.head = task.head();
  if (task.num_labels() > 0) options.num_labels = task.num_labels();
  options.label_names = task.label_names();
  if (!task.problem_type().empty()) options.problem_type = task.problem_type();
  options.seed = static_cast<uint64_t>(recipe.train.seed);
  if (!recipe.train.memory.empty())
    options.second_layout =
        std::min(options.second_layout, parse_bytes(recipe.train.memory, "train.memory") / 8);
  for (const Json& method : method_list(recipe.method)) {
    if (method.contains("layer_replication"))
      options.layer_replication = layer_ranges(method["layer_replication"]);
  }
  return options;
}

/// The weights' part of opening; what it reads was checked before.
struct Loading {
  std::optional<Checkpoint> checkpoint;  // nothing: from scratch
  Json config;

  static Loading of(const Recipe& recipe, const ExperimentSource& source) {
    Loading out;
    if (source.model.empty() && recipe.from_scratch()) {
      out.config = scratch_config(recipe.model.from_scratch.config);
    } else {
      out.checkpoint = Checkpoint::open(source.model.empty() ? recipe.model.path : source.model);
      out.config = out.checkpoint->config;
    }
    return out;
  }
  std::unique_ptr<Model> run(const LoadOptions& options) const {
    return checkpoint ? load_model(*checkpoint, options) : new_model(config, options);
  }
};

}  // namespace

Experiment Experiment::open(Recipe recipe, const std::vector<Split>& splits, const ExperimentSource& source) {
  Experiment out;
  out.recipe_ = std::move(recipe);
  const fs::path text = source.model.empty() ? out.recipe_.text_folder() : source.model;
  if (!fs::is_directory(text)) throw DataError(text.string(), "no such folder, expected a model's");
  auto tokenizer = std::async(std::launch::async, [&] { return Tokenizer::open(text); });
  const Loading loading = Loading::of(out.recipe_, source);
  Examples examples[3];
  for (const Split split : splits) {
    examples[static_cast<size_t>(split)] = read_split(out.recipe_, split);
    out.counts_[static_cast<size_t>(split)] =
        static_cast<int64_t>(examples[static_cast<size_t>(split)].size());
  }
  if (auto found = ChatTemplate::open(text))
    out.chat_template_ = std::make_unique<ChatTemplate>(std::move(*found));
  out.tokenizer_ = std::make_unique<Tokenizer>(tokenizer.get());
  const TaskSetup setup{.task = out.recipe_.task,
                        .data = out.recipe_.data,
                        .tokenizer = *out.tokenizer_,
                        .chat_template = out.chat_template_.get(),
                        .max_positions = positions_of(loading.config),
                        .train = &examples[static_cast<size_t>(Split::train)],
                        .seed = static_cast<uint64_t>(out.recipe_.train.seed)};
  out.task_ = task_kind(out.recipe_.task.value("name", "")).create(setup);
  out.recipe_.task = out.task_->config();
  // Weights are read while the texts are tokenised.
  auto model =
      std::async(std::launch::async, [&] { return loading.run(load_options(out.recipe_, *out.task_)); });
  std::future<std::vector<Features>> features[3];
  for (const Split split : splits) {
    const Examples& of_split = examples[static_cast<size_t>(split)];
    if (of_split.empty()) continue;
    features[static_cast<size_t>(split)] =
        std::async(std::launch::async, [&] { return out.task_->features(of_split); });
  }
  for (const Split split : splits) {
    auto& of_split = features[static_cast<size_t>(split)];
    if (of_split.valid()) out.features_[static_cast<size_t>(split)] = of_split.get();
  }
  out.model_ = model.get();
  if (!source.adapter.empty()) {
    out.adapter_ = std::make_unique<Adapter>(read_adapter(source.adapter, *out.model_));
    drop_adapters(*out.adapter_, *out.model_, source.drop_adapters);
    attach(*out.adapter_, *out.model_);
  }
  return out;
}

void require_labels(const Experiment& experiment, Split split) {
  for (const Features& one : experiment.features(split)) {
    if (!std::isnan(one.target)) continue;
    throw DataError(split_path(experiment.recipe().data, split).string(),
                    "no labels, expected a column of them; name it with data.columns.label");
  }
}

}  // namespace graft
