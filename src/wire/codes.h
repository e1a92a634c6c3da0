// What the API's error codes mean. Plain function, any thread.
#pragma once

#include <optional>
#include <string_view>

#include "util/error.h"

namespace cfr {

// The kind of an errorCode at body or item level; nullopt when the code says nothing by itself
// and the HTTP status has to be asked. Codes: https://developers.cloudflare.com/realtime/sfu/ and
// its OpenAPI file. Only codes that mean one thing wherever they occur are listed; `session_error`
// comes with 410 as well as 425, `not_found` also about the app.
inline std::optional<ErrorKind> kind_of_code(std::string_view code) {
  if (code == "not_found_track_error" || code == "empty_track_error" ||
      code == "transport_unavailable_error")
    return ErrorKind::not_yet;
  if (code == "internal_error" || code == "backend_error" ||
      code == "temporarily_unavailable_error" || code == "temporarily_unavailable" ||
      code == "retryable_transient_error")
    return ErrorKind::server;
  if (code == "unauthorized") return ErrorKind::unauthorized;
  if (code == "decoding_error" || code == "invalid_params" ||
      code == "invalid_session_description" || code == "payload_too_large" ||
      code == "repeated_local_track_error" || code == "update_track_error" ||
      code == "close_track_error")
    return ErrorKind::rejected;
  return std::nullopt;
}

}  // namespace cfr
