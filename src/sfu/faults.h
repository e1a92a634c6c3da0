// Faults that tests order from the local SFU: which calls go wrong, how often, and how. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "util/result.h"

namespace cfr::sfu {

struct Fault {
  std::string operation;       // sessions/new, tracks/new, ...; "" = any
  int count = 1;               // so many calls; 0 = all from now on
  int status = 0;              // answered without acting; 0 = acted upon
  std::string code;            // errorCode with that status
  unsigned retry_after_s = 0;  // 0 = no such header
  unsigned delay_ms = 0;       // the reply is held back
  bool drop = false;           // acted upon, but the connection is closed instead of a reply
  bool garbage = false;        // acted upon, but what is sent is not JSON
};

class FaultTable {
 public:
  void add(Fault fault) { faults_.push_back(std::move(fault)); }
  void clear() { faults_.clear(); }
  // What is to go wrong with this call; counts it.
  std::optional<Fault> strike(const std::string& operation);

 private:
  std::vector<Fault> faults_;
};

// The body of POST /debug/faults.
Result<Fault> read_fault(const std::string& text);

}  // namespace cfr::sfu
