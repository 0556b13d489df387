#include "graft/session/dry_run.h"

#include <algorithm>
#include <map>

#include "graft/data/order.h"
#include "graft/session/machine.h"
#include "graft/session/progress.h"

namespace graft {
namespace {

/// Rows of the run's largest batch in its first epoch.
int64_t largest_batch(const Experiment& experiment) {
  const TrainConfig& train = experiment.recipe().train;
  const std::vector<int64_t> lengths = lengths_of(experiment.features(Split::train));
  const BatchOptions options{.batch_size = train.batch_size,
                             .batch_tokens = train.batch_tokens,
                             .shuffle = train.shuffle,
                             .group_by_length = train.group_by_length};
  int64_t most = 0;
  for (const auto& batch : epoch_batches(lengths, options, static_cast<uint64_t>(train.seed), 0)) {
    int64_t rows = 0;
    for (const int64_t index : batch) rows += lengths[static_cast<size_t>(index)];
    most = std::max(most, rows);
  }
  return most;
}

/// Tensors by the last parts of their names: "lora_A", with number and parameters.
std::map<std::string, std::pair<int64_t, int64_t>> kinds_of(const TensorMap& trained) {
  std::map<std::string, std::pair<int64_t, int64_t>> kinds;
  for (const auto& [file_key, tensor] : trained) {
    // PEFT's wrappers are no part of a name.
    constexpr std::string_view kWrappers = "base_model.model.";
    const std::string key = file_key.starts_with(kWrappers) ? file_key.substr(kWrappers.size()) : file_key;
    std::string kind;
    size_t end = key.size();
    // The last three components that are no numbers: layers fall together.
    for (int parts = 0; parts < 3 && end > 0; ++parts) {
      const size_t dot = end == std::string::npos ? end : key.rfind('.', end - 1);
      const size_t begin = dot == std::string::npos ? 0 : dot + 1;
      const std::string part = key.substr(begin, end - begin);
      if (std::all_of(part.begin(), part.end(), [](unsigned char c) { return std::isdigit(c) != 0; })) break;
      kind = part + (kind.empty() ? "" : "." + kind);
      end = dot == std::string::npos ? 0 : dot;
    }
    auto& [count, parameters] = kinds[kind];
    ++count;
    parameters += tensor.numel();
  }
  return kinds;
}

int64_t total_parameters(const Model& model) {
  int64_t total = 0;
  for (const auto& [path, parameter] : model.named_parameters()) total += parameter->base.numel();
  return total;
}

}  // namespace

Json memory_estimate(const Experiment& experiment, const Adapter& adapter) {
  const Model& model = experiment.model();
  const ModelInfo& info = model.info();
  int64_t base = 0;
  for (const auto& [path, parameter] : model.named_parameters())
    base += static_cast<int64_t>(parameter->base.nbytes());
  // Values, gradients, two moments, and the best state where one is kept.
  const int64_t copies = experiment.features(Split::validation).empty() ? 4 : 5;
  const int64_t trained = parameter_count(trainable(adapter)) * 4 * copies;
  const int64_t rows = largest_batch(experiment);
  const int64_t width = model.config.value("intermediate_size", 4 * info.hidden_size);
  const auto bytes = static_cast<int64_t>(c10::elementSize(model.dtype));
  // A block keeps about ten rows of the hidden size (norms, q, k, v, attention, residuals) and three of the
  // inner size.
  const int64_t blocks =
      rows * (info.num_layers + info.num_encoder_layers) * (10 * info.hidden_size + 3 * width) * bytes;
  const bool vocabulary = model.head == HeadKind::causal_lm || model.head == HeadKind::masked_lm ||
                          model.head == HeadKind::seq2seq_lm;
  // Logits, their softmax and gradient, in float32.
  const int64_t logits = vocabulary ? rows * info.vocab_size * 4 * 3 : 0;
  const int64_t process = memory_bytes() - base;
  return {{"base", base},
          {"trained", trained},
          {"activations", blocks + logits},
          {"process", std::max<int64_t>(0, process)},
          {"total", base + trained + blocks + logits + std::max<int64_t>(0, process)}};
}

RunReport dry_run_report(const Experiment& experiment, const Adapter& adapter, const Trainer& trainer) {
  const TensorMap trained = trainable(adapter);
  const int64_t count = parameter_count(trained), total = total_parameters(experiment.model());
  const auto kinds = kinds_of(trained);
  const Json memory = memory_estimate(experiment, adapter);
  RunReport report;
  Json parts = Json::object();
  for (const auto& [kind, numbers] : kinds)
    parts[kind] = {{"tensors", numbers.first}, {"parameters", numbers.second}};
  int64_t tokens = 0;
  for (const int64_t length : lengths_of(experiment.features(Split::train))) tokens += length;
  report.document = {{"trainable_parameters", count},
                     {"total_parameters", total},
                     {"trained", parts},
                     {"sequences", experiment.features(Split::train).size()},
                     {"tokens_per_epoch", tokens},
                     {"validation_sequences", experiment.features(Split::validation).size()},
                     {"steps", trainer.total_steps()},
                     {"memory_bytes", memory},
                     {"recipe", recipe_document(experiment.recipe())}};
  std::string& text = report.text;
  text = fmt::format("trains {} parameters beside {} ({:.3f} %)\n", count_text(count), count_text(total),
                     100 * static_cast<double>(count) / static_cast<double>(std::max<int64_t>(1, total)));
  for (const auto& [kind, numbers] : kinds)
    text += fmt::format("  {}: {} tensors, {} parameters\n", kind, numbers.first, count_text(numbers.second));
  text += fmt::format("data: {} sequences, {} tokens an epoch; {} to validate on\n",
                      count_text(static_cast<int64_t>(experiment.features(Split::train).size())),
                      count_text(tokens),
                      count_text(static_cast<int64_t>(experiment.features(Split::validation).size())));
  text += fmt::format("steps: {}\n", count_text(trainer.total_steps()));
  text += fmt::format("memory: about {} (base {}, trained {}, activations {})",
                      bytes_text(memory["total"].get<int64_t>()), bytes_text(memory["base"].get<int64_t>()),
                      bytes_text(memory["trained"].get<int64_t>()),
                      bytes_text(memory["activations"].get<int64_t>()));
  return report;
}

}  // namespace graft
