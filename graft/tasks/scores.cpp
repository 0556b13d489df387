#include "graft/tasks/scores.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "graft/base/error.h"

namespace graft {
namespace {

void check_sizes(size_t a, size_t b) {
  if (a != b) throw InternalError("metrics", "{} labels and {} predictions", a, b);
}

/// Ranks from 1; equal values get the mean of theirs.
std::vector<double> ranks(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> out(values.size());
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin + 1;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    const double mean = (static_cast<double>(begin + end) + 1) / 2;
    for (size_t i = begin; i < end; ++i) out[order[i]] = mean;
    begin = end;
  }
  return out;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

double accuracy(const std::vector<int64_t>& labels, const std::vector<int64_t>& predictions) {
  check_sizes(labels.size(), predictions.size());
  if (labels.empty()) return 0;
  int64_t equal = 0;
  for (size_t i = 0; i < labels.size(); ++i) equal += labels[i] == predictions[i] ? 1 : 0;
  return static_cast<double>(equal) / static_cast<double>(labels.size());
}

double f1(const std::vector<int64_t>& labels, const std::vector<int64_t>& predictions, int64_t positive) {
  check_sizes(labels.size(), predictions.size());
  int64_t both = 0, either = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    const int64_t label = labels[i] == positive ? 1 : 0;
    const int64_t prediction = predictions[i] == positive ? 1 : 0;
    both += label * prediction;
    either += label + prediction;
  }
  return either == 0 ? 0 : 2 * static_cast<double>(both) / static_cast<double>(either);
}

double f1_macro(const std::vector<int64_t>& labels, const std::vector<int64_t>& predictions) {
  std::set<int64_t> classes(labels.begin(), labels.end());
  classes.insert(predictions.begin(), predictions.end());
  if (classes.empty()) return 0;
  double sum = 0;
  for (const int64_t one : classes) sum += f1(labels, predictions, one);
  return sum / static_cast<double>(classes.size());
}

double matthews(const std::vector<int64_t>& labels, const std::vector<int64_t>& predictions) {
  check_sizes(labels.size(), predictions.size());
  std::map<int64_t, double> true_count, predicted_count;
  double correct = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    true_count[labels[i]] += 1;
    predicted_count[predictions[i]] += 1;
    correct += labels[i] == predictions[i] ? 1 : 0;
  }
  const auto total = static_cast<double>(labels.size());
  double products = 0, true_squares = 0, predicted_squares = 0;
  for (const auto& [one, count] : true_count) {
    true_squares += count * count;
    if (const auto found = predicted_count.find(one); found != predicted_count.end())
      products += count * found->second;
  }
  for (const auto& [one, count] : predicted_count) predicted_squares += count * count;
  const double square = (total * total - true_squares) * (total * total - predicted_squares);
  return square <= 0 ? 0 : (correct * total - products) / std::sqrt(square);
}

double pearson(const std::vector<double>& x, const std::vector<double>& y) {
  check_sizes(x.size(), y.size());
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto constant = [](const std::vector<double>& values) {
    return std::all_of(values.begin(), values.end(), [&](double v) { return v == values[0]; });
  };
  if (x.size() < 2 || constant(x) || constant(y)) return nan;
  const double mean_x = mean(x), mean_y = mean(y);
  // Scaled by the largest deviation, so that the squares of tiny and huge values neither vanish nor overflow.
  double scale_x = 0, scale_y = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    scale_x = std::max(scale_x, std::abs(x[i] - mean_x));
    scale_y = std::max(scale_y, std::abs(y[i] - mean_y));
  }
  double xy = 0, xx = 0, yy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double dx = (x[i] - mean_x) / scale_x, dy = (y[i] - mean_y) / scale_y;
    xy += dx * dy;
    xx += dx * dx;
    yy += dy * dy;
  }
  return std::clamp(xy / (std::sqrt(xx) * std::sqrt(yy)), -1.0, 1.0);
}

double spearman(const std::vector<double>& x, const std::vector<double>& y) {
  check_sizes(x.size(), y.size());
  const auto not_a_number = [](double v) { return std::isnan(v); };
  if (std::any_of(x.begin(), x.end(), not_a_number) || std::any_of(y.begin(), y.end(), not_a_number))
    return std::numeric_limits<double>::quiet_NaN();
  return pearson(ranks(x), ranks(y));
}

}  // namespace graft
