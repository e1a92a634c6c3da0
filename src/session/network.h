// Tells when this machine's routes change. Bound to the worker on which it is made.
#pragma once

#include <gio/gio.h>

#include <functional>

#include "util/gref.h"

namespace cfr {

class Network {
 public:
  // `changed` runs on the worker when the network comes, goes or gets another address.
  explicit Network(std::function<void(bool available)> changed);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

 private:
  std::function<void(bool)> changed_;
  gref<GNetworkMonitor> monitor_;
  gulong handler_ = 0;
};

}  // namespace cfr
