// Law: a run that was killed at any moment and went on equals one that never stopped; the same bits on one
// thread.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <sstream>
#include <thread>

#include "graft/io/safetensors.h"
#include "tests/session/tiny_run.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

/// `graft train` as a process of its own.
class TrainProcess {
 public:
  TrainProcess(const std::string& recipe, const std::vector<std::string>& more, const fs::path& log) {
    std::vector<std::string> arguments{GRAFT_BINARY, "train", recipe};
    arguments.insert(arguments.end(), more.begin(), more.end());
    process_ = fork();
    if (process_ != 0) return;
    const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    dup2(file, STDOUT_FILENO);
    dup2(file, STDERR_FILENO);
    std::vector<char*> pointers;
    for (std::string& argument : arguments) pointers.push_back(argument.data());
    pointers.push_back(nullptr);
    execv(GRAFT_BINARY, pointers.data());
    _exit(127);
  }
  void signal(int number) const { kill(process_, number); }
  /// Exit code; minus the signal that ended it.
  int wait() const {
    int status = 0;
    waitpid(process_, &status, 0);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
  }

 private:
  pid_t process_;
};

/// What must be equal: trained tensors, and every number of the log that is not time or memory.
std::string outcome_of(const fs::path& run) {
  std::string out = read_file(run / "adapter_model.safetensors");
  std::istringstream text(read_file(run / "metrics.jsonl"));
  for (std::string line; std::getline(text, line);) {
    Json row = Json::parse(line);
    for (const char* key : {"time", "memory", "tokens_per_second"}) row.erase(key);
    out += row.dump() + "\n";
  }
  return out + read_json(run / "results.json")["metrics"].dump();
}

class KilledRunTest : public ::testing::Test {
 protected:
  std::string recipe(const std::string& output, const std::vector<std::string>& more = {}) {
    std::vector<std::string> changes{"train.epochs=20", "train.save_every=7", "train.evaluate_every=5",
                                     "output=" + tiny_.at(output)};
    changes.insert(changes.end(), more.begin(), more.end());
    return tiny_.recipe_file(tiny_.classification(changes));
  }
  int run(const std::string& file, const std::vector<std::string>& more = {}) {
    const int code = TrainProcess(file, more, tiny_.folder() / "log").wait();
    return code;
  }
  std::string log() { return read_file(tiny_.folder() / "log"); }
  /// A run that is killed again and again ends with the bits of one that never stopped.
  void expect_going_on(const std::vector<std::string>& changes) {
    ASSERT_EQ(run(recipe("whole", changes)), 0) << log();
    const std::string whole = outcome_of(tiny_.folder() / "whole");
    RandomStream random(std::random_device{}(), "moments");
    const std::string file = recipe("killed", changes);
    int killed = 0;
    for (int i = 0; i < 12; ++i) {
      const TrainProcess process(file, {"--resume"}, tiny_.folder() / "log");
      std::this_thread::sleep_for(std::chrono::milliseconds(150 + random.below(600)));
      process.signal(SIGKILL);
      const int code = process.wait();
      if (code == 0) break;
      ASSERT_EQ(code, -SIGKILL) << log();
      ++killed;
    }
    ASSERT_EQ(run(file, {"--resume"}), 0) << log();
    EXPECT_GT(killed, 0);
    EXPECT_EQ(outcome_of(tiny_.folder() / "killed"), whole);
  }
  test::TinyRun tiny_;
};

TEST_F(KilledRunTest, GoingOnEqualsNeverStopping) { expect_going_on({}); }

TEST_F(KilledRunTest, GoingOnEqualsNeverStoppingInEightBits) { expect_going_on({"model.dtype=int8"}); }

/// Its statistics and masks are part of where training stands; its total_step comes from the plan.
TEST_F(KilledRunTest, GoingOnEqualsNeverStoppingWithAdaLora) {
  expect_going_on({"method.name=adalora", "method.init_r=4", "method.target_r=2", "method.tinit=0",
                   "method.deltaT=3", "method.lora_alpha=9"});
  const Json config = read_json(tiny_.folder() / "killed" / "adapter_config.json");
  EXPECT_EQ(config["total_step"], 200);  // 20 epochs of 40 examples, 4 a batch
  EXPECT_EQ(config["rank_pattern"].size(), 4U);
}

/// A prompt that comes out of a network goes on with the network, of which the adapter's file keeps nothing.
TEST_F(KilledRunTest, GoingOnEqualsNeverStoppingWithAPromptOutOfANetwork) {
  expect_going_on({"method={name: p_tuning, num_virtual_tokens: 2, encoder_reparameterization_type: LSTM}"});
}

TEST_F(KilledRunTest, GoingOnEqualsNeverStoppingWithAPrefix) {
  expect_going_on({"method={name: prefix_tuning, num_virtual_tokens: 3, prefix_projection: true}"});
}

TEST_F(KilledRunTest, SigtermSavesAndSaysHowToGoOn) {
  const std::string file =
      tiny_.recipe_file(tiny_.classification({"train.epochs=2000", "train.save_every=100000"}));
  const TrainProcess process(file, {}, tiny_.folder() / "log");
  while (!fs::exists(tiny_.output() / "metrics.jsonl"))
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait(), 1);
  EXPECT_NE(log().find("--resume"), std::string::npos) << log();
  EXPECT_FALSE(fs::is_empty(tiny_.output() / "checkpoints"));
  EXPECT_FALSE(fs::exists(tiny_.output() / "results.json"));
}

}  // namespace
}  // namespace graft
