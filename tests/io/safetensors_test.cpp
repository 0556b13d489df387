#include "graft/io/safetensors.h"
#include "graft/io/tensor_stream.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cstring>

#include "graft/base/error.h"
#include "tests/shared.h"
#include "tests/temporary.h"

namespace graft {
namespace {

using test::contains;
using test::message_of;
using test::TemporaryFolder;

std::string file_of(const std::string& header, size_t data_bytes, int64_t length_lie = 0) {
  const uint64_t length = header.size() + static_cast<uint64_t>(length_lie);
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(data_bytes, '\1');
}

Safetensors parse(const std::string& bytes) {
  return Safetensors::parse(std::as_bytes(std::span(bytes.data(), bytes.size())), "f");
}

std::string error_of(const std::string& header, size_t data_bytes, int64_t length_lie = 0) {
  const std::string bytes = file_of(header, data_bytes, length_lie);
  return message_of<DataError>([&] { parse(bytes); });
}

TEST(Safetensors, EveryTypeComesBackBitForBit) {
  const TemporaryFolder folder;
  TensorMap tensors;
  for (const at::ScalarType type : {at::kLong, at::kDouble, at::kFloat, at::kInt, at::kBFloat16, at::kHalf,
                                    at::kShort, at::kChar, at::kByte, at::kBool}) {
    tensors[at::toString(type)] = at::arange(6).remainder(2).to(type).reshape({2, 3});
  }
  tensors["scalar"] = at::tensor(3.5);
  tensors["empty"] = at::empty({0, 4});
  tensors["odd"] = at::tensor({1, 2, 3}, at::kChar);
  tensors["transposed"] = at::arange(6, at::kFloat).reshape({2, 3}).t();
  tensors["a \"name\"\n"] = at::ones({1});
  write_safetensors(folder / "f", tensors);
  const TensorMap back = read_safetensors(folder / "f");
  ASSERT_EQ(back.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(back.at(name).scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(at::equal(back.at(name), tensor)) << name;
  }
  EXPECT_EQ(Safetensors::open(folder / "f").metadata(), Json({{"format", "pt"}}));
}

TEST(Safetensors, RowsMadeOnTheWayGiveTheSameFile) {
  const TemporaryFolder folder;
  const TensorMap tensors{{"large", at::arange(700'000, at::kFloat).view({1000, 700})},
                          {"none", at::empty({0, 4})},
                          {"whole", at::ones({3, 2})}};
  write_safetensors(folder / "expected", tensors);
  const auto rows_of = [](const Tensor& tensor) {
    return StreamedTensor([tensor](int64_t first, int64_t count) { return tensor.narrow(0, first, count); });
  };
  const auto source = [&](const std::string& name) -> StreamedTensor {
    return name == "whole" ? StreamedTensor(tensors.at(name)) : rows_of(tensors.at(name));
  };
  stream_safetensors(folder / "streamed", specs_of(tensors), source);
  EXPECT_EQ(read_file(folder / "streamed"), read_file(folder / "expected"));
  const auto wrong = [&](const std::string&) { return rows_of(at::ones({1000, 3})); };
  EXPECT_THROW(stream_safetensors(folder / "wrong", specs_of(tensors), wrong), InternalError);
  EXPECT_FALSE(std::filesystem::exists(folder / "wrong"));
}

TEST(Safetensors, WritesTheSameBytesInPeftsOrder) {
  const TemporaryFolder folder;
  write_safetensors(folder / "f", {{"b", at::ones({1})},
                                   {"a", at::ones({2})},
                                   {"c", at::ones({1}, at::kLong)},
                                   {"d", at::ones({1}, at::kBFloat16)}});
  const std::string bytes = read_file(folder / "f");
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"c":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
      R"("a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},"b":{"dtype":"F32","shape":[1],"data_offsets":[16,20]},)"
      R"("d":{"dtype":"BF16","shape":[1],"data_offsets":[20,22]}})";
  EXPECT_EQ(bytes.substr(8, header.size()), header);
  EXPECT_EQ((bytes.size() - 22) % 8, 0u);
  write_safetensors(folder / "again", read_safetensors(folder / "f"));
  EXPECT_EQ(read_file(folder / "again"), bytes);
}

TEST(Safetensors, WithoutTensorsOrMetadata) {
  const TemporaryFolder folder;
  write_safetensors(folder / "f", {}, Json::object());
  EXPECT_EQ(read_file(folder / "f"), file_of("{}      ", 0));
  EXPECT_TRUE(read_safetensors(folder / "f").empty());
}

TEST(Safetensors, RewritingAFileOfPeftGivesEqualBytes) {
  GRAFT_NEED(test::shared_dir());
  const TemporaryFolder folder;
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(test::shared_dir() / "goldens")) {
    if (entry.path().filename() != "adapter_model.safetensors") continue;
    write_safetensors(folder / "f", read_safetensors(entry.path()));
    EXPECT_EQ(read_file(folder / "f"), read_file(entry.path())) << entry.path();
    ++files;
  }
  EXPECT_GT(files, 0);
}

TEST(Safetensors, TensorsKeepTheMappingAlive) {
  const TemporaryFolder folder;
  write_safetensors(folder / "f", {{"a", at::arange(1000, at::kFloat)}});
  const Tensor kept = read_safetensors(folder / "f").at("a");
  EXPECT_EQ(kept[999].item<float>(), 999);
}

TEST(Safetensors, UnalignedTensorsAreCopied) {
  const std::string header =
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"I32","shape":[2],"data_offsets":[1,9]}})";
  const TemporaryFolder folder;
  const TensorMap tensors = read_safetensors(folder.file("f", file_of(header, 9)));
  EXPECT_EQ(tensors.at("b")[1].item<int>(), 0x01010101);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensors.at("b").data_ptr()) % 4, 0u);
}

TEST(Safetensors, AnyByteButZeroIsTrue) {
  std::string bytes = file_of(R"({"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})", 2);
  bytes.back() = 7;
  const Safetensors file = parse(bytes);
  EXPECT_EQ(file.tensor(file.entries()[0]).sum().item<int64_t>(), 2);
}

TEST(SafetensorsHeader, LengthsAreDoubted) {
  EXPECT_TRUE(contains(message_of<DataError>([] { parse(""); }), "[f] 0 bytes, expected at least"));
  EXPECT_TRUE(contains(message_of<DataError>([] { parse("\1\0\0"); }), "expected at least"));
  EXPECT_TRUE(contains(error_of("{}", 0, 1), "truncated: header of 3 bytes, but only 2 follow"));
  EXPECT_TRUE(
      contains(error_of("{}", 0, 200'000'000), "header of 200000002 bytes, expected at most 100000000"));
  EXPECT_TRUE(contains(error_of("{}", 0, -3), "header of 18446744073709551615 bytes"));
  EXPECT_TRUE(contains(error_of("{}", 0, -2), "header does not begin with {"));
}

TEST(SafetensorsHeader, JsonIsDoubted) {
  EXPECT_TRUE(contains(error_of("[]", 0), "header does not begin with {"));
  EXPECT_TRUE(contains(error_of("{\"a\":", 0), "f: header:1:6] not JSON"));
  EXPECT_TRUE(contains(error_of("{\"a\":\"\xff\"}", 0), "not UTF-8"));
  EXPECT_TRUE(contains(error_of("{\"a\":" + std::string(100000, '['), 0), "nested deeper than 200"));
  EXPECT_TRUE(contains(error_of("{\"a\":" + std::string(300, '{'), 0), "not JSON"));
  EXPECT_TRUE(contains(error_of(R"({"__metadata__":[]})", 0), "__metadata__ is no object"));
  EXPECT_TRUE(
      contains(error_of(R"({"__metadata__":{"a":1}})", 0), "__metadata__.a is number, expected a string"));
  const std::string a = R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  EXPECT_TRUE(contains(error_of("{" + a + "," + a + "}", 1), "key twice in one object: a"));
}

TEST(SafetensorsHeader, TensorsAreDoubted) {
  const std::pair<const char*, const char*> cases[] = {
      {R"([])", "described by array, expected an object"},
      {R"({"shape":[1],"data_offsets":[0,4]})", "no dtype in the header"},
      {R"({"dtype":"F32","data_offsets":[0,4]})", "no shape in the header"},
      {R"({"dtype":"F32","shape":[1]})", "no data_offsets in the header"},
      {R"({"dtype":7,"shape":[1],"data_offsets":[0,4]})", "has dtype 7"},
      {R"({"dtype":"F31","shape":[1],"data_offsets":[0,4]})",
       "has unknown dtype \"F31\", expected F32, BF16"},
      {R"({"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]})",
       "has type F8_E4M3, which graft does not read; convert"},
      {R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})", "has shape 1, expected a list"},
      {R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", "has shape [-1], expected sizes of 0 or more"},
      {R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})", "has shape [1.0]"},
      {R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]})",
       "has shape [18446744073709551615]"},
      {R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]})",
       "more elements than any file holds"},
      {R"({"dtype":"F32","shape":[0,9223372036854775807,9],"data_offsets":[0,0]})",
       "more elements than any file holds"},
      {R"({"dtype":"F32","shape":[2305843009213693952],"data_offsets":[0,4]})",
       "more elements than any file holds"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[0]})", "data_offsets [0], expected two byte positions"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[-4,0]})", "data_offsets [-4,0], expected two"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[0,4.0]})", "expected two byte positions"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", "data_offsets [4,0] run backwards"},
      {R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})",
       "ends at byte 8 of the data, but the file has only 4"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,18446744073709551615]})",
       "ends at byte"},
      {R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", "takes 4 bytes, but shape [2] of F32 needs 8"},
      {R"({"dtype":"F32","shape":[],"data_offsets":[0,0]})", "takes 0 bytes, but shape [] of F32 needs 4"},
  };
  for (const auto& [description, expected] : cases) {
    const std::string message = error_of(std::string("{\"w\":") + description + "}", 4);
    EXPECT_TRUE(contains(message, "[f] tensor w " + std::string(expected)) || contains(message, expected))
        << message;
  }
  std::string shape = "[1";
  for (int i = 0; i < 64; ++i) shape += ",1";
  EXPECT_TRUE(contains(error_of(R"({"w":{"dtype":"F32","shape":)" + shape + R"(],"data_offsets":[0,4]}})", 4),
                       "has 65 dimensions"));
}

TEST(SafetensorsHeader, TensorsCoverTheDataOnce) {
  const auto two = [](const char* a, const char* b, size_t bytes) {
    return error_of(std::string(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)") + a +
                        R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + b + "}}",
                    bytes);
  };
  EXPECT_TRUE(contains(two("[0,2]", "[1,3]", 4), "tensor b overlaps the tensor before it by 1 bytes"));
  EXPECT_TRUE(contains(two("[0,2]", "[0,2]", 2), "overlaps"));
  EXPECT_TRUE(contains(two("[0,2]", "[3,5]", 5), "tensor b begins 1 bytes behind the tensor before it"));
  EXPECT_TRUE(contains(two("[0,2]", "[2,4]", 5), "1 bytes behind the last tensor"));
  EXPECT_TRUE(contains(two("[2,4]", "[0,2]", 5), "1 bytes behind the last tensor"));
}

TEST(Safetensors, ErrorsNameTheFile) {
  const TemporaryFolder folder;
  EXPECT_TRUE(contains(message_of<DataError>([&] { read_safetensors(folder / "none"); }),
                       "none] cannot be read: No such file"));
  write_safetensors(folder / "f", {{"a", at::ones({100})}});
  std::string bytes = read_file(folder / "f");
  folder.file("cut", bytes.substr(0, bytes.size() - 1));
  EXPECT_TRUE(contains(message_of<DataError>([&] { read_safetensors(folder / "cut"); }),
                       "cut] tensor a ends at byte 400 of the data"));
  EXPECT_TRUE(contains(message_of<DataError>([&] {
                         write_safetensors(folder / "c", {{"a", at::ones({1}, at::kComplexFloat)}});
                       }),
                       "type ComplexFloat has no name in the format"));
}

TEST(Safetensors, AFullDiskLeavesNothing) {
  const TemporaryFolder folder;
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const rlimit limit{1000, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  const std::string message = message_of<DataError>([&] {
    write_safetensors(folder / "f", {{"a", at::ones({1000})}});
  });
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  EXPECT_TRUE(contains(message, "f] cannot be written: file too large"));
  EXPECT_EQ(folder.count(), 0u);
}

}  // namespace
}  // namespace graft
