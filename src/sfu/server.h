// The local SFU: routes of the Realtime API on a SoupServer, joined to SfuState, Forwarder and
// Transports. Bound to the thread whose main context it is given, on which it must be made and
// destroyed.
#pragma once

#include <glib.h>

#include <functional>
#include <memory>
#include <string>

#include "sfu/state.h"
#include "util/result.h"

namespace cfr::sfu {

struct ServerSettings {
  SfuSettings sfu;
  std::string address = "127.0.0.1";  // of the API and of the media
  unsigned port = 0;                  // 0 = a free one
  std::string stream_token;           // for /streams; "" = none asked
  std::string turn_url;               // told by generate-ice-servers; "" = STUN only
  std::string turn_secret;            // coturn's static-auth-secret
  unsigned request_wait_ms = 15000;   // in which a request has to have come, body and all
  bool log = true;                    // one line a request on stderr
};

// A call and its reply, as GET /debug/requests shows them. The Authorization header is not kept.
struct RequestRecord {
  int64_t wall_us = 0;  // since 1970
  std::string method, path, request, response;
  int status = 0;  // 0: the connection was closed without a reply
  double ms = 0;
};

class SfuServer {
 public:
  using Observer = std::function<void(const RequestRecord&)>;

  // `observer` is told of each call once it is answered, on the server's thread.
  static Result<std::unique_ptr<SfuServer>> start(GMainContext* context, ServerSettings settings,
                                                  Observer observer = {});
  ~SfuServer();
  unsigned port() const;
  std::string url() const;  // http://address:port/v1

 private:
  struct Impl;
  explicit SfuServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cfr::sfu
