// Where tensors' memory comes from. A step's tensors have other sizes in each step, as its batch has other
// lengths: in the C library's heap they lie among small things that stay, whose places they can then not have
// together, and the heap grows from step to step.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace graft::ops {

/// From now on large tensors lie in one region of their own, best fit, neighbours joined: after a step all of
/// it is free, in one piece. Pages stay for the next step, which so neither asks the system for them nor
/// zeroes them. Once a process, before its first large tensor; later calls do nothing.
void keep_tensor_memory();

/// What the machine has, in bytes; 0 where the system does not say.
int64_t physical_memory();

/// Bytes of large tensors that are there now, the most that were since the last reset_tensor_peak, and how
/// far the region is used, whose pages stay; 0 without keep_tensor_memory.
struct TensorMemory {
  int64_t bytes = 0, peak = 0, reached = 0;
};
TensorMemory tensor_memory();
void reset_tensor_peak();

/// A range of memory that is given out in pieces: the smallest free piece that is large enough, the lowest of
/// equals. Not safe between threads.
class Pieces {
 public:
  Pieces(char* begin, size_t bytes);
  ~Pieces();
  Pieces(const Pieces&) = delete;
  Pieces& operator=(const Pieces&) = delete;

  /// At a multiple of 64 bytes; nullptr where no free piece is large enough.
  char* take(size_t bytes);
  /// What take gave.
  void give_back(char* piece);
  size_t used() const { return used_; }
  /// Bytes from the range's begin up to the end of the highest piece that was ever taken.
  size_t reached() const { return reached_; }

 private:
  struct State;
  std::unique_ptr<State> state_;
  char* begin_;
  size_t used_ = 0, reached_ = 0;
};

}  // namespace graft::ops
