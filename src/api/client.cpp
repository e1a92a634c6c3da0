#include "api/client.h"

#include <glib.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "wire/codes.h"
#include "wire/json.h"
#include "wire/json_syntax.h"

namespace cfr {

namespace {

// Longer waits than an hour are taken for a mistake of the server's.
constexpr uint64_t kMaxRetryAfterMs = 3600 * 1000;

std::string header(const HttpReply& reply, const char* name) {
  for (const auto& [key, value] : reply.headers)
    if (key == name) return value;
  return {};
}

// Seconds since 1970 of an IMF-fixdate as in "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7);
// -1 when it is none. The obsolete forms are not sent by anyone we talk to.
int64_t parse_http_date(const std::string& text) {
  static const char* const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  char month[4] = "";
  int day, year, hour, minute, second;
  if (std::sscanf(text.c_str(), "%*3s, %2d %3s %4d %2d:%2d:%2d GMT", &day, month, &year, &hour,
                  &minute, &second) != 6)
    return -1;
  auto found = std::find_if(std::begin(months), std::end(months),
                            [&](const char* name) { return std::string(name) == month; });
  if (found == std::end(months)) return -1;
  g_autoptr(GDateTime) date = g_date_time_new_utc(
      year, static_cast<int>(found - std::begin(months)) + 1, day, hour, minute, second);
  return date ? g_date_time_to_unix(date) : -1;
}

// Retry-After: seconds, or a date that is compared with the server's own clock (RFC 9110, 10.2.3).
uint32_t retry_after_ms(const HttpReply& reply) {
  std::string value = header(reply, "retry-after");
  if (value.empty()) return 0;
  uint64_t ms = 0;
  if (std::all_of(value.begin(), value.end(), [](char c) { return g_ascii_isdigit(c); })) {
    ms = value.size() > 6 ? kMaxRetryAfterMs : g_ascii_strtoull(value.c_str(), nullptr, 10) * 1000;
  } else {
    int64_t date = parse_http_date(value), now = parse_http_date(header(reply, "date"));
    if (now < 0) now = g_get_real_time() / G_USEC_PER_SEC;
    if (date > now) ms = static_cast<uint64_t>(date - now) * 1000;
  }
  return static_cast<uint32_t>(std::min(ms, kMaxRetryAfterMs));
}

ErrorKind judge(int status, const std::string& code) {
  switch (status) {
    case 401:
    case 403: return ErrorKind::unauthorized;
    case 425:
    case 429: return ErrorKind::busy;
  }
  if (auto kind = kind_of_code(code)) return *kind;
  if (status == 404 || status == 410 || code == "session_error" || code == "not_found")
    return ErrorKind::gone;
  if (status == 408) return ErrorKind::timeout;
  if (status >= 500) return ErrorKind::server;
  return ErrorKind::rejected;
}

// "creating a session" -> "Creating a session"
std::string sentence(std::string text) {
  if (!text.empty()) text[0] = g_ascii_toupper(text[0]);
  return text;
}

Error make_error(const HttpReply& reply, const ApiError& api, const std::string& what) {
  Error error;
  error.kind = judge(reply.status, api.code);
  error.http_status = reply.status;
  error.code = api.code;
  error.detail = api.description;
  error.retry_after_ms = retry_after_ms(reply);
  std::string number = "HTTP " + std::to_string(reply.status);
  std::string given = " (" + number + (api.code.empty() ? "" : ", " + api.code) + ")";
  switch (error.kind) {
    case ErrorKind::unauthorized:
      error.message = "The token was refused when " + what + given + ". Check the token.";
      break;
    case ErrorKind::busy:
      error.message =
          sentence(what) + " was put off" + given +
          (reply.status == 425 ? ": the session is not connected yet." : ": too many requests.");
      break;
    case ErrorKind::gone:
      error.message = sentence(what) + " failed" + given + ": it does not exist (any more).";
      break;
    case ErrorKind::not_yet:
      error.message = sentence(what) + " failed" + given + ": the track is not there yet.";
      break;
    case ErrorKind::server:
      error.message = sentence(what) + " failed" + given + ": the server has a problem.";
      break;
    default: error.message = sentence(what) + " was refused" + given + ".";
  }
  return error;
}

std::string encode(const std::string& id) {
  // Unreserved characters stay, but a segment of dots would be a step in the path, "%2E%2E" too
  // (RFC 3986, 6.2.2.3). No id looks like that, so it may as well be unknown to the server.
  if (id == "." || id == "..") return "%252E";
  g_autofree char* escaped = g_uri_escape_string(id.c_str(), nullptr, FALSE);
  return escaped;
}

Error config_error(std::string message) {
  Error error;
  error.kind = ErrorKind::config;
  error.message = std::move(message);
  return error;
}

std::string trimmed_url(std::string url) {
  while (!url.empty() && url.back() == '/') url.pop_back();
  return url;
}

// What a user is told about 401 and 403, and whether another token can be had.
struct Refusal {
  std::string what, hint;
  bool renewable;
};
const Refusal kSecretRefused = {"The app secret was refused", "Check app-id and app-secret.", true};
const Refusal kTurnTokenRefused = {"The token of the TURN key was refused",
                                   "Check turn-key-id and turn-key-token.", false};
// Of a request that is refused with one new token after another.
constexpr unsigned kMaxRenewals = 2;

// What a 2xx reply says of itself.
ApiError error_in(const NewSessionReply& reply) {
  return reply.error;
}
ApiError error_in(const TracksReply& reply) {
  return reply.error;
}
ApiError error_in(const RenegotiateReply& reply) {
  return reply.error;
}
ApiError error_in(const SessionState& state) {
  return state.error;
}
ApiError error_in(const std::vector<IceServer>&) {
  return {};
}

}  // namespace

Error error_from_reply(const HttpReply& reply, const std::string& what) {
  return make_error(reply, json::read_api_error(reply.body), what);
}

Result<std::string> check_api_url(const std::string& url) {
  g_autoptr(GUri) uri = g_uri_parse(url.c_str(), G_URI_FLAGS_ENCODED, nullptr);
  bool spaced = std::any_of(url.begin(), url.end(),
                            [](char c) { return static_cast<unsigned char>(c) <= 0x20; });
  if (!uri || spaced) return config_error("\"" + json::sanitise(url) + "\" is not a URL.");
  const char* scheme = g_uri_get_scheme(uri);
  const char* host = g_uri_get_host(uri);
  if (g_strcmp0(scheme, "http") != 0 && g_strcmp0(scheme, "https") != 0)
    return config_error("The URL " + json::sanitise(url) +
                        " must begin with https:// (or http:// within your own network).");
  // Passwords in URLs end up in logs, so the text is not repeated here.
  if (g_uri_get_userinfo(uri)) return config_error("A URL must not contain a user or password.");
  if (!host || !*host) return config_error("The URL " + json::sanitise(url) + " names no host.");
  if (g_uri_get_fragment(uri))
    return config_error("The URL " + json::sanitise(url) + " must not have a fragment (#).");
  return trimmed_url(url);
}

struct ApiClient::State {
  Settings settings;
  HttpSend send;
  Renewal renew;
  // One that waits for another token has no handle.
  std::map<uint64_t, std::unique_ptr<HttpCall>> calls;
  uint64_t next_call = 1;

  std::string session_url(const std::string& session_id, const char* verb) const {
    std::string url = settings.api_url + "/apps/" + encode(settings.app_id) + "/sessions/";
    if (!session_id.empty()) url += encode(session_id);
    return url + verb;
  }

  HttpRequest request(const char* method, std::string url, std::string body) const {
    HttpRequest request;
    request.method = method;
    request.url = std::move(url);
    request.headers = {{"Accept", "application/json"}};
    request.body = std::move(body);
    request.bearer_token = settings.token;
    request.timeout_ms = settings.timeout_ms;
    return request;
  }

  template <class T>
  static void start(const std::shared_ptr<State>& self, HttpRequest request, const char* what,
                    const Refusal& refused, Result<T> (*read)(std::string_view), Callback<T> done) {
    uint64_t number = self->next_call++;
    self->calls[number];
    attempt(self, number, std::move(request), refused.renewable && self->renew ? kMaxRenewals : 0,
            [what, refused, read, done = std::move(done)](Result<HttpReply> reply) {
              done(judge_reply<T>(std::move(reply), what, refused, read));
            });
  }

  // A request that was refused has not been acted upon: with another token it goes again.
  static void attempt(const std::shared_ptr<State>& self, uint64_t number, HttpRequest request,
                      unsigned renewals, Callback<HttpReply> finish) {
    HttpRequest again = request;
    auto replied = [weak = std::weak_ptr<State>(self), number, again = std::move(again), renewals,
                    finish = std::move(finish)](Result<HttpReply> reply) mutable {
      auto state = weak.lock();
      if (!state) return;
      auto it = state->calls.find(number);
      if (it == state->calls.end()) return;
      auto handle = std::move(it->second);  // outlives this callback
      bool refused = renewals > 0 && reply && reply->status / 100 != 2 &&
                     error_from_reply(*reply, "").kind == ErrorKind::unauthorized;
      if (!refused) {
        state->calls.erase(it);
        return finish(std::move(reply));
      }
      bool stale = again.bearer_token != state->settings.token;
      auto then = [weak, number, again = std::move(again), renewals, finish = std::move(finish),
                   reply = std::move(reply)](bool renewed) {
        auto state = weak.lock();
        if (!state || !state->calls.count(number)) return;
        if (!renewed) {
          state->calls.erase(number);
          return finish(reply);
        }
        HttpRequest request = again;
        request.bearer_token = state->settings.token;
        attempt(state, number, std::move(request), renewals - 1, finish);
      };
      if (stale)
        then(true);  // it was replaced while this request was under way
      else
        state->renew(std::move(then));
    };
    auto handle = self->send(std::move(request), std::move(replied));
    if (auto it = self->calls.find(number); it != self->calls.end()) it->second = std::move(handle);
  }

  template <class T>
  static Result<T> judge_reply(Result<HttpReply> reply, const char* what, const Refusal& refused,
                               Result<T> (*read)(std::string_view)) {
    if (!reply) return std::move(reply.error());
    if (reply->status / 100 != 2) {
      Error error = error_from_reply(*reply, what);
      if (error.kind == ErrorKind::unauthorized)
        error.message =
            refused.what + (" (HTTP " + std::to_string(reply->status) + "). ") + refused.hint;
      return error;
    }
    Result<T> value = read(reply->body);
    if (!value) {
      // An error is often told in a form that lacks what a success must have.
      if (ApiError api = json::read_api_error(reply->body)) return make_error(*reply, api, what);
      Error error = value.error();
      error.http_status = reply->status;
      error.message = sentence(what) + " failed: the reply is not understood (" +
                      json::sanitise(error.message) + ").";
      return error;
    }
    if (ApiError api = error_in(*value)) return make_error(*reply, api, what);
    return value;
  }
};

ApiClient::ApiClient(Settings settings, HttpSend send) : state_(std::make_shared<State>()) {
  settings.api_url = trimmed_url(std::move(settings.api_url));
  state_->settings = std::move(settings);
  state_->send = std::move(send);
}

ApiClient::~ApiClient() {
  cancel_all();
}

void ApiClient::cancel_all() {
  // A handle's end must not find the list half cleared.
  auto calls = std::exchange(state_->calls, {});
}

void ApiClient::set_renewal(Renewal renew) {
  state_->renew = std::move(renew);
}

void ApiClient::set_token(std::string token) {
  state_->settings.token = std::move(token);
}

void ApiClient::new_session(const NewSessionRequest& request, Callback<NewSessionReply> done) {
  State::start<NewSessionReply>(
      state_, state_->request("POST", state_->session_url("", "new"), json::write(request)),
      "creating a session", kSecretRefused, json::read_new_session_reply,
      [done = std::move(done)](Result<NewSessionReply> reply) {
        // There is no session yet that could be gone.
        if (!reply && reply.error().kind == ErrorKind::gone)
          reply.error().message = "The application is not known to the service (HTTP " +
                                  std::to_string(reply.error().http_status) + "). Check app-id.";
        done(std::move(reply));
      });
}

void ApiClient::new_tracks(const std::string& session_id, const TracksRequest& request,
                           Callback<TracksReply> done) {
  State::start<TracksReply>(
      state_,
      state_->request("POST", state_->session_url(session_id, "/tracks/new"), json::write(request)),
      "adding tracks to the session", kSecretRefused, json::read_tracks_reply, std::move(done));
}

void ApiClient::update_tracks(const std::string& session_id, const TracksRequest& request,
                              Callback<TracksReply> done) {
  State::start<TracksReply>(
      state_,
      state_->request("PUT", state_->session_url(session_id, "/tracks/update"),
                      json::write(request)),
      "changing tracks of the session", kSecretRefused, json::read_tracks_reply, std::move(done));
}

void ApiClient::renegotiate(const std::string& session_id, const RenegotiateRequest& request,
                            Callback<RenegotiateReply> done) {
  State::start<RenegotiateReply>(
      state_,
      state_->request("PUT", state_->session_url(session_id, "/renegotiate"), json::write(request)),
      "answering the session's offer", kSecretRefused, json::read_renegotiate_reply,
      std::move(done));
}

void ApiClient::close_tracks(const std::string& session_id, const CloseRequest& request,
                             Callback<TracksReply> done) {
  State::start<TracksReply>(state_,
                            state_->request("PUT", state_->session_url(session_id, "/tracks/close"),
                                            json::write(request)),
                            "closing tracks of the session", kSecretRefused,
                            json::read_tracks_reply, std::move(done));
}

void ApiClient::get_session(const std::string& session_id, Callback<SessionState> done) {
  State::start<SessionState>(
      state_, state_->request("GET", state_->session_url(session_id, ""), ""),
      "looking at the session", kSecretRefused, json::read_session_state, std::move(done));
}

void ApiClient::generate_ice_servers(const std::string& key_id, const std::string& key_token,
                                     const IceServersRequest& request,
                                     Callback<std::vector<IceServer>> done) {
  HttpRequest http = state_->request("POST",
                                     state_->settings.api_url + "/turn/keys/" + encode(key_id) +
                                         "/credentials/generate-ice-servers",
                                     json::write(request));
  http.bearer_token = key_token;
  State::start<std::vector<IceServer>>(state_, std::move(http), "asking for TURN credentials",
                                       kTurnTokenRefused, json::read_ice_servers, std::move(done));
}

}  // namespace cfr
