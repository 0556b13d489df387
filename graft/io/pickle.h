// A machine for pickles of plain data: it knows numbers, texts, lists, dictionaries and records of calls, and
// calls nothing itself.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace graft {

struct PickleItems;

struct PickleValue {
  enum class Kind {
    none,
    boolean,
    integer,
    real,
    text,
    list,        // items; tuples too
    dictionary,  // items: key, value, key, value …
    global,      // text: "module name"
    call,        // items: the function, its arguments as a list; then pairs that were put into its result
    persistent,  // items: one, what names something outside of the pickle
  } kind = Kind::none;
  int64_t integer = 0;  // boolean too
  double real = 0;
  std::string text;
  std::shared_ptr<PickleItems> items;  // shared as Python shares them
};

/// No item contains itself, and none is nested deeper than a bound.
struct PickleItems {
  std::vector<PickleValue> values;
  int depth = 1;
  bool inside = false;  // of another: nothing is added any more
};

/// Errors: DataError (an operation that plain data does not need, values that are missing, nesting without
/// end).
PickleValue read_pickle(std::span<const std::byte> bytes, const std::string& where);

}  // namespace graft
