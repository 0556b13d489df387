// The table of one processor's kernels.

template <class T>
constexpr Kernels<T> table() {
  return {
      .isa = kName,
      .attention_forward = attention_forward<T>,
      .attention_backward = attention_backward<T>,
      .attention_few = attention_few<T>,
      .norm_forward = norm_forward<T>,
      .norm_backward = norm_backward<T>,
      .activate = activate<T>,
      .activate_backward = activate_backward<T>,
      .drop = drop<T>,
      .rotate_row = rotate_row<T>,
      .highest = highest<T>,
      .log_sum_exp = log_sum_exp<T>,
      .softmax_gradient = softmax_gradient<T>,
      .pack_down = pack_down<T>,
      .pack_up = pack_up<T>,
      .low_rank_down = low_rank_down<T>,
      .low_rank_up = low_rank_up<T>,
      .low_rank_outer = low_rank_outer<T>,
      .low_rank_merge = low_rank_merge<T>,
      .piece_rows = kPieceRows,
      .piece_columns = kPieceColumns,
      .stream_rows = kStreamRows,
      .stream_panels = kStreamPanels,
      .pack_panel = pack_panel<T>,
      .turn_panels = turn_panels<T>,
      .panel_product = panel_product<T>,
      .rows_to_int8 = rows_to_int8<T>,
      .int8_product = int8_product<T>,
      .adamw = adamw,
  };
}

const Kernels<Half> kHalf = table<Half>();
const Kernels<float> kFloat = table<float>();
