// Numbers that say how well labels were met; as scikit-learn and scipy define them.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace graft {

/// Share of equal entries; 0 where there are none.
double accuracy(const std::vector<int64_t>& labels, const std::vector<int64_t>& predictions);
/// 2 TP / (2 TP + FP + FN) of class `positive`; 0 where the denominator is 0.
double f1(const std::vector<int64_t>& labels, const std::vector<int64_t>& predictions, int64_t positive);
/// The mean of every class's F1, over classes that occur in labels or predictions.
double f1_macro(const std::vector<int64_t>& labels, const std::vector<int64_t>& predictions);
/// Matthews' correlation, also of several classes (Gorodkin 2004); 0 where a side is constant.
double matthews(const std::vector<int64_t>& labels, const std::vector<int64_t>& predictions);
/// Not a number where a side is constant or there are fewer than two points.
double pearson(const std::vector<double>& x, const std::vector<double>& y);
/// Pearson's of the ranks; equal values share their mean rank.
double spearman(const std::vector<double>& x, const std::vector<double>& y);

}  // namespace graft
