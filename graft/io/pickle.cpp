#include "graft/io/pickle.h"

#include <algorithm>
#include <bit>
#include <map>

#include "graft/base/error.h"

namespace graft {
namespace {

using Kind = PickleValue::Kind;
using Items = std::vector<PickleValue>;

constexpr int kDeepest = 32;

class Machine {
 public:
  Machine(std::span<const std::byte> bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  PickleValue run() {
    while (true) {
      const auto operation = static_cast<unsigned char>(number(1));
      if (operation == '.') return pop();
      if (!push_constant(operation) && !collect(operation) && !remember(operation)) {
        throw DataError(where_, "operation {:#04x} at byte {}, expected a pickle of plain data", operation,
                        at_ - 1);
      }
    }
  }

 private:
  uint64_t number(size_t width) {
    const auto part = take(width);
    uint64_t value = 0;
    for (size_t i = width; i-- > 0;) value = value << 8 | std::to_integer<uint64_t>(part[i]);
    return value;
  }
  std::span<const std::byte> take(uint64_t size) {
    if (size > bytes_.size() - at_)
      throw DataError(where_, "ends at byte {} of a pickle, expected more", bytes_.size());
    const auto part = bytes_.subspan(at_, size);
    at_ += size;
    return part;
  }
  std::string text(uint64_t size) {
    const auto part = take(size);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }
  std::string line() {
    std::string out;
    for (auto c = static_cast<char>(number(1)); c != '\n'; c = static_cast<char>(number(1))) out += c;
    return out;
  }

  void push(PickleValue value) { stack_.push_back(std::move(value)); }
  PickleValue pop() {
    const size_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() <= floor) throw DataError(where_, "takes a value that is not there, at byte {}", at_);
    PickleValue value = std::move(stack_.back());
    stack_.pop_back();
    return value;
  }
  void put(PickleItems& into, PickleValue value) const {
    if (value.items) {
      if (value.items.get() == &into || value.items->depth >= kDeepest)
        throw DataError(where_, "nested deeper than {}, at byte {}", kDeepest, at_);
      into.depth = std::max(into.depth, value.items->depth + 1);
      value.items->inside = true;
    }
    into.values.push_back(std::move(value));
  }
  PickleValue made(Kind kind, Items items = {}) const {
    PickleValue value;
    value.kind = kind;
    value.items = std::make_shared<PickleItems>();
    for (PickleValue& item : items) put(*value.items, std::move(item));
    return value;
  }
  /// Everything above the last mark.
  Items pop_marked() {
    if (marks_.empty()) throw DataError(where_, "no mark at byte {}", at_);
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    Items items(std::make_move_iterator(begin), std::make_move_iterator(stack_.end()));
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }
  /// What collects, on top of the stack: a list, or a dictionary (an ordered one is a call).
  PickleItems& collector(bool dictionary) {
    const size_t floor = marks_.empty() ? 0 : marks_.back();
    const Kind kind = stack_.size() > floor ? stack_.back().kind : Kind::none;
    const bool fits = dictionary ? kind == Kind::dictionary || kind == Kind::call : kind == Kind::list;
    if (!fits || stack_.back().items->inside)
      throw DataError(where_, "adds to what is no collection, at byte {}", at_);
    return *stack_.back().items;
  }

  void push_integer(Kind kind, int64_t integer) {
    PickleValue value;
    value.kind = kind;
    value.integer = integer;
    push(std::move(value));
  }
  void push_text(Kind kind, std::string content) {
    PickleValue value;
    value.kind = kind;
    value.text = std::move(content);
    push(std::move(value));
  }
  /// A little-endian two's complement of any length up to 8.
  void push_long() {
    const uint64_t size = number(1);
    if (size > 8) throw DataError(where_, "an integer of {} bytes, expected at most 8", size);
    const uint64_t bits = number(size);
    const bool negative = size > 0 && size < 8 && (bits >> (8 * size - 1) & 1) != 0;
    push_integer(Kind::integer, static_cast<int64_t>(negative ? bits | ~uint64_t{0} << (8 * size) : bits));
  }
  void push_real() {
    uint64_t bits = 0;
    for (const std::byte byte : take(8)) bits = bits << 8 | std::to_integer<uint64_t>(byte);
    PickleValue value;
    value.kind = Kind::real;
    value.real = std::bit_cast<double>(bits);
    push(std::move(value));
  }

  bool push_constant(unsigned char operation) {
    switch (operation) {
      case 0x80:
        number(1);
        return true;  // the protocol's number
      case 'N':
        push({});
        return true;
      case 0x88:
        push_integer(Kind::boolean, 1);
        return true;
      case 0x89:
        push_integer(Kind::boolean, 0);
        return true;
      case 'K':
        push_integer(Kind::integer, static_cast<int64_t>(number(1)));
        return true;
      case 'M':
        push_integer(Kind::integer, static_cast<int64_t>(number(2)));
        return true;
      case 'J':
        push_integer(Kind::integer, static_cast<int32_t>(number(4)));
        return true;
      case 0x8a:
        push_long();
        return true;
      case 'G':
        push_real();
        return true;
      case 'X':
        push_text(Kind::text, text(number(4)));
        return true;
      case 'c': {
        const std::string module = line();
        push_text(Kind::global, module + " " + line());
        return true;
      }
      default:
        return false;
    }
  }

  void make_tuple(size_t size) {
    Items items(size);
    for (size_t i = size; i-- > 0;) items[i] = pop();
    push(made(Kind::list, std::move(items)));
  }
  void make_call() {
    PickleValue arguments = pop(), function = pop();
    push(made(Kind::call, {std::move(function), std::move(arguments)}));
  }
  void add_pair() {
    PickleValue value = pop(), key = pop();
    PickleItems& items = collector(true);
    put(items, std::move(key));
    put(items, std::move(value));
  }
  void add_all(bool dictionary) {
    Items more = pop_marked();
    if (dictionary && more.size() % 2 != 0) throw DataError(where_, "a key without a value, at byte {}", at_);
    PickleItems& items = collector(dictionary);
    for (PickleValue& item : more) put(items, std::move(item));
  }

  bool collect(unsigned char operation) {
    switch (operation) {
      case '(':
        marks_.push_back(stack_.size());
        return true;
      case ')':
        make_tuple(0);
        return true;
      case 0x85:
        make_tuple(1);
        return true;
      case 0x86:
        make_tuple(2);
        return true;
      case 0x87:
        make_tuple(3);
        return true;
      case 't':
        push(made(Kind::list, pop_marked()));
        return true;
      case ']':
        push(made(Kind::list));
        return true;
      case '}':
        push(made(Kind::dictionary));
        return true;
      case 'Q':
        push(made(Kind::persistent, {pop()}));
        return true;
      case 'R':
        make_call();
        return true;
      case 's':
        add_pair();
        return true;
      case 'u':
        add_all(true);
        return true;
      case 'e':
        add_all(false);
        return true;
      case 'b':
        pop();
        return true;  // attributes of a dictionary: no tensors
      default:
        return false;
    }
  }

  bool remember(unsigned char operation) {
    switch (operation) {
      case 'q':
        keep(number(1));
        return true;
      case 'r':
        keep(number(4));
        return true;
      case 'h':
        recall(number(1));
        return true;
      case 'j':
        recall(number(4));
        return true;
      default:
        return false;
    }
  }
  void keep(uint64_t index) {
    PickleValue value = pop();
    memory_[index] = value;
    push(std::move(value));
  }
  void recall(uint64_t index) {
    const auto found = memory_.find(index);
    if (found == memory_.end()) throw DataError(where_, "nothing was kept as {}, at byte {}", index, at_);
    push(found->second);
  }

  std::span<const std::byte> bytes_;
  const std::string& where_;
  size_t at_ = 0;
  Items stack_;
  std::vector<size_t> marks_;
  std::map<uint64_t, PickleValue> memory_;
};

}  // namespace

PickleValue read_pickle(std::span<const std::byte> bytes, const std::string& where) {
  return Machine(bytes, where).run();
}

}  // namespace graft
