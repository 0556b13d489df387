// What the process and its machine say of themselves, from /proc.
#pragma once
#include <cstdint>

#include "graft/base/json.h"

namespace graft {

/// Seconds since this process started, to the kernel clock's 10 ms; 0 where the system does not say.
double seconds_since_start();
/// Resident memory now and at its highest, in bytes; 0 where the system does not say.
int64_t memory_bytes();
int64_t peak_memory_bytes();
/// {"system", "processor", "cores", "threads", "memory_bytes"}.
Json machine();
/// {"graft", "libtorch", "compiler"}.
Json versions();

}  // namespace graft
