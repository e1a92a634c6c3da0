// Faults that the local SFU commits on request, for tests: POST /debug/faults adds one, DELETE takes
// all back, and what they still hold is answered. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "util/result.h"

namespace cfr::sfu {

struct Fault {
  std::string operation;  // sessions/new, tracks/new, renegotiate, tracks/close, tracks/update,
                          // session (GET), ice-servers, streams; "" = any
  int count = 1;          // how many calls; -1 = until cleared
  int status = 0;         // answer this instead of acting; 0 = act
  std::string code;       // its errorCode
  unsigned retry_after_s = 0;
  unsigned delay_ms = 0;  // before the reply, after acting
  bool drop = false;      // act, then close the connection without a reply
  bool garbage = false;   // act, then reply with something that is not JSON
};

class FaultTable {
 public:
  void add(Fault fault) {
    if (faults_.size() < 1000) faults_.push_back(std::move(fault));
  }
  void clear() { faults_.clear(); }
  // The fault that strikes this call, if any.
  std::optional<Fault> strike(const std::string& operation);

 private:
  std::vector<Fault> faults_;
};

// {"operation": "tracks/new", "count": 2, "status": 503, "errorCode": "...", "retryAfter": 1,
//  "delayMs": 0, "drop": false, "garbage": false}
Result<Fault> read_fault(const std::string& text);

}  // namespace cfr::sfu
