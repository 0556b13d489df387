// graft merge: base and adapters become a plain checkpoint.
#include "cli/command.h"
#include "cli/number_option.h"
#include "graft/session/merge_run.h"

namespace graft::cli {
namespace {

/// In gigabytes: a byte, and more than any file system holds.
constexpr double kSmallestShard = 1e-9, kLargestShard = 1e9;

struct MergeArguments {
  std::vector<std::string> adapters;
  double shard_gigabytes = 5;
  MergeRunOptions options;
};

}  // namespace

Run define_merge(CLI::App& app, const Globals& globals) {
  auto arguments = std::make_shared<MergeArguments>();
  app.add_option("--model", arguments->options.model, "folder of the model, in Hugging Face layout")
      ->required();
  app.add_option("--adapter", arguments->adapters,
                 "folder of an adapter; FOLDER@WEIGHT; may be given several times")
      ->required()
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--out", arguments->options.out, "new folder for the merged model")->required();
  app.add_option("--dtype", arguments->options.dtype, "float32 or bfloat16; the model's own where not given");
  app.add_option("--shard-size", arguments->shard_gigabytes, "largest weights file, in gigabytes")
      ->capture_default_str()
      ->check(number(between(kSmallestShard, kLargestShard)));
  return [arguments, &globals] {
    for (const std::string& text : arguments->adapters)
      arguments->options.adapters.push_back(adapter_choice(text));
    arguments->options.shard_bytes = static_cast<int64_t>(arguments->shard_gigabytes * 1e9);
    const RunReport report = merge_run(arguments->options);
    print_result(globals, report.document, report.text);
    return report.exit_code;
  };
}

}  // namespace graft::cli
