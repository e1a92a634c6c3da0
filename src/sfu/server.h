// The local SFU as an HTTP server: routes to SfuState, whose orders go to transports and forwarder;
// debug pages, faults and stream documents. Bound to the thread of the main context it is given.
#pragma once

#include <glib.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sfu/ice_servers.h"
#include "sfu/state.h"
#include "util/result.h"

namespace cfr::sfu {

struct ServerSettings {
  std::string address = "127.0.0.1";  // numeric; of HTTP and of media
  unsigned port = 0;                  // 0 = a free one
  SfuSettings sfu;
  IceServerSettings ice;
  std::string stream_token;  // bearer for /streams; "" = none is needed
  bool log = false;          // a line a request on stderr
};

// A call and its reply, as /debug/requests shows them. The Authorization header is never kept.
struct RequestRecord {
  int64_t time_us = 0;  // since 1970
  std::string method, path;
  int status = 0;  // 0 = the connection was closed without a reply
  int64_t duration_us = 0;
  std::string session;
  std::string request, response;  // bodies
};

class SfuServer {
 public:
  using Observer = std::function<void(const RequestRecord&)>;

  // `observer` is told of every call after its reply, on the server's thread.
  static Result<std::unique_ptr<SfuServer>> start(GMainContext* context, ServerSettings settings,
                                                  Observer observer = {});
  ~SfuServer();
  SfuServer(const SfuServer&) = delete;

  unsigned port() const;
  std::string url() const;      // http://127.0.0.1:PORT
  std::string api_url() const;  // http://127.0.0.1:PORT/v1

 private:
  struct State;
  explicit SfuServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace cfr::sfu
