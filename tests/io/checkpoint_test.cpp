#include "graft/io/checkpoint.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/io/safetensors.h"
#include "tests/io/torch_save.h"
#include "tests/temporary.h"

namespace graft {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::message_of;
using test::TemporaryFolder;

TensorMap three() { return {{"a", at::ones({4})}, {"b", at::zeros({4})}, {"c", at::full({2}, 7.0)}}; }

std::string open_error(const TemporaryFolder& folder) {
  return message_of<DataError>([&] { Checkpoint::open(folder.path()); });
}

TEST(Checkpoint, OneFile) {
  const TemporaryFolder folder;
  write_checkpoint(folder.path(), {{"model_type", "bert"}, {"eps", 1e-12}}, three());
  EXPECT_EQ(read_file(folder / "config.json"), "{\n  \"model_type\": \"bert\",\n  \"eps\": 1e-12\n}\n");
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  EXPECT_EQ(checkpoint.config["model_type"], "bert");
  EXPECT_EQ(checkpoint.tensors.size(), 3u);
  EXPECT_TRUE(at::equal(checkpoint.tensors.at("c"), three().at("c")));
  EXPECT_TRUE(Checkpoint::open_config(folder.path()).tensors.empty());
}

TEST(Checkpoint, Shards) {
  const TemporaryFolder folder;
  write_checkpoint(folder.path(), Json::object(), three(), 20);
  EXPECT_TRUE(fs::exists(folder / "model-00001-of-00003.safetensors"));
  const Json index = read_json(folder / "model.safetensors.index.json");
  EXPECT_EQ(index["metadata"]["total_size"], 40);
  EXPECT_EQ(index["weight_map"]["b"], "model-00002-of-00003.safetensors");
  EXPECT_EQ(Checkpoint::open(folder.path()).tensors.size(), 3u);
  // Two of 16 bytes fit into 32.
  write_checkpoint(folder.path(), Json::object(), three(), 32);
  EXPECT_EQ(read_json(folder / "model.safetensors.index.json")["weight_map"]["b"],
            "model-00001-of-00002.safetensors");
}

TEST(Checkpoint, TheLastWrittenFormIsTheOneThatIsRead) {
  const TemporaryFolder folder;
  write_checkpoint(folder.path(), Json::object(), three(), 20);
  write_checkpoint(folder.path(), Json::object(), {{"new", at::ones({1})}});
  EXPECT_TRUE(Checkpoint::open(folder.path()).tensors.contains("new"));
  write_checkpoint(folder.path(), Json::object(), three(), 20);
  EXPECT_FALSE(Checkpoint::open(folder.path()).tensors.contains("new"));
}

TEST(Checkpoint, PicklesAreReadWhereNoSafetensorsAre) {
  const TemporaryFolder folder;
  folder.file("config.json", "{}");
  folder.file("pytorch_model.bin", test::torch_save(three()));
  const TensorMap tensors = Checkpoint::open(folder.path()).tensors;
  ASSERT_EQ(tensors.size(), 3u);
  for (const auto& [name, tensor] : three()) EXPECT_TRUE(tensors.at(name).equal(tensor)) << name;
  write_safetensors(folder / "model.safetensors", {{"new", at::ones({1})}});
  EXPECT_TRUE(Checkpoint::open(folder.path()).tensors.contains("new"));
}

TEST(Checkpoint, PicklesInShards) {
  const TemporaryFolder folder;
  folder.file("config.json", "{}");
  folder.file("one.bin", test::torch_save({{"a", at::ones({4})}}));
  folder.file("two.bin", test::torch_save({{"b", at::zeros({4})}, {"c", at::full({2}, 7.0)}}));
  folder.file("pytorch_model.bin.index.json",
              R"({"weight_map": {"a": "one.bin", "b": "two.bin", "c": "two.bin"}})");
  const TensorMap tensors = Checkpoint::open(folder.path()).tensors;
  for (const auto& [name, tensor] : three()) EXPECT_TRUE(tensors.at(name).equal(tensor)) << name;
  folder.file("pytorch_model.bin.index.json", R"({"weight_map": {"a": "two.bin"}})");
  EXPECT_TRUE(
      contains(open_error(folder), "two.bin] tensor a is missing, pytorch_model.bin.index.json says"));
  folder.file("pytorch_model.bin.index.json", R"({"weight_map": {"a": "../one.bin"}})");
  EXPECT_TRUE(contains(open_error(folder), "expected a name without a folder"));
}

TEST(Checkpoint, SaysWhatTheFolderLacks) {
  const TemporaryFolder folder;
  EXPECT_TRUE(contains(message_of<DataError>([&] { Checkpoint::open(folder / "none"); }), "no such folder"));
  EXPECT_TRUE(contains(open_error(folder), "no config.json in the folder"));
  folder.file("adapter_config.json", "{}");
  EXPECT_TRUE(contains(open_error(folder), "is an adapter's folder, expected a model's"));
  folder.file("config.json", "[]");
  EXPECT_TRUE(contains(open_error(folder), "config.json] is no mapping"));
  folder.file("config.json", "{");
  EXPECT_TRUE(contains(open_error(folder), "config.json:1:"));
  folder.file("config.json", "{}");
  EXPECT_TRUE(contains(open_error(folder), "no weights in the folder, expected model.safetensors"));
  folder.file("pytorch_model.bin", "x");
  EXPECT_TRUE(
      contains(open_error(folder), "pytorch_model.bin] no zip archive, expected a file of torch.save"));
  EXPECT_TRUE(
      contains(message_of<DataError>([&] { Checkpoint::open(folder.path() / "config.json"); }), "is a file"));
}

TEST(Checkpoint, TheIndexIsDoubted) {
  const TemporaryFolder folder;
  folder.file("config.json", "{}");
  const auto with = [&](const char* index) {
    folder.file("model.safetensors.index.json", index);
    return open_error(folder);
  };
  write_safetensors(folder / "one.safetensors", {{"a", at::ones({1})}});
  write_safetensors(folder / "two.safetensors", {{"a", at::ones({1})}, {"b", at::ones({1})}});
  EXPECT_TRUE(contains(with("{}"), "no weight_map"));
  EXPECT_TRUE(contains(with(R"({"weight_map": []})"), "no weight_map"));
  EXPECT_TRUE(contains(with(R"({"weight_map": {"a": 1}})"), "tensor a: its file is number"));
  EXPECT_TRUE(
      contains(with(R"({"weight_map": {"a": "../one.safetensors"}})"), "expected a name without a folder"));
  EXPECT_TRUE(contains(with(R"({"weight_map": {"a": ".."}})"), "expected a name without a folder"));
  EXPECT_TRUE(contains(with(R"({"weight_map": {"a": "/dev/null"}})"), "expected a name without a folder"));
  EXPECT_TRUE(
      contains(with(R"({"weight_map": {"a": "none.safetensors"}})"), "file none.safetensors is missing"));
  EXPECT_TRUE(
      contains(with(R"({"weight_map": {"c": "one.safetensors"}})"), "one.safetensors] tensor c is missing"));
  EXPECT_TRUE(contains(with(R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})"),
                       "two.safetensors] tensor a is in another file of the checkpoint too"));
}

TEST(CopyTextFiles, CopiesWhatIsThere) {
  const TemporaryFolder from, to;
  from.file("tokenizer.json", "t");
  from.file("chat_template.jinja", "c");
  from.file("config.json", "not this one");
  copy_text_files(from.path(), to.path());
  EXPECT_EQ(read_file(to / "tokenizer.json"), "t");
  EXPECT_EQ(read_file(to / "chat_template.jinja"), "c");
  EXPECT_EQ(to.count(), 2u);
  copy_text_files(to.path(), to.path());
  EXPECT_EQ(read_file(to / "tokenizer.json"), "t");
}

}  // namespace
}  // namespace graft
