#include "graft/peft/several.h"

#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "tests/peft/methods.h"
#include "tests/temporary.h"

namespace graft::test {
namespace {

const Tiny& tiny(const std::string& name) {
  for (const Tiny& one : tiny_models()) {
    if (one.name == name) return one;
  }
  throw InternalError("test", "no tiny model {}", name);
}

/// As in MAM, and more: keys and values in front, low rank inside, a network beside and one behind.
Json mixed() {
  return parse_json(R"([{"name": "prefix_tuning", "num_virtual_tokens": 3},
                        {"name": "lora", "r": 2, "lora_alpha": 5},
                        {"name": "parallel", "bottleneck_size": 5},
                        {"name": "houlsby", "bottleneck_size": 3}])",
                    "list");
}

class Several : public ::testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<Model> model_ = tiny_model(tiny(GetParam()));
  Batch batch() const { return batch_of(*model_, {some_text(1, 6), some_text(2, 3)}); }
  Tensor answer_of(const Adapter& adapter) {
    attach(adapter, *model_);
    return answer(*model_, &adapter, batch());
  }
};

TEST_P(Several, EachPartActsAndAllAreTrained) {
  const Adapter adapter = create_adapter(mixed(), *model_, 3);
  move_tensors(adapter);
  const Tensor whole = answer_of(adapter);
  for (size_t i = 0; i < adapter.parts.size(); ++i) {
    Json less = mixed();
    less.erase(i);
    Adapter rest = create_adapter(less, *model_, 3);
    const at::NoGradGuard no_grad;
    for (auto& [key, tensor] : rest.trained) {
      if (const auto same = adapter.trained.find(key); same != adapter.trained.end())
        tensor.copy_(same->second);
    }
    for (auto& [path, tensor] : rest.stand_ins) tensor.copy_(adapter.stand_ins.at(path));
    EXPECT_GT(largest_difference(answer_of(rest), whole), 1e-4) << adapter.part_names[i];
  }
  answer_of(adapter).square().sum().backward();
  for (const auto& [key, tensor] : adapter.trained) EXPECT_TRUE(tensor.grad().defined()) << key;
}

TEST_P(Several, OneAfterAnotherBehindASublayer) {
  // Two bottlenecks whose ways up are zero but for their biases: the biases add up.
  const Json list =
      parse_json(R"([{"name": "houlsby", "bottleneck_size": 3}, {"name": "pfeiffer"}])", "list");
  const Adapter both = create_adapter(list, *model_, 3), one = create_adapter(list[0], *model_, 3);
  const at::NoGradGuard no_grad;
  for (const auto& [key, tensor] : both.trained) {
    if (key.find(".adapters.") == std::string::npos) continue;
    Tensor target = tensor;
    target.fill_(key.ends_with("adapter_up.bias") ? 0.25 : 0);
  }
  for (const auto& [key, tensor] : one.trained) {
    Tensor target = tensor;
    if (key.find(".adapters.") == std::string::npos) {
      target.copy_(both.trained.at("houlsby/" + key));
      continue;
    }
    const bool attention = !both.trained.contains("pfeiffer/" + key);
    target.fill_(key.ends_with("adapter_up.bias") ? (attention ? 0.25 : 0.5) : 0);
  }
  const Tensor expected = answer_of(one);
  // Sums in another order only.
  EXPECT_LT(largest_difference(answer_of(both), expected),
            2e-5 * std::max(1.0, expected.abs().max().item<double>()));
}

TEST_P(Several, SavedAsAFolderEachAndReadAgain) {
  const TemporaryFolder folder;
  const Adapter adapter = create_adapter(mixed(), *model_, 3);
  move_tensors(adapter);
  const Tensor expected = answer_of(adapter);
  write_adapter(folder.path(), adapter, *model_);
  for (const char* part : {"prefix_tuning", "lora", "parallel", "houlsby"}) {
    EXPECT_TRUE(std::filesystem::exists(folder / part / "adapter_config.json")) << part;
  }
  EXPECT_EQ(adapter_folders(folder.path()).size(), 4u);
  const Adapter read = read_adapter(folder.path(), *model_);
  EXPECT_TRUE(answer_of(read).equal(expected));
  EXPECT_EQ(parameter_count(trainable(read)), parameter_count(trainable(adapter)));
}

INSTANTIATE_TEST_SUITE_P(Families, Several, ::testing::Values("bert_seqcls", "llama", "gpt2"),
                         [](const auto& given) { return std::string(given.param); });

TEST(Lists, AHeadThatSeveralTrainIsOne) {
  const auto model = tiny_model(tiny("bert_seqcls"));
  const Adapter adapter = create_adapter(mixed(), *model, 3);
  int heads = 0;
  for (const auto& [key, tensor] : adapter.trained) heads += key.ends_with("classifier.weight") ? 1 : 0;
  EXPECT_EQ(heads, 1);
  for (const Adapter& part : adapter.parts) {
    EXPECT_TRUE(part.stand_ins.at("classifier.weight").is_same(adapter.stand_ins.at("classifier.weight")));
  }
}

std::string complaint(const std::string& list) {
  const auto model = tiny_model(tiny("bert_seqcls"));
  try {
    create_adapter(parse_json(list, "list"), *model, 3);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(Lists, RefuseWhereTwoCannotMeet) {
  const std::string linear = complaint(R"([{"name": "lora"}, {"name": "loha"}])");
  EXPECT_NE(linear.find("attention.self.query"), std::string::npos) << linear;
  EXPECT_NE(complaint(R"([{"name": "prompt_tuning", "num_virtual_tokens": 2},
                          {"name": "prefix_tuning", "num_virtual_tokens": 2}])")
                .find("input"),
            std::string::npos);
  EXPECT_NE(complaint(R"([{"name": "lora"}, {"name": "did", "d": 20}])").find("alone"), std::string::npos);
  EXPECT_EQ(complaint(R"([{"name": "lora", "target_modules": ["query"]},
                          {"name": "loha", "target_modules": ["value"]}])"),
            "");
}

TEST(Lists, TheListOfFoldersIsChecked) {
  const TemporaryFolder folder;
  for (const char* list : {"[]", "3", R"(["../x"])", R"(["missing"])", R"(["a/b"])"}) {
    folder.file("adapters.json", list);
    EXPECT_THROW(adapter_folders(folder.path()), DataError) << list;
  }
}

}  // namespace
}  // namespace graft::test
