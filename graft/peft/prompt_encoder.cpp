#include "graft/peft/prompt_encoder.h"

#include <ATen/ATen.h>

#include "graft/peft/adapt_linears.h"

namespace graft {
namespace {

struct Map {
  Tensor weight, bias;
};

std::string encoder_key(const std::string& name) { return "prompt_encoder." + name; }

/// torch's initial values: both uniform within 1 / √in.
Map make_map(AdapterBuilder& builder, const std::string& name, int64_t in, int64_t out) {
  const std::string weight = encoder_key(name + ".weight"), bias = encoder_key(name + ".bias");
  return {builder.train(weight, builder.uniform(weight, {out, in}, kaiming_bound(in))),
          builder.train(bias, builder.uniform(bias, {out}, kaiming_bound(in)))};
}

class Mlp : public PromptEncoder {
 public:
  Mlp(std::vector<Map> maps, bool tanh) : maps_(std::move(maps)), tanh_(tanh) {}
  Tensor forward(const Tensor& embedding) const override {
    Tensor x = embedding;
    for (size_t i = 0; i < maps_.size(); ++i) {
      if (i > 0) x = tanh_ ? x.tanh() : x.relu();
      x = at::linear(x, maps_[i].weight, maps_[i].bias);
    }
    return x;
  }

 private:
  std::vector<Map> maps_;
  bool tanh_;
};

class Lstm : public PromptEncoder {
 public:
  Lstm(std::vector<Tensor> parameters, int64_t hidden, int64_t layers, std::unique_ptr<PromptEncoder> head)
      : parameters_(std::move(parameters)), hidden_(hidden), layers_(layers), head_(std::move(head)) {}
  Tensor forward(const Tensor& embedding) const override {
    const Tensor state = at::zeros({2 * layers_, 1, hidden_}, embedding.options());
    const Tensor out =
        std::get<0>(at::lstm(embedding.unsqueeze(0), {state, state}, parameters_, /*has_biases=*/true,
                             layers_, /*dropout=*/0, /*train=*/false, /*bidirectional=*/true,
                             /*batch_first=*/true));
    return head_->forward(out.squeeze(0));
  }

 private:
  std::vector<Tensor> parameters_;
  int64_t hidden_, layers_;
  std::unique_ptr<PromptEncoder> head_;
};

}  // namespace

std::unique_ptr<PromptEncoder> make_mlp(AdapterBuilder& builder, const MlpShape& shape) {
  std::vector<Map> maps;
  for (size_t i = 0; i + 1 < shape.sizes.size(); ++i) {
    // Activations take the odd places of torch's Sequential.
    maps.push_back(
        make_map(builder, fmt::format("{}.{}", shape.name, 2 * i), shape.sizes[i], shape.sizes[i + 1]));
  }
  return std::make_unique<Mlp>(std::move(maps), shape.tanh);
}

std::unique_ptr<PromptEncoder> make_lstm(AdapterBuilder& builder, int64_t dim, int64_t hidden,
                                         int64_t layers) {
  std::vector<Tensor> parameters;
  const double bound = kaiming_bound(hidden);
  for (int64_t layer = 0; layer < layers; ++layer) {
    for (const char* direction : {"", "_reverse"}) {
      const int64_t in = layer == 0 ? dim : 2 * hidden;
      const auto part = [&](const char* name, std::vector<int64_t> shape) {
        const std::string key = encoder_key(fmt::format("lstm_head.{}_l{}{}", name, layer, direction));
        parameters.push_back(builder.train(key, builder.uniform(key, shape, bound)));
      };
      part("weight_ih", {4 * hidden, in});
      part("weight_hh", {4 * hidden, hidden});
      part("bias_ih", {4 * hidden});
      part("bias_hh", {4 * hidden});
    }
  }
  return std::make_unique<Lstm>(std::move(parameters), hidden, layers,
                                make_mlp(builder, {"mlp_head", {2 * hidden, 2 * hidden, dim}}));
}

}  // namespace graft
