// graft eval: metrics of a split.
#include "cli/command.h"
#include "cli/number_option.h"
#include "graft/session/eval_run.h"

namespace graft::cli {

Run define_eval(CLI::App& app, const Globals& globals) {
  auto options = std::make_shared<EvalRunOptions>();
  app.add_option("target", options->target, "RECIPE.yaml (the model as it stands) or a run's folder")
      ->required();
  app.add_option("overrides", options->overrides, "key=value for keys that are to be other");
  app.add_option("--adapter", options->adapter, "folder of the adapter that is judged");
  app.add_option("--drop-adapters", options->drop_adapters,
                 "AdapterDrop: leave out the bottlenecks of this many of the lowest layers")
      ->check(number(between<int64_t>(0, 1000000)));
  app.add_option("--split", options->split, "train, validation or test; validation where there is one");
  app.add_option("--predictions", options->predictions, "file for one JSON object a sequence");
  return [options, &globals] {
    const RunReport report = eval_run(*options);
    print_result(globals, report.document, report.text);
    return report.exit_code;
  };
}

}  // namespace graft::cli
