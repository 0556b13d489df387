#include "graft/ops/dropout.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "graft/ops/philox.h"
#include "graft/ops/types.h"

namespace graft::ops {

Tensor dropout(const Tensor& x, double p, uint64_t key) { return dropout_plain(x, p, key); }

Tensor dropout_plain(const Tensor& x, double p, uint64_t key) {
  if (p <= 0) return x;
  const auto type = compute_type(x);
  if (p >= 1) return x * 0;
  Tensor mask = at::empty(x.sizes(), at::kFloat);
  float* const values = mask.data_ptr<float>();
  const int64_t count = mask.numel();
  const uint32_t threshold = drop_threshold(p);
  at::parallel_for(0, (count + 3) / 4, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const auto words =
          philox_block({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0}, PhiloxKey(key));
      for (int64_t i = 4 * block; i < std::min(count, 4 * block + 4); ++i) {
        values[i] = words[static_cast<size_t>(i % 4)] < threshold ? 0.0f : 1.0f;
      }
    }
  });
  return (x.to(type) * (mask.to(type) * (1.0 / (1.0 - p)))).to(x.scalar_type());
}

}  // namespace graft::ops
