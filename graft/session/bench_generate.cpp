#include "graft/session/bench_generate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>

#include "graft/base/random.h"
#include "graft/generate/generator.h"
#include "graft/peft/adapter.h"
#include "graft/session/session.h"

namespace graft {
namespace {

constexpr int64_t kShortPrompt = 32;
/// Tokens a step, as one takes far less time than a step of training.
constexpr int64_t kTokensPerStep = 8;

/// Weights from one block of draws, over and over: a billion draws would take longer than what is measured.
std::unique_ptr<Model> drawn_model(const BenchWork& work, const std::string& dtype) {
  LoadOptions load;
  set_dtype(load, dtype);
  load.head = HeadKind::causal_lm;
  Json config = work.config;
  config["initializer_range"] = 0.0;
  auto model = new_model(config, load);
  RandomStream draw(1, "bench");
  const Tensor block = at::empty({1 << 16}, at::kFloat);
  for (int64_t i = 0; i < block.numel(); ++i)
    block.data_ptr<float>()[i] = static_cast<float>(0.02 * draw.normal());
  for (const auto& [path, parameter] : model->named_parameters()) {
    if (parameter->shape.size() < 2) continue;
    const Tensor numbers = parameter->base.view({-1});
    for (int64_t first = 0; first < numbers.numel(); first += block.numel()) {
      const int64_t count = std::min(block.numel(), numbers.numel() - first);
      numbers.narrow(0, first, count).copy_(block.narrow(0, 0, count));
    }
  }
  return model;
}

std::vector<std::vector<int64_t>> prompts_of(const Model& model, int64_t count, int64_t length) {
  RandomStream draw(2, "bench");
  std::vector<std::vector<int64_t>> out(static_cast<size_t>(count));
  for (auto& prompt : out) {
    for (int64_t i = 0; i < length; ++i)
      prompt.push_back(static_cast<int64_t>(draw.below(static_cast<uint64_t>(model.info().vocab_size))));
  }
  return out;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Seconds of each pass of one run: the prompts', then a token's each.
std::vector<double> pass_times(Model& model, const std::vector<std::vector<int64_t>>& prompts,
                               int64_t tokens) {
  using Clock = std::chrono::steady_clock;
  std::vector<Clock::time_point> times;
  GenerateConfig config;
  config.max_new_tokens = tokens;
  GenerateEvents events;
  events.stop = [&] {
    times.push_back(Clock::now());
    return false;
  };
  Generator(model, nullptr, nullptr).run(prompts, config, events);
  times.push_back(Clock::now());
  std::vector<double> out;
  for (size_t i = 1; i < times.size(); ++i)
    out.push_back(std::chrono::duration<double>(times[i] - times[i - 1]).count());
  return out;
}

/// The median of the passes after the prompts'.
double token_time(Model& model, int64_t sequences, int64_t tokens) {
  std::vector<double> times = pass_times(model, prompts_of(model, sequences, kShortPrompt), tokens + 1);
  times.erase(times.begin());
  return median(times);
}

double prompt_time(Model& model) {
  std::vector<double> times;
  for (int i = 0; i < 3; ++i) times.push_back(pass_times(model, prompts_of(model, 1, kPromptTokens), 1)[0]);
  return median(times);
}

/// Numbers in the linear maps below the head, and in the head.
struct Numbers {
  double maps = 0, head = 0;
};
Numbers numbers_of(Model& model) {
  Numbers out;
  for (const auto& [path, module] : model.named_modules()) {
    const auto* const linear = dynamic_cast<const Linear*>(module);
    if (linear == nullptr) continue;
    (linear == model.output_embedding() ? out.head : out.maps) +=
        static_cast<double>(linear->in() * linear->out());
  }
  return out;
}

/// Two products of a prompt's rows with all rows before them, a layer.
double prompt_attention(const ModelInfo& info) {
  return 2.0 * 2.0 * static_cast<double>(kPromptTokens) / 2 *
         static_cast<double>(info.num_heads * info.head_dim * info.num_layers);
}

}  // namespace

bool generates(const BenchWork& work) { return work.head == HeadKind::causal_lm; }

GenerateMeasurement measure_generation(const BenchWork& work, const std::string& dtype, int64_t steps) {
  const auto model = drawn_model(work, dtype);
  const int64_t tokens = kTokensPerStep * steps;
  Adapter adapter = tuning_method(work.method["name"].get<std::string>()).create(work.method, *model, 1);
  token_time(*model, 8, 1);  // packs the weights
  GenerateMeasurement out;
  // By turns, as others may use the machine.
  std::vector<double> plain, attached, shares;
  constexpr int kTurns = 3;
  for (int i = 0; i < kTurns; ++i) {
    plain.push_back(token_time(*model, 1, tokens));
    attach(adapter, *model);
    attached.push_back(token_time(*model, 1, tokens));
    detach(*model);
    shares.push_back(plain.back() / attached.back());
  }
  out.one = 1 / *std::min_element(plain.begin(), plain.end());
  out.unmerged = 1 / *std::min_element(attached.begin(), attached.end());
  out.unmerged_share = median(shares);
  out.eight = 8 / token_time(*model, 8, tokens);
  out.prompt = static_cast<double>(kPromptTokens) / prompt_time(*model);
  const Numbers numbers = numbers_of(*model);
  const double width = model->int8 ? 1 : static_cast<double>(c10::elementSize(model->dtype));
  out.weight_bytes = width * (numbers.maps + numbers.head);
  // Only the last row is read by the head.
  out.prompt_operations = 2 * numbers.maps + prompt_attention(model->info());
  return out;
}

}  // namespace graft
