// graft bench: the machine's limits, and how near training and generation come to them.
#include "cli/command.h"
#include "cli/number_option.h"
#include "graft/session/bench_run.h"
#include "graft/train/train_config.h"

namespace graft::cli {

Run define_bench(CLI::App& app, const Globals& globals) {
  auto options = std::make_shared<BenchOptions>();
  std::string names;
  for (const std::string& name : bench_works()) names += (names.empty() ? "" : ", ") + name;
  app.add_option("work", options->works,
                 "shapes with random weights, to train or to generate text with: " + names +
                     "; generate: all large ones; none: the limits alone");
  app.add_option("--dtype", options->dtype, "type of the frozen base: float32, bfloat16 or int8");
  app.add_option("--steps", options->steps, "measured steps a work")
      ->check(number(between<int64_t>(1, 1000)));
  app.add_option("--threads", options->threads, "threads; 0: one a core")
      ->check(number(between<int64_t>(0, kMostThreads)));
  return [options, &globals] {
    const RunReport report = bench_run(*options);
    print_result(globals, report.document, report.text);
    return report.exit_code;
  };
}

}  // namespace graft::cli
