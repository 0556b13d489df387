#include "graft/session/interrupt.h"

#include <csignal>

namespace graft {
namespace {

volatile std::sig_atomic_t requested_signal = 0;

extern "C" void note_signal(int signal) {
  if (requested_signal != 0) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  requested_signal = signal;
}

}  // namespace

Interrupt::Interrupt() {
  requested_signal = 0;
  std::signal(SIGINT, note_signal);
  std::signal(SIGTERM, note_signal);
}

Interrupt::~Interrupt() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

bool Interrupt::requested() { return requested_signal != 0; }

}  // namespace graft
