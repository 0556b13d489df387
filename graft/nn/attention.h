// Attention of one layer over a batch: what lies in front of a sequence (prefix, cache) and which rows
// somebody reads. Families project and rotate; everything about where keys lie is here.
#pragma once
#include <optional>

#include "graft/nn/batch.h"
#include "graft/nn/linear.h"
#include "graft/ops/attention.h"

namespace graft {

/// The rows of a batch that the last layer computes its output for.
struct ReadRows {
  Tensor rows;  // [N] int64
  bool early =
      false;  // ascending, and one run a sequence: already the queries are computed for these rows only
  std::vector<int64_t> counts;  // early: [B], how many in each sequence
  std::vector<int64_t> unread;  // early: [B], how many rows of the sequence come after its last read one
  /// batch.rows in that form; nothing where all are read, or where a trace wants all.
  static std::optional<ReadRows> of(const Batch& batch, const Layout& layout);
};

/// x, or its read rows: what residuals and (early) queries are computed from.
Tensor read_rows(const Tensor& x, const ReadRows* read);

/// Which layer of which batch is computed.
struct LayerPass {
  const Batch& batch;
  const Layout& layout;
  int64_t layer = 0;
  const ReadRows* read = nullptr;  // null: all rows
  /// The positions of the queries' rows.
  Tensor query_positions() const;
  /// What queries are projected from.
  Tensor query_input(const Tensor& x) const;
};

struct AttentionSettings {
  bool causal = false;
  int64_t window = 0;         // keys that a query sees, itself included; 0: all
  double scale = 0;           // 0: 1/√D
  double softcap = 0;         // as in ops::AttentionOptions
  double dropout = 0;         // active only where the batch has a stream
  Tensor distance_bias = {};  // as in ops::AttentionOptions
};

/// Projections of one layer. q [T, H, D] ([N, H, D] with early read rows), k and v [T, G, D], rotated where
/// the family rotates.
struct Projections {
  Tensor q, k, v;
};

/// The three maps of x [T, hidden], the queries' where the pass wants them: heads of `head_dim`.
Projections project(const Linear& q, const Linear& k, const Linear& v, const Tensor& x, const LayerPass& pass,
                    int64_t head_dim);

/// → [T, H · D]; [N, H · D] with read rows. Each sequence sees the prefix of its layer first, then what the
/// cache holds of it.
Tensor attend(const Projections& projections, const LayerPass& pass, const AttentionSettings& settings);

/// Attention to another stack's rows: q as in attend, k and v [S, G, D] whose sequences lie at `keys` → as
/// attend.
Tensor attend_across(const Projections& projections, const LayerPass& pass, const ops::Spans& keys,
                     const AttentionSettings& settings);

}  // namespace graft
