// SentencePiece models made in the test: BPE as merges, unigram by SentencePiece itself, and files that lie.
#include <cstring>

#include "graft/base/error.h"
#include "graft/text/sentencepiece_file.h"
#include "graft/text/tokenizer.h"
#include "tests/text/goldens.h"

namespace graft {
namespace {

using Ids = std::vector<int64_t>;

std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 128; value >>= 7) out += static_cast<char>(value | 128);
  return out + static_cast<char>(value);
}

std::string bytes_field(uint64_t number, const std::string& bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + bytes;
}

std::string number_field(uint64_t number, uint64_t value) { return varint(number << 3) + varint(value); }

std::string piece(const std::string& text, float score, uint64_t kind = 1) {
  std::string bits(4, '\0');
  std::memcpy(bits.data(), &score, 4);
  return bytes_field(1, bytes_field(1, text) + varint(2 << 3 | 5) + bits + number_field(3, kind));
}

/// <unk>, <s>, </s>, then a few pieces of "▁ab"; `algorithm` 1 unigram, 2 BPE.
std::string model(uint64_t algorithm, const std::string& more = "", const std::string& normalizer = "") {
  return piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("\u2581", -3) +
         piece("a", -4) + piece("b", -5) + piece("ab", -1) + piece("\u2581ab", -2) + more +
         bytes_field(2, number_field(3, algorithm)) + bytes_field(3, number_field(4, 0) + normalizer);
}

std::string complaint(const std::string& bytes) {
  const test::TempFolder folder;
  folder.write("tokenizer.model", bytes);
  try {
    Tokenizer::open(folder.path()).encode({"ab ab", {}, true});
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

TEST(SentencePiece, BpeAndUnigram) {
  for (const uint64_t algorithm : {1u, 2u}) {
    const test::TempFolder folder;
    folder.write("tokenizer.model", model(algorithm));
    const Tokenizer tokenizer = Tokenizer::open(folder.path());
    EXPECT_EQ(tokenizer.encode({"ab ab", {}, true}).ids, (Ids{1, 7, 7})) << algorithm;
    EXPECT_EQ(tokenizer.encode({"aab", "b", true}).ids, (Ids{1, 3, 4, 6, 1, 3, 5})) << algorithm;
    EXPECT_EQ(tokenizer.encode({"ab</s>ab", {}, false}).ids, (Ids{7, 2, 7})) << algorithm;
    EXPECT_EQ(tokenizer.decode({1, 7, 7, 2}, true), "ab ab") << algorithm;
    EXPECT_EQ(tokenizer.decode({1, 7, 7, 2}, false), "<s> ab ab</s>") << algorithm;
    EXPECT_EQ(tokenizer.bos_id(), 1);
    EXPECT_EQ(tokenizer.unk_id(), 0);
    EXPECT_EQ(tokenizer.vocab_size(), 8);
    EXPECT_EQ(tokenizer.token_id("nowhere"), std::nullopt);
    EXPECT_EQ(tokenizer.id_token(7), "\u2581ab");
    const Encoding unknown = tokenizer.encode({"ab 你b", {}, false});
    EXPECT_EQ(unknown.ids, (Ids{7, 3, 0, 5})) << algorithm;
    EXPECT_EQ(unknown.offsets.back(), (std::pair<int64_t, int64_t>{4, 5})) << algorithm;
  }
}

TEST(SentencePiece, FirstOfEqualSplits) {
  // Ten characters as three threes and one, in any order: the same score, exactly.
  const test::TempFolder folder;
  folder.write("tokenizer.model", model(1, piece("!", -9.5f) + piece("!!!", -10.75f)));
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  const Encoding encoding = tokenizer.encode({"!!!!!!!!!!", {}, false});
  EXPECT_EQ(encoding.ids, (Ids{3, 8, 9, 9, 9}));
  EXPECT_EQ(encoding.offsets.back(), (std::pair<int64_t, int64_t>{7, 10}));
}

TEST(SentencePiece, SwitchesOfTheConfig) {
  const test::TempFolder folder;
  folder.write("tokenizer.model", model(1));
  folder.write("tokenizer_config.json", R"({"add_bos_token":false,"add_eos_token":true,"added_tokens_decoder":
    {"8":{"content":"<mask>","special":true,"lstrip":true}},"pad_token":"ab","unk_token":null,"sep_token":"[new]"})");
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(tokenizer.encode({"b  <mask>b", {}, true}).ids, (Ids{3, 5, 8, 3, 5, 2}));
  // Named tokens are special, and added where the model has no such piece.
  EXPECT_EQ(tokenizer.encode({"ab[new]", {}, false}).ids, (Ids{6, 9}));
  EXPECT_EQ(tokenizer.decode({6, 9, 5}, true), "b");
  EXPECT_EQ(tokenizer.pad_id(), 6);
  EXPECT_EQ(tokenizer.unk_id(), std::nullopt);
  EXPECT_EQ(tokenizer.vocab_size(), 10);
  EXPECT_EQ(tokenizer.mask_id(), 8);
}

TEST(SentencePiece, T5AndDebertaShapes) {
  const test::TempFolder t5;
  t5.write("spiece.model", model(1));
  const Tokenizer tokenizer = Tokenizer::open(t5.path());
  EXPECT_EQ(tokenizer.encode({"ab<extra_id_0>", "ab", true}).ids, (Ids{7, 107, 2, 7, 2}));
  EXPECT_EQ(tokenizer.token_id("<extra_id_99>"), 8);
  EXPECT_EQ(tokenizer.vocab_size(), 108);
  const test::TempFolder deberta;
  deberta.write("spm.model", model(1, piece("[CLS]", 0, 3) + piece("[SEP]", 0, 3)));
  const Encoding pair = Tokenizer::open(deberta.path()).encode({"ab", "ab[MASK]", true});
  EXPECT_EQ(pair.ids, (Ids{8, 7, 9, 7, 10, 9}));
  EXPECT_EQ(pair.type_ids, (Ids{0, 0, 0, 1, 1, 1}));
}

TEST(SentencePiece, NotUtf8IsAnError) {
  const test::TempFolder folder;
  folder.write("tokenizer.model", model(1));
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  EXPECT_THROW(tokenizer.encode({"ab\xff", {}, true}), DataError);
  EXPECT_THROW(tokenizer.encode_batch(std::vector<TextInput>(50, {"ab\xff", {}, true})), DataError);
}

TEST(SentencePiece, FilesThatLie) {
  const auto trie = [](uint32_t bytes, uint32_t unit, const std::string& texts) {
    std::string map(4, '\0');
    std::memcpy(map.data(), &bytes, 4);
    for (uint32_t i = 0; i < bytes / 4; ++i) map.append(reinterpret_cast<const char*>(&unit), 4);
    return bytes_field(2, map + texts);
  };
  const std::string nul(1, '\0');
  EXPECT_EQ(complaint(model(1)), "");
  EXPECT_NE(complaint(model(1, piece("ab", -1))).find("twice"), std::string::npos);
  EXPECT_NE(complaint(model(1, piece("", -1))).find("empty"), std::string::npos);
  EXPECT_NE(complaint(model(1, piece("\xff", -1))).find("UTF-8"), std::string::npos);
  EXPECT_NE(complaint(model(1, piece("x", NAN))).find("score"), std::string::npos);
  EXPECT_NE(complaint(model(1, piece("x", -1, 9))).find("kind"), std::string::npos);
  EXPECT_NE(complaint(model(1, piece("<u>", 0, 2))).find("unknown text: 2"), std::string::npos);
  EXPECT_NE(complaint(model(1, piece("<0xZZ>", 0, 6))).find("expected a byte"), std::string::npos);
  EXPECT_NE(complaint(model(7)).find("model type"), std::string::npos);
  for (const std::string& map :
       {trie(1024, 0xffffffff, nul), trie(1024, 0x7ffffc00, nul), trie(1000, 0, nul), trie(1024, 0, "x"),
        bytes_field(2, "abc"), bytes_field(2, "\xff\xff\xff\xff" + nul)}) {
    EXPECT_NE(complaint(model(1, "", map)).find("character map"), std::string::npos);
  }
  const std::string whole = model(1);
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string said = complaint(whole.substr(0, size));  // some prefixes are models; none may crash
    EXPECT_EQ(said.find('\n'), std::string::npos);
  }
}

}  // namespace
}  // namespace graft
