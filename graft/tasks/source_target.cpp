#include "graft/tasks/source_target.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "graft/base/error.h"
#include "graft/tasks/packing.h"

namespace graft {

TaskBatch source_target_batch(const std::vector<SourceTarget>& pairs, const ModelInfo& info) {
  std::vector<int64_t> sources, read, written, source_lengths, target_lengths;
  for (const SourceTarget& pair : pairs) {
    if (pair.source.empty() || pair.target.empty())
      throw InternalError("batch", "{} source and {} target ids, expected at least one", pair.source.size(),
                          pair.target.size());
    sources.insert(sources.end(), pair.source.begin(), pair.source.end());
    read.push_back(info.decoder_start_token);
    read.insert(read.end(), pair.target.begin(), pair.target.end() - 1);
    written.insert(written.end(), pair.target.begin(), pair.target.end());
    source_lengths.push_back(static_cast<int64_t>(pair.source.size()));
    target_lengths.push_back(static_cast<int64_t>(pair.target.size()));
  }
  TaskBatch out;
  out.batch.input_ids = at::tensor(sources, at::kLong);
  out.batch.layout = Layout::of(source_lengths);
  out.batch.decoder_input_ids = at::tensor(read, at::kLong);
  out.batch.decoder_layout = Layout::of(target_lengths);
  out.batch.rows = at::arange(out.batch.decoder_layout.rows(), at::kLong);
  out.labels = at::tensor(written, at::kLong);
  out.label_units = static_cast<int64_t>(written.size());
  out.tokens = out.batch.layout.rows() + out.batch.decoder_layout.rows();
  return out;
}

int64_t end_token(const Tokenizer& tokenizer, const std::string& task) {
  if (const auto eos = tokenizer.eos_id()) return *eos;
  throw DataError("task", "the tokenizer has no end-of-sequence token, expected one for {}", task);
}

TextBlockTask::TextBlockTask(const TaskSetup& setup, Blocks blocks)
    : blocks_(std::move(blocks)),
      column_(setup.data.column("text", "text")),
      tokenizer_(setup.tokenizer),
      end_(end_token(setup.tokenizer, blocks_.task)),
      seed_(setup.seed) {}

std::vector<Features> TextBlockTask::features(const std::vector<Example>& examples) const {
  std::vector<TextInput> inputs;
  inputs.reserve(examples.size());
  for (const Example& example : examples) {
    inputs.push_back({.text = text_of(example, column_), .pair = std::nullopt, .add_special_tokens = false});
  }
  const std::vector<Encoding> encodings = tokenizer_.encode_batch(inputs);
  std::vector<Features> out;
  for (size_t i = 0; i < encodings.size(); ++i) {
    const std::vector<int64_t>& ids = encodings[i].ids;
    const auto total = static_cast<int64_t>(ids.size());
    for (int64_t begin = 0; begin + 1 < total; begin += length()) {
      Features block;
      block.input_ids.assign(ids.begin() + begin, ids.begin() + std::min(begin + length(), total));
      block.example = static_cast<int64_t>(i);
      if (block.input_ids.size() > 1) out.push_back(std::move(block));
    }
  }
  if (out.empty() && !examples.empty())
    throw DataError(examples[0].where, "no document of two tokens or more, expected some text");
  return out;
}

TaskBatch TextBlockTask::collate(const std::vector<Features>& features, const std::vector<int64_t>& indices,
                                 const Model& model, int64_t epoch) const {
  std::vector<SourceTarget> pairs;
  for (const int64_t index : indices) {
    RandomStream random(seed_, fmt::format("{} {} {}", blocks_.stream, epoch, index));
    pairs.push_back(parts(features[static_cast<size_t>(index)].input_ids, random));
  }
  return source_target_batch(pairs, model.info());
}

}  // namespace graft
