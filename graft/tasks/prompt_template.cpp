#include "graft/tasks/prompt_template.h"

#include <algorithm>
#include <limits>
#include <map>

#include "graft/base/error.h"
#include "graft/base/number.h"
#include "graft/tasks/packing.h"

namespace graft {
namespace {

using Kind = TemplatePart::Kind;

constexpr const char* kKey = "task.template";
constexpr int64_t kMostPseudoTokens = 10000;

[[noreturn]] void fail(const std::string& what, const char* expected) {
  throw UsageError(kKey, "{}, expected {}", what, expected);
}

/// What stands between braces.
TemplatePart slot_of(const std::string& inside) {
  const size_t colon = inside.find(':');
  const std::string name = inside.substr(0, colon);
  const std::string value = colon == std::string::npos ? "" : inside.substr(colon + 1);
  if (name == "mask" && colon == std::string::npos) return {Kind::mask, ""};
  if (name == "special") {
    if (value.empty()) fail("{special}", "a token, for example {special:[SEP]}");
    return {Kind::special, value};
  }
  if (name == "soft") {
    if (colon == std::string::npos) return {Kind::soft, ""};
    if (value.size() > 2 && value.front() == '"' && value.back() == '"')
      return {Kind::soft, value.substr(1, value.size() - 2)};
    const auto count = parse_integer(value);
    if (!count || *count < 1 || *count > kMostPseudoTokens)
      fail("{" + inside + "}", "{soft}, {soft:3} or {soft:\"words\"}");
    return {Kind::soft, "", *count};
  }
  if (inside.empty()) fail("{}", "a column's name");
  return {Kind::column, inside};
}

void add_words(std::vector<TemplatePart>& parts, const std::string& words) {
  if (!words.empty()) parts.push_back({Kind::words, words});
}

}  // namespace

std::vector<TemplatePart> parse_template(const std::string& text) {
  std::vector<TemplatePart> parts;
  std::string words;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool doubled = i + 1 < text.size() && text[i + 1] == c;
    if (c != '{' && c != '}') {
      words += c;
    } else if (doubled) {
      words += c;
      ++i;
    } else if (c == '}') {
      fail("} without {", "braces in pairs, }} for one of them");
    } else {
      const size_t end = text.find('}', i);
      if (end == std::string::npos) fail("{ without }", "braces in pairs, {{ for one of them");
      add_words(parts, words);
      words.clear();
      parts.push_back(slot_of(text.substr(i + 1, end - i - 1)));
      i = end;
    }
  }
  add_words(parts, words);
  const auto masks =
      std::count_if(parts.begin(), parts.end(), [](const auto& p) { return p.kind == Kind::mask; });
  if (masks != 1) fail(fmt::format("{} times {{mask}}", masks), "exactly one");
  return parts;
}

/// Words and columns that follow each other, which are one text for the tokenizer.
struct PromptTemplate::Run {
  std::string text;
  struct Span {
    size_t begin, end;
    int64_t column;
  };
  std::vector<Span> columns;  // bytes of `text` that came from the example
};

/// Tokens, and from which column each came (-1: the template's own).
struct PromptTemplate::Sequence {
  std::vector<int64_t> ids, owners;
  void add(int64_t id, int64_t owner) {
    ids.push_back(id);
    owners.push_back(owner);
  }
};

PromptTemplate::PromptTemplate(const std::string& text, const DataConfig& data, const Tokenizer& tokenizer,
                               Reading reading)
    : tokenizer_(tokenizer), pieces_(tokenizer), reading_(reading), parts_(parse_template(text)) {
  for (TemplatePart& part : parts_) {
    if (part.kind == Kind::column) part.value = data.column(part.value, part.value);
    if (part.kind == Kind::soft) add_soft(part);
    if (part.kind == Kind::special && !tokenizer_.token_id(part.value))
      throw DataError(kKey, "the tokenizer has no token {}, expected one of its own", part.value);
  }
  if (reading_.masked && !tokenizer_.mask_id())
    throw DataError(kKey, "the tokenizer has no mask token, expected one, or task.head: causal_lm");
  if (!reading_.masked) check_answer();
}

void PromptTemplate::check_answer() const {
  const auto blank = [](const TemplatePart& part) {
    return part.kind == Kind::words && part.value.find_first_not_of(' ') == std::string::npos;
  };
  for (auto part = parts_.rbegin(); part != parts_.rend() && part->kind != Kind::mask; ++part) {
    if (!blank(*part))
      fail("something behind {mask}", "{mask} at the end: this model reads from left to right");
  }
  const bool first = std::find_if(parts_.begin(), parts_.end(), [&](const auto& part) {
                       return !blank(part);
                     })->kind == Kind::mask;
  if (first && pieces_.before().empty()) fail("{mask} at the beginning", "something to read before it");
}

void PromptTemplate::add_soft(TemplatePart& part) {
  if (part.value.empty()) {
    pseudo_tokens_.insert(pseudo_tokens_.end(), static_cast<size_t>(part.count), -1);
    return;
  }
  const std::vector<int64_t> ids = pieces_.encode(" " + part.value).ids;
  if (ids.empty()) fail("{soft:\"" + part.value + "\"}", "words of one token or more");
  pseudo_tokens_.insert(pseudo_tokens_.end(), ids.begin(), ids.end());
  part.count = static_cast<int64_t>(ids.size());
}

size_t PromptTemplate::special_count() const {
  return pieces_.before().size() + (reading_.masked ? pieces_.after().size() : 0);
}

void PromptTemplate::end_run(Run& run, Sequence& out) const {
  // Blanks in front of a mask or a pseudo token are no token.
  const std::string text = run.text.substr(0, run.text.find_last_not_of(' ') + 1);
  if (!text.empty()) {
    const size_t begin = pieces_.dropped(text);
    const Encoding encoding = pieces_.encode(text);
    // Offsets count code points.
    std::vector<size_t> byte_of;
    for (size_t i = begin; i < text.size(); ++i) {
      if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) byte_of.push_back(i);
    }
    for (size_t i = 0; i < encoding.ids.size(); ++i) {
      // A token's last code point says whose it is: its first may be the blank in front.
      const auto last = static_cast<size_t>(std::max<int64_t>(0, encoding.offsets[i].second - 1));
      int64_t owner = -1;
      for (const Run::Span& span : run.columns) {
        if (last < byte_of.size() && byte_of[last] >= span.begin && byte_of[last] < span.end)
          owner = span.column;
      }
      out.add(encoding.ids[i], owner);
    }
  }
  run = {};
}

void PromptTemplate::shorten(Sequence& sequence, const std::string& where) const {
  const auto room = reading_.max_length - static_cast<int64_t>(special_count());
  std::map<int64_t, int64_t> lengths;
  for (const int64_t owner : sequence.owners) {
    if (owner >= 0) ++lengths[owner];
  }
  auto over = static_cast<int64_t>(sequence.ids.size()) - room;
  for (; over > 0; --over) {
    const auto longest = std::max_element(lengths.begin(), lengths.end(),
                                          [](const auto& a, const auto& b) { return a.second < b.second; });
    if (longest == lengths.end() || longest->second <= 1) {
      throw DataError(where, "the template alone is longer than {} tokens, expected a longer task.max_length",
                      reading_.max_length);
    }
    --longest->second;
  }
  Sequence kept;
  for (size_t i = 0; i < sequence.ids.size(); ++i) {
    const int64_t owner = sequence.owners[i];
    if (owner < 0 || lengths[owner]-- > 0) kept.add(sequence.ids[i], owner);
  }
  sequence = std::move(kept);
}

PromptTemplate::Filled PromptTemplate::fill(const Example& example) const {
  Sequence sequence;
  Run run;
  int64_t pseudo = 0, column = 0;
  // No id of a token or a pseudo token.
  constexpr int64_t kBlank = std::numeric_limits<int64_t>::min();
  for (const TemplatePart& part : parts_) {
    if (part.kind == Kind::words) {
      run.text += part.value;
    } else if (part.kind == Kind::column) {
      const std::string text = text_of(example, part.value);
      run.columns.push_back({run.text.size(), run.text.size() + text.size(), column++});
      run.text += text;
    } else {
      end_run(run, sequence);
      if (part.kind == Kind::mask) sequence.add(kBlank, -1);
      if (part.kind == Kind::special) sequence.add(*tokenizer_.token_id(part.value), -1);
      for (int64_t i = 0; part.kind == Kind::soft && i < part.count; ++i) sequence.add(-1 - pseudo++, -1);
    }
  }
  end_run(run, sequence);
  shorten(sequence, example.where);
  Filled out{pieces_.before(), 0};
  out.ids.insert(out.ids.end(), sequence.ids.begin(), sequence.ids.end());
  const auto blank = std::find(out.ids.begin(), out.ids.end(), kBlank);
  out.answer_row = blank - out.ids.begin();
  if (reading_.masked) {
    *blank = *tokenizer_.mask_id();
  } else {
    out.ids.erase(blank);
    if (--out.answer_row < 0)
      throw DataError(example.where, "nothing in front of the mask, expected some text");
  }
  if (reading_.masked) out.ids.insert(out.ids.end(), pieces_.after().begin(), pieces_.after().end());
  return out;
}

std::vector<int64_t> PromptTemplate::answer_ids(const std::string& word) const {
  const auto mask =
      std::find_if(parts_.begin(), parts_.end(), [](const auto& p) { return p.kind == Kind::mask; });
  const bool blank =
      mask != parts_.begin() && (mask - 1)->kind == Kind::words && (mask - 1)->value.ends_with(' ');
  std::vector<int64_t> ids = pieces_.encode((blank ? " " : "") + word).ids;
  const auto unknown = tokenizer_.unk_id();
  if (ids.empty() || (unknown && std::find(ids.begin(), ids.end(), *unknown) != ids.end()))
    throw UsageError("task.verbalizer", "'{}', expected a word that the tokenizer knows", word);
  return ids;
}

}  // namespace graft
