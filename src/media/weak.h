// The state of a chain as user data of pad functions and probes, which may run while it is going.
#pragma once

#include <glib.h>

#include <memory>

namespace cfr {

template <class State>
struct Weak {
  static gpointer make(const std::shared_ptr<State>& state) {
    return new std::weak_ptr<State>(state);
  }
  static void free(gpointer data) { delete static_cast<std::weak_ptr<State>*>(data); }
  static std::shared_ptr<State> lock(gpointer data) {
    return static_cast<std::weak_ptr<State>*>(data)->lock();
  }
};

}  // namespace cfr
