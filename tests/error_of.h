// What a call's error says.
#pragma once
#include <functional>
#include <string>

namespace graft::test {

template <class E>
std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const E& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace graft::test
