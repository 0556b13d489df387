#include "graft/tasks/prefix_lm.h"

#include "graft/base/error.h"
#include "graft/tasks/packing.h"
#include "graft/tasks/source_target.h"

namespace graft {
namespace {

struct PrefixLmConfig {
  std::string name = "prefix_lm";
  int64_t max_length = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("name", self.name, "the task");
    visit("max_length", self.max_length,
          "tokens a block, which longer documents are cut into and which is split at random; 0: 512",
          at_least<int64_t>(0));
  }
};

class PrefixLm : public TextBlockTask {
 public:
  PrefixLm(PrefixLmConfig config, const TaskSetup& setup)
      : TextBlockTask(setup, {"prefix_lm", "prefix", length_limit(config.max_length, 0)}),
        config_(std::move(config)) {
    if (length() < 2) throw UsageError("task.max_length", "{}, expected at least 2", length());
  }
  Json config() const override { return write_fields(config_); }

 protected:
  SourceTarget parts(const std::vector<int64_t>& ids, RandomStream& random) const override {
    // Both parts have a token at least.
    const auto cut = static_cast<std::ptrdiff_t>(1 + random.below(ids.size() - 1));
    SourceTarget pair{{ids.begin(), ids.begin() + cut}, {ids.begin() + cut, ids.end()}};
    pair.source.push_back(end());
    pair.target.push_back(end());
    return pair;
  }

 private:
  PrefixLmConfig config_;
};

std::unique_ptr<Task> create(const TaskSetup& setup) {
  return std::make_unique<PrefixLm>(read_fields<PrefixLmConfig>(setup.task, "task"), setup);
}

std::vector<FieldHelp> help() { return describe_fields<PrefixLmConfig>("task"); }

}  // namespace

const TaskKind kPrefixLm = {
    .name = "prefix_lm",
    .summary = "plain text split at random: an encoder-decoder reads the first part and writes the second",
    .create = create,
    .help = help,
    .train_defaults = {{"epochs", 1.0}, {"batch_size", 32}, {"learning_rate", 1e-3}, {"warmup_ratio", 0.06}},
};

}  // namespace graft
