// Every reader of the API's texts, on both sides: what is understood can be written and read again.
#include "wire/json.h"

#include <cstdlib>

#include "fuzz/fuzz.h"

using namespace cfr;

template <class T>
static void round_trip(std::string_view text, Result<T> (*read)(std::string_view)) {
  auto value = read(text);
  if (!value) {
    cfr::fuzz::require(!value.error().message.empty());
    return;
  }
  std::string written = json::write(*value);
  if (written.empty()) return;  // a request without a body
  auto again = read(written);
  cfr::fuzz::require(bool(again));
  cfr::fuzz::require(json::write(*again) == written);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  round_trip(text, json::read_new_session_request);
  round_trip(text, json::read_new_session_reply);
  round_trip(text, json::read_tracks_request);
  round_trip(text, json::read_tracks_reply);
  round_trip(text, json::read_renegotiate_request);
  round_trip(text, json::read_renegotiate_reply);
  round_trip(text, json::read_close_request);
  round_trip(text, json::read_session_state);
  round_trip(text, json::read_ice_servers_request);
  round_trip(text, json::read_ice_servers);
  json::read_api_error(text);
  return 0;
}
