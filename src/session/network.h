// Tells when this machine's routes change, and which addresses it has. Bound to the worker on which
// it is made.
#pragma once

#include <gio/gio.h>

#include <functional>
#include <string>

#include "util/gref.h"

namespace cfr {

class Network {
 public:
  // `changed` runs on the worker when the network comes, goes or gets another address.
  explicit Network(std::function<void(bool available)> changed);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // False only if no interface of this machine has that IP address.
  static bool has_address(const std::string& ip);

 private:
  std::function<void(bool)> changed_;
  gref<GNetworkMonitor> monitor_;
  gulong handler_ = 0;
};

}  // namespace cfr
