#include "graft/session/bench_run.h"

#include <ATen/Parallel.h>

#include "graft/ops/kernels.h"
#include "graft/ops/machine_rate.h"
#include "graft/ops/tensor_memory.h"
#include "graft/session/bench_work.h"
#include "graft/session/machine.h"
#include "graft/session/session.h"

namespace graft {
namespace {

constexpr double kGiga = 1e9;

std::string type_name(at::ScalarType type) { return type == at::kChar ? "int8" : dtype_name(type); }

/// The rate of a work's own products, weighted by their operations: attention's and feed-forward's shapes.
double work_rate(const BenchWork& work, at::ScalarType type) {
  const int64_t hidden = work.config["hidden_size"].get<int64_t>(),
                inner = work.config["intermediate_size"].get<int64_t>();
  const int64_t rows = work.block > 0 ? work.batch * work.block : work.batch * 53;
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
  const at::ScalarType type = dtype_of(options.dtype);
  const double before = work_rate(work, type);
  const BenchMeasurement m = measure_training(work, type, options.steps);
  // Others may use the machine: the limit is the better of before and after.
  const double rate = std::max(before, work_rate(work, type));
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

}  // namespace

std::vector<std::string> bench_works() {
  std::vector<std::string> names;
  for (const BenchWork& work : bench_work_table()) names.push_back(work.name);
  return names;
}

RunReport bench_run(const BenchOptions& options) {
  for (const std::string& name : options.works) bench_work(name);
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
  for (const std::string& name : options.works)
    report.document["works"].push_back(measure(bench_work(name), options, report.text));
  report.text.pop_back();
  return report;
}

}  // namespace graft
