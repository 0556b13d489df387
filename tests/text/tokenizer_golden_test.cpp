// Tokenizers against what the Python packages give: ids, type ids, offsets, text, streams.
#include "graft/text/tokenizer.h"
#include "tests/text/goldens.h"

namespace graft {
namespace {

using test::golden_rows;

struct Case {
  const char* golden;
  const char* files;  // what is copied from the model's folder, separated by spaces
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.golden << " (" << c.files << ")";
}

std::filesystem::path model_folder(const std::string& name) {
  const std::filesystem::path bundled = test::data_dir() / "tokenizers" / name;
  return std::filesystem::exists(bundled) ? bundled : test::shared_dir() / "models" / name;
}

Json flat(const Encoding& encoding) {
  Json out = Json::array();
  for (const auto& [start, end] : encoding.offsets) {
    out.push_back(start);
    out.push_back(end);
  }
  return out;
}

Json streamed(const Tokenizer& tokenizer, const std::vector<int64_t>& ids) {
  Json out = Json::array();
  Tokenizer::Stream stream = tokenizer.stream(true);
  for (const int64_t id : ids) {
    const auto text = stream.next(id);
    if (stream.fault()) {
      out.push_back({{"error", *stream.fault()}});
      break;
    }
    out.push_back(text ? Json(*text) : Json());
  }
  return out;
}

class Golden : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    GRAFT_NEED(test::shared_dir());
    GRAFT_NEED(test::data_dir());
    const std::string files = GetParam().files;
    for (size_t at = 0; at < files.size();) {
      const size_t end = std::min(files.find(' ', at), files.size());
      const std::string name = files.substr(at, end - at);
      folder_.copy(model_folder(GetParam().golden) / name, name);
      at = end + 1;
    }
    tokenizer_.emplace(Tokenizer::open(folder_.path()));
    golden_ = std::string(GetParam().golden) + ".jsonl.gz";
  }

  test::TempFolder folder_;
  std::optional<Tokenizer> tokenizer_;
  std::string golden_;
};

class CrateGolden : public Golden {};

TEST_P(CrateGolden, Texts) {
  const std::vector<Json> rows = golden_rows(golden_, "text");
  ASSERT_GT(rows.size(), 400u);
  std::vector<TextInput> inputs;
  for (const Json& row : rows) inputs.push_back({row["text"], {}, true});
  const std::vector<Encoding> all = tokenizer_->encode_batch(inputs);
  for (size_t i = 0; i < rows.size(); ++i) {
    const Json& row = rows[i];
    SCOPED_TRACE(row["text"].dump());
    EXPECT_EQ(Json(all[i].ids), row["ids"]);
    EXPECT_EQ(flat(all[i]), row["off"]);
    EXPECT_EQ(Json(tokenizer_->encode({row["text"], {}, false}).ids), row["ids_raw"]);
    EXPECT_EQ(Json(tokenizer_->decode(all[i].ids, false)), row["dec"]);
    EXPECT_EQ(Json(tokenizer_->decode(all[i].ids, true)), row["dec_skip"]);
    EXPECT_EQ(streamed(*tokenizer_, all[i].ids), row["stream"]);
  }
}

TEST_P(CrateGolden, Pairs) {
  const std::vector<Json> rows = golden_rows(golden_, "pair");
  ASSERT_GT(rows.size(), 30u);
  for (const Json& row : rows) {
    SCOPED_TRACE(row["text"].dump() + row["text2"].dump());
    const Encoding full = tokenizer_->encode({row["text"], row["text2"].get<std::string>(), true});
    EXPECT_EQ(Json(full.ids), row["ids"]);
    EXPECT_EQ(Json(full.type_ids), row["type_ids"]);
    EXPECT_EQ(flat(full), row["off"]);
    for (size_t i = 0; i < full.special.size(); ++i)
      EXPECT_EQ(full.special[i], row["special"][i].get<int>() == 1);
    const Encoding raw = tokenizer_->encode({row["text"], row["text2"].get<std::string>(), false});
    EXPECT_EQ(Json(raw.ids), row["ids_raw"]);
    EXPECT_EQ(Json(raw.type_ids), row["type_ids_raw"]);
  }
}

TEST_P(CrateGolden, Ids) {
  const std::vector<Json> rows = golden_rows(golden_, "ids");
  ASSERT_GT(rows.size(), 30u);
  for (const Json& row : rows) {
    SCOPED_TRACE(row["ids"].dump());
    const auto ids = row["ids"].get<std::vector<int64_t>>();
    EXPECT_EQ(Json(tokenizer_->decode(ids, false)), row["dec"]);
    EXPECT_EQ(Json(tokenizer_->decode(ids, true)), row["dec_skip"]);
    EXPECT_EQ(streamed(*tokenizer_, ids), row["stream"]);
  }
}

const Case kCrate[] = {{"bert-base-uncased", "tokenizer.json tokenizer_config.json"},
                       {"bert-base-uncased", "vocab.txt tokenizer_config.json"},
                       {"bert-base-chinese", "tokenizer.json tokenizer_config.json"},
                       {"bert-base-chinese", "vocab.txt tokenizer_config.json"},
                       {"all-MiniLM-L6-v2", "tokenizer.json tokenizer_config.json"},
                       {"llama2", "tokenizer.json tokenizer_config.json"},
                       {"llama2", "tokenizer.model tokenizer_config.json"},
                       {"llama2", "tokenizer.model"},
                       {"gpt2", "tokenizer.json tokenizer_config.json"},
                       {"gpt2", "vocab.json merges.txt tokenizer_config.json"},
                       {"gpt2", "vocab.json merges.txt"},
                       {"qwen2.5", "tokenizer.json tokenizer_config.json"},
                       {"minimind2-small", "tokenizer.json tokenizer_config.json"},
                       {"roberta", "tokenizer.json tokenizer_config.json"},
                       {"roberta", "vocab.json merges.txt tokenizer_config.json"}};
INSTANTIATE_TEST_SUITE_P(All, CrateGolden, testing::ValuesIn(kCrate));

/// SentencePiece is the reference; a row whose text spells out a special token comes from transformers
/// ("ref": "hf").
class PieceGolden : public Golden {};

TEST_P(PieceGolden, Texts) {
  const std::vector<Json> rows = golden_rows(golden_, "text");
  ASSERT_GT(rows.size(), 400u);
  for (const Json& row : rows) {
    if (row["ref"] != "sp") continue;
    SCOPED_TRACE(row["text"].dump());
    const Encoding raw = tokenizer_->encode({row["text"], {}, false});
    EXPECT_EQ(Json(raw.ids), row["ids_raw"]);
    EXPECT_EQ(Json(tokenizer_->decode(raw.ids, true)), row["dec"]);
    if (row.contains("ids")) {
      const Encoding full = tokenizer_->encode({row["text"], {}, true});
      EXPECT_EQ(Json(full.ids), row["ids"]);
      EXPECT_EQ(Json(tokenizer_->decode(full.ids, true)), row["dec"]);
    }
  }
}

TEST_P(PieceGolden, Pairs) {
  for (const Json& row : golden_rows(golden_, "pair")) {
    SCOPED_TRACE(row["text"].dump() + row["text2"].dump());
    const Encoding full = tokenizer_->encode({row["text"], row["text2"].get<std::string>(), true});
    EXPECT_EQ(Json(full.ids), row["ids"]);
    EXPECT_EQ(Json(full.type_ids), row["type_ids"]);
  }
}

TEST_P(PieceGolden, Ids) {
  const std::vector<Json> rows = golden_rows(golden_, "ids");
  ASSERT_GE(rows.size(), 40u);
  for (const Json& row : rows) {
    if (row["ref"] != "sp") continue;
    SCOPED_TRACE(row["ids"].dump());
    EXPECT_EQ(Json(tokenizer_->decode(row["ids"].get<std::vector<int64_t>>(), true)), row["dec"]);
  }
}

const Case kPieces[] = {{"t5", "spiece.model"},
                        {"deberta-v3", "spm.model"},
                        {"chinese-llama2", "tokenizer.model tokenizer_config.json special_tokens_map.json"},
                        {"chinese-llama", "chinese_sp.model"}};
INSTANTIATE_TEST_SUITE_P(All, PieceGolden, testing::ValuesIn(kPieces));

}  // namespace
}  // namespace graft
