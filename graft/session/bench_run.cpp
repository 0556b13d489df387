#include "graft/session/bench_run.h"

#include <ATen/Parallel.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "graft/base/error.h"
#include "graft/ops/kernels.h"
#include "graft/ops/machine_rate.h"
#include "graft/ops/tensor_memory.h"
#include "graft/session/bench_generate.h"
#include "graft/session/bench_work.h"
#include "graft/session/machine.h"
#include "graft/session/session.h"

namespace graft {
namespace {

constexpr double kGiga = 1e9;
/// In front of the name of a shape that generates text.
const std::string kGenerate = "generate/";

std::string type_name(at::ScalarType type) { return type == at::kChar ? "int8" : dtype_name(type); }

/// The type that products are measured in; kChar for int8.
at::ScalarType product_type(const std::string& dtype) {
  return dtype == "int8" ? at::kChar : dtype_of(dtype);
}

/// The rate of a work's own products of so many rows, weighted by their operations: attention's and
/// feed-forward's shapes.
double work_rate(const BenchWork& work, at::ScalarType type, int64_t rows) {
  const int64_t hidden = work.config["hidden_size"].get<int64_t>(),
                inner = work.config["intermediate_size"].get<int64_t>();
  double operations = 0, seconds = 0;
  for (const auto& [in, out] :
       {std::pair{hidden, hidden}, {hidden, hidden}, {hidden, inner}, {inner, hidden}}) {
    const double these = 2.0 * static_cast<double>(in * out);
    operations += these;
    seconds += these / ops::matrix_rate(type, {rows, in, out});
  }
  return operations / seconds;
}

Json limits(std::string& text) {
  Json out = {{"read_gb_per_s", ops::read_bandwidth() / kGiga}, {"products", Json::array()}};
  text += fmt::format("memory: {:.1f} GB/s read\n", out["read_gb_per_s"].get<double>());
  const std::vector<ops::ProductShape> shapes = {{1600, 768, 768}, {1600, 768, 3072}, {1600, 3072, 768}};
  for (const auto type : {at::kFloat, at::kBFloat16, at::kChar}) {
    for (const ops::ProductShape& s : shapes) {
      const double rate = ops::matrix_rate(type, s) / kGiga;
      out["products"].push_back(
          {{"type", type_name(type)}, {"rows", s.rows}, {"in", s.in}, {"out", s.out}, {"gops_per_s", rate}});
      text +=
          fmt::format("{:<9} {}×{}→{}: {:.0f} G operations/s\n", type_name(type), s.rows, s.in, s.out, rate);
    }
  }
  return out;
}

Json measure(const BenchWork& work, const BenchOptions& options, std::string& text) {
  const at::ScalarType type = product_type(options.dtype);
  const int64_t rows = work.block > 0 ? work.batch * work.block : work.batch * 53;
  const double before = work_rate(work, type, rows);
  const BenchMeasurement m = measure_training(work, options.dtype, options.steps);
  // Others may use the machine: the limit is the better of before and after.
  const double rate = std::max(before, work_rate(work, type, rows));
  const double reached = m.tokens_per_second * m.operations_per_token;
  text += fmt::format("{} {}: {:.0f} tokens/s, step {:.3f} s, {:.0f} of {:.0f} G operations/s ({:.0f} %)\n",
                      work.name, options.dtype, m.tokens_per_second, m.step_seconds, reached / kGiga,
                      rate / kGiga, 100 * reached / rate);
  return {{"work", work.name},
          {"dtype", options.dtype},
          {"tokens_per_second", m.tokens_per_second},
          {"step_seconds", m.step_seconds},
          {"operations_per_token", m.operations_per_token},
          {"matrix_gops_per_s", rate / kGiga},
          {"share_of_matrix_rate", reached / rate}};
}

Json measure_generate(const BenchWork& work, const BenchOptions& options, std::string& text) {
  const at::ScalarType type = product_type(options.dtype);
  const double rate_before = work_rate(work, type, kPromptTokens), read_before = ops::read_bandwidth();
  const GenerateMeasurement m = measure_generation(work, options.dtype, options.steps);
  const double rate = std::max(rate_before, work_rate(work, type, kPromptTokens));
  const double read = std::max(read_before, ops::read_bandwidth());
  const double reached = m.one * m.weight_bytes, computed = m.prompt * m.prompt_operations;
  text += fmt::format(
      "{}{} {}: one sequence {:.1f} tokens/s, {:.1f} of {:.1f} GB/s ({:.0f} %); eight {:.1f} tokens/s "
      "({:.2f} ×); "
      "prompt {:.0f} tokens/s, {:.0f} of {:.0f} G operations/s ({:.0f} %); LoRA unmerged {:.1f} tokens/s "
      "({:.0f} % of "
      "merged)\n",
      kGenerate, work.name, options.dtype, m.one, reached / kGiga, read / kGiga, 100 * reached / read,
      m.eight, m.eight / m.one, m.prompt, computed / kGiga, rate / kGiga, 100 * computed / rate, m.unmerged,
      100 * m.unmerged_share);
  return {{"work", kGenerate + work.name},
          {"dtype", options.dtype},
          {"tokens_per_second", m.one},
          {"weight_bytes", m.weight_bytes},
          {"read_gb_per_s", read / kGiga},
          {"share_of_bandwidth", reached / read},
          {"eight_tokens_per_second", m.eight},
          {"eight_over_one", m.eight / m.one},
          {"prompt_tokens_per_second", m.prompt},
          {"matrix_gops_per_s", rate / kGiga},
          {"prompt_share_of_matrix_rate", computed / rate},
          {"unmerged_tokens_per_second", m.unmerged},
          {"unmerged_over_merged", m.unmerged_share}};
}

/// The works that were asked for; "generate" is all large shapes'.
std::vector<std::string> expanded(const std::vector<std::string>& works) {
  std::vector<std::string> out;
  for (const std::string& name : works) {
    if (name + "/" != kGenerate) {
      out.push_back(name);
      continue;
    }
    for (const BenchWork& work : bench_work_table()) {
      if (generates(work) && work.name != "tiny") out.push_back(kGenerate + work.name);
    }
  }
  return out;
}

struct Chosen {
  const BenchWork& work;
  bool generate = false;
};

/// Errors: UsageError with the nearest names.
Chosen chosen(const std::string& name) {
  for (const BenchWork& work : bench_work_table()) {
    if (name == work.name) return {work, false};
    if (generates(work) && name == kGenerate + work.name) return {work, true};
  }
  const std::vector<std::string> names = bench_works();
  throw UsageError("bench", "{}, expected one of {}{}", name, fmt::join(names, ", "),
                   did_you_mean(name, names));
}

}  // namespace

std::vector<std::string> bench_works() {
  std::vector<std::string> names;
  for (const BenchWork& work : bench_work_table()) names.push_back(work.name);
  for (const BenchWork& work : bench_work_table()) {
    if (generates(work)) names.push_back(kGenerate + work.name);
  }
  return names;
}

RunReport bench_run(const BenchOptions& options) {
  const std::vector<std::string> works = expanded(options.works);
  for (const std::string& name : works) chosen(name);
  LoadOptions load;
  set_dtype(load, options.dtype);
  ops::keep_tensor_memory();
  if (options.threads > 0) at::set_num_threads(static_cast<int>(options.threads));
  RunReport report;
  report.text = fmt::format("{} threads, kernels {}\n", at::get_num_threads(), ops::isa());
  report.document = {{"machine", machine()},
                     {"versions", versions()},
                     {"threads", at::get_num_threads()},
                     {"kernels", ops::isa()}};
  report.document["limits"] = limits(report.text);
  report.document["works"] = Json::array();
  for (const std::string& name : works) {
    const auto [work, generate] = chosen(name);
    report.document["works"].push_back(generate ? measure_generate(work, options, report.text)
                                                : measure(work, options, report.text));
  }
  report.text.pop_back();
  return report;
}

}  // namespace graft
