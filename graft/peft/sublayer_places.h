// Where a model's sublayers are: which part of which layer each slot belongs to.
#pragma once
#include <string>
#include <vector>

#include "graft/models/model.h"

namespace graft {

enum class SublayerKind { attention, cross_attention, feed_forward };

struct SublayerPlace {
  std::string path;  // of the slot
  SublayerKind kind;
  /// Counted as AdapterHub does: from the lowest layer on, an encoder-decoder's decoder behind its encoder.
  int64_t layer = 0;
  /// The same, within encoder or decoder.
  int64_t layer_of_stack = 0;
  bool in_decoder = false;  // of an encoder-decoder
};

/// Every slot, in the model's order. ALBERT's shared blocks are one layer each.
std::vector<SublayerPlace> sublayer_places(Model& model);

}  // namespace graft
