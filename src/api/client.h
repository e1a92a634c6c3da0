// Typed verbs of the Realtime API. The network is one injected function. Bound to one thread, on
// which every callback runs; no callback runs inside the call that takes it, and none after
// cancel_all().
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "util/result.h"
#include "wire/types.h"

namespace cfr {

struct HttpRequest {
  std::string method;
  std::string url;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;          // with Content-Type application/json when not empty
  std::string bearer_token;  // sent as Authorization; never logged, never sent across a redirect
  unsigned timeout_ms = 20000;
  // For name resolution, TCP and TLS together. A lost SYN is repeated after 1, 3, 7 s (RFC 6298),
  // so beyond this a fresh attempt finds a network that is back sooner than the one in hand.
  unsigned connect_timeout_ms = 5000;
  std::size_t max_reply_bytes = 1 << 20;
};

struct HttpReply {
  int status = 0;
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
};

template <class T>
using Callback = std::function<void(Result<T>)>;

// Starts a request; the callback runs later on the same thread, exactly once, unless the returned
// handle is destroyed first (which cancels; also from inside the callback). A Result error means
// that there is no reply to judge: unreachable (the request cannot have been processed), timeout
// (it may have been), protocol (a reply that is cut or too large), rejected (a redirect to another
// origin) or config (an unusable URL, token or header).
class HttpCall {
 public:
  virtual ~HttpCall() = default;
};
using HttpSend =
    std::function<std::unique_ptr<HttpCall>(HttpRequest request, Callback<HttpReply> done)>;

class ApiClient {
 public:
  struct Settings {
    std::string api_url;  // e.g. https://rtc.live.cloudflare.com/v1, no trailing slash needed
    std::string app_id;
    std::string token;            // may be empty (a proxy of the user's adds it)
    unsigned timeout_ms = 20000;  // above the service's ~8 s wait for first media
  };

  ApiClient(Settings settings, HttpSend send);
  ~ApiClient();  // as cancel_all()

  void set_token(std::string token);
  // Called when the token is refused; calls `then` when set_token() has been given another, or with
  // false if there is none. Requests that were refused go again.
  using Renewal = std::function<void(std::function<void(bool renewed)> then)>;
  void set_renewal(Renewal renew);

  void new_session(const NewSessionRequest& request, Callback<NewSessionReply> done);
  void new_tracks(const std::string& session_id, const TracksRequest& request,
                  Callback<TracksReply> done);
  void update_tracks(const std::string& session_id, const TracksRequest& request,
                     Callback<TracksReply> done);
  void renegotiate(const std::string& session_id, const RenegotiateRequest& request,
                   Callback<RenegotiateReply> done);
  void close_tracks(const std::string& session_id, const CloseRequest& request,
                    Callback<TracksReply> done);
  void get_session(const std::string& session_id, Callback<SessionState> done);
  // POST {api_url}/turn/keys/{key}/credentials/generate-ice-servers, bearer = the key's token.
  void generate_ice_servers(const std::string& key_id, const std::string& key_token,
                            const IceServersRequest& request,
                            Callback<std::vector<IceServer>> done);

  void cancel_all();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// Judges a reply that is no success: the kind from code and status, the message a sentence for the
// user. `what` says what was tried, as in "publishing the stream document".
Error error_from_reply(const HttpReply& reply, const std::string& what);

// Checks scheme and host of an API URL: config error or the URL without trailing slashes.
Result<std::string> check_api_url(const std::string& url);

}  // namespace cfr
