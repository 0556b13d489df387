// What a model computes on: packed rows, and everything that one forward pass needs beside them.
#pragma once
#include "graft/base/random.h"
#include "graft/nn/kv_cache.h"
#include "graft/nn/layout.h"

namespace graft {

struct KeyValue {
  Tensor key, value;  // [V, G, D], not rotated; every sequence sees them first
};

/// What a forward pass leaves behind on request.
struct Trace {
  std::vector<Tensor> hidden_states;          // [T, hidden] each; 0 = embeddings, last = after the final norm
  Tensor pooler_output;                       // [B, hidden]
  std::vector<Tensor> decoder_hidden_states;  // encoder-decoders: hidden_states are the encoder's
};

struct Batch {
  Tensor input_ids;       // [T] int64, or undefined when embeddings are given
  Tensor token_type_ids;  // [T] int64, or undefined: zeros
  Tensor embeddings;      // [T, hidden] or undefined
  Layout layout;
  Tensor decoder_input_ids;   // encoder-decoders: [U] int64, or undefined when decoder_embeddings are given
  Tensor decoder_embeddings;  // [U, hidden] or undefined
  Layout decoder_layout;      // as many sequences as `layout`; the result's rows are the decoder's
  std::vector<KeyValue> prefix;  // per layer (of the decoder, where there are two stacks), or empty
  Tensor rows;                   // [N] int64: the rows of the result that somebody reads; undefined: all
  KvCache* cache = nullptr;      // generation only; what was read before lies there
  KvCache* cross_cache =
      nullptr;  // encoder-decoders, with `cache`: the encoder runs only while this is empty
  RandomStream* dropout = nullptr;  // training only: null switches all dropout off
  Trace* trace = nullptr;
};

}  // namespace graft
