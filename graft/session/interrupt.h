// Ctrl-C and SIGTERM as a wish to stop at the next good moment; a second one ends the process at once.
#pragma once

namespace graft {

/// Listens from construction to destruction; one at a time.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;
  static bool requested();
};

}  // namespace graft
