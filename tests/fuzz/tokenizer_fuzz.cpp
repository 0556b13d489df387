// Any bytes as a tokenizer's files and a chat template; the first byte says which file they are.
#include "graft/text/chat_template.h"
#include "graft/text/tokenizer.h"
#include "tests/fuzz/fuzz.h"

namespace {

constexpr const char* kNames[] = {"tokenizer.json", "tokenizer.model", "vocab.txt", "tokenizer_config.json",
                                  "chat_template.jinja"};

void use(const graft::Tokenizer& tokenizer) {
  const graft::Encoding encoding = tokenizer.encode({"Hello, wörld 你好", std::nullopt, true});
  tokenizer.decode(encoding.ids, false);
  graft::Tokenizer::Stream stream = tokenizer.stream(false);
  for (const int64_t id : encoding.ids) stream.next(id);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  graft::set_quiet(true);
  const graft::fuzz::Folder folder;
  const size_t which = data[0] % std::size(kNames);
  folder.write(kNames[which], graft::fuzz::text_of(data + 1, size - 1));
  if (which == 3) folder.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\n##o\n");
  graft::fuzz::accepted([&] { use(graft::Tokenizer::open(folder.path())); });
  graft::fuzz::accepted([&] {
    if (const auto chat = graft::ChatTemplate::open(folder.path())) {
      chat->render({.messages = {{{"role", "user"}, {"content", "hi"}}},
                    .tools = nullptr,
                    .add_generation_prompt = true});
    }
  });
  return 0;
}
