#include "graft/models/model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "graft/base/error.h"
#include "graft/nn/chunked_sum.h"
#include "graft/ops/cross_entropy.h"

namespace graft {
namespace {

const std::vector<std::pair<HeadKind, std::string>>& head_table() {
  static const std::vector<std::pair<HeadKind, std::string>> rows = {
      {HeadKind::none, "none"},
      {HeadKind::causal_lm, "causal_lm"},
      {HeadKind::masked_lm, "masked_lm"},
      {HeadKind::sequence_classification, "sequence_classification"},
      {HeadKind::token_classification, "token_classification"},
      {HeadKind::question_answering, "question_answering"},
      {HeadKind::multiple_choice, "multiple_choice"},
      {HeadKind::seq2seq_lm, "seq2seq_lm"},
  };
  return rows;
}

/// Rows that are read for one product with a large vocabulary's weight: fewer would wait for its memory.
constexpr int64_t kLeastRows = 384;
/// Logits of a small vocabulary that are made at once.
constexpr int64_t kLogitsAtOnce = int64_t{1} << 22;

/// Rows a chunk. A trained map's gradient is as large as its weight, and read and written for each chunk: as
/// many logits pay for it and are no more memory.
int64_t chunk_rows(const Model& model, const Linear* map) {
  const int64_t words = std::max<int64_t>(1, model.info().vocab_size);
  const int64_t rows = std::max(kLeastRows, kLogitsAtOnce / words);
  const bool plain = map != nullptr && map->weight->frozen() && !map->hook;
  return plain ? rows : std::max(rows, model.info().hidden_size);
}

}  // namespace

std::string head_name(HeadKind head) {
  for (const auto& [kind, name] : head_table()) {
    if (kind == head) return name;
  }
  throw InternalError("head", "kind {} has no name", static_cast<int>(head));
}

HeadKind head_kind(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [kind, known] : head_table()) {
    if (known == name) return kind;
    names.push_back(known);
  }
  throw UsageError("head", "{}, expected one of {}{}", name, fmt::join(names, ", "),
                   did_you_mean(name, names));
}

Tensor Model::vocabulary_loss(const Tensor& hidden, const Tensor& targets, const Batch& batch) {
  const auto part = [&](const Tensor& rows, int64_t first) {
    return ops::cross_entropy(logits(rows, batch), targets.narrow(0, first, rows.size(0)));
  };
  // Chunks of nearly equal size.
  const int64_t rows = hidden.size(0), most = chunk_rows(*this, output_embedding());
  const int64_t chunks = std::max<int64_t>(1, (rows + most - 1) / most);
  return chunked_sum(part, hidden, std::max<int64_t>(1, (rows + chunks - 1) / chunks));
}

Model::Init Model::init(const std::string& path, const Parameter& parameter) const {
  if (path.ends_with("bias")) return {};
  if (parameter.shape.size() == 1) return {.deviation = 0, .value = 1};
  return {.deviation = config.value("initializer_range", 0.02)};
}

}  // namespace graft
