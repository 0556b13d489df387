#include "graft/peft/soft_prompt.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <utility>

#include "graft/base/error.h"

namespace graft {
namespace {

/// Where the rows of [prompts; own] go: for each sequence its prompt, then its own rows.
struct Arrangement {
  Tensor order;  // [T'] into the concatenation of the prompt's S rows and the T own ones
  Layout layout;
  Arrangement(const Layout& own, const std::vector<int64_t>& first, int64_t length, int64_t prompt_rows) {
    std::vector<int64_t> rows, lengths;
    for (int64_t b = 0; b < own.sequences(); ++b) {
      for (int64_t i = 0; i < length; ++i) rows.push_back(first[static_cast<size_t>(b)] + i);
      for (int64_t i = 0; i < own.length(b); ++i) {
        rows.push_back(prompt_rows + own.offsets[static_cast<size_t>(b)] + i);
      }
      lengths.push_back(own.length(b) + length);
    }
    order = at::tensor(rows, at::kLong);
    // Positions count over prompt and text, whatever the caller's said: PEFT drops them.
    layout = Layout::of(lengths);
  }
};

/// `batch.rows` are rows of the text: where they lie behind the prompts. A sequence head reads its own kind
/// of row again, of embeddings, which are no padding.
void move_rows(Batch& batch, const Model& model, const Tensor& ids, const Layout& before, const Layout& after,
               int64_t length) {
  if (!batch.rows.defined()) return;
  const Tensor head = model.head_rows(before, ids);
  if (head.defined() && head.equal(batch.rows)) {
    batch.rows = model.head_rows(after, {});
    return;
  }
  std::vector<int64_t> sequence_of(static_cast<size_t>(before.rows()));
  for (int64_t b = 0; b < before.sequences(); ++b) {
    for (int64_t i = 0; i < before.length(b); ++i) {
      sequence_of[static_cast<size_t>(before.offsets[static_cast<size_t>(b)] + i)] = b;
    }
  }
  const Tensor sequences = at::tensor(sequence_of, at::kLong).index_select(0, batch.rows);
  batch.rows = batch.rows + (sequences + 1) * length;
}

/// The model's lookup changes nothing; only its signature is not const.
Tensor embedded(const Model& model, const Tensor& ids) {
  return const_cast<Model&>(model).word_embedding().forward(ids);
}

Tensor arranged(const Tensor& prompt, const Tensor& own, const Tensor& order) {
  return at::cat({prompt.to(own.scalar_type()), own}).index_select(0, order);
}

/// True where an earlier pass has read the prompt into the cache.
bool was_read(const Batch& batch) {
  return batch.cache && batch.cache->sequences() > 0 && batch.cache->length(0) > 0;
}

}  // namespace

Tensor PromptSource::rows() {
  if (!encoder_) return rows_;
  last_ = encoder_->forward(rows_);
  if (last_.requires_grad()) last_.retain_grad();
  return last_;
}

EmbeddedPrompt::Rows EmbeddedPrompt::rows_for(const Batch& batch, bool) {
  return {source_.rows().slice(0, 0, length_),
          std::vector<int64_t>(static_cast<size_t>(batch.layout.sequences()), 0)};
}

Batch EmbeddedPrompt::filled(const Model& model, Batch batch) {
  const Rows rows = rows_for(batch, false);
  const Tensor own = embedded(model, batch.input_ids.clamp_min(0));
  std::vector<int64_t> order;
  const int64_t* ids = batch.input_ids.const_data_ptr<int64_t>();
  for (int64_t b = 0; b < batch.layout.sequences(); ++b) {
    for (int64_t t = batch.layout.offsets[static_cast<size_t>(b)];
         t < batch.layout.offsets[static_cast<size_t>(b) + 1]; ++t) {
      const int64_t row = -1 - ids[t];
      if (row >= length_)
        throw DataError("prompt", "pseudo token {}, expected fewer than the prompt's {}", row, length_);
      order.push_back(row >= 0 ? rows.first[static_cast<size_t>(b)] + row : rows.values.size(0) + t);
    }
  }
  batch.embeddings = arranged(rows.values, own, at::tensor(order, at::kLong));
  batch.input_ids = Tensor();
  return batch;
}

Batch EmbeddedPrompt::before(const Model& model, Batch batch) {
  if (batch.input_ids.defined() && batch.input_ids.lt(0).any().item<bool>())
    return filled(model, std::move(batch));
  const bool two_stacks = model.info().is_encoder_decoder;
  if (was_read(batch)) {
    Layout& layout = two_stacks ? batch.decoder_layout : batch.layout;
    if (!two_stacks || in_decoder()) layout.positions = layout.positions + length_;
    return batch;
  }
  const Rows rows = rows_for(batch, false);
  const Arrangement input(batch.layout, rows.first, length_, rows.values.size(0));
  const Tensor own = batch.embeddings.defined() ? batch.embeddings : embedded(model, batch.input_ids);
  batch.embeddings = arranged(rows.values, own, input.order);
  const Tensor ids = std::exchange(batch.input_ids, Tensor());
  if (batch.token_type_ids.defined()) {
    const Tensor zeros = at::zeros({rows.values.size(0)}, batch.token_type_ids.options());
    batch.token_type_ids = at::cat({zeros, batch.token_type_ids}).index_select(0, input.order);
  }
  if (!two_stacks) move_rows(batch, model, ids, batch.layout, input.layout, length_);
  batch.layout = input.layout;
  if (!two_stacks || !in_decoder()) return batch;
  const Rows decoder_rows = rows_for(batch, true);
  const Arrangement decoder(batch.decoder_layout, decoder_rows.first, length_, decoder_rows.values.size(0));
  batch.decoder_embeddings =
      arranged(decoder_rows.values, embedded(model, batch.decoder_input_ids), decoder.order);
  batch.decoder_input_ids = Tensor();
  move_rows(batch, model, {}, batch.decoder_layout, decoder.layout, length_);
  batch.decoder_layout = decoder.layout;
  return batch;
}

Batch PrefixPrompt::before(const Model& model, Batch batch) {
  const Tensor rows = source_.rows();
  const int64_t length = rows.size(0);
  // [2 L, v, heads, head_dim]
  const Tensor parts = rows.view({length, 2 * layers_, heads_, -1}).permute({1, 0, 2, 3});
  const bool two_stacks = model.info().is_encoder_decoder;
  batch.prefix.clear();
  for (int64_t layer = 0; layer < layers_; ++layer) {
    // With two stacks PEFT hands out four rows a layer, of which transformers reads two.
    const int64_t first = two_stacks ? 4 * layer % (2 * layers_) : 2 * layer;
    const int64_t second = two_stacks ? (4 * layer + 1) % (2 * layers_) : 2 * layer + 1;
    batch.prefix.push_back({parts[first], parts[second]});
  }
  Layout& layout = two_stacks ? batch.decoder_layout : batch.layout;
  layout.positions = layout.positions + length;
  return batch;
}

void save_encoded(Adapter& adapter) {
  const auto prompt = std::dynamic_pointer_cast<SoftPrompt>(adapter.input);
  if (!prompt || !prompt->source().encoded()) return;
  adapter.before_saving = [prompt](TensorMap& tensors, Json&) {
    const at::NoGradGuard no_grad;
    std::erase_if(tensors, [](const auto& entry) { return entry.first.starts_with("prompt_encoder."); });
    tensors["prompt_embeddings"] = prompt->source().rows().contiguous();
  };
}

}  // namespace graft
