// Exponential backoff with jitter. Pure.
#pragma once

#include <cstdint>

namespace cfr {

struct BackoffSettings {
  uint32_t first_ms = 250;
  uint32_t max_ms = 30000;
};

class Backoff {
 public:
  Backoff(BackoffSettings settings, uint64_t seed);
  // Delay before the next attempt: doubles each time, 20 % jitter, never under at_least_ms.
  uint32_t next_ms(uint32_t at_least_ms = 0);
  void reset();
  uint32_t attempts() const { return attempts_; }

 private:
  BackoffSettings settings_;
  uint64_t random_;
  uint32_t attempts_ = 0;
};

}  // namespace cfr
