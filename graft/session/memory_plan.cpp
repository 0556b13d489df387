#include "graft/session/memory_plan.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <set>

#include "graft/base/error.h"
#include "graft/base/log.h"
#include "graft/data/order.h"
#include "graft/ops/tensor_memory.h"
#include "graft/session/machine.h"
#include "graft/session/progress.h"

namespace graft {
namespace {

/// Rows of a small batch: enough that every tensor is one of the large ones that are counted, and few enough
/// that it takes little time.
constexpr int64_t kSmallRows = 384;

using Indices = std::vector<int64_t>;

int64_t rows_of(const Indices& indices, const std::vector<int64_t>& lengths) {
  return std::accumulate(indices.begin(), indices.end(), int64_t{0}, [&](int64_t sum, int64_t index) {
    return sum + lengths[static_cast<size_t>(index)];
  });
}

/// The run's batch with the most rows, in its first epoch.
Indices largest_batch(const TrainConfig& train, const std::vector<int64_t>& lengths) {
  const BatchOptions options{.batch_size = train.batch_size,
                             .batch_tokens = train.batch_tokens,
                             .shuffle = train.shuffle,
                             .group_by_length = train.group_by_length};
  const auto batches = epoch_batches(lengths, options, static_cast<uint64_t>(train.seed), 0);
  return *std::max_element(batches.begin(), batches.end(), [&](const Indices& a, const Indices& b) {
    return rows_of(a, lengths) < rows_of(b, lengths);
  });
}

/// The batch's first sequences, at least one, up to so many rows.
Indices first_of(const Indices& batch, const std::vector<int64_t>& lengths, int64_t rows) {
  Indices out;
  int64_t sum = 0;
  for (const int64_t index : batch) {
    if (!out.empty() && sum + lengths[static_cast<size_t>(index)] > rows) break;
    out.push_back(index);
    sum += lengths[static_cast<size_t>(index)];
  }
  return out;
}

/// What is resident beside the tensors' region.
int64_t beside_tensors() { return memory_bytes() - ops::tensor_memory().reached; }

/// oneDNN makes, and keeps, kernels for each number of rows; after a few they are the same ones.
constexpr int64_t kNumbersOfRows = 4;

/// What a batch's gradients take, for a number of recomputed blocks.
class StepBytes {
 public:
  StepBytes(const Experiment& experiment, Trainer& trainer)
      : trainer_(trainer), lengths_(lengths_of(experiment.features(Split::train))) {
    large_ = largest_batch(experiment.recipe().train, lengths_);
    small_ = first_of(large_, lengths_, kSmallRows);
    middle_ = first_of(large_, lengths_, 2 * rows_of(small_, lengths_));
    trainer_.measure_bytes(small_, 0);  // weights are packed now, which is no part of a step
    packed_beside_ = beside_tensors();
  }
  /// After of(): resident at the highest. Tensors that stay and a step's are spread over the region as the
  /// last batch's were; what lies beside it has grown for one number of rows, and will for a few more.
  int64_t resident(int64_t step) const {
    const int64_t beside = beside_tensors(), grown = std::max<int64_t>(0, beside - packed_beside_);
    const ops::TensorMemory tensors = ops::tensor_memory();
    const double spread =
        static_cast<double>(tensors.reached) / static_cast<double>(std::max<int64_t>(1, tensors.peak));
    return beside + kNumbersOfRows * grown +
           static_cast<int64_t>(spread * static_cast<double>(tensors.bytes + step));
  }
  int64_t of(int64_t recomputed) {
    const int64_t rows = rows_of(large_, lengths_);
    const int64_t rows_small = rows_of(small_, lengths_), rows_middle = rows_of(middle_, lengths_);
    if (rows_middle == rows_small) return trainer_.measure_bytes(large_, recomputed);
    const auto small = static_cast<double>(trainer_.measure_bytes(small_, recomputed));
    const auto middle = static_cast<double>(trainer_.measure_bytes(middle_, recomputed));
    const double a_row = (middle - small) / static_cast<double>(rows_middle - rows_small);
    return static_cast<int64_t>(middle + a_row * static_cast<double>(rows - rows_middle));
  }

 private:
  Trainer& trainer_;
  std::vector<int64_t> lengths_;
  Indices large_, middle_, small_;
  int64_t packed_beside_ = 0;
};

int64_t bytes_of(const TensorMap& tensors) {
  int64_t bytes = 0;
  for (const auto& [key, tensor] : tensors) bytes += static_cast<int64_t>(tensor.nbytes());
  return bytes;
}

/// Of the frozen weights, in the form that they are multiplied in. In 8 bits it is two layouts of a byte a
/// number, and the head's exact gradient; a table that other rows are looked up in stays beside that.
int64_t base_bytes(Model& model) {
  int64_t bytes = 0;
  std::set<const Parameter*> replaced;
  for (const auto& [path, module] : model.named_modules()) {
    const auto* const linear = dynamic_cast<const Linear*>(module);
    if (linear == nullptr || !linear->int8() || !linear->weight->frozen()) continue;
    const int64_t numbers = linear->weight->base.numel();
    bytes += linear->int8()->exact_gradient ? 3 * numbers : 2 * numbers;
    if (!linear->int8()->exact_gradient) replaced.insert(linear->weight.get());
  }
  for (const auto& [path, parameter] : model.named_parameters()) {
    if (!replaced.contains(parameter.get())) bytes += static_cast<int64_t>(parameter->base.nbytes());
  }
  return bytes;
}

/// How many of the blocks can be recomputed: the last block's activations are there at the end in any case.
int64_t most_blocks(const ModelInfo& info) {
  return std::max<int64_t>(0, std::max(info.num_layers, info.num_encoder_layers) - 1);
}

}  // namespace

Json MemoryPlan::json() const {
  return {{"base", base},
          {"trained", trained},
          {"activations", activations},
          {"process", std::max<int64_t>(0, total - base - trained - activations)},
          {"total", total},
          {"recomputed_blocks", recomputed}};
}

int64_t parse_bytes(const std::string& text, const std::string& path) {
  static const std::vector<std::pair<std::string, double>> units{
      {"", 1},      {"B", 1},        {"kB", 1e3},     {"KB", 1e3},     {"MB", 1e6},    {"GB", 1e9},
      {"TB", 1e12}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  std::string unit(end);
  unit.erase(0, std::min(unit.size(), unit.find_first_not_of(' ')));
  for (const auto& [name, factor] : units) {
    if (unit == name && end != text.c_str() && number > 0 && number * factor < 0x1p62)
      return static_cast<int64_t>(number * factor);
  }
  throw UsageError(path, "'{}', expected a size, for example 8GiB", text);
}

MemoryPlan plan_memory(const Experiment& experiment, const Adapter& adapter, Trainer& trainer) {
  Model& model = experiment.model();
  const TrainConfig& train = experiment.recipe().train;
  const int64_t most = most_blocks(model.info());
  MemoryPlan plan;
  plan.base = base_bytes(model);
  const int64_t values = bytes_of(trainable(adapter));
  // A copy of the best state is kept where there is an evaluation.
  const int64_t best = experiment.features(Split::validation).empty() ? 0 : values;
  plan.trained = values + trainer.state_bytes() + best;
  plan.recomputed = train.checkpointing == "true" ? most : 0;
  StepBytes step(experiment, trainer);
  plan.activations = step.of(plan.recomputed);
  plan.total = step.resident(plan.activations) + best;
  if (train.memory.empty()) return plan;
  const int64_t limit = parse_bytes(train.memory, "train.memory");
  if (plan.total > limit && train.checkpointing == "auto" && most > 0) {
    const int64_t least = step.of(most);
    const double a_block =
        std::max(1.0, static_cast<double>(plan.activations - least) / static_cast<double>(most));
    const double blocks = std::ceil(static_cast<double>(plan.total - limit) / a_block);
    plan.recomputed = std::min(most, static_cast<int64_t>(blocks));
    const double saved = a_block * static_cast<double>(plan.recomputed);
    plan.activations -= static_cast<int64_t>(saved);
    plan.total -= static_cast<int64_t>(saved);
  }
  if (plan.total > limit) {
    warn(
        "train.memory: {} with {} of {} blocks computed anew, {} is given; a smaller batch_size or "
        "batch_tokens takes less",
        bytes_text(plan.total), plan.recomputed, most, bytes_text(limit));
  }
  return plan;
}

}  // namespace graft
