// What went wrong, in a form that can be judged (kind), shown (message) and looked up (code).
// Plain data, any thread.
#pragma once

#include <cstdint>
#include <string>

namespace cfr {

enum class ErrorKind {
  config,        // missing or ill-formed setting
  unauthorized,  // 401, 403
  gone,          // 404, 410 about our own session
  rejected,      // other 4xx, or an errorCode in a body that means "no"
  busy,          // 425, 429
  server,        // 5xx
  unreachable,   // connect, TLS, DNS; ICE or DTLS failed
  timeout,       // no reply in time
  protocol,      // bad JSON, wrong description kind, missing member
  peer,          // webrtcbin refused, unusable caps
  not_yet,       // the wanted track does not exist or has no media yet
  cancelled,     // stopped by us; never shown
};

// Stable lower-case name of a kind, for logs and details.
const char* to_string(ErrorKind kind);

struct Error {
  ErrorKind kind = ErrorKind::protocol;
  int http_status = 0;          // 0 = none
  std::string code;             // the API's errorCode, only if it matches [a-z0-9_]{1,80}
  std::string message;          // one sentence for the user
  std::string track;            // track name, when one track is concerned
  std::string detail;           // the server's own text and the like; for the debug string only
  uint32_t retry_after_ms = 0;  // from Retry-After; 0 = not given
};

}  // namespace cfr
