// Products by matrix tiles (AMX): sixteen rows of sixteen 32-bit units each. Units side by side, as right
// sides and panels have them, are what a right tile wants. Two by two tiles of sums stay in place from the
// first unit to the last.

constexpr int64_t kTile = 16;
/// Steps of fewer units than this leave the tiles too empty.
constexpr int64_t kLeastDepth = 8;

/// A left side [rows, units] and a right side [units, 16 vecs]; strides in bytes. Equal steps of `depth`
/// units make up the sum; no steps where they would be too small.
struct TileSides {
  const void* left = nullptr;
  int64_t left_stride = 0;
  const int32_t* right = nullptr;
  int64_t right_stride = 0;
  int64_t depth = 0, steps = 0;

  TileSides() = default;
  TileSides(const void* l, int64_t l_stride, const int32_t* r, int64_t r_stride, int64_t units)
      : left(l), left_stride(l_stride), right(r), right_stride(r_stride) {
    for (int64_t n = (units + kTile - 1) / kTile; n * kLeastDepth <= units && steps == 0; ++n) {
      if (units % n == 0) steps = n, depth = units / n;
    }
  }
};

/// What the processor reads of its tiles' shapes.
struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t row_count[16] = {};
  /// A tile of no rows is left out.
  void set(int tile, int64_t rows, int64_t units) {
    row_count[tile] = static_cast<uint8_t>(rows);
    row_bytes[tile] = static_cast<uint16_t>(rows > 0 ? 4 * units : 0);
  }
};

/// Makes it so. The compiler's own function names too few bytes as read and would leave stores out.
inline void configure(const TileShapes& shapes) {
  asm volatile("" : : "r"(&shapes) : "memory");
  _tile_loadconfig(&shapes);
}

/// Tiles 0 to 3: sums, [upper, lower] × [left, right]; 4, 5: upper and lower rows; 6, 7: columns. For blocks
/// of at most 32 rows; shaped anew only where rows or depth change.
class BlockTiles {
 public:
  void shape(int64_t rows, int64_t depth) {
    if (rows == rows_ && depth == depth_) return;
    rows_ = rows, depth_ = depth;
    const int64_t upper = std::min(kTile, rows), lower = rows - upper;
    TileShapes shapes;
    for (const int tile : {0, 1}) shapes.set(tile, upper, kTile);
    for (const int tile : {2, 3}) shapes.set(tile, lower, kTile);
    shapes.set(4, upper, depth);
    shapes.set(5, lower, depth);
    for (const int tile : {6, 7}) shapes.set(tile, depth, kTile);
    configure(shapes);
  }

 private:
  int64_t rows_ = 0, depth_ = 0;
};

/// At most 32 rows from `row`, one or two vectors of columns from `vec`.
struct TileBlock {
  int64_t row = 0, rows = 0, vec = 0, wide = 0;
};

/// Calls run(block) for all blocks of rows × vectors, those of the same rows one after the other.
template <class Run>
void each_block(int64_t rows, int64_t vecs, const Run& run) {
  for (int64_t row = 0; row < rows; row += 2 * kTile) {
    for (int64_t vec = 0; vec < vecs; vec += 2)
      run(TileBlock{row, std::min(2 * kTile, rows - row), vec, std::min<int64_t>(2, vecs - vec)});
  }
}

/// sum += left · right: of bfloat16 as float32, or of bytes as whole numbers. A macro, because tiles are
/// named by literals.
#define GRAFT_TILE_DOT(Sum, sum, left, right) \
  do {                                        \
    if constexpr (std::is_same_v<Sum, float>) \
      _tile_dpbf16ps(sum, left, right);       \
    else                                      \
      _tile_dpbusd(sum, left, right);         \
  } while (false)

/// What else there is to do while the tiles work.
struct Nothing {
  void a_step() {}
};

/// A block's sums, `stride` apart, over terms of one depth; meanwhile, a step of other work for each of the
/// sum's.
template <class Sum, bool kLower, bool kRight, class Other>
void tile_sums(const TileSides* terms, int64_t count, const TileBlock& b, Sum* sums, int64_t stride,
               bool accumulate, Other& other) {
  const int64_t bytes = stride * 4;
  Sum* const lower = sums + kTile * stride;
  if (accumulate) {
    _tile_loadd(0, sums, bytes);
    if constexpr (kRight) _tile_loadd(1, sums + kTile, bytes);
    if constexpr (kLower) _tile_loadd(2, lower, bytes);
    if constexpr (kLower && kRight) _tile_loadd(3, lower + kTile, bytes);
  } else {
    _tile_zero(0);
    if constexpr (kRight) _tile_zero(1);
    if constexpr (kLower) _tile_zero(2);
    if constexpr (kLower && kRight) _tile_zero(3);
  }
  for (const TileSides* s = terms; s != terms + count; ++s) {
    const char* left = static_cast<const char*>(s->left) + b.row * s->left_stride;
    const char* right = reinterpret_cast<const char*>(s->right + b.vec * kTile);
    for (int64_t step = 0; step < s->steps; ++step) {
      _tile_loadd(6, right, s->right_stride);
      _tile_loadd(4, left, s->left_stride);
      GRAFT_TILE_DOT(Sum, 0, 4, 6);
      if constexpr (kRight) {
        _tile_loadd(7, right + 64, s->right_stride);
        GRAFT_TILE_DOT(Sum, 1, 4, 7);
      }
      other.a_step();
      if constexpr (kLower) {
        _tile_loadd(5, left + kTile * s->left_stride, s->left_stride);
        GRAFT_TILE_DOT(Sum, 2, 5, 6);
        if constexpr (kRight) GRAFT_TILE_DOT(Sum, 3, 5, 7);
      }
      left += 4 * s->depth;
      right += s->depth * s->right_stride;
    }
  }
  _tile_stored(0, sums, bytes);
  if constexpr (kRight) _tile_stored(1, sums + kTile, bytes);
  if constexpr (kLower) _tile_stored(2, lower, bytes);
  if constexpr (kLower && kRight) _tile_stored(3, lower + kTile, bytes);
}

/// The same for a block of any size, over all terms.
template <class Sum, class Other>
void block_sums(BlockTiles& tiles, const TileSides* terms, int64_t count, const TileBlock& b, Sum* sums,
                int64_t stride, bool accumulate, Other& other) {
  const bool lower = b.rows > kTile, right = b.wide > 1;
  const auto run = lower ? (right ? tile_sums<Sum, true, true, Other> : tile_sums<Sum, true, false, Other>)
                         : (right ? tile_sums<Sum, false, true, Other> : tile_sums<Sum, false, false, Other>);
  for (int64_t first = 0, last = 0; first < count; first = last) {
    while (last < count && terms[last].depth == terms[first].depth) ++last;
    tiles.shape(b.rows, terms[first].depth);
    run(terms + first, last - first, b, sums, stride, accumulate || first > 0, other);
  }
}

// The operations that have a form by tiles: true when it was taken.

inline bool tiles_product(const Product<Half>& g, int64_t rows, int64_t vecs) {
  const TileSides sides(g.a, g.lda * 2, g.b, g.right.step * 4, g.steps);
  if (sides.steps == 0) return false;
  BlockTiles tiles;
  Nothing nothing;
  each_block(rows, vecs, [&](const TileBlock& b) {
    block_sums(tiles, &sides, 1, b, g.c + b.row * g.ldc + 16 * b.vec, g.ldc, g.accumulate, nothing);
  });
  _tile_release();
  return true;
}

/// Sums [≤ 16, 64], `stride` apart, of all rows and a whole panel, which streams from memory: sixteen rows at
/// nearly the speed of few.
template <class Sum>
void tile_stream(const TileSides& s, int64_t rows, Sum* sums, int64_t stride, bool accumulate) {
  constexpr int64_t kAhead = 3;  // steps
  TileShapes shapes;
  for (const int tile : {0, 1, 2, 3}) shapes.set(tile, rows, kTile);
  shapes.set(4, rows, s.depth);
  for (const int tile : {5, 6, 7}) shapes.set(tile, s.depth, kTile);
  configure(shapes);
  if (accumulate) {
    _tile_loadd(0, sums, stride * 4);
    _tile_loadd(1, sums + kTile, stride * 4);
    _tile_loadd(2, sums + 2 * kTile, stride * 4);
    _tile_loadd(3, sums + 3 * kTile, stride * 4);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const char* left = static_cast<const char*>(s.left);
  const char* right = reinterpret_cast<const char*>(s.right);
  const int64_t bytes = s.depth * s.right_stride;
  for (int64_t step = 0; step < s.steps; ++step) {
    const char* ahead = right + kAhead * bytes;
    const auto ask = [&] {
      for (const char* const end = ahead + bytes / 4; ahead < end; ahead += 64)
        _mm_prefetch(ahead, _MM_HINT_T0);
    };
    _tile_loadd(4, left, s.left_stride);
    ask();
    _tile_loadd(5, right, s.right_stride);
    GRAFT_TILE_DOT(Sum, 0, 4, 5);
    ask();
    _tile_loadd(6, right + 64, s.right_stride);
    GRAFT_TILE_DOT(Sum, 1, 4, 6);
    ask();
    _tile_loadd(7, right + 128, s.right_stride);
    GRAFT_TILE_DOT(Sum, 2, 4, 7);
    ask();
    _tile_loadd(5, right + 192, s.right_stride);
    GRAFT_TILE_DOT(Sum, 3, 4, 5);
    left += 4 * s.depth;
    right += bytes;
  }
  _tile_stored(0, sums, stride * 4);
  _tile_stored(1, sums + kTile, stride * 4);
  _tile_stored(2, sums + 2 * kTile, stride * 4);
  _tile_stored(3, sums + 3 * kTile, stride * 4);
}

/// Sums of a block's rows [first, last), which begin at `sums`, `stride` apart.
template <class Sum>
struct SumRows {
  TileBlock block;
  int64_t first, last;
  const Sum* sums;
  int64_t stride;
};

/// A block whose sums are there: finish(SumRows) makes results of them, some rows a step.
template <class Sum, class Finish>
class Finishing {
 public:
  Finishing(const Finish& finish, int64_t stride) : finish_(finish), stride_(stride) {}
  /// Another block, which the next one's `steps` will do; the one before is done.
  void start(const TileBlock& block, const Sum* sums, int64_t steps) {
    block_ = block, sums_ = sums, next_ = 0;
    each_ = (block.rows + steps - 1) / steps;
  }
  void a_step() { rows(std::min(block_.rows, next_ + each_)); }
  void rest() { rows(block_.rows); }

 private:
  void rows(int64_t last) {
    if (next_ < last) finish_(SumRows<Sum>{block_, next_, last, sums_ + next_ * stride_, stride_});
    next_ = last;
  }
  const Finish& finish_;
  int64_t stride_;
  TileBlock block_;
  const Sum* sums_ = nullptr;
  int64_t next_ = 0, each_ = 0;
};

/// Results that will be written are asked for, to be owned: a tile's time hides that memory's.
template <class T>
[[gnu::always_inline]] inline void ask_for_rows(const TileBlock& b, T* y, int64_t stride) {
  T* first = y + b.row * stride + 16 * b.vec;
  for (int64_t i = 0; i < b.rows; ++i, first += stride) {
    for (int64_t at = 0; at < 16 * b.wide; at += 64 / static_cast<int64_t>(sizeof(T)))
      __builtin_prefetch(first + at, 1);
  }
}

/// All sums of a piece, over all terms, for finish(SumRows), which makes y of them. A block is finished
/// between the steps of the next one: the tiles go on, where behind them they would wait a third of the time.
template <class Sum, class T, class Finish>
void tile_panel(const TileSides* terms, int64_t count, int64_t rows, int64_t vecs, T* y, int64_t y_stride,
                const Finish& finish) {
  constexpr int64_t kStride = 2 * kTile;
  alignas(64) Sum sums[2][2 * kTile * kStride];
  if (rows <= kTile && vecs == 4) {
    static_assert(sizeof(sums[0]) >= kTile * kPanel * sizeof(Sum));
    for (int64_t i = 0; i < count; ++i) tile_stream(terms[i], rows, sums[0], kPanel, i > 0);
    _tile_release();
    for (int64_t vec = 0; vec < vecs; vec += 2)
      finish(SumRows<Sum>{{0, rows, vec, 2}, 0, rows, sums[0] + 16 * vec, kPanel});
    return;
  }
  int64_t steps = 0;
  for (int64_t i = 0; i < count; ++i) steps += terms[i].steps;
  BlockTiles tiles;
  Finishing<Sum, Finish> before(finish, kStride);
  int64_t at = 0;
  each_block(rows, vecs, [&](const TileBlock& block) {
    ask_for_rows(block, y, y_stride);
    block_sums(tiles, terms, count, block, sums[at], kStride, false, before);
    before.rest();
    before.start(block, sums[at], steps);
    at = 1 - at;
  });
  before.rest();
  _tile_release();
}

/// sums + bias as bfloat16. Whole lines have a loop of their own: a tenth of a product.
inline void store_sums(const PanelProduct<Half>& g, const SumRows<float>& r) {
  const int64_t column = 16 * r.block.vec, left = std::min<int64_t>(16, g.columns - column),
                right = std::clamp<int64_t>(g.columns - column - 16, 0, 16);
  const Vec left_bias = g.bias ? vload_first(g.bias + column, left) : vset(0.0f);
  const Vec right_bias = g.bias ? vload_first(g.bias + column + 16, right) : vset(0.0f);
  Half* y = g.y + (r.block.row + r.first) * g.y_stride + column;
  const float* sums = r.sums;
  if (right == 16) {
    for (int64_t i = r.first; i < r.last; ++i, sums += r.stride, y += g.y_stride) {
      vstore(y, vload(sums) + left_bias);
      vstore(y + 16, vload(sums + 16) + right_bias);
    }
    return;
  }
  for (int64_t i = r.first; i < r.last; ++i, sums += r.stride, y += g.y_stride) {
    vstore_first(y, vload(sums) + left_bias, left);
    if (right > 0) vstore_first(y + 16, vload(sums + 16) + right_bias, right);
  }
}

inline bool tiles_panel_product(const PanelProduct<Half>& g) {
  const int64_t vecs = (g.columns + 15) / 16;
  std::array<TileSides, kMostTerms> terms;
  for (int64_t i = 0; i < g.count; ++i) {
    const PanelSides<Half>& t = g.terms[i];
    TileSides& sides = terms[static_cast<size_t>(i)];
    sides = TileSides(t.x, t.x_stride * 2, t.panel, vecs * 64, t.units);
    if (sides.steps == 0) return false;
  }
  tile_panel<float>(terms.data(), g.count, g.rows, vecs, g.y, g.y_stride,
                    [&](const SumRows<float>& r) { store_sums(g, r); });
  return true;
}

template <class T>
bool tiles_int8_product(const Int8Product<T>& g) {
  const int64_t vecs = (g.columns + 15) / 16;
  const TileSides sides(g.x, g.x_stride, g.panel, vecs * 64, g.units);
  if (sides.steps == 0) return false;
  tile_panel<int32_t>(&sides, 1, g.rows, vecs, g.y, g.y_stride, [&](const SumRows<int32_t>& r) {
    for (int64_t v = 0; v < r.block.wide; ++v) {
      const Int8Columns columns(g, 16 * (r.block.vec + v));
      const Pairs offset = pload(g.offset + columns.first);
      for (int64_t i = 0; i < r.last - r.first; ++i) {
        const Pairs whole = pminus(pload(r.sums + i * r.stride + 16 * v), offset);
        int8_lanes(g, columns, r.block.row + r.first + i, whole, g.panel + columns.first, 16 * vecs);
      }
    }
  });
  return true;
}
#undef GRAFT_TILE_DOT
