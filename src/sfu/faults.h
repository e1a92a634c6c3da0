// Faults that tests order from the local SFU: which call goes wrong, how often, and how. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "util/result.h"

namespace cfr::sfu {

struct Fault {
  std::string operation;  // see operation_of(); "*" = any
  std::string session;    // "" = any
  int skip = 0;           // this many matching calls go well first
  int count = 1;          // then this many go wrong; -1 = all
  // Instead of acting:
  int status = 0;  // 0 = the call is acted upon
  std::string error_code, error_description;
  int retry_after_s = -1;  // -1 = no such header
  // With the reply, whoever made it:
  int delay_ms = 0;         // held back so long
  bool drop_reply = false;  // the connection is closed instead
  bool garbage = false;     // what comes is not JSON
};

// The name of an API call: "sessions/new", "tracks/new", "tracks/update", "tracks/close",
// "renegotiate", "session" (GET), "ice-servers", "streams"; else "other".
std::string operation_of(std::string_view method, std::string_view path);
// The session that a path names; "" if none.
std::string session_in(std::string_view path);

class FaultTable {
 public:
  // More than this many would be a mistake.
  static constexpr std::size_t kMaxFaults = 1000;

  // False if the table is full.
  bool add(Fault fault);
  void clear() { faults_.clear(); }
  // The first that matches this call, which is counted.
  std::optional<Fault> take(const std::string& operation, const std::string& session);
  const std::vector<Fault>& faults() const { return faults_; }

 private:
  std::vector<Fault> faults_;
};

// What POST /debug/faults asks for.
struct FaultOrder {
  std::vector<Fault> faults;
  std::vector<std::string> kill;  // sessions whose transport falls silent; "*" = all
  bool restart = false;           // forget all sessions
};
Result<FaultOrder> read_fault_order(std::string_view json);
std::string write_faults(const std::vector<Fault>& faults);

}  // namespace cfr::sfu
