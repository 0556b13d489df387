#include "graft/data/source.h"

#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "tests/shared.h"
#include "tests/temporary.h"

namespace graft {
namespace {

using test::contains;
using test::message_of;
using test::TemporaryFolder;

class Source : public ::testing::Test {
 protected:
  /// "field=value|…@line" of each example.
  std::string read(const char* name, std::string_view bytes, const SourceOptions& options = {}) {
    std::string out;
    for (const Example& example : read_examples(folder_.file(name, bytes), options)) {
      for (const auto& [key, value] : example.fields.items()) {
        out += key + "=" + (value.is_string() ? value.get<std::string>() : value.dump()) + "|";
      }
      out += "@" + example.where.substr(example.where.rfind(':') + 1) + ";";
      EXPECT_TRUE(example.where.starts_with((folder_ / name).string() + ":")) << example.where;
    }
    return out;
  }
  template <class Error = DataError>
  std::string error(const char* name, std::string_view bytes, const SourceOptions& options = {}) {
    const std::string message = message_of<Error>([&] { read_examples(folder_.file(name, bytes), options); });
    const size_t at = message.find(name);
    return at == std::string::npos ? message : message.substr(at);
  }
  TemporaryFolder folder_;
};

TEST_F(Source, TsvSplitsAtTabsOnly) {
  EXPECT_EQ(read("a.tsv", "x\ty\n\"a\tb\"\"\n'\t\n"), "x=\"a|y=b\"\"|@2;x='|y=|@3;");
  EXPECT_EQ(read("a.TSV", "\xef\xbb\xbfx\ty\r\n1\t2\r\n\r\n3\t4"), "x=1|y=2|@2;x=3|y=4|@4;");
  EXPECT_EQ(read("a.tsv", "1\t2\n3\t4\n", {.header = false, .columns = {"p", "q"}}),
            "p=1|q=2|@1;p=3|q=4|@2;");
  EXPECT_EQ(read("a.tsv", "x\ty\n1\t2\n", {.columns = {"p", "q"}}), "p=1|q=2|@2;");
  EXPECT_EQ(read("a.tsv", "x\n1\n2\n3\n", {.limit = 2}), "x=1|@2;x=2|@3;");
}

TEST_F(Source, TsvErrorsNameTheLine) {
  EXPECT_EQ(error("a.tsv", "x\ty\n1\t2\n3\n4\t5\n"), "a.tsv:3] 1 columns, expected 2");
  EXPECT_EQ(error("a.tsv", "x\ty\n1\t2\t3\n"), "a.tsv:2] 3 columns, expected 2");
  EXPECT_EQ(error("a.tsv", "x\tx\n1\t2\n"), "a.tsv:1] two columns of one name in the header");
  EXPECT_EQ(error("a.tsv", "x\ty\n1\t2\n", {.columns = {"p"}}), "a.tsv:1] 2 columns, expected 1 as named");
  EXPECT_EQ(error("a.tsv", "x\n1\n\xff\n"), "a.tsv:3] not UTF-8: byte 0xff");
  EXPECT_EQ(error("a.tsv", "x\ty\n"), "a.tsv] holds no examples");
  // Rows after the limit are not looked at.
  EXPECT_EQ(read("a.tsv", "x\ty\n1\t2\n3\n", {.limit = 1}), "x=1|y=2|@2;");
}

TEST_F(Source, CsvKnowsQuotes) {
  EXPECT_EQ(read("a.csv", "x,y\n\"a, \"\"b\"\"\",c\n\"two\nlines\",\"\"\n,d\"e\n"),
            "x=a, \"b\"|y=c|@2;x=two\nlines|y=|@3;x=|y=d\"e|@5;");
  EXPECT_EQ(read("a.csv", "\xef\xbb\xbf\"x\",y\r\n\"a\r\nb\",2\r\n"), "x=a\nb|y=2|@2;");
  EXPECT_EQ(read("a.csv", "x,y\n1,\n2,3"), "x=1|y=|@2;x=2|y=3|@3;");
}

TEST_F(Source, CsvErrorsNameTheRowsFirstLine) {
  EXPECT_EQ(error("a.csv", "x,y\n1,2\n\"a\nb\"\n"), "a.csv:3] 1 columns, expected 2");
  EXPECT_EQ(error("a.csv", "x,y\n\"a\" b,2\n"),
            "a.csv:2] text behind a closing quotation mark, expected a comma or the row's end");
  EXPECT_EQ(error("a.csv", "x,y\n1,2\n3,\"a\n\n"), "a.csv:3] a quotation mark that nothing closes");
}

TEST_F(Source, JsonLines) {
  EXPECT_EQ(read("a.jsonl", "{\"a\": 1, \"b\": [\"x\"]}\r\n\n  {\"a\": null}\n"),
            "a=1|b=[\"x\"]|@1;a=null|@3;");
  EXPECT_EQ(read("a.json", "\n{\"a\": 1}\n{\"a\": 2}"), "a=1|@2;a=2|@3;");
  EXPECT_TRUE(contains(error("a.jsonl", "{\"a\": 1}\n{\"a\": }\n"), "a.jsonl:2:7] not JSON"));
  EXPECT_EQ(error("a.jsonl", "{\"a\": 1}\n[2]\n"), "a.jsonl:2] array, expected an object with named fields");
  EXPECT_EQ(error("a.jsonl", "{\"a\": 1, \"a\": 2}\n"), "a.jsonl:1] key twice in one object: a");
}

TEST_F(Source, JsonListsKnowTheirLines) {
  EXPECT_EQ(
      read("a.json", "[\n  {\"a\": \"x, ] }\\\" \"},\n\n  {\"a\": [1, {\"b\": [2, 3]}]}, {\"a\": 5}\n]\n"),
      "a=x, ] }\" |@2;a=[1,{\"b\":[2,3]}]|@4;a=5|@4;");
  EXPECT_EQ(error("a.json", "[{\"a\": 1},\n 3]"), "a.json:2] number, expected an object with named fields");
  EXPECT_EQ(error("a.json", "3"), "a.json] number, expected a JSON list of objects");
  EXPECT_EQ(error("a.json", "[]"), "a.json] holds no examples");
  EXPECT_TRUE(contains(error("a.json", "[{\"a\": 1},\n {\"a\" 2}]"), "a.json:2:7] not JSON"));
}

TEST_F(Source, PlainTextIsDocuments) {
  EXPECT_EQ(read("a.txt", "one\n\ntwo\r\n"), "text=one\n\ntwo\n|@1;");
  EXPECT_EQ(read("a.txt", "one\n<|endoftext|>\n<|endoftext|>\ntwo\n<|endoftext|>\n"),
            "text=one\n|@1;text=two\n|@4;");
  EXPECT_EQ(read("a.txt", "a\n<|endoftext|>\nb\n", {.limit = 1}), "text=a\n|@1;");
  EXPECT_EQ(error("a.txt", "<|endoftext|>\n"), "a.txt] holds no examples");
}

TEST_F(Source, ConllIsAWordALineWithItsTagLast) {
  EXPECT_EQ(read("a.conll", "-DOCSTART- -X- O\n\na NN B-X\nb\tO\n\n\nc O\n"),
            R"(tokens=["a","b"]|tags=["B-X","O"]|@3;tokens=["c"]|tags=["O"]|@7;)");
  EXPECT_TRUE(contains(error("a.conll", "a O\nb\n"), "a.conll:2] one column"));
}

TEST_F(Source, SaysWhatItCannotRead) {
  for (const char* name : {"a.tsv", "a.csv", "a.jsonl", "a.json", "a.txt"}) {
    EXPECT_EQ(error(name, ""), std::string(name) + "] is empty, expected examples");
    EXPECT_EQ(error(name, "\xef\xbb\xbf\r\n \n"), std::string(name) + "] is empty, expected examples");
  }
  EXPECT_TRUE(contains(message_of<DataError>([&] { read_examples(folder_ / "none.tsv", {}); }),
                       "cannot be read: No such file"));
  EXPECT_EQ(
      error<UsageError>("a.bin", "x"),
      "a.bin] no known ending: .bin, expected .tsv, .csv, .jsonl, .json, .conll or .txt; or say the format");
  EXPECT_TRUE(contains(error<UsageError>("a.tsv", "x", {.format = "xml"}),
                       "unknown format: xml, expected one of tsv"));
  EXPECT_TRUE(contains(error<UsageError>("a.tsv", "x", {.header = false}), "is read without a header"));
  EXPECT_EQ(read("a.bin", "x\n1\n", {.format = "csv"}), "x=1|@2;");
}

TEST(SourceData, ReadsTheSharedFilesWhole) {
  GRAFT_NEED(test::data_dir());
  const auto count = [](const char* name, const SourceOptions& options = {}) {
    return read_examples(test::data_dir() / "data" / name, options).size();
  };
  EXPECT_EQ(count("glue/MRPC/train.tsv"), 3668u);
  EXPECT_EQ(count("glue/MRPC/dev.tsv"), 408u);
  EXPECT_EQ(count("glue/SST-2/train.tsv"), 67349u);
  EXPECT_EQ(count("glue/RTE/train.tsv"), 2490u);
  EXPECT_EQ(count("glue/STS-B/train.tsv"), 5749u);
  EXPECT_EQ(count("glue/CoLA/dev.tsv", {.header = false, .columns = {"source", "label", "mark", "sentence"}}),
            1043u);
  EXPECT_EQ(count("glue/QNLI/dev.tsv"), 5463u);
  EXPECT_EQ(count("glue/WNLI/train.tsv"), 635u);
  EXPECT_EQ(count("e2e/devset.csv"), 4672u);
  EXPECT_EQ(count("e2e/trainset_from_aligned.csv"), 42061u);
  EXPECT_EQ(count("alpaca/alpaca_5000.json"), 5000u);
  EXPECT_EQ(count("samsum/val.json"), 818u);
  EXPECT_EQ(count("wikisql/dev.jsonl"), 8421u);
  // 2,316 ends, and the story that is cut off.
  EXPECT_EQ(count("corpora/tinystories/tinystories_sample.txt"), 2317u);
}

}  // namespace
}  // namespace graft
