// HttpSend on libsoup-3. Create and use it on the thread whose thread-default GMainContext shall
// run the callbacks.
#pragma once

#include "api/client.h"

namespace cfr {

struct SoupHttpSettings {
  std::string ca_file;  // PEM; empty = the system's
  std::string user_agent;
};

// The returned function owns the SoupSession; requests that are under way end with it.
Result<HttpSend> make_soup_http(const SoupHttpSettings& settings);

}  // namespace cfr
