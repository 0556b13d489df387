// VB-LoRA: low-rank factors put together out of a bank of vectors that all maps share. Source: Li et al.
// 2024; files: PEFT's VBLORA.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kVblora;

}  // namespace graft
