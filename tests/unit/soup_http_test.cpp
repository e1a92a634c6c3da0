// soup_http against servers on 127.0.0.1, some of which misbehave.
#include "api/soup_http.h"

#include <gio/gio.h>
#include <gtest/gtest.h>
#include <libsoup/soup.h>

#include <cstring>
#include <functional>
#include <optional>
#include <set>

#include "util/gref.h"

namespace cfr {
namespace {

constexpr int kDeadlineMs = 10000;

// Runs the default context until `done` says so, or the deadline has passed.
bool run_until(const std::function<bool()>& done, int deadline_ms = kDeadlineMs) {
  bool late = false;
  guint deadline = g_timeout_add(
      static_cast<guint>(deadline_ms),
      [](gpointer flag) -> gboolean {
        *static_cast<bool*>(flag) = true;
        return G_SOURCE_CONTINUE;
      },
      &late);
  while (!done() && !late) g_main_context_iteration(nullptr, TRUE);
  g_source_remove(deadline);
  return done();
}

// A well-behaved HTTP server whose answers a test writes.
class Server {
 public:
  using Handler = std::function<void(SoupServerMessage*)>;

  explicit Server(Handler handler, GTlsCertificate* certificate = nullptr)
      : handler_(std::move(handler)) {
    server_ = gref<SoupServer>::adopt(
        SOUP_SERVER(g_object_new(SOUP_TYPE_SERVER, "tls-certificate", certificate, nullptr)));
    soup_server_add_handler(
        server_.get(), nullptr,
        [](SoupServer*, SoupServerMessage* message, const char*, GHashTable*, gpointer self) {
          auto* server = static_cast<Server*>(self);
          ++server->requests_;
          server->handler_(message);
        },
        this, nullptr);
    g_autoptr(GError) error = nullptr;
    soup_server_listen_local(
        server_.get(), 0,
        static_cast<SoupServerListenOptions>(SOUP_SERVER_LISTEN_IPV4_ONLY |
                                             (certificate ? SOUP_SERVER_LISTEN_HTTPS : 0)),
        &error);
    EXPECT_EQ(error, nullptr) << error->message;
    GSList* uris = soup_server_get_uris(server_.get());
    g_autofree char* uri = g_uri_to_string(static_cast<GUri*>(uris->data));
    url_ = uri;
    if (url_.back() == '/') url_.pop_back();
    g_slist_free_full(uris, reinterpret_cast<GDestroyNotify>(g_uri_unref));
  }
  ~Server() { soup_server_disconnect(server_.get()); }

  SoupServer* get() const { return server_.get(); }
  const std::string& url() const { return url_; }
  int requests() const { return requests_; }

 private:
  gref<SoupServer> server_;
  Handler handler_;
  std::string url_;
  int requests_ = 0;
};

void reply(SoupServerMessage* message, int status, const std::string& body) {
  soup_server_message_set_status(message, static_cast<guint>(status), nullptr);
  soup_server_message_set_response(message, "application/json", SOUP_MEMORY_COPY, body.data(),
                                   body.size());
}

std::string header(SoupMessageHeaders* headers, const char* name) {
  const char* value = soup_message_headers_get_one(headers, name);
  return value ? value : "";
}

// A server that speaks no HTTP but what a test dictates: it accepts, waits for the first bytes and
// writes `text`; then it closes, keeps silent for ever, or goes on byte by byte.
class RawServer {
 public:
  enum class Then { close, silence, drip };

  RawServer(std::string text, Then then) : text_(std::move(text)), then_(then) {
    service_ = gref<GSocketService>::adopt(g_socket_service_new());
    g_autoptr(GInetAddress) loopback = g_inet_address_new_loopback(G_SOCKET_FAMILY_IPV4);
    g_autoptr(GSocketAddress) address = g_inet_socket_address_new(loopback, 0);
    g_autoptr(GSocketAddress) bound = nullptr;
    g_socket_listener_add_address(G_SOCKET_LISTENER(service_.get()), address, G_SOCKET_TYPE_STREAM,
                                  G_SOCKET_PROTOCOL_TCP, nullptr, &bound, nullptr);
    port_ = g_inet_socket_address_get_port(G_INET_SOCKET_ADDRESS(bound));
    g_signal_connect(
        service_.get(), "incoming",
        G_CALLBACK(+[](GSocketService*, GSocketConnection* connection, GObject*, gpointer self) {
          static_cast<RawServer*>(self)->take(connection);
          return TRUE;
        }),
        this);
    g_socket_service_start(service_.get());
  }
  ~RawServer() {
    if (drip_) g_source_remove(drip_);
    g_signal_handlers_disconnect_by_data(service_.get(), this);
    g_socket_service_stop(service_.get());
    g_socket_listener_close(G_SOCKET_LISTENER(service_.get()));
  }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  int connections() const { return connections_; }
  bool asked() const { return !heard_.empty(); }
  const std::string& heard() const { return heard_; }

 private:
  void take(GSocketConnection* connection) {
    ++connections_;
    connection_ = gref<GSocketConnection>::ref(connection);
    g_input_stream_read_async(
        g_io_stream_get_input_stream(G_IO_STREAM(connection)), buffer_, sizeof buffer_,
        G_PRIORITY_DEFAULT, nullptr,
        [](GObject* stream, GAsyncResult* result, gpointer self) {
          gssize size = g_input_stream_read_finish(G_INPUT_STREAM(stream), result, nullptr);
          if (size <= 0) return;
          auto* server = static_cast<RawServer*>(self);
          server->heard_.assign(server->buffer_, static_cast<std::size_t>(size));
          server->answer();
        },
        this);
  }
  void answer() {
    GIOStream* stream = G_IO_STREAM(connection_.get());
    g_output_stream_write_all(g_io_stream_get_output_stream(stream), text_.data(), text_.size(),
                              nullptr, nullptr, nullptr);
    if (then_ == Then::close) g_io_stream_close(stream, nullptr, nullptr);
    if (then_ != Then::drip) return;
    drip_ = g_timeout_add(
        20,
        [](gpointer self) -> gboolean {
          auto* server = static_cast<RawServer*>(self);
          g_output_stream_write(
              g_io_stream_get_output_stream(G_IO_STREAM(server->connection_.get())), " ", 1,
              nullptr, nullptr);
          return G_SOURCE_CONTINUE;
        },
        this);
  }

  std::string text_;
  Then then_;
  guint drip_ = 0;
  gref<GSocketService> service_;
  gref<GSocketConnection> connection_;
  char buffer_[4096];
  guint16 port_ = 0;
  int connections_ = 0;
  std::string heard_;
};

// What GLib complains of in a test is an error of ours; of other tests it may be GStreamer's.
void complaints_are_fatal() {
  static GLogLevelFlags before;
  struct Back : testing::EmptyTestEventListener {
    void OnTestEnd(const testing::TestInfo&) override { g_log_set_always_fatal(before); }
  };
  static const bool once = [] {
    before = g_log_set_always_fatal(GLogLevelFlags(G_LOG_FATAL_MASK));
    testing::UnitTest::GetInstance()->listeners().Append(new Back);
    return true;
  }();
  if (once) g_log_set_always_fatal(GLogLevelFlags(G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING));
}

HttpSend http(SoupHttpSettings settings = {}) {
  complaints_are_fatal();
  auto send = make_soup_http(settings);
  EXPECT_TRUE(send) << send.error().message;
  return *send;
}

HttpRequest get(const std::string& url) {
  HttpRequest request;
  request.method = "GET";
  request.url = url;
  request.timeout_ms = kDeadlineMs;
  return request;
}

// The outcome of one request.
Result<HttpReply> ask(const HttpSend& send, HttpRequest request) {
  std::optional<Result<HttpReply>> outcome;
  auto call = send(std::move(request), [&](Result<HttpReply> reply) {
    EXPECT_FALSE(outcome) << "a second callback";
    outcome.emplace(std::move(reply));
  });
  EXPECT_FALSE(outcome) << "the callback came inside the call";
  if (!run_until([&] { return outcome.has_value(); })) {
    ADD_FAILURE() << "no callback";
    return Error{};
  }
  return std::move(*outcome);
}

TEST(SoupHttp, SendsMethodHeadersTokenAndBody) {
  std::string method, path, token, type, agent, prefer, body;
  Server server([&](SoupServerMessage* message) {
    SoupMessageHeaders* headers = soup_server_message_get_request_headers(message);
    method = soup_server_message_get_method(message);
    path = g_uri_get_path(soup_server_message_get_uri(message));
    token = header(headers, "Authorization");
    type = header(headers, "Content-Type");
    agent = header(headers, "User-Agent");
    prefer = header(headers, "Prefer");
    SoupMessageBody* sent = soup_server_message_get_request_body(message);
    body.assign(sent->data, static_cast<std::size_t>(sent->length));
    soup_message_headers_append(soup_server_message_get_response_headers(message), "ETag",
                                "\"v1\"");
    reply(message, 201, "{\"a\":1}");
  });
  HttpRequest request = get(server.url() + "/v1/apps/a/sessions/new");
  request.method = "POST";
  request.headers = {{"Prefer", "wait=25"}};
  request.body = "{\"x\":true}";
  request.bearer_token = "secret";
  SoupHttpSettings settings;
  settings.user_agent = "cfrealtime/0";
  auto outcome = ask(http(settings), request);
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->status, 201);
  EXPECT_EQ(outcome->body, "{\"a\":1}");
  bool etag = false;
  for (const auto& [name, value] : outcome->headers) etag |= name == "etag" && value == "\"v1\"";
  EXPECT_TRUE(etag) << "reply headers are given with names in lower case";
  EXPECT_EQ(method, "POST");
  EXPECT_EQ(path, "/v1/apps/a/sessions/new");
  EXPECT_EQ(token, "Bearer secret");
  EXPECT_EQ(type, "application/json");
  EXPECT_EQ(agent, "cfrealtime/0");
  EXPECT_EQ(prefer, "wait=25");
  EXPECT_EQ(body, "{\"x\":true}");
}

TEST(SoupHttp, KeepsThePathAsItIsEncoded) {
  RawServer server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", RawServer::Then::close);
  ASSERT_TRUE(ask(http(), get(server.url() + "/apps/a%2Fb/%252E%252E/%C3%A4?x=%26")));
  EXPECT_EQ(server.heard().substr(0, server.heard().find('\r')),
            "GET /apps/a%2Fb/%252E%252E/%C3%A4?x=%26 HTTP/1.1");
}

TEST(SoupHttp, SendsNoBodyAndNoTypeWhenThereIsNone) {
  std::string type, length;
  goffset sent = -1;
  Server server([&](SoupServerMessage* message) {
    SoupMessageHeaders* headers = soup_server_message_get_request_headers(message);
    type = header(headers, "Content-Type");
    length = header(headers, "Content-Length");
    sent = soup_server_message_get_request_body(message)->length;
    reply(message, 201, "{}");
  });
  HttpRequest request = get(server.url() + "/sessions/new");
  request.method = "POST";
  auto outcome = ask(http(), request);
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(type, "");
  EXPECT_EQ(sent, 0);
  EXPECT_TRUE(length.empty() || length == "0") << length;
}

TEST(SoupHttp, GivesErrorStatusesAsReplies) {
  Server server([](SoupServerMessage* message) {
    soup_message_headers_append(soup_server_message_get_response_headers(message),
                                "WWW-Authenticate", "Bearer realm=\"x\"");
    reply(message, 401, "{\"errorCode\":\"unauthorized\"}");
  });
  HttpRequest request = get(server.url());
  request.bearer_token = "wrong";
  auto outcome = ask(http(), request);
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->status, 401);
  EXPECT_EQ(outcome->body, "{\"errorCode\":\"unauthorized\"}");
  EXPECT_EQ(server.requests(), 1);
}

TEST(SoupHttp, KeepsConnectionsAndRunsManyRequestsAtATime) {
  std::set<std::string> ports;
  std::vector<SoupServerMessage*> held;
  Server server([&](SoupServerMessage* message) {
    auto* address = G_INET_SOCKET_ADDRESS(soup_server_message_get_remote_address(message));
    ports.insert(std::to_string(g_inet_socket_address_get_port(address)));
    if (g_str_has_suffix(g_uri_get_path(soup_server_message_get_uri(message)), "held")) {
      soup_server_message_pause(message);
      held.push_back(message);
    }
    reply(message, 200, "{}");
  });
  HttpSend send = http();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(ask(send, get(server.url())));
  EXPECT_EQ(ports.size(), 1u) << "three requests in a row need one connection";

  // Long polls must not keep other requests waiting.
  std::vector<std::unique_ptr<HttpCall>> calls;
  int answered = 0;
  for (int i = 0; i < 6; ++i)
    calls.push_back(send(get(server.url() + "/held"), [&](Result<HttpReply> reply) {
      if (reply) ++answered;
    }));
  ASSERT_TRUE(run_until([&] { return held.size() == 6; }));
  ASSERT_TRUE(ask(send, get(server.url())));
  for (SoupServerMessage* message : held) soup_server_message_unpause(message);
  EXPECT_TRUE(run_until([&] { return answered == 6; }));
}

TEST(SoupHttp, RefusedConnectionIsUnreachable) {
  std::string url;
  {
    RawServer gone("", RawServer::Then::close);
    url = gone.url();
  }
  auto outcome = ask(http(), get(url));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().kind, ErrorKind::unreachable);
  EXPECT_NE(outcome.error().message.find("127.0.0.1"), std::string::npos)
      << outcome.error().message;
  EXPECT_NE(outcome.error().message.find("refused"), std::string::npos) << outcome.error().message;
}

TEST(SoupHttp, UnknownHostIsUnreachable) {
  auto outcome = ask(http(), get("http://host.invalid/"));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().kind, ErrorKind::unreachable);
  EXPECT_NE(outcome.error().message.find("host.invalid"), std::string::npos)
      << outcome.error().message;
}

TEST(SoupHttp, SilentServerIsATimeout) {
  RawServer server("", RawServer::Then::silence);
  HttpRequest request = get(server.url());
  request.timeout_ms = 2000;
  auto outcome = ask(http(), request);
  ASSERT_FALSE(outcome);
  EXPECT_TRUE(server.asked());
  EXPECT_EQ(outcome.error().kind, ErrorKind::timeout) << outcome.error().message;
  EXPECT_NE(outcome.error().message.find("did not answer"), std::string::npos);
}

TEST(SoupHttp, ANewConnectionIsTakenAfterATimeout) {
  int answered = 0;
  Server server([&](SoupServerMessage* message) {
    if (++answered == 1)
      soup_server_message_pause(message);
    else
      reply(message, 200, "{}");
  });
  HttpSend send = http();
  HttpRequest request = get(server.url());
  request.timeout_ms = 2000;
  ASSERT_FALSE(ask(send, request));
  request.timeout_ms = kDeadlineMs;
  EXPECT_TRUE(ask(send, request));
}

TEST(SoupHttp, TheTimeIsBoundedForTheWholeReply) {
  // Each byte comes in time; together they take too long.
  RawServer server("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", RawServer::Then::drip);
  HttpRequest request = get(server.url());
  request.timeout_ms = 2000;
  auto outcome = ask(http(), request);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().kind, ErrorKind::timeout) << outcome.error().message;
}

TEST(SoupHttp, ACutReplyIsNotTakenForAWholeOne) {
  RawServer server("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"half\":",
                   RawServer::Then::close);
  auto outcome = ask(http(), get(server.url()));
  ASSERT_FALSE(outcome) << outcome->body;
  EXPECT_EQ(outcome.error().kind, ErrorKind::timeout) << outcome.error().message;
}

TEST(SoupHttp, AConnectionClosedWithoutAReplyMayHaveCarriedTheRequest) {
  RawServer server("", RawServer::Then::close);
  HttpRequest request = get(server.url());
  request.method = "POST";
  auto outcome = ask(http(), request);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().kind, ErrorKind::timeout) << outcome.error().message;
  EXPECT_EQ(server.connections(), 1) << "a POST is never sent twice";
}

TEST(SoupHttp, GarbageInPlaceOfHttpIsAnError) {
  RawServer server("SSH-2.0-OpenSSH_9.2\r\n", RawServer::Then::close);
  auto outcome = ask(http(), get(server.url()));
  if (outcome) {
    EXPECT_NE(outcome->status, 200);
  } else {
    EXPECT_NE(outcome.error().message, "");
  }
}

TEST(SoupHttp, AReplyTooLargeIsCutWhileItIsRead) {
  Server server([](SoupServerMessage* message) { reply(message, 200, std::string(70000, 'x')); });
  HttpRequest request = get(server.url());
  request.max_reply_bytes = 65536;
  auto outcome = ask(http(), request);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().kind, ErrorKind::protocol);
  EXPECT_EQ(outcome.error().http_status, 200);
  request.max_reply_bytes = 70000;
  outcome = ask(http(), request);
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->body.size(), 70000u);
}

TEST(SoupHttp, ARedirectToAnotherOriginIsNotFollowed) {
  Server other([](SoupServerMessage* message) { reply(message, 200, "{}"); });
  for (int status : {301, 302, 303, 307, 308}) {
    Server server([&](SoupServerMessage* message) {
      soup_server_message_set_redirect(message, static_cast<guint>(status),
                                       (other.url() + "/stolen?secret-token").c_str());
    });
    HttpRequest request = get(server.url());
    request.bearer_token = "secret";
    auto outcome = ask(http(), request);
    ASSERT_FALSE(outcome) << status;
    EXPECT_EQ(outcome.error().kind, ErrorKind::rejected);
    EXPECT_EQ(outcome.error().http_status, status);
    EXPECT_NE(outcome.error().message.find(other.url()), std::string::npos)
        << outcome.error().message;
    EXPECT_EQ(outcome.error().message.find("secret-token"), std::string::npos);
  }
  EXPECT_EQ(other.requests(), 0);
}

TEST(SoupHttp, ARedirectWithinTheOriginKeepsMethodBodyAndToken) {
  std::string method, body, token;
  Server server([&](SoupServerMessage* message) {
    std::string path = g_uri_get_path(soup_server_message_get_uri(message));
    if (path == "/old") return soup_server_message_set_redirect(message, 308, "/new");
    if (path == "/loop") return soup_server_message_set_redirect(message, 307, "/loop");
    method = soup_server_message_get_method(message);
    token = header(soup_server_message_get_request_headers(message), "Authorization");
    SoupMessageBody* sent = soup_server_message_get_request_body(message);
    body.assign(sent->data, static_cast<std::size_t>(sent->length));
    reply(message, 200, "{}");
  });
  HttpRequest request = get(server.url() + "/old");
  request.method = "PUT";
  request.body = "{}";
  request.bearer_token = "secret";
  auto outcome = ask(http(), request);
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->status, 200);
  EXPECT_EQ(method, "PUT");
  EXPECT_EQ(body, "{}");
  EXPECT_EQ(token, "Bearer secret");

  request.url = server.url() + "/loop";
  outcome = ask(http(), request);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().kind, ErrorKind::rejected);
}

TEST(SoupHttp, ATokenThatWouldSplitTheHeaderIsRefusedUnsaid) {
  Server server([](SoupServerMessage* message) { reply(message, 200, "{}"); });
  HttpRequest request = get(server.url());
  request.bearer_token = "hidden\r\nX-Evil: 1";
  auto outcome = ask(http(), request);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().kind, ErrorKind::config);
  EXPECT_EQ(outcome.error().message.find("hidden"), std::string::npos);
  EXPECT_EQ(server.requests(), 0);
}

TEST(SoupHttp, AnUnusableUrlIsAConfigError) {
  for (const char* url : {"", "nonsense", "ftp://127.0.0.1/", "http://"}) {
    auto outcome = ask(http(), get(url));
    ASSERT_FALSE(outcome) << url;
    EXPECT_EQ(outcome.error().kind, ErrorKind::config) << url;
  }
}

TEST(SoupHttp, NoCallbackAfterTheHandleIsGone) {
  RawServer server("", RawServer::Then::silence);
  HttpSend send = http();
  bool called = false;
  auto call = send(get(server.url()), [&](Result<HttpReply>) { called = true; });
  ASSERT_TRUE(run_until([&] { return server.asked(); }));
  call.reset();
  auto early = send(get(server.url()), [&](Result<HttpReply>) { called = true; });
  early.reset();
  while (g_main_context_iteration(nullptr, FALSE)) {
  }
  EXPECT_FALSE(called);
}

TEST(SoupHttp, TheHandleMayEndInsideTheCallback) {
  Server server([](SoupServerMessage* message) { reply(message, 200, "{}"); });
  HttpSend send = http();
  std::unique_ptr<HttpCall> call;
  bool called = false;
  call = send(get(server.url()), [&](Result<HttpReply>) {
    call.reset();
    called = true;
  });
  EXPECT_TRUE(run_until([&] { return called; }));
}

TEST(SoupHttp, RequestsEndWithTheFunction) {
  RawServer server("", RawServer::Then::silence);
  HttpSend send = http();
  bool called = false;
  auto call = send(get(server.url()), [&](Result<HttpReply>) { called = true; });
  ASSERT_TRUE(run_until([&] { return server.asked(); }));
  send = nullptr;
  while (g_main_context_iteration(nullptr, FALSE)) {
  }
  EXPECT_FALSE(called);
}

// Found by the leak checker when it is not so.
TEST(SoupHttp, NothingIsLeftWhenTheContextEndsWithARequestUnderWay) {
  RawServer server("", RawServer::Then::silence);
  g_autoptr(GMainContext) context = g_main_context_new();
  g_main_context_push_thread_default(context);
  {
    HttpSend send = http();
    auto call = send(get(server.url()), [](Result<HttpReply>) { FAIL(); });
    const gint64 deadline = g_get_monotonic_time() + kDeadlineMs * 1000;
    while (!server.asked() && g_get_monotonic_time() < deadline) {
      g_main_context_iteration(context, FALSE);
      g_main_context_iteration(nullptr, FALSE);
      g_usleep(100);
    }
    EXPECT_TRUE(server.asked());
  }
  g_main_context_pop_thread_default(context);
}

constexpr const char* kCertificate = CFR_FIXTURES "/loopback-cert.pem";

class SoupHttpTls : public testing::Test {
 protected:
  void SetUp() override {
    if (!g_tls_backend_supports_tls(g_tls_backend_get_default()))
      GTEST_SKIP() << "GIO has no TLS backend (glib-networking)";
    g_autoptr(GError) error = nullptr;
    tls_ = gref<GTlsCertificate>::adopt(
        g_tls_certificate_new_from_files(kCertificate, CFR_FIXTURES "/loopback-key.pem", &error));
    ASSERT_TRUE(tls_) << error->message;
  }

  gref<GTlsCertificate> tls_;
};

TEST_F(SoupHttpTls, ACertificateOfAnUnknownAuthorityIsNotAccepted) {
  Server server([](SoupServerMessage* message) { reply(message, 200, "{}"); }, tls_.get());
  HttpRequest request = get(server.url());
  request.bearer_token = "secret";
  auto outcome = ask(http(), request);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().kind, ErrorKind::unreachable);
  EXPECT_NE(outcome.error().message.find("unknown authority"), std::string::npos)
      << outcome.error().message;
  EXPECT_EQ(server.requests(), 0);
}

TEST_F(SoupHttpTls, TheCaFileMakesItAccepted) {
  Server server([](SoupServerMessage* message) { reply(message, 200, "{}"); }, tls_.get());
  SoupHttpSettings settings;
  settings.ca_file = kCertificate;
  auto outcome = ask(http(settings), get(server.url()));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->status, 200);
}

TEST_F(SoupHttpTls, ACertificateOfAnotherHostIsNotAccepted) {
  Server server([](SoupServerMessage* message) { reply(message, 200, "{}"); }, tls_.get());
  SoupHttpSettings settings;
  settings.ca_file = kCertificate;
  std::string url = server.url();
  url.replace(url.find("127.0.0.1"), std::strlen("127.0.0.1"), "localhost");
  auto outcome = ask(http(settings), get(url));
  ASSERT_FALSE(outcome);
  EXPECT_NE(outcome.error().message.find("another host"), std::string::npos)
      << outcome.error().message;
}

TEST(SoupHttp, AnUnusableCaFileIsAConfigError) {
  SoupHttpSettings settings;
  settings.ca_file = "/nowhere/ca.pem";
  auto send = make_soup_http(settings);
  ASSERT_FALSE(send);
  EXPECT_EQ(send.error().kind, ErrorKind::config);
  EXPECT_NE(send.error().message.find("/nowhere/ca.pem"), std::string::npos);
}

}  // namespace
}  // namespace cfr
