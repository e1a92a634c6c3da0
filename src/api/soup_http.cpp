#include "api/soup_http.h"

#include <libsoup/soup.h>

#include <algorithm>
#include <memory>
#include <set>

#include "util/gref.h"
#include "wire/json_syntax.h"

namespace cfr {

namespace {

constexpr std::size_t kChunkBytes = 16 << 10;
constexpr unsigned kMaxRedirects = 3;
// Shorter than the time after which a lost peer is noticed: a new session then begins on a new
// connection, not on one that may lead into a network that is gone.
constexpr unsigned kIdleTimeoutS = 5;
// A long poll, discovery and the exchange go to one host.
constexpr int kMaxConnections = 64;
constexpr int kMaxConnectionsPerHost = 16;

constexpr auto kUriFlags = static_cast<GUriFlags>(SOUP_HTTP_URI_FLAGS);

Error make_error(ErrorKind kind, std::string message) {
  Error error;
  error.kind = kind;
  error.message = std::move(message);
  return error;
}

bool has_control(const std::string& text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

std::string origin(GUri* uri) {
  const char* host = g_uri_get_host(uri);
  std::string name = host ? host : "";
  if (name.find(':') != std::string::npos) name = "[" + name + "]";
  int port = g_uri_get_port(uri);
  return json::sanitise(std::string(g_uri_get_scheme(uri)) + "://" + name +
                        (port > 0 ? ":" + std::to_string(port) : ""));
}

int port_of(GUri* uri) {
  int port = g_uri_get_port(uri);
  if (port > 0) return port;
  return g_strcmp0(g_uri_get_scheme(uri), "https") == 0 ? 443 : 80;
}

bool same_origin(GUri* a, GUri* b) {
  return g_strcmp0(g_uri_get_scheme(a), g_uri_get_scheme(b)) == 0 &&
         g_ascii_strcasecmp(g_uri_get_host(a) ? g_uri_get_host(a) : "",
                            g_uri_get_host(b) ? g_uri_get_host(b) : "") == 0 &&
         port_of(a) == port_of(b);
}

std::string tls_problem(GTlsCertificateFlags flags) {
  std::string text;
  auto add = [&](GTlsCertificateFlags flag, const char* words) {
    if (flags & flag) text += (text.empty() ? "" : ", ") + std::string(words);
  };
  add(G_TLS_CERTIFICATE_UNKNOWN_CA, "it is signed by an unknown authority");
  add(G_TLS_CERTIFICATE_BAD_IDENTITY, "it belongs to another host");
  add(G_TLS_CERTIFICATE_NOT_ACTIVATED, "it is not valid yet (is the clock right?)");
  add(G_TLS_CERTIFICATE_EXPIRED, "it has expired (is the clock right?)");
  add(G_TLS_CERTIFICATE_REVOKED, "it was revoked");
  add(G_TLS_CERTIFICATE_INSECURE, "it uses an insecure algorithm");
  return text.empty() ? "it is not valid" : text;
}

class Flight;

// What all requests of one HttpSend share.
struct Shared {
  SoupHttpSettings settings;
  gref<GTlsDatabase> tls_database;
  gref<SoupSession> session;
  std::set<Flight*> flights;

  ~Shared();

  void renew_session() {
    session = gref<SoupSession>::adopt(soup_session_new_with_options(
        "timeout", 0u, "idle-timeout", kIdleTimeoutS, "max-conns", kMaxConnections,
        "max-conns-per-host", kMaxConnectionsPerHost, nullptr));
    if (!settings.user_agent.empty())
      soup_session_set_user_agent(session.get(), settings.user_agent.c_str());
    if (tls_database) soup_session_set_tls_database(session.get(), tls_database.get());
  }
};

// One request from start to end. It is owned by its GCancellable, which the message and every
// pending operation hold, so it ends with the last of them even where a main context ends first.
class Flight {
 public:
  Flight(std::shared_ptr<Shared> shared, GCancellable* cancellable, HttpRequest request,
         Callback<HttpReply> done)
      : shared_(std::move(shared)),
        cancellable_(cancellable),
        request_(std::move(request)),
        done_(std::move(done)),
        session_(shared_.lock()->session) {
    shared_.lock()->flights.insert(this);
  }
  ~Flight() { abandon(); }

  void start();
  // No callback any more.
  void abandon();

 private:
  void send();
  void on_sent(GInputStream* stream, GError* error);
  void on_chunk(GBytes* bytes, GError* error);
  void read();
  bool redirect();
  void fail_later(Error error);
  void timed_out(unsigned after_ms);
  void arm(unsigned delay_ms, GSourceFunc function);
  void finish(Result<HttpReply> result);
  Error judge(const GError* error) const;
  static Flight* of(gpointer cancellable) {
    return static_cast<Flight*>(g_object_get_data(G_OBJECT(cancellable), "cfr-flight"));
  }
  std::string host() const { return origin(soup_message_get_uri(message_.get())); }

  // given
  std::weak_ptr<Shared> shared_;
  GCancellable* cancellable_;  // owns this
  HttpRequest request_;
  Callback<HttpReply> done_;  // empty once finished
  // owned
  gref<SoupSession> session_;
  gref<SoupMessage> message_;
  gref<GInputStream> stream_;
  GSource* timer_ = nullptr;
  // state
  Error pending_error_;
  HttpReply reply_;
  unsigned redirects_ = 0;
  bool sent_ = false;  // the request, or a part of it, may have reached the server
  gint64 started_at_ = g_get_monotonic_time();
};

Shared::~Shared() {
  for (Flight* flight : std::set<Flight*>(flights)) flight->abandon();
}

class SoupCall : public HttpCall {
 public:
  explicit SoupCall(gref<GCancellable> cancellable, Flight* flight)
      : cancellable_(std::move(cancellable)), flight_(flight) {}
  ~SoupCall() override { flight_->abandon(); }

 private:
  gref<GCancellable> cancellable_;  // keeps the flight
  Flight* flight_;
};

void Flight::abandon() {
  done_ = nullptr;
  if (timer_) {
    g_source_destroy(timer_);
    g_source_unref(std::exchange(timer_, nullptr));
  }
  if (auto shared = shared_.lock()) shared->flights.erase(this);
  if (!session_) return;
  // Everything that could hold the operation is let go, for its end may never be seen.
  auto session = std::exchange(session_, {});
  message_.reset();
  stream_.reset();
  g_cancellable_cancel(cancellable_);
}

void Flight::arm(unsigned delay_ms, GSourceFunc function) {
  if (timer_) {
    g_source_destroy(timer_);
    g_source_unref(timer_);
  }
  timer_ = g_timeout_source_new(delay_ms);
  g_source_set_callback(timer_, function, this, nullptr);
  g_source_attach(timer_, g_main_context_get_thread_default());
}

void Flight::fail_later(Error error) {
  pending_error_ = std::move(error);
  arm(0, [](gpointer self) -> gboolean {
    auto* flight = static_cast<Flight*>(self);
    flight->finish(flight->pending_error_);
    return G_SOURCE_REMOVE;
  });
}

void Flight::timed_out(unsigned after_ms) {
  std::string seconds = std::to_string((after_ms + 999) / 1000);
  Error error =
      sent_ ? make_error(ErrorKind::timeout, host() + " did not answer within " + seconds + " s.")
            : make_error(ErrorKind::unreachable,
                         "No connection to " + host() + " within " + seconds + " s.");
  // The connection may lead nowhere; others must not be put on it.
  if (auto shared = shared_.lock())
    if (shared->session == session_) shared->renew_session();
  finish(std::move(error));
}

void Flight::start() {
  unsigned connect_ms = std::min(request_.connect_timeout_ms, request_.timeout_ms);
  arm(connect_ms, [](gpointer self) -> gboolean {
    auto* flight = static_cast<Flight*>(self);
    unsigned waited = std::min(flight->request_.connect_timeout_ms, flight->request_.timeout_ms);
    if (flight->sent_ && waited < flight->request_.timeout_ms)
      flight->arm(flight->request_.timeout_ms - waited, [](gpointer self) -> gboolean {
        auto* flight = static_cast<Flight*>(self);
        flight->timed_out(flight->request_.timeout_ms);
        return G_SOURCE_REMOVE;
      });
    else
      flight->timed_out(waited);
    return G_SOURCE_REMOVE;
  });
  g_autoptr(GUri) uri = g_uri_parse(request_.url.c_str(), kUriFlags, nullptr);
  const char* scheme = uri ? g_uri_get_scheme(uri) : "";
  if (!uri || !g_uri_get_host(uri) || !*g_uri_get_host(uri) ||
      (g_strcmp0(scheme, "http") != 0 && g_strcmp0(scheme, "https") != 0))
    return fail_later(
        make_error(ErrorKind::config, "The URL is not usable: " + json::sanitise(request_.url)));
  bool bad = has_control(request_.bearer_token);
  for (const auto& [name, value] : request_.headers)
    bad = bad || has_control(name) || has_control(value);
  // libsoup would print such a value, and the token is one of them.
  if (bad)
    return fail_later(make_error(ErrorKind::config,
                                 "The token or a header holds a control character, perhaps a line "
                                 "end at the end of a file."));
  message_ = gref<SoupMessage>::adopt(soup_message_new_from_uri(request_.method.c_str(), uri));
  send();
}

void Flight::send() {
  soup_message_set_flags(
      message_.get(),
      static_cast<SoupMessageFlags>(SOUP_MESSAGE_NO_REDIRECT | SOUP_MESSAGE_DO_NOT_USE_AUTH_CACHE));
  SoupMessageHeaders* headers = soup_message_get_request_headers(message_.get());
  for (const auto& [name, value] : request_.headers)
    soup_message_headers_replace(headers, name.c_str(), value.c_str());
  if (!request_.bearer_token.empty())
    soup_message_headers_replace(headers, "Authorization",
                                 ("Bearer " + request_.bearer_token).c_str());
  if (!request_.body.empty()) {
    g_autoptr(GBytes) body = g_bytes_new(request_.body.data(), request_.body.size());
    soup_message_set_request_body_from_bytes(message_.get(), "application/json", body);
  }
  g_object_set_data_full(G_OBJECT(message_.get()), "cfr-cancellable", g_object_ref(cancellable_),
                         g_object_unref);
  sent_ = false;
  // The signal comes when a connection is there and the first byte is about to be written.
  g_signal_connect_object(message_.get(), "starting",
                          G_CALLBACK(+[](SoupMessage*, gpointer cancellable) {
                            if (Flight* flight = of(cancellable)) flight->sent_ = true;
                          }),
                          cancellable_, static_cast<GConnectFlags>(0));
  // libsoup sends a PUT again by itself when the connection ends before the reply, and without its
  // body. The server may have acted on the first one: that is for the caller to judge.
  g_signal_connect_object(
      message_.get(), "restarted", G_CALLBACK(+[](SoupMessage* message, gpointer cancellable) {
        Flight* flight = of(cancellable);
        if (!flight || g_str_equal(soup_message_get_method(message), "GET")) return;
        Error error;
        error.kind = ErrorKind::timeout;
        error.message = "The connection to " + flight->host() + " ended before the reply came.";
        flight->fail_later(std::move(error));
      }),
      cancellable_, static_cast<GConnectFlags>(0));
  soup_session_send_async(
      session_.get(), message_.get(), G_PRIORITY_DEFAULT, cancellable_,
      [](GObject* source, GAsyncResult* result, gpointer cancellable) {
        g_autoptr(GError) error = nullptr;
        auto stream = gref<GInputStream>::adopt(
            soup_session_send_finish(SOUP_SESSION(source), result, &error));
        Flight* flight = of(cancellable);
        if (flight && flight->done_) flight->on_sent(stream.get(), error);
      },
      cancellable_);
}

void Flight::on_sent(GInputStream* stream, GError* error) {
  if (error) return finish(judge(error));
  stream_ = gref<GInputStream>::ref(stream);
  reply_.status = static_cast<int>(soup_message_get_status(message_.get()));
  if (redirect()) return;
  SoupMessageHeadersIter iter;
  const char *name, *value;
  reply_.headers.clear();
  soup_message_headers_iter_init(&iter, soup_message_get_response_headers(message_.get()));
  while (soup_message_headers_iter_next(&iter, &name, &value)) {
    g_autofree char* lower = g_ascii_strdown(name, -1);
    reply_.headers.emplace_back(lower, value);
  }
  read();
}

// Deals with a redirect; false when the reply is none.
bool Flight::redirect() {
  int status = reply_.status;
  if (status != 301 && status != 302 && status != 303 && status != 307 && status != 308)
    return false;
  const char* location =
      soup_message_headers_get_one(soup_message_get_response_headers(message_.get()), "Location");
  GUri* here = soup_message_get_uri(message_.get());
  g_autoptr(GUri) there =
      location ? g_uri_parse_relative(here, location, kUriFlags, nullptr) : nullptr;
  if (!there) return false;  // a reply like any other that is no success
  bool same = same_origin(here, there);
  // 301, 302 and 303 would turn a POST into a GET.
  if (same && (status == 307 || status == 308) && redirects_ < kMaxRedirects) {
    ++redirects_;
    stream_.reset();
    message_ = gref<SoupMessage>::adopt(soup_message_new_from_uri(request_.method.c_str(), there));
    send();
    return true;
  }
  // The message names the origin only: a Location may carry anything.
  Error error =
      make_error(ErrorKind::rejected,
                 host() + " redirects to " + (same ? "another address of its own" : origin(there)) +
                     " (HTTP " + std::to_string(status) + "), which is not followed" +
                     (same ? "."
                           : ", so that the token goes nowhere else. If "
                             "the new address is right, set it."));
  error.http_status = status;
  finish(std::move(error));
  return true;
}

void Flight::read() {
  g_input_stream_read_bytes_async(
      stream_.get(), kChunkBytes, G_PRIORITY_DEFAULT, cancellable_,
      [](GObject* source, GAsyncResult* result, gpointer cancellable) {
        g_autoptr(GError) error = nullptr;
        g_autoptr(GBytes) bytes =
            g_input_stream_read_bytes_finish(G_INPUT_STREAM(source), result, &error);
        Flight* flight = of(cancellable);
        if (flight && flight->done_) flight->on_chunk(bytes, error);
      },
      cancellable_);
}

void Flight::on_chunk(GBytes* bytes, GError* error) {
  if (error) return finish(judge(error));
  gsize size = 0;
  auto* data = static_cast<const char*>(g_bytes_get_data(bytes, &size));
  if (size == 0) {
    gint64 took_ms = (g_get_monotonic_time() - started_at_) / 1000;
    g_debug("%s %s -> %d (%d ms)", request_.method.c_str(),
            g_uri_get_path(soup_message_get_uri(message_.get())), reply_.status, int(took_ms));
    return finish(std::move(reply_));
  }
  if (reply_.body.size() + size > request_.max_reply_bytes) {
    Error too_large =
        make_error(ErrorKind::protocol, "The reply of " + host() + " is larger than " +
                                            std::to_string(request_.max_reply_bytes) + " bytes.");
    too_large.http_status = reply_.status;
    return finish(std::move(too_large));
  }
  reply_.body.append(data, size);
  read();
}

Error Flight::judge(const GError* error) const {
  GTlsCertificateFlags flags = soup_message_get_tls_peer_certificate_errors(message_.get());
  if (flags != 0)
    return make_error(ErrorKind::unreachable, "The certificate of " + host() +
                                                  " was not accepted: " + tls_problem(flags) + ".");
  std::string cause = json::sanitise(error->message);
  if (!sent_)
    return make_error(ErrorKind::unreachable, "Cannot reach " + host() + ": " + cause + ".");
  return make_error(
      ErrorKind::timeout,
      "The connection to " + host() + " was lost before the reply was complete: " + cause + ".");
}

void Flight::finish(Result<HttpReply> result) {
  // The callback may destroy the handle, and with it this.
  auto keep = gref<GCancellable>::ref(cancellable_);
  auto done = std::exchange(done_, nullptr);
  abandon();
  if (done) done(std::move(result));
}

}  // namespace

Result<HttpSend> make_soup_http(const SoupHttpSettings& settings) {
  auto shared = std::make_shared<Shared>();
  shared->settings = settings;
  if (!settings.ca_file.empty()) {
    g_autofree char* path = g_canonicalize_filename(settings.ca_file.c_str(), nullptr);
    g_autoptr(GError) error = nullptr;
    GTlsDatabase* database = g_tls_file_database_new(path, &error);
    if (!database)
      return make_error(ErrorKind::config,
                        "The file of certificate authorities " + json::sanitise(settings.ca_file) +
                            " cannot be used: " + json::sanitise(error->message));
    shared->tls_database = gref<GTlsDatabase>::adopt(database);
  }
  shared->renew_session();
  return HttpSend(
      [shared](HttpRequest request, Callback<HttpReply> done) -> std::unique_ptr<HttpCall> {
        auto cancellable = gref<GCancellable>::adopt(g_cancellable_new());
        auto* flight = new Flight(shared, cancellable.get(), std::move(request), std::move(done));
        g_object_set_data_full(G_OBJECT(cancellable.get()), "cfr-flight", flight,
                               [](gpointer data) { delete static_cast<Flight*>(data); });
        flight->start();
        return std::make_unique<SoupCall>(std::move(cancellable), flight);
      });
}

}  // namespace cfr
