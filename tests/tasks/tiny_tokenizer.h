// A tokenizer of whole words, written into a folder: small enough that every id in a test can be seen.
#pragma once
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "graft/base/json.h"
#include "graft/text/tokenizer.h"

namespace graft::test {

/// Ids: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, then `words` from 5 on.
class TinyTokenizer {
 public:
  /// `wrap`: [CLS] a [SEP] (b [SEP]) around texts, as BERT has it.
  explicit TinyTokenizer(const std::string& words, bool wrap = true) {
    std::string name = (std::filesystem::temp_directory_path() / "graft-tokenizer-XXXXXX").string();
    folder_ = mkdtemp(name.data());
    Json vocabulary = {{"[PAD]", 0}, {"[UNK]", 1}, {"[CLS]", 2}, {"[SEP]", 3}, {"[MASK]", 4}};
    int64_t next = 5;
    std::istringstream stream(words);
    for (std::string word; stream >> word;) vocabulary[word] = next++;
    Json added = Json::array();
    for (const char* token : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) {
      added.push_back({{"id", vocabulary[token]},
                       {"content", token},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", true}});
    }
    Json document = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", {{"type", "Whitespace"}}},
                     {"post_processor", nullptr},
                     {"decoder", nullptr},
                     {"model", {{"type", "WordLevel"}, {"vocab", vocabulary}, {"unk_token", "[UNK]"}}}};
    if (wrap) {
      document["post_processor"] = {{"type", "BertProcessing"}, {"sep", {"[SEP]", 3}}, {"cls", {"[CLS]", 2}}};
    }
    std::ofstream(folder_ / "tokenizer.json") << document.dump();
    std::ofstream(folder_ / "tokenizer_config.json")
        << R"({"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",)"
        << R"( "mask_token": "[MASK]", "eos_token": "[SEP]", "bos_token": "[CLS]"})";
  }
  ~TinyTokenizer() { std::filesystem::remove_all(folder_); }
  TinyTokenizer(const TinyTokenizer&) = delete;
  TinyTokenizer& operator=(const TinyTokenizer&) = delete;

  const std::filesystem::path& folder() const { return folder_; }
  Tokenizer open() const { return Tokenizer::open(folder_); }

 private:
  std::filesystem::path folder_;
};

}  // namespace graft::test
