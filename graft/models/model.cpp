#include "graft/models/model.h"

#include <fmt/ranges.h>

#include <utility>

#include "graft/base/error.h"

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

Model::Init Model::init(const std::string& path, const Parameter& parameter) const {
  if (path.ends_with("bias")) return {};
  if (parameter.shape.size() == 1) return {.deviation = 0, .value = 1};
  return {.deviation = config.value("initializer_range", 0.02)};
}

}  // namespace graft
