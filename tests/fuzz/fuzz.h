// What every fuzz target uses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace cfr::fuzz {

// What must hold whatever came in.
inline void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace cfr::fuzz
