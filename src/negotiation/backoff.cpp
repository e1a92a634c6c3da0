#include "negotiation/backoff.h"

#include <algorithm>
#include <limits>

namespace cfr {

Backoff::Backoff(BackoffSettings settings, uint64_t seed) : settings_(settings), random_(seed) {
  settings_.first_ms = std::max<uint32_t>(settings_.first_ms, 1);
  settings_.max_ms = std::max(settings_.max_ms, settings_.first_ms);
}

uint32_t Backoff::next_ms(uint32_t at_least_ms) {
  // 32 doublings of any first delay are past any largest one.
  uint64_t delay = uint64_t{settings_.first_ms} << std::min<uint32_t>(attempts_, 32);
  delay = std::min<uint64_t>(delay, settings_.max_ms);
  if (attempts_ < std::numeric_limits<uint32_t>::max()) ++attempts_;

  // splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): good
  // enough to keep clients apart, and the same on every machine.
  random_ += 0x9e3779b97f4a7c15;
  uint64_t z = random_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  z ^= z >> 31;

  // From 80 % to 120 %, the largest delay included: at its end clients must not meet either.
  uint64_t jittered = delay - delay / 5 + z % (2 * (delay / 5) + 1);
  // All who were told the same time by the server would come back at the same moment.
  if (jittered < at_least_ms) jittered = at_least_ms + z % (delay / 5 + 1);
  return static_cast<uint32_t>(std::min<uint64_t>(jittered, std::numeric_limits<uint32_t>::max()));
}

void Backoff::reset() {
  attempts_ = 0;
}

}  // namespace cfr
