#include "graft/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "graft/base/error.h"

namespace graft {
namespace {

constexpr float kOut = -std::numeric_limits<float>::infinity();

void penalise(std::vector<float>& scores, std::span<const int64_t> seen, float penalty) {
  std::vector<int64_t> ids(seen.begin(), seen.end());
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  for (const int64_t id : ids) {
    if (id < 0 || id >= static_cast<int64_t>(scores.size())) continue;
    float& score = scores[static_cast<size_t>(id)];
    score = score < 0 ? score * penalty : score / penalty;
  }
}

/// Leaves out every token below the k-th largest score; equals of the k-th stay.
void keep_top_k(std::vector<float>& scores, size_t k) {
  if (k >= scores.size()) return;
  std::vector<float> sorted = scores;
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(k) - 1, sorted.end(),
                   std::greater<>());
  const float least = sorted[k - 1];
  for (float& score : scores) {
    if (score < least) score = kOut;
  }
}

/// Indices of the tokens that are still in, likeliest last; among equals the order of a stable ascending
/// sort.
std::vector<size_t> ascending(const std::vector<float>& scores) {
  std::vector<size_t> order;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (scores[i] != kOut) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] < scores[b]; });
  return order;
}

/// exp(score - largest), and their sum.
std::pair<std::vector<double>, double> weights(const std::vector<float>& scores) {
  const float largest = *std::max_element(scores.begin(), scores.end());
  std::vector<double> out(scores.size());
  std::transform(scores.begin(), scores.end(), out.begin(),
                 [largest](float s) { return std::exp(static_cast<double>(s) - largest); });
  return {out, std::accumulate(out.begin(), out.end(), 0.0)};
}

/// Leaves out the least likely tokens as long as they together have at most 1 - p; the likeliest always
/// stays.
void keep_top_p(std::vector<float>& scores, double p) {
  const auto [weight, total] = weights(scores);
  const std::vector<size_t> order = ascending(scores);
  double sum = 0;
  for (size_t i = 0; i + 1 < order.size(); ++i) {
    sum += weight[order[i]] / total;
    if (sum > 1 - p) break;
    scores[order[i]] = kOut;
  }
}

void keep_min_p(std::vector<float>& scores, double p) {
  // The likeliest token's weight is 1, so that a weight is its share of that probability.
  const auto [weight, total] = weights(scores);
  for (size_t i = 0; i < scores.size(); ++i) {
    if (weight[i] < p) scores[i] = kOut;
  }
}

/// Largest logit; not a number where one is not. Many running maxima side by side, as one would wait for
/// itself.
float largest(std::span<const float> logits) {
  constexpr size_t kLanes = 16;
  float most[kLanes];
  int32_t broken[kLanes] = {};
  std::fill_n(most, kLanes, kOut);
  const size_t whole = logits.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t k = 0; k < kLanes; ++k) {
      const float logit = logits[i + k];
      broken[k] |= logit != logit ? 1 : 0;
      most[k] = logit > most[k] ? logit : most[k];
    }
  }
  for (size_t i = whole; i < logits.size(); ++i) {
    broken[0] |= std::isnan(logits[i]) ? 1 : 0;
    most[0] = std::max(most[0], logits[i]);
  }
  return std::any_of(broken, broken + kLanes, [](int32_t b) { return b != 0; })
             ? std::numeric_limits<float>::quiet_NaN()
             : *std::max_element(most, most + kLanes);
}

}  // namespace

Sampler::Sampler(const SamplingConfig& config, int64_t sequence)
    : config_(config), random_(static_cast<uint64_t>(config.seed), fmt::format("generate.{}", sequence)) {}

std::vector<float> Sampler::scores(std::span<const float> logits, std::span<const int64_t> seen) const {
  std::vector<float> scores(logits.begin(), logits.end());
  if (config_.repetition_penalty != 1) penalise(scores, seen, static_cast<float>(config_.repetition_penalty));
  if (config_.temperature == 0) return scores;
  for (float& score : scores) score /= static_cast<float>(config_.temperature);
  if (config_.top_k > 0) keep_top_k(scores, static_cast<size_t>(config_.top_k));
  if (config_.top_p < 1) keep_top_p(scores, config_.top_p);
  if (config_.min_p > 0) keep_min_p(scores, config_.min_p);
  return scores;
}

int64_t Sampler::next(std::span<const float> logits, std::span<const int64_t> seen) {
  if (logits.empty()) throw InternalError("generate", "no logits: 0, expected the vocabulary's size");
  const float most = largest(logits);
  if (std::isnan(most)) {
    throw DataError(
        "generate",
        "logits: not a number, expected numbers; the model's or the adapter's weights are broken");
  }
  // A copy of a large vocabulary's logits would cost a small model's step some of its time.
  if (config_.temperature == 0 && config_.repetition_penalty == 1)
    return std::find(logits.begin(), logits.end(), most) - logits.begin();
  const std::vector<float> scores = this->scores(logits, seen);
  if (config_.temperature == 0) return std::max_element(scores.begin(), scores.end()) - scores.begin();
  const auto [weight, total] = weights(scores);
  double left = random_.uniform() * total;
  int64_t last = 0;
  for (size_t i = 0; i < weight.size(); ++i) {
    if (weight[i] == 0) continue;
    last = static_cast<int64_t>(i);
    left -= weight[i];
    if (left < 0) break;
  }
  return last;
}

}  // namespace graft
