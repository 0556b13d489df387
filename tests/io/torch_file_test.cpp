#include "graft/io/torch_file.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "tests/io/torch_save.h"

namespace graft::test {
namespace {

struct Saved {
  int64_t offset = 1, rows = 2, columns = 3, row_stride = 3, column_stride = 1, numel = 8;
  std::string function = "ctorch._utils\n_rebuild_tensor_v2\n";
  std::string bytes = std::string(reinterpret_cast<const char*>(kValues), sizeof(kValues));
  static constexpr float kValues[8] = {0, 1, 2, 3, 4, 5, 6, 7};
};

/// A dictionary with one tensor "w" in protocol 2.
std::string pickle_of(const Saved& s) {
  const std::string storage =
      "(" + text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") + integer(s.numel) + "tQ";
  const std::string arguments = "(" + storage + integer(s.offset) + pair(s.rows, s.columns) +
                                pair(s.row_stride, s.column_stride) + "\x89" +
                                "ccollections\nOrderedDict\n)Rt";
  return std::string("\x80\x02}q") + '\0' + "(" + text("w") + s.function + arguments + "Ru.";
}

std::string file_of(const std::string& pickle, const Saved& s = {}) {
  return zip({{"a/data.pkl", pickle}, {"a/byteorder", "little"}, {"a/data/0", s.bytes}});
}

TensorMap parsed(const std::string& file) {
  return parse_torch_file(std::as_bytes(std::span(file.data(), file.size())), "saved.bin");
}

std::string complaint(const std::string& file) {
  try {
    parsed(file);
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

TEST(TorchFile, ReadsATensorByOffsetAndStrides) {
  const TensorMap plain = parsed(file_of(pickle_of({})));
  ASSERT_EQ(plain.size(), 1u);
  EXPECT_TRUE(plain.at("w").equal(at::arange(1, 7, at::kFloat).view({2, 3})));
  const TensorMap turned = parsed(file_of(pickle_of({.row_stride = 1, .column_stride = 2})));
  EXPECT_TRUE(turned.at("w").equal(at::arange(1, 7, at::kFloat).view({3, 2}).t()));
}

TEST(TorchFile, TensorsThatShareAStorageShareItHere) {
  const Tensor one = at::arange(6, at::kFloat);
  const TensorMap tensors = parsed(torch_save({{"a", one}, {"b", one}, {"c", one.view({2, 3}).t()}}));
  EXPECT_TRUE(tensors.at("a").equal(one));
  EXPECT_EQ(tensors.at("a").data_ptr(), tensors.at("b").data_ptr());
  EXPECT_TRUE(tensors.at("c").equal(one.view({2, 3}).t()));
  EXPECT_TRUE(tensors.at("c").is_contiguous());
}

TEST(TorchFile, RefusesToCopyMoreThanTheFileHas) {
  const Tensor wide = at::arange(1000, at::kFloat);
  TensorMap turned;
  for (int i = 0; i < 100; ++i) turned[fmt::format("t{}", i)] = wide.view({10, 100}).t();
  EXPECT_NE(complaint(torch_save(turned)).find("more values than the file has bytes for"), std::string::npos);
}

TEST(TorchFile, RefusesEveryOtherCall) {
  for (const char* function :
       {"cos\nsystem\n", "cbuiltins\neval\n", "ctorch._utils\n_rebuild_device_tensor\n"}) {
    EXPECT_NE(complaint(file_of(pickle_of({.function = function}))).find("no tensor"), std::string::npos)
        << function;
  }
  // INST, OBJ, and an extension's code.
  for (const char* operation : {"(ios\nsystem\n", "o", "\x82\x01"}) {
    EXPECT_NE(complaint(file_of(std::string("\x80\x02") + operation + ".")).find("operation"),
              std::string::npos);
  }
}

TEST(TorchFile, RefusesSizesThatDoNotFit) {
  EXPECT_NE(complaint(file_of(pickle_of({.offset = 3}))).find("outside"), std::string::npos);
  EXPECT_NE(complaint(file_of(pickle_of({.rows = 3}))).find("outside"), std::string::npos);
  EXPECT_NE(complaint(file_of(pickle_of({.row_stride = 0x7fffffff}))).find("outside"), std::string::npos);
  EXPECT_NE(complaint(file_of(pickle_of({.rows = 0x7fffffff, .row_stride = 0}))).find("outside"),
            std::string::npos);
  EXPECT_NE(complaint(file_of(pickle_of({.rows = -1}))).find("shape"), std::string::npos);
  EXPECT_NE(complaint(file_of(pickle_of({.numel = 9}))).find("9 values"), std::string::npos);
}

TEST(TorchFile, RefusesNestingAndCycles) {
  std::string deep = "\x80\x02)";
  for (int i = 0; i < 100000; ++i) deep += "\x85";
  EXPECT_NE(complaint(file_of(deep + ".")).find("nested"), std::string::npos);
  // A list that is put into itself; and one that grows after it was put into another.
  EXPECT_NE(complaint(file_of(std::string("\x80\x02]q\x01(h\x01"
                                          "e.")))
                .find("nested"),
            std::string::npos);
  EXPECT_NE(complaint(file_of(std::string("\x80\x02]q\x01\x85"
                                          "0h\x01(K\x01"
                                          "e.")))
                .find("at byte"),
            std::string::npos);
}

TEST(TorchFile, RefusesBrokenArchives) {
  const std::string whole = file_of(pickle_of({}));
  EXPECT_NE(complaint("x").find("torch.save"), std::string::npos);
  EXPECT_NE(complaint(zip({{"a/data.pkl", "."}}, 8)).find("compressed"), std::string::npos);
  EXPECT_NE(complaint(zip({{"a/other", "."}})).find("data.pkl"), std::string::npos);
  for (size_t size = 0; size < whole.size(); ++size) EXPECT_NE(complaint(whole.substr(0, size)), "") << size;
  // Any byte may be wrong: an error or other values, never more.
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const char other : {'\0', '\x7f', '\xff'}) {
      std::string changed = whole;
      changed[i] = other;
      complaint(changed);
    }
  }
}

}  // namespace
}  // namespace graft::test
