#include "graft/session/dry_run.h"

#include <algorithm>
#include <map>

#include "graft/session/memory_plan.h"
#include "graft/session/progress.h"

namespace graft {
namespace {

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

}  // namespace

int64_t total_parameters(const Model& model) {
  int64_t total = 0;
  for (const auto& [path, parameter] : model.named_parameters()) total += parameter->base.numel();
  return total;
}

RunReport dry_run_report(const Experiment& experiment, const Adapter& adapter, Trainer& trainer) {
  const TensorMap trained = trainable(adapter);
  const int64_t count = parameter_count(trained), total = total_parameters(experiment.model());
  const auto kinds = kinds_of(trained);
  const MemoryPlan memory = plan_memory(experiment, adapter, trainer);
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
                     {"memory_bytes", memory.json()},
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
  text += fmt::format("steps: {}, learning rate {}\n", count_text(trainer.total_steps()),
                      experiment.recipe().train.learning_rate);
  text +=
      fmt::format("memory: about {} (base {}, trained {}, a step's activations {})", bytes_text(memory.total),
                  bytes_text(memory.base), bytes_text(memory.trained), bytes_text(memory.activations));
  if (memory.recomputed > 0)
    text += fmt::format("; {} blocks compute their activations anew", memory.recomputed);
  return report;
}

}  // namespace graft
