// graft combine: a LoRA adapter made of others, or of a tuned model and its base.
#include "cli/command.h"
#include "cli/number_option.h"
#include "graft/base/error.h"
#include "graft/session/combine_run.h"

namespace graft::cli {
namespace {

struct CombineArguments {
  std::vector<std::string> adapters;
  std::string sign = "total";
  CombineRunOptions options;
};

}  // namespace

Run define_combine(CLI::App& app, const Globals& globals) {
  auto arguments = std::make_shared<CombineArguments>();
  CombineRunOptions& options = arguments->options;
  app.add_option("--model", options.model, "folder of the base model, in Hugging Face layout")->required();
  app.add_option("--adapter", arguments->adapters,
                 "folder of an adapter; FOLDER@WEIGHT, below 0 to subtract; may be given several times")
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--tuned", options.tuned, "in place of adapters: a fully tuned copy of the model");
  app.add_option(
      "--target-modules", options.target_modules,
      "with --tuned: names with commas between, or a regular expression; all linear maps if not given");
  app.add_option("--out", options.out, "new folder for the adapter")->required();
  app.add_option("--how", options.rule.name,
                 "linear, cat, svd, ties, dare_linear, dare_ties or magnitude_prune")
      ->capture_default_str();
  app.add_option("--rank", options.rank,
                 "rank of the result; not given: the sum of all (linear, cat), else the largest")
      ->check(number(at_least<int64_t>(1)));
  app.add_option("--density", options.rule.density,
                 "share of each update that ties, dare_* and magnitude_prune keep")
      ->check(number(between(0.0, 1.0)))
      ->capture_default_str();
  app.add_option("--majority-sign", arguments->sign, "ties, dare_ties: total or frequency")
      ->capture_default_str();
  app.add_option("--seed", options.rule.seed, "of dare's draws")
      ->check(number(at_least<int64_t>(0)))
      ->capture_default_str();
  return [arguments, &globals] {
    for (const std::string& text : arguments->adapters)
      arguments->options.adapters.push_back(adapter_choice(text));
    if (arguments->sign != "total" && arguments->sign != "frequency")
      throw UsageError("majority-sign", "{}, expected total or frequency", arguments->sign);
    arguments->options.rule.by_frequency = arguments->sign == "frequency";
    const RunReport report = combine_run(arguments->options);
    print_result(globals, report.document, report.text);
    return report.exit_code;
  };
}

}  // namespace graft::cli
