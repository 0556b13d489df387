#include "graft/models/xlm_roberta.h"

#include "graft/models/roberta.h"

namespace graft {
namespace {

std::unique_ptr<Model> create(const Json& config, HeadKind head, int64_t num_labels) {
  return new_roberta(config, "xlm-roberta", head, num_labels);
}

}  // namespace

const Family kXlmRoberta = {
    .model_type = "xlm-roberta",
    .create = create,
    .prefix = "roberta.",
    .architectures = {{"XLMRobertaModel", HeadKind::none},
                      {"XLMRobertaForMaskedLM", HeadKind::masked_lm},
                      {"XLMRobertaForSequenceClassification", HeadKind::sequence_classification},
                      {"XLMRobertaForTokenClassification", HeadKind::token_classification},
                      {"XLMRobertaForQuestionAnswering", HeadKind::question_answering},
                      {"XLMRobertaForMultipleChoice", HeadKind::multiple_choice}},
    .heads = {"lm_head.", "classifier.", "qa_outputs.", "roberta.pooler.", "pooler."},
    .buffers = {"embeddings.position_ids", "embeddings.token_type_ids"},
};

}  // namespace graft
