// Tokenizers made in the test itself: loading, errors, special tokens, streams, batches.
#include "graft/text/tokenizer.h"

#include <fmt/format.h>

#include "graft/base/error.h"
#include "tests/text/goldens.h"

namespace graft {
namespace {

/// Words, and bytes as <0x..> tokens where a word is unknown; [CLS] and [SEP] around.
std::string small_json(const std::string& extra = "") {
  std::string vocab = R"("[PAD]":0,"[UNK]":1,"[CLS]":2,"[SEP]":3,"hello":4,"world":5,"##s":6,"你":7)";
  return R"({"version":"1.0","added_tokens":[
    {"id":0,"content":"[PAD]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},
    {"id":2,"content":"[CLS]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},
    {"id":3,"content":"[SEP]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
    "normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},
    "pre_tokenizer":{"type":"BertPreTokenizer"},
    "post_processor":{"type":"BertProcessing","sep":["[SEP]",3],"cls":["[CLS]",2]},
    "decoder":{"type":"WordPiece","prefix":"##","cleanup":true},)" +
         extra + R"("model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##",
    "max_input_chars_per_word":100,"vocab":{)" +
         vocab + "}}}";
}

/// Byte-level BPE without merges: one id a byte.
std::string byte_json() {
  std::string vocab;
  int id = 0, moved = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool shown = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const int code = shown ? byte : moved++;
    vocab += (id ? "," : "") + fmt::format("\"\\u{:04x}\":{}", code, byte);
    ++id;
  }
  return R"({"version":"1.0","added_tokens":[],"normalizer":null,
    "pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},"post_processor":null,
    "decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
    "model":{"type":"BPE","vocab":{)" +
         vocab + R"(},"merges":[]}})";
}

using Ids = std::vector<int64_t>;

TEST(Tokenizer, EncodesAndDecodes) {
  const test::TempFolder folder;
  folder.write("tokenizer.json", small_json());
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  const Encoding one = tokenizer.encode({"Hello 你 worlds", {}, true});
  EXPECT_EQ(one.ids, (Ids{2, 4, 7, 5, 6, 3}));
  EXPECT_EQ(one.offsets[2], (std::pair<int64_t, int64_t>{6, 7}));  // code points, not bytes
  EXPECT_EQ(one.special, (std::vector<bool>{true, false, false, false, false, true}));
  EXPECT_EQ(tokenizer.decode(one.ids, true), "hello 你 worlds");
  EXPECT_EQ(tokenizer.decode(one.ids, false), "[CLS] hello 你 worlds [SEP]");
  EXPECT_EQ(tokenizer.encode({"hello", {}, false}).ids, Ids{4});
  const Encoding pair = tokenizer.encode({"hello", "world", true});
  EXPECT_EQ(pair.ids, (Ids{2, 4, 3, 5, 3}));
  EXPECT_EQ(pair.type_ids, (Ids{0, 0, 0, 1, 1}));
}

TEST(Tokenizer, BatchEqualsSingles) {
  const test::TempFolder folder;
  folder.write("tokenizer.json", small_json());
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  std::vector<TextInput> inputs;
  for (int i = 0; i < 100; ++i) inputs.push_back({i % 3 ? "hello" : "world 你", {}, i % 2 == 0});
  const std::vector<Encoding> batch = tokenizer.encode_batch(inputs);
  ASSERT_EQ(batch.size(), inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) EXPECT_EQ(batch[i].ids, tokenizer.encode(inputs[i]).ids);
  EXPECT_TRUE(tokenizer.encode_batch({}).empty());
}

TEST(Tokenizer, StoredTruncationAndPaddingAreOff) {
  const test::TempFolder folder;
  folder.write(
      "tokenizer.json",
      small_json(R"("truncation":{"max_length":3,"stride":0,"strategy":"LongestFirst","direction":"Right"},
    "padding":{"strategy":{"Fixed":9},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"[PAD]"},)"));
  EXPECT_EQ(Tokenizer::open(folder.path()).encode({"hello world hello", {}, true}).ids, (Ids{2, 4, 5, 4, 3}));
}

TEST(Tokenizer, SpecialIdsAreTheFiles) {
  const test::TempFolder folder;
  folder.write("tokenizer.json", small_json());
  EXPECT_EQ(Tokenizer::open(folder.path()).cls_id(), 2);
  EXPECT_EQ(Tokenizer::open(folder.path()).pad_id(), 0);
  EXPECT_EQ(Tokenizer::open(folder.path()).bos_id(), std::nullopt);
  folder.write("special_tokens_map.json", R"({"bos_token":"hello","pad_token":"world"})");
  folder.write("tokenizer_config.json", R"({"bos_token":{"content":"[CLS]"},"cls_token":null})");
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(tokenizer.bos_id(), 2);
  EXPECT_EQ(tokenizer.pad_id(), 5);
  EXPECT_EQ(tokenizer.cls_id(), std::nullopt);
  EXPECT_EQ(tokenizer.token_id("world"), 5);
  EXPECT_EQ(tokenizer.token_id("nowhere"), std::nullopt);
  EXPECT_EQ(tokenizer.id_token(7), "你");
  EXPECT_EQ(tokenizer.id_token(-1), std::nullopt);
  EXPECT_EQ(tokenizer.id_token(int64_t{1} << 40), std::nullopt);
  EXPECT_EQ(tokenizer.vocab_size(), 8);
}

TEST(Tokenizer, StreamNeverSplitsACharacter) {
  const test::TempFolder folder;
  folder.write("tokenizer.json", byte_json());
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  const std::string text = "a é 你好 😀!";
  const Ids ids = tokenizer.encode({text, {}, false}).ids;
  ASSERT_EQ(ids.size(), text.size());  // one id a byte
  Tokenizer::Stream stream = tokenizer.stream(true);
  std::string together;
  size_t pieces = 0;
  for (const int64_t id : ids) {
    if (const auto piece = stream.next(id)) {
      EXPECT_EQ(Json(*piece).dump().find("\xEF\xBF\xBD"), std::string::npos);
      together += *piece;
      ++pieces;
    }
  }
  EXPECT_EQ(together, text);
  EXPECT_EQ(pieces, 9u);  // one a character
  EXPECT_FALSE(stream.fault());
}

TEST(Tokenizer, NotUtf8IsAnError) {
  const test::TempFolder folder;
  folder.write("tokenizer.json", small_json());
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  EXPECT_THROW(tokenizer.encode({"hello \xff", {}, true}), DataError);
  EXPECT_THROW(tokenizer.encode({"hello", "\xc3", true}), DataError);
}

TEST(Tokenizer, VocabularyFiles) {
  const test::TempFolder words;
  words.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\n##s\nHello\n");
  EXPECT_EQ(Tokenizer::open(words.path()).encode({"Hellos [MASK]", {}, true}).ids, (Ids{2, 5, 6, 4, 3}));
  words.write("tokenizer_config.json", R"({"do_lower_case":false})");
  EXPECT_EQ(Tokenizer::open(words.path()).encode({"Hello hello", {}, true}).ids, (Ids{2, 7, 5, 3}));
  const test::TempFolder pairs;
  pairs.write("vocab.json", R"({"a":0,"b":1,"ab":2,"<|endoftext|>":3})");
  pairs.write("merges.txt", "#version: 0.2\na b\n");
  EXPECT_EQ(Tokenizer::open(pairs.path()).encode({"abb<|endoftext|>", {}, true}).ids, (Ids{2, 1, 3}));
}

/// What opening or using the folder says; "" where it says nothing.
std::string complaint(const std::filesystem::path& folder) {
  try {
    Tokenizer::open(folder);
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

TEST(Tokenizer, BrokenFilesGiveOneLine) {
  const std::pair<const char*, std::string> cases[] = {
      {"tokenizer.json", ""},
      {"tokenizer.json", "{"},
      {"tokenizer.json", small_json().substr(0, 700)},
      {"tokenizer.json", "[1, 2, 3]"},
      {"tokenizer.json", R"({"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}})"},
      {"tokenizer.json", R"({"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":["a b"]}})"},
      {"tokenizer.json", R"({"model":{"type":"BPE","vocab":{},"merges":["a"]}})"},
      {"tokenizer.json", R"({"model":{"type":"Nothing"}})"},
      {"tokenizer.json", std::string(200000, '[')},
      {"tokenizer.json", "\xff\xfe{}"},
      {"vocab.txt", ""},
      {"vocab.txt", "hello\nworld\n"},
      {"vocab.txt", "[UNK]\n[CLS]\n[SEP]\n\xff\xfe\n"},
      {"tokenizer.model", ""},
      {"tokenizer.model", "hello"},
      {"tokenizer.model", std::string(1000, '\0')},
      {"tokenizer.model", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"},
      {"spiece.model",
       "\x0a\x05\x0a\x01"
       "a\x18\x01"},
  };
  for (const auto& [name, text] : cases) {
    const test::TempFolder folder;
    folder.write(name, text);
    const std::string said = complaint(folder.path());
    EXPECT_TRUE(said.starts_with("[") && said.find('\n') == std::string::npos)
        << name << " " << text.substr(0, 80) << ": " << said;
    EXPECT_LT(said.size(), 600u) << said;
  }
  const test::TempFolder empty;
  EXPECT_NE(complaint(empty.path()).find("tokenizer.json, tokenizer.model"), std::string::npos);
  EXPECT_NE(complaint(empty.path() / "nowhere").find("no such folder"), std::string::npos);
}

TEST(Tokenizer, BrokenNeighboursGiveOneLine) {
  for (const char* text : {"{", "[]", "\"x\"", "{\"added_tokens_decoder\":"}) {
    const test::TempFolder folder;
    folder.write("tokenizer.json", small_json());
    folder.write("tokenizer_config.json", text);
    EXPECT_TRUE(complaint(folder.path()).starts_with("[")) << text;
  }
  const test::TempFolder pairs;
  pairs.write("merges.txt", "a b\n");
  for (const char* text : {"{", "[]", R"({"a":"b"})", R"({"a":{"b":0}})", R"({"a":-1})"}) {
    pairs.write("vocab.json", text);
    EXPECT_TRUE(complaint(pairs.path()).starts_with("[")) << text;
  }
  pairs.write("vocab.json", R"({"a":0,"b":1,"ab":2})");
  pairs.write("merges.txt", "a b c\n");
  EXPECT_NE(complaint(pairs.path()).find("line 1"), std::string::npos);
}

}  // namespace
}  // namespace graft
