#include "graft/peft/intrinsic_map.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "graft/base/error.h"
#include "graft/base/random.h"
#include "graft/ops/parallel.h"

namespace graft {
namespace {

constexpr int64_t kLargest = int64_t{1} << 28;  // values of one transform, or of one dense matrix

int bits_for(int64_t values) { return static_cast<int>(std::bit_width(static_cast<uint64_t>(values - 1))); }

/// The fast forms compute in float32; float64 goes through the plain ones.
bool fast(const Tensor& x) { return x.scalar_type() == at::kFloat && x.device().is_cpu(); }

/// base + times · part, part float32, rounded once to the base's type. Some values after the other, so that
/// what is wide stays in the cache.
Tensor narrow_sum(const Tensor& base, const Tensor& part, double times) {
  constexpr int64_t kTogether = 1 << 16;
  const Tensor out = at::empty(base.sizes(), base.options());
  const Tensor from = base.reshape({-1}), added = part.reshape({-1}), to = out.view({-1});
  at::parallel_for(0, from.numel(), kTogether, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    for (; begin < end; begin += kTogether) {
      const int64_t count = std::min(kTogether, end - begin);
      Tensor wide = from.narrow(0, begin, count).to(part.scalar_type());
      to.narrow(0, begin, count).copy_(wide.add_(added.narrow(0, begin, count), times));
    }
  });
  return out;
}

/// Maps up to this size are computed one a thread, larger ones by all threads together.
constexpr int kSmallBits = 17;

}  // namespace

IntrinsicMap::IntrinsicMap(std::vector<MappedTensor> tensors, const IntrinsicOptions& options)
    : tensors_(std::move(tensors)) {
  for (const MappedTensor& tensor : tensors_) dimension_ += tensor.numel;
  if (options.per_tensor) {
    for (size_t i = 0; i < tensors_.size(); ++i) add_block(i, 1, tensors_[i].path, options);
  } else {
    add_block(0, tensors_.size(), "all", options);
  }
}

void IntrinsicMap::add_block(size_t first, size_t count, const std::string& name,
                             const IntrinsicOptions& options) {
  Block block;
  block.first = first;
  block.count = count;
  for (size_t i = first; i < first + count; ++i) block.dimension += tensors_[i].numel;
  block.used = options.theta_size;
  if (block.dimension > kLargest) {
    throw UsageError("method.target_tensors",
                     "{} values in one map, expected at most {}; choose fewer tensors", block.dimension,
                     kLargest);
  }
  block.fastfood.key = RandomStream(options.seed, "intrinsic/" + name).next_key();
  // The published code pads θ to the tensor's size or crops it; where all of θ counts, the map is as large as
  // θ.
  block.fastfood.bits = bits_for(options.reference ? block.dimension : std::max(block.dimension, block.used));
  const auto size = static_cast<double>(block.fastfood.size());
  if (options.reference) {
    block.used = std::min(block.used, block.fastfood.size());
    block.gradient = 1 / size;
  }
  if (options.dense) {
    make_dense(block);
    block.scale = 1 / std::sqrt(static_cast<double>(block.dimension));
  } else {
    const double column = std::sqrt(size * ops::fastfood_square_sum(block.fastfood));
    block.scale = 1 / (column * std::sqrt(static_cast<double>(block.dimension) / size));
    largest_ = std::max(largest_, block.fastfood.size());
  }
  blocks_.push_back(std::move(block));
}

void IntrinsicMap::make_dense(Block& block) const {
  const int64_t values = block.dimension * block.used;
  if (block.dimension > kLargest / block.used) {
    throw UsageError("method.projection", "dense with {} × {} values, expected at most {}; use fastfood",
                     block.dimension, block.used, kLargest);
  }
  const ops::Fastfood draws{.key = block.fastfood.key, .bits = bits_for(values)};
  block.dense = ops::fastfood_normals(draws).narrow(0, 0, values).view({block.dimension, block.used});
}

Tensor IntrinsicMap::workspace(int64_t size) const {
  if (at::in_parallel_region()) return at::empty({size}, at::kFloat);
  if (!workspace_.defined()) workspace_ = at::empty({largest_}, at::kFloat);
  return workspace_.narrow(0, 0, size);
}

void IntrinsicMap::each_block(const std::function<void(size_t)>& work) const {
  std::vector<size_t> small;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    if (!blocks_[i].dense.defined() && blocks_[i].fastfood.bits <= kSmallBits) {
      small.push_back(i);
    } else {
      work(i);
    }
  }
  ops::each_piece(static_cast<int64_t>(small.size()), [&](int64_t i, int64_t) {
    const at::NoGradGuard no_grad;
    work(small[static_cast<size_t>(i)]);
  });
}

Tensor IntrinsicMap::forward(const Block& block, const Tensor& theta) const {
  const Tensor seen = theta.narrow(0, 0, block.used);
  if (block.dense.defined()) return at::mv(block.dense.to(theta.scalar_type()), seen);
  if (!fast(theta)) return ops::fastfood_plain(block.fastfood, seen);
  Tensor out = workspace(block.fastfood.size());
  ops::fastfood(block.fastfood, seen, out);
  return out;
}

Tensor IntrinsicMap::backward(const Block& block, std::vector<Tensor>& gradients,
                              const at::TensorOptions& options) const {
  const bool plain = block.dense.defined() || options.dtype() != at::kFloat;
  const int64_t size = block.dense.defined() ? block.dimension : block.fastfood.size();
  Tensor g = plain ? at::empty({size}, options) : workspace(size);
  int64_t begin = 0;
  for (size_t i = block.first; i < block.first + block.count; ++i) {
    Tensor part = g.narrow(0, begin, tensors_[i].numel);
    if (gradients[i].defined()) {
      part.copy_(gradients[i].reshape({-1}));
    } else {
      part.zero_();
    }
    gradients[i].reset();  // its memory is free from here on
    begin += tensors_[i].numel;
  }
  g.narrow(0, begin, size - begin).zero_();
  if (block.dense.defined()) return at::mv(block.dense.t().to(g.scalar_type()), g) * block.scale;
  const Tensor sum = plain ? ops::fastfood_transposed_plain(block.fastfood, g, block.used)
                           : ops::fastfood_transposed(block.fastfood, g, block.used);
  return sum * block.scale;
}

class IntrinsicFunction : public torch::autograd::Function<IntrinsicFunction> {
 public:
  using Variables = torch::autograd::variable_list;
  static Variables forward(torch::autograd::AutogradContext* context, const Tensor& theta,
                           const Tensor& lambda, const IntrinsicMap* map, const std::vector<Tensor>* bases) {
    context->save_for_backward({theta, lambda});
    context->saved_data["map"] = reinterpret_cast<int64_t>(map);
    context->set_materialize_grads(false);
    return moved(*map, *bases, theta.detach(), lambda.detach());
  }

  static Variables moved(const IntrinsicMap& map, const std::vector<Tensor>& bases, const Tensor& theta,
                         const Tensor& lambda) {
    Variables out(map.tensors_.size());
    map.each_block([&](size_t index) {
      const IntrinsicMap::Block& block = map.blocks_[index];
      const Tensor values = map.forward(block, theta);
      int64_t begin = 0;
      for (size_t i = block.first; i < block.first + block.count; ++i) {
        const MappedTensor& tensor = map.tensors_[i];
        const Tensor part = values.narrow(0, begin, tensor.numel).view(tensor.shape);
        const double times =
            block.scale * (lambda.numel() ? lambda[static_cast<int64_t>(i)].item<double>() : 1);
        begin += tensor.numel;
        if (tensor.narrow) {
          out[i] = narrow_sum(bases[i], part, times);
          continue;
        }
        // A wider copy of the base takes the sum itself.
        Tensor wide = bases[i].to(theta.scalar_type());
        out[i] = wide.is_same(bases[i]) ? at::add(wide, part, times) : wide.add_(part, times);
      }
    });
    return out;
  }

  static Variables backward(torch::autograd::AutogradContext* context, Variables& gradients) {
    const Variables saved = context->get_saved_variables();
    const Tensor theta = saved[0].detach(), lambda = saved[1].detach();
    const auto& map = *reinterpret_cast<const IntrinsicMap*>(context->saved_data["map"].toInt());
    std::vector<Tensor> sums(map.blocks_.size());
    map.each_block([&](size_t index) {
      const IntrinsicMap::Block& block = map.blocks_[index];
      const auto first = gradients.begin() + static_cast<int64_t>(block.first);
      const bool none = std::none_of(first, first + static_cast<int64_t>(block.count),
                                     [](const Tensor& g) { return g.defined(); });
      if (!none) sums[index] = map.backward(block, gradients, theta.options());
    });
    Tensor of_theta = at::zeros_like(theta), of_lambda = at::zeros_like(lambda);
    for (size_t index = 0; index < sums.size(); ++index) {
      const IntrinsicMap::Block& block = map.blocks_[index];
      Tensor& sum = sums[index];
      if (!sum.defined()) continue;
      if (lambda.numel()) {
        const auto tensor = static_cast<int64_t>(block.first);
        // P θ · g = θ · Pᵀ g: λ's gradient costs no transform of its own.
        of_lambda[tensor] = theta.narrow(0, 0, block.used).dot(sum);
        sum = sum * lambda[tensor];
      }
      of_theta.narrow(0, 0, block.used).add_(sum, block.gradient);
    }
    return {of_theta, of_lambda, Tensor(), Tensor()};
  }
};

std::vector<Tensor> IntrinsicMap::apply(const std::vector<Tensor>& bases, const Tensor& theta,
                                        const Tensor& lambda) const {
  // Custom functions take no undefined tensors.
  const Tensor factors = lambda.defined() ? lambda : at::empty({0}, theta.options());
  return IntrinsicFunction::apply(theta, factors, this, &bases);
}

}  // namespace graft
