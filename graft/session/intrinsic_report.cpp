#include "graft/session/intrinsic_report.h"

#include <algorithm>
#include <cmath>

namespace graft {
namespace {

/// Aghajanyan et al. 2020 (arXiv 2012.13255), table 1.
struct PublishedRow {
  const char* model;
  int said_mrpc, said_qqp, did_mrpc, did_qqp;
};
constexpr PublishedRow kPublished[] = {{"BERT-Base", 1608, 8030, 1861, 9295},
                                       {"BERT-Large", 1037, 1200, 2493, 1389},
                                       {"RoBERTa-Base", 896, 896, 1000, 1389},
                                       {"RoBERTa-Large", 207, 774, 322, 774}};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else {
      out += c;
    }
  }
  return out;
}

/// The score of a (method, d): each seed's best learning rate, then the mean over the seeds.
std::map<std::string, std::map<int64_t, double>> mean_scores(const IntrinsicResult& result) {
  std::map<std::string, std::map<int64_t, std::map<int64_t, double>>> best;
  for (const IntrinsicTrial& trial : result.trials) {
    if (trial.method == "full") continue;
    auto& seeds = best[trial.method][trial.d];
    const auto [at, fresh] = seeds.emplace(trial.seed, trial.score);
    if (!fresh) at->second = std::max(at->second, trial.score);
  }
  std::map<std::string, std::map<int64_t, double>> means;
  for (const auto& [method, dimensions] : best) {
    for (const auto& [d, seeds] : dimensions) {
      double sum = 0;
      for (const auto& [seed, score] : seeds) sum += score;
      means[method][d] = sum / static_cast<double>(seeds.size());
    }
  }
  return means;
}

/// Where numbers lie on the paper.
struct Axes {
  double left = 70, right = 610, top = 40, bottom = 340;
  double low_d = 1, high_d = 10, low_score = 0, high_score = 1;  // low_d and high_d as logarithms
  double x(double d) const { return left + (std::log10(d) - low_d) / (high_d - low_d) * (right - left); }
  double y(double score) const {
    return bottom - (score - low_score) / (high_score - low_score) * (bottom - top);
  }
};

Axes axes_for(const IntrinsicResult& result) {
  Axes axes;
  double low_d = 1e18, high_d = 1, low = result.threshold, high = result.full_score;
  for (const IntrinsicTrial& trial : result.trials) {
    low = std::min(low, trial.score);
    high = std::max(high, trial.score);
    if (trial.d == 0) continue;
    low_d = std::min(low_d, static_cast<double>(trial.d));
    high_d = std::max(high_d, static_cast<double>(trial.d));
  }
  axes.low_d = std::floor(std::log10(std::min(low_d, high_d)));
  axes.high_d = std::max(axes.low_d + 1, std::ceil(std::log10(high_d)));
  const double margin = std::max(0.01, 0.05 * (high - low));
  axes.low_score = low - margin;
  axes.high_score = high + margin;
  return axes;
}

std::string line(double x1, double y1, double x2, double y2, const char* style) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x1, y1, x2, y2,
                     style);
}

std::string text_at(double x, double y, const char* anchor, const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor,
                     escaped(text));
}

std::string grid_lines(const Axes& axes) {
  std::string out;
  for (double decade = axes.low_d; decade <= axes.high_d; ++decade) {
    const double x = axes.x(std::pow(10, decade));
    out += line(x, axes.top, x, axes.bottom, "stroke=\"#ddd\"");
    out += text_at(x, axes.bottom + 18, "middle", fmt::format("{:.0f}", std::pow(10, decade)));
  }
  for (int i = 0; i <= 5; ++i) {
    const double score = axes.low_score + (axes.high_score - axes.low_score) * i / 5;
    out += line(axes.left, axes.y(score), axes.right, axes.y(score), "stroke=\"#ddd\"");
    out += text_at(axes.left - 8, axes.y(score) + 4, "end", fmt::format("{:.3f}", score));
  }
  return out;
}

const char* colour_of(const std::string& method) { return method == "said" ? "#1f77b4" : "#d62728"; }

std::string curves(const IntrinsicResult& result, const Axes& axes) {
  std::string out;
  for (const auto& [method, means] : mean_scores(result)) {
    std::string points;
    for (const auto& [d, score] : means)
      points += fmt::format("{:.1f},{:.1f} ", axes.x(static_cast<double>(d)), axes.y(score));
    out += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\"/>\n", points, colour_of(method));
  }
  for (const IntrinsicTrial& trial : result.trials) {
    if (trial.method == "full") continue;
    out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\" fill-opacity=\"0.5\"/>\n",
                       axes.x(static_cast<double>(trial.d)), axes.y(trial.score), colour_of(trial.method));
  }
  return out;
}

std::string legend(const IntrinsicResult& result, const Axes& axes) {
  std::string out;
  double x = axes.left;
  for (const auto& [method, dimension] : result.d90) {
    out += fmt::format("<circle cx=\"{:.1f}\" cy=\"375\" r=\"4\" fill=\"{}\"/>\n", x + 4, colour_of(method));
    const std::string value = dimension.value ? std::to_string(*dimension.value) : "not reached";
    out += text_at(x + 14, 379, "start", fmt::format("{}: {}", method, value));
    x += 160;
  }
  return out;
}

std::string cell(const SmallestDimension* dimension) {
  if (!dimension) return "–";
  if (!dimension->value) return "not reached";
  std::string text = (dimension->at_grid_start ? "≤ " : "") + std::to_string(*dimension->value);
  text += fmt::format(" ({} to {})", dimension->low ? std::to_string(*dimension->low) : "–",
                      dimension->high ? std::to_string(*dimension->high) : "–");
  return text;
}

}  // namespace

std::string intrinsic_csv(const IntrinsicResult& result) {
  std::string out = "method,d,seed,learning_rate,score,reached,steps,seconds\n";
  for (const IntrinsicTrial& trial : result.trials) {
    out += fmt::format("{},{},{},{:g},{:.6f},{},{},{:.2f}\n", trial.method, trial.d, trial.seed,
                       trial.learning_rate, trial.score, trial.reached ? 1 : 0, trial.steps, trial.seconds);
  }
  return out;
}

std::string intrinsic_svg(const IntrinsicResult& result) {
  const Axes axes = axes_for(result);
  std::string out =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"640\" height=\"400\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"640\" height=\"400\" fill=\"white\"/>\n";
  out += text_at(340, 24, "middle",
                 fmt::format("{} on {}: {} against d", result.model, result.task, result.metric));
  out += grid_lines(axes);
  out += line(axes.left, axes.y(result.full_score), axes.right, axes.y(result.full_score), "stroke=\"#555\"");
  out += text_at(axes.right, axes.y(result.full_score) - 4, "end", "full fine-tuning");
  out += line(axes.left, axes.y(result.threshold), axes.right, axes.y(result.threshold),
              "stroke=\"#555\" stroke-dasharray=\"6 4\"");
  const double share = result.full_score > 0 ? 100 * result.threshold / result.full_score : 0;
  out += text_at(axes.right, axes.y(result.threshold) - 4, "end", fmt::format("{:.0f} %", share));
  return out + curves(result, axes) + legend(result, axes) + "</svg>\n";
}

std::string intrinsic_table(const IntrinsicResult& result) {
  const auto of = [&](const char* method) {
    const auto found = result.d90.find(method);
    return found == result.d90.end() ? nullptr : &found->second;
  };
  std::string task = result.task;
  if (const size_t slash = task.rfind('/'); slash != std::string::npos) task = task.substr(slash + 1);
  std::transform(task.begin(), task.end(), task.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  const bool published = task == "MRPC" || task == "QQP";
  std::string head = "| model | SAID MRPC | SAID QQP | DID MRPC | DID QQP |",
              rule = "| --- | ---: | ---: | ---: | ---: |";
  if (!published) {
    head += fmt::format(" SAID {0} | DID {0} |", task);
    rule += " ---: | ---: |";
  }
  std::string out = head + "\n" + rule + "\n";
  for (const PublishedRow& row : kPublished) {
    out += fmt::format("| {} (published) | {} | {} | {} | {} |{}\n", row.model, row.said_mrpc, row.said_qqp,
                       row.did_mrpc, row.did_qqp, published ? "" : " – | – |");
  }
  const std::string said = cell(of("said")), did = cell(of("did"));
  const bool mrpc = task == "MRPC", qqp = task == "QQP";
  out += fmt::format("| {} | {} | {} | {} | {} |", result.model, mrpc ? said : "–", qqp ? said : "–",
                     mrpc ? did : "–", qqp ? did : "–");
  return out + (published ? "\n" : fmt::format(" {} | {} |\n", said, did));
}

}  // namespace graft
