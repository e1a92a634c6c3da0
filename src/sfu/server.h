// The local SFU as an HTTP server: routes, debug pages, faults and stream documents around SfuState,
// Forwarder and Transport. Bound to the thread of the main context it is given.
#pragma once

#include <gio/gio.h>

#include <memory>
#include <string>

#include "sfu/state.h"
#include "util/result.h"

namespace cfr::sfu {

struct ServerSettings {
  std::string address = "127.0.0.1";  // of the API and of the media
  unsigned port = 0;                  // 0 = a free one
  SfuSettings sfu;
  std::string stream_token;           // for /streams; "" = none is asked for
  std::string turn_url, turn_secret;  // for generate-ice-servers; URLs separated by commas
  bool log = false;                   // a line for each request on stderr
};

class SfuServer {
 public:
  static Result<std::unique_ptr<SfuServer>> start(GMainContext* context, ServerSettings settings);
  ~SfuServer();

  unsigned port() const;
  std::string url() const;  // of the API: http://127.0.0.1:PORT/v1

 private:
  struct Impl;
  explicit SfuServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cfr::sfu
