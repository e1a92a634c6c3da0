// A function for std::visit out of one lambda per alternative.
#pragma once

namespace cfr {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;
}  // namespace cfr
