#include "graft/tasks/glue.h"

namespace graft {
namespace {

Json columns(const std::string& text, const std::string& pair, const std::string& label) {
  Json out = {{"text", text}};
  if (!pair.empty()) out["text_pair"] = pair;
  out["label"] = label;
  return {{"columns", out}};
}

Json classes(std::vector<std::string> labels, std::vector<std::string> metrics) {
  return {{"problem_type", "single_label_classification"}, {"labels", labels}, {"metrics", metrics}};
}

TaskPreset preset(const std::string& name, Json task, Json data) {
  return {"glue/" + name, "sequence_classification", std::move(task), std::move(data)};
}

std::vector<TaskPreset> make_presets() {
  const std::vector<std::string> binary{"0", "1"}, entailed{"entailment", "not_entailment"};
  // train.tsv and dev.tsv of CoLA begin with their first row.
  Json cola = columns("sentence", "", "label");
  cola["header"] = false;
  cola["names"] = {"source", "label", "mark", "sentence"};
  return {
      preset("cola", classes(binary, {"matthews", "accuracy"}), cola),
      preset("sst2", classes(binary, {"accuracy"}), columns("sentence", "", "label")),
      preset("mrpc", classes(binary, {"accuracy", "f1"}), columns("#1 String", "#2 String", "Quality")),
      preset("stsb", {{"problem_type", "regression"}, {"metrics", {"pearson", "spearman"}}},
             columns("sentence1", "sentence2", "score")),
      preset("qqp", classes(binary, {"accuracy", "f1"}), columns("question1", "question2", "is_duplicate")),
      preset("mnli", classes({"entailment", "neutral", "contradiction"}, {"accuracy"}),
             columns("sentence1", "sentence2", "gold_label")),
      preset("qnli", classes(entailed, {"accuracy"}), columns("question", "sentence", "label")),
      preset("rte", classes(entailed, {"accuracy"}), columns("sentence1", "sentence2", "label")),
      preset("wnli", classes(binary, {"accuracy"}), columns("sentence1", "sentence2", "label")),
  };
}

}  // namespace

const std::vector<TaskPreset>& glue_presets() {
  static const std::vector<TaskPreset> table = make_presets();
  return table;
}

}  // namespace graft
