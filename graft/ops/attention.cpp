#include "graft/ops/attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "graft/base/error.h"
#include "graft/ops/kernels.h"
#include "graft/ops/parallel.h"
#include "graft/ops/philox.h"
#include "graft/ops/types.h"

namespace graft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Heads of queries that one head of keys serves where a sequence has one query.
constexpr int64_t kMostGroup = 64;

/// What forward and backward share beside tensors.
struct Call : torch::CustomClassHolder {
  Spans queries, keys;
  AttentionOptions options;
};

/// The bias by distance, written out for every distance that occurs: [H, 2 reach + 1], distance 0 in the
/// middle.
struct WrittenBias {
  Tensor values;
  int64_t reach = 0;
};

int64_t longest(const Spans& spans) {
  return spans.lengths.empty() ? 0 : *std::max_element(spans.lengths.begin(), spans.lengths.end());
}

Tensor bias_columns(const Call& call, int64_t reach) {
  const int64_t table = call.options.distance_bias.size(1) / 2;
  return at::arange(-reach, reach + 1, at::kLong).clamp(-table, table) + table;
}

WrittenBias write_bias(const Call& call) {
  if (!call.options.distance_bias.defined()) return {};
  const int64_t reach = std::max(longest(call.keys), longest(call.queries));
  return {call.options.distance_bias.to(at::kFloat).index_select(1, bias_columns(call, reach)).contiguous(),
          reach};
}

/// Pieces (sequence, head of keys), the largest first.
std::vector<std::pair<size_t, int64_t>> pieces(const Call& call, int64_t key_heads) {
  std::vector<size_t> order(call.queries.lengths.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto work = [&](size_t b) { return call.queries.lengths[b] * call.keys.lengths[b]; };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return work(a) > work(b); });
  std::vector<std::pair<size_t, int64_t>> out;
  for (const size_t b : order) {
    if (work(b) == 0) continue;
    for (int64_t g = 0; g < key_heads; ++g) out.emplace_back(b, g);
  }
  return out;
}

struct Tensors {
  Tensor q, k, v, out, log_sum;  // out contiguous; log_sum [H, T]
  Tensor d_out, d_q, d_k, d_v;   // contiguous; undefined where not wanted
};

template <class T>
T* at_row(const Tensor& x, int64_t row, int64_t head) {
  return x.defined() ? const_cast<T*>(x.const_data_ptr<T>()) + row * x.stride(0) + head * x.stride(1)
                     : nullptr;
}

/// The task of sequence b and key head g.
template <class T>
AttentionTask<T> task(const Call& call, const Tensors& x, size_t b, int64_t g) {
  const AttentionOptions& o = call.options;
  const int64_t group = x.q.size(1) / x.k.size(1), head = g * group, rows = x.q.size(0);
  const int64_t row = call.queries.starts[b], key = call.keys.starts[b];
  AttentionTask<T> t{};
  t.queries = call.queries.lengths[b], t.keys = call.keys.lengths[b], t.dim = x.q.size(2), t.group = group;
  t.q = at_row<T>(x.q, row, head), t.k = at_row<T>(x.k, key, g), t.v = at_row<T>(x.v, key, g);
  t.q_row = x.q.stride(0), t.q_head = x.q.stride(1), t.k_row = x.k.stride(0), t.v_row = x.v.stride(0);
  t.out = at_row<T>(x.out, row, head), t.out_row = x.out.stride(0), t.out_head = x.out.stride(1);
  t.log_sum = x.log_sum.mutable_data_ptr<float>() + head * rows + row, t.log_sum_head = rows;
  t.scale = static_cast<float>(o.scale != 0 ? o.scale : 1.0 / std::sqrt(static_cast<double>(t.dim)));
  t.causal = o.causal, t.window = o.window;
  t.drop_below = o.dropout > 0 ? drop_threshold(o.dropout) : 0, t.drop_key = o.key;
  t.kept = static_cast<float>(1.0 / (1.0 - o.dropout));
  t.first_row = static_cast<uint32_t>(row), t.first_head = static_cast<uint32_t>(head);
  t.d_out = at_row<T>(x.d_out, row, head), t.d_q = at_row<T>(x.d_q, row, head);
  t.d_k = at_row<T>(x.d_k, key, g), t.d_v = at_row<T>(x.d_v, key, g);
  t.d_k_row = x.k.size(1) * x.k.size(2);
  return t;
}

/// Runs `kernel` over all pieces. d_bias [threads, H, 2 reach + 1] or undefined.
template <class T, class Kernel>
void run(const Call& call, const Tensors& x, const WrittenBias& bias, const Tensor& d_bias,
         const Kernel& kernel) {
  const auto work = pieces(call, x.k.size(1));
  const int64_t scratch = attention_scratch(longest(call.queries), longest(call.keys), x.q.size(2));
  const Tensor room = empty({at::get_num_threads(), scratch + 16}, at::kFloat);
  each_piece(static_cast<int64_t>(work.size()), [&](int64_t i, int64_t worker) {
    const auto& [b, g] = work[static_cast<size_t>(i)];
    AttentionTask<T> t = task<T>(call, x, b, g);
    if (bias.values.defined()) {
      const int64_t at = g * t.group * bias.values.size(1) + bias.reach;
      t.bias = bias.values.const_data_ptr<float>() + at, t.bias_head = bias.values.size(1);
      if (d_bias.defined()) t.d_bias = d_bias.mutable_data_ptr<float>() + worker * bias.values.numel() + at;
    }
    auto place = reinterpret_cast<uintptr_t>(room.mutable_data_ptr<float>() + worker * (scratch + 16));
    kernel(t, reinterpret_cast<float*>((place + 63) / 64 * 64));
  });
}

bool covers(const Spans& spans, int64_t rows) {
  return std::accumulate(spans.lengths.begin(), spans.lengths.end(), int64_t{0}) == rows;
}

Tensor room_like(const Tensor& x, const Spans& spans) {
  return covers(spans, x.size(0)) ? empty(x.sizes(), x.scalar_type()) : at::zeros(x.sizes(), x.options());
}

Tensor forward(const Call& call, Tensors& x) {
  x.out = room_like(x.q, call.queries);
  x.log_sum = empty({x.q.size(1), x.q.size(0)}, at::kFloat);
  by_type(x.q, [&]<class T>(T) {
    run<T>(call, x, write_bias(call), {}, [](const AttentionTask<T>& t, float* scratch) {
      const bool few = t.queries == 1 && t.group <= kMostGroup;
      (few ? kernels<T>().attention_few : kernels<T>().attention_forward)(t, scratch);
    });
  });
  // A sequence without keys has no task: its rows are zero, as the plain form's.
  for (size_t b = 0; b < call.keys.lengths.size(); ++b) {
    if (call.keys.lengths[b] == 0) x.out.narrow(0, call.queries.starts[b], call.queries.lengths[b]).zero_();
  }
  return x.out;
}

class AttentionOp : public torch::autograd::Function<AttentionOp> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                        const std::optional<Tensor>& distance_bias, const c10::intrusive_ptr<Call>& call) {
    Tensors x{q, k, v, {}, {}, {}, {}, {}, {}};
    const Tensor out = ops::forward(*call, x);
    ctx->save_for_backward({q, k, v, out, x.log_sum});
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    ctx->saved_data["bias"] = distance_bias.has_value() && distance_bias->defined();
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto call = c10::static_intrusive_pointer_cast<Call>(ctx->saved_data["call"].toCapsule());
    const auto saved = ctx->get_saved_variables();
    Tensors x{saved[0], saved[1], saved[2], saved[3], saved[4], gradients[0].contiguous(), {}, {}, {}};
    if (ctx->needs_input_grad(0)) x.d_q = room_like(x.q, call->queries);
    if (ctx->needs_input_grad(1)) x.d_k = room_like(x.k, call->keys);
    if (ctx->needs_input_grad(2)) x.d_v = room_like(x.v, call->keys);
    const bool bias_grad = ctx->saved_data["bias"].toBool() && ctx->needs_input_grad(3);
    const WrittenBias bias = write_bias(*call);
    Tensor sums;
    if (bias_grad)
      sums = at::zeros({at::get_num_threads(), bias.values.size(0), bias.values.size(1)}, at::kFloat);
    by_type(x.q, [&]<class T>(T) { run<T>(*call, x, bias, sums, kernels<T>().attention_backward); });
    for (size_t b = 0; b < call->queries.lengths.size(); ++b) clear_unread(*call, x, b);
    Tensor d_bias;
    if (bias_grad) {
      const Tensor& table = call->options.distance_bias;
      d_bias = at::zeros(table.sizes(), at::kFloat)
                   .index_add(1, bias_columns(*call, bias.reach), sums.sum(0))
                   .to(table.scalar_type());
    }
    return {x.d_q, x.d_k, x.d_v, d_bias, Tensor()};
  }

 private:
  /// A sequence with queries and no keys, or keys and no queries, has no task: its gradients are zero.
  static void clear_unread(const Call& call, const Tensors& x, size_t b) {
    const int64_t queries = call.queries.lengths[b], keys = call.keys.lengths[b];
    if (queries != 0 && keys != 0) return;
    if (x.d_q.defined()) x.d_q.narrow(0, call.queries.starts[b], queries).zero_();
    if (x.d_k.defined()) x.d_k.narrow(0, call.keys.starts[b], keys).zero_();
    if (x.d_v.defined()) x.d_v.narrow(0, call.keys.starts[b], keys).zero_();
  }
};

/// Gradients to keys are written once a sequence: two sequences may not share rows.
bool disjoint(const Spans& spans) {
  std::vector<std::pair<int64_t, int64_t>> ends;
  for (size_t b = 0; b < spans.starts.size(); ++b)
    ends.emplace_back(spans.starts[b], spans.starts[b] + spans.lengths[b]);
  std::sort(ends.begin(), ends.end());
  for (size_t b = 1; b < ends.size(); ++b) {
    if (ends[b].first < ends[b - 1].second) return false;
  }
  return true;
}

void check(const Tensor& q, const Tensor& k, const Tensor& v, const Spans& queries, const Spans& keys,
           bool causal) {
  const size_t sequences = queries.starts.size();
  if (queries.lengths.size() != sequences || keys.starts.size() != sequences ||
      keys.lengths.size() != sequences) {
    throw InternalError("attention", "spans of {} and {} sequences, expected equally many", sequences,
                        keys.starts.size());
  }
  if (q.dim() != 3 || k.dim() != 3 || k.sizes() != v.sizes() || q.size(2) != k.size(2) ||
      q.size(1) % k.size(1) != 0) {
    throw InternalError("attention",
                        "shapes {}, {}, {}, expected [T, H, D], [S, G, D] twice, H a multiple of G",
                        fmt::join(q.sizes(), "×"), fmt::join(k.sizes(), "×"), fmt::join(v.sizes(), "×"));
  }
  for (size_t b = 0; b < sequences; ++b) {
    const int64_t rows = queries.lengths[b], width = keys.lengths[b];
    if (queries.starts[b] < 0 || rows < 0 || queries.starts[b] + rows > q.size(0) || keys.starts[b] < 0 ||
        width < 0 || keys.starts[b] + width > k.size(0)) {
      throw InternalError("attention", "sequence {}: rows outside the tensors", b);
    }
    if (causal && width < rows) {
      throw InternalError("attention", "sequence {}: {} queries, {} keys, expected at least as many keys", b,
                          rows, width);
    }
  }
}

bool has_fast_form(const Tensor& q, const Tensor& k, const Tensor& v) {
  const auto type = q.scalar_type();
  if (k.scalar_type() != type || v.scalar_type() != type || !q.is_cpu()) return false;
  if (q.stride(2) != 1 || k.stride(2) != 1 || v.stride(2) != 1) return false;
  return type == at::kFloat || (type == at::kBFloat16 && q.size(2) % 2 == 0);
}

}  // namespace

Spans Spans::of(const std::vector<int64_t>& offsets) {
  Spans out;
  for (size_t b = 0; b + 1 < offsets.size(); ++b) {
    out.starts.push_back(offsets[b]);
    out.lengths.push_back(offsets[b + 1] - offsets[b]);
  }
  return out;
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Spans& queries, const Spans& keys,
                 const AttentionOptions& options) {
  check(q, k, v, queries, keys, options.causal);
  const bool gradient = at::GradMode::is_enabled() &&
                        (q.requires_grad() || k.requires_grad() || v.requires_grad() ||
                         (options.distance_bias.defined() && options.distance_bias.requires_grad()));
  if (options.softcap > 0 || !has_fast_form(q, k, v) || (gradient && !disjoint(keys)))
    return attention_plain(q, k, v, queries, keys, options);
  auto call = c10::make_intrusive<Call>();
  call->queries = queries, call->keys = keys, call->options = options;
  if (options.distance_bias.defined()) call->options.distance_bias = options.distance_bias.detach();
  if (!gradient) {
    const at::NoGradGuard no_grad;
    Tensors x{q, k, v, {}, {}, {}, {}, {}, {}};
    return forward(*call, x);
  }
  std::optional<Tensor> bias;
  if (options.distance_bias.defined()) bias = options.distance_bias;
  return AttentionOp::apply(q, k, v, bias, call);
}

int64_t attention_scratch(int64_t queries, int64_t keys, int64_t dim) {
  // Generous for both passes and types: five packed or accumulated copies of the keys, four blocks of 64 ×
  // 128 and five of 64 × dim.
  const int64_t width = (dim + 15) / 16 * 16, padded = (keys + 15) / 16 * 16;
  return std::min<int64_t>(queries, 1) * (5 * padded * width + 4 * 64 * 128 + 5 * 64 * width + 16 * 16);
}

}  // namespace graft::ops
