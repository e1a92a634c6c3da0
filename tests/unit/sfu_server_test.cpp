// The local SFU over HTTP on 127.0.0.1: what SfuState does not see.
#include "sfu/server.h"

#include <gst/gst.h>
#include <gtest/gtest.h>
#include <json-glib/json-glib.h>
#include <libsoup/soup.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <thread>

#include "unit/helpers.h"
#include "util/gref.h"
#include "util/worker.h"
#include "wire/json.h"

namespace cfr::sfu {
namespace {

using test::fixture;

struct Reply {
  int status = 0;  // 0: no reply
  std::string body;
  std::map<std::string, std::string> headers;  // names in lower case
  int64_t ms = 0;
};

using Headers = std::vector<std::pair<std::string, std::string>>;

// On the calling thread, with a connection of its own.
Reply http(const std::string& method, const std::string& url, const std::string& body = "",
           const Headers& headers = {}, GCancellable* cancellable = nullptr) {
  GMainContext* context = g_main_context_new();
  g_main_context_push_thread_default(context);
  Reply reply;
  {
    auto session = gref<SoupSession>::adopt(soup_session_new());
    soup_session_set_timeout(session.get(), 20);
    auto message = gref<SoupMessage>::adopt(soup_message_new(method.c_str(), url.c_str()));
    for (auto& [name, value] : headers)
      soup_message_headers_append(soup_message_get_request_headers(message.get()), name.c_str(),
                                  value.c_str());
    if (!body.empty()) {
      g_autoptr(GBytes) bytes = g_bytes_new(body.data(), body.size());
      soup_message_set_request_body_from_bytes(message.get(), "application/json", bytes);
    }
    int64_t began = g_get_monotonic_time();
    g_autoptr(GBytes) bytes =
        soup_session_send_and_read(session.get(), message.get(), cancellable, nullptr);
    reply.ms = (g_get_monotonic_time() - began) / 1000;
    if (bytes) {
      reply.status = int(soup_message_get_status(message.get()));
      gsize size = 0;
      auto* data = static_cast<const char*>(g_bytes_get_data(bytes, &size));
      if (data) reply.body.assign(data, size);
      soup_message_headers_foreach(
          soup_message_get_response_headers(message.get()),
          [](const char* name, const char* value, gpointer map) {
            g_autofree char* lower = g_ascii_strdown(name, -1);
            (*static_cast<std::map<std::string, std::string>*>(map))[lower] = value;
          },
          &reply.headers);
    }
  }
  g_main_context_pop_thread_default(context);
  g_main_context_unref(context);
  return reply;
}

class SfuServerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { gst_init(nullptr, nullptr); }

  void start(ServerSettings settings = {}) {
    settings.log = false;
    worker_.call([&] {
      auto server =
          SfuServer::start(worker_.context(), settings, [this](const RequestRecord& record) {
            std::lock_guard lock(mutex_);
            observed_.push_back(record);
            changed_.notify_all();
          });
      ASSERT_TRUE(server) << server.error().message;
      server_ = std::move(*server);
      api_ = server_->url();
      base_ = api_.substr(0, api_.size() - 3);
    });
  }
  void TearDown() override {
    worker_.call([this] { server_.reset(); });
  }
  std::string app(const std::string& path) const { return api_ + "/apps/demo" + path; }
  std::string new_session() {
    auto reply = json::read_new_session_reply(http("POST", app("/sessions/new")).body);
    EXPECT_TRUE(reply);
    return reply ? reply->session_id : "";
  }
  bool until_observed(std::size_t number) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20),
                             [&] { return observed_.size() >= number; });
  }

  // What comes back until the server closes the connection.
  std::string raw(const std::string& request) const {
    auto client = gref<GSocketClient>::adopt(g_socket_client_new());
    g_socket_client_set_timeout(client.get(), 10);
    auto connection = gref<GSocketConnection>::adopt(g_socket_client_connect_to_host(
        client.get(), "127.0.0.1", guint16(server_->port()), nullptr, nullptr));
    if (!connection) return "no connection";
    GIOStream* stream = G_IO_STREAM(connection.get());
    g_output_stream_write_all(g_io_stream_get_output_stream(stream), request.data(), request.size(),
                              nullptr, nullptr, nullptr);
    std::string reply;
    char part[4096];
    gssize length = 0;
    while ((length = g_input_stream_read(g_io_stream_get_input_stream(stream), part, sizeof part,
                                         nullptr, nullptr)) > 0)
      reply.append(part, std::size_t(length));
    return length < 0 ? "the connection stays open" : reply;
  }

  Worker worker_{"sfu"};
  std::unique_ptr<SfuServer> server_;
  std::string api_, base_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<RequestRecord> observed_;  // under mutex_
};

TEST_F(SfuServerTest, SpeaksHttpAndTellsTheObserver) {
  start();
  EXPECT_GT(server_->port(), 0u);
  EXPECT_EQ(api_, "http://127.0.0.1:" + std::to_string(server_->port()) + "/v1");
  Reply reply = http("POST", app("/sessions/new?correlationId=x"));
  EXPECT_EQ(reply.status, 201);
  EXPECT_EQ(reply.headers["content-type"], "application/json");
  EXPECT_EQ(reply.headers["vary"], "Origin");
  ASSERT_TRUE(until_observed(1));
  std::lock_guard lock(mutex_);
  EXPECT_EQ(observed_[0].method, "POST");
  EXPECT_EQ(observed_[0].path, "/v1/apps/demo/sessions/new");
  EXPECT_EQ(observed_[0].status, 201);
  EXPECT_EQ(observed_[0].response, reply.body);
}

TEST_F(SfuServerTest, AnswersAPublishersOfferWithARealTransport) {
  start();
  std::string session = new_session();
  TracksRequest request;
  request.description = SessionDescription{SdpType::offer, fixture("chromium-publish.sdp")};
  request.auto_discover = true;
  Reply reply = http("POST", app("/sessions/" + session + "/tracks/new"), json::write(request));
  ASSERT_EQ(reply.status, 200) << reply.body;
  auto tracks = json::read_tracks_reply(reply.body);
  ASSERT_TRUE(tracks && tracks->description);
  EXPECT_NE(tracks->description->sdp.find(" 127.0.0.1 "), std::string::npos);
  EXPECT_NE(tracks->description->sdp.find("a=fingerprint:sha-256 "), std::string::npos);
  Reply stats = http("GET", base_ + "/debug/stats");
  EXPECT_NE(stats.body.find("\"id\":\"" + session + "\",\"connected\":false"), std::string::npos)
      << stats.body;
}

TEST_F(SfuServerTest, BrowsersMayCallIt) {
  start();
  Reply preflight = http("OPTIONS", app("/sessions/new"), "",
                         {{"Origin", "https://example.org"},
                          {"Access-Control-Request-Method", "POST"},
                          {"Access-Control-Request-Headers", "authorization,content-type,x-own"}});
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.headers["access-control-allow-origin"], "*");
  EXPECT_NE(preflight.headers["access-control-allow-headers"].find("Authorization"),
            std::string::npos);
  EXPECT_NE(preflight.headers["access-control-allow-headers"].find("Content-Type"),
            std::string::npos);
  EXPECT_NE(preflight.headers["access-control-allow-headers"].find("x-own"), std::string::npos);
  EXPECT_NE(preflight.headers["access-control-allow-methods"].find("PUT"), std::string::npos);
  Reply refused = http("GET", app("/sessions/nothing"));
  EXPECT_EQ(refused.status, 404);
  EXPECT_EQ(refused.headers["access-control-allow-origin"], "*") << "also where it says no";
}

TEST_F(SfuServerTest, AsksForTheSecretAndNeverShowsIt) {
  ServerSettings settings;
  settings.sfu.app_secret = "topsecret";
  start(settings);
  EXPECT_EQ(http("POST", app("/sessions/new")).status, 401);
  EXPECT_EQ(http("POST", app("/sessions/new"), "", {{"Authorization", "Bearer topsecre"}}).status,
            401);
  EXPECT_EQ(http("POST", app("/sessions/new"), "", {{"Authorization", "bearer topsecret"}}).status,
            201);
  Reply log = http("GET", base_ + "/debug/requests");
  EXPECT_EQ(log.status, 200);
  EXPECT_EQ(log.body.find("topsecre"), std::string::npos);
  EXPECT_EQ(log.body.find("earer"), std::string::npos);
}

TEST_F(SfuServerTest, RemembersWhatWasCalled) {
  start();
  std::string session = new_session();
  http("POST", app("/sessions/" + session + "/tracks/new"), R"({"tracks":[]})");
  http("POST", app("/sessions/" + session + "/tracks/new"), "no \x01 JSON \xff");
  http("POST", api_ + "/%ff", std::string(1 << 20, '['));  // no UTF-8, and no end of depth
  Reply log = http("GET", base_ + "/debug/requests");
  g_autoptr(JsonParser) parser = json_parser_new();
  ASSERT_TRUE(json_parser_load_from_data(parser, log.body.data(), gssize(log.body.size()), nullptr))
      << log.body;
  JsonArray* requests =
      json_object_get_array_member(json_node_get_object(json_parser_get_root(parser)), "requests");
  ASSERT_EQ(json_array_get_length(requests), 4u);
  JsonObject* second = json_array_get_object_element(requests, 1);
  EXPECT_STREQ(json_object_get_string_member(second, "method"), "POST");
  EXPECT_EQ(json_object_get_int_member(second, "status"), 406);
  EXPECT_TRUE(json_object_has_member(json_object_get_object_member(second, "request"), "tracks"));
  EXPECT_STREQ(
      json_object_get_string_member(json_object_get_object_member(second, "response"), "errorCode"),
      "invalid_params");
  EXPECT_TRUE(json_object_has_member(second, "ms"));
  EXPECT_TRUE(json_object_has_member(second, "time"));
  JsonObject* last = json_array_get_object_element(requests, 3);
  EXPECT_STREQ(json_object_get_string_member(last, "path"), "/v1/\ufffd");
  EXPECT_EQ(std::string_view(json_object_get_string_member(last, "request")).size(), 1u << 20);
}

TEST_F(SfuServerTest, RefusesAHugeBodyWithoutKeepingIt) {
  start();
  Reply reply = http("POST", app("/sessions/new"), std::string(6 << 20, ' '));
  EXPECT_EQ(reply.status, 413);
  EXPECT_EQ(json::read_api_error(reply.body).code, "payload_too_large");
  ASSERT_TRUE(until_observed(1));
  std::lock_guard lock(mutex_);
  EXPECT_TRUE(observed_[0].request.empty());
}

TEST_F(SfuServerTest, TooManyCallsAreToldWhenToComeBack) {
  ServerSettings settings;
  settings.sfu.calls_per_second = 1;
  start(settings);
  std::string session = new_session();
  Reply reply;
  for (int i = 0; i < 20 && reply.status != 429; ++i)
    reply = http("GET", app("/sessions/" + session));
  EXPECT_EQ(reply.status, 429);
  EXPECT_EQ(reply.headers["retry-after"], "1");
}

TEST_F(SfuServerTest, CallsThatWaitEndInTime) {
  ServerSettings settings;
  settings.sfu.connect_wait_ms = 300;
  start(settings);
  std::string session = new_session();
  TracksRequest request;
  request.description = SessionDescription{SdpType::offer, fixture("chromium-publish.sdp")};
  request.auto_discover = true;
  std::string path = app("/sessions/" + session + "/tracks/new");
  EXPECT_EQ(http("POST", path, json::write(request)).status, 200);
  Reply late = http("POST", path, json::write(request));
  EXPECT_EQ(late.status, 425);
  EXPECT_GE(late.ms, 250);
  EXPECT_LT(late.ms, 5000);
}

std::size_t open_descriptors() {
  std::filesystem::directory_iterator all("/proc/self/fd");
  return std::size_t(std::distance(begin(all), end(all)));
}

TEST_F(SfuServerTest, KeepsNoConnectionThatItsClientClosed) {
  start();
  http("GET", base_ + "/debug/stats");
  std::size_t before = open_descriptors();
  for (int i = 0; i < 40; ++i) EXPECT_EQ(http("GET", base_ + "/debug/stats").status, 200);
  EXPECT_LT(open_descriptors(), before + 10);
}

// libsoup itself refuses this one, and asks for the body of the other.
TEST_F(SfuServerTest, KeepsNoConnectionOfAnOddRequest) {
  start();
  http("GET", base_ + "/debug/stats");
  std::size_t before = open_descriptors();
  for (int i = 0; i < 40; ++i) {
    ASSERT_EQ(raw("GET /x/..%2fy HTTP/1.1\r\nHost: x\r\n\r\n").substr(0, 12), "HTTP/1.1 400");
    ASSERT_EQ(raw("POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                  "Content-Length: 2\r\n\r\n{}")
                  .substr(0, 12),
              "HTTP/1.1 100");
  }
  EXPECT_LT(open_descriptors(), before + 10);
}

TEST_F(SfuServerTest, WaitsForARequestOnlySoLong) {
  ServerSettings settings;
  settings.request_wait_ms = 300;
  start(settings);
  EXPECT_EQ(raw(""), "") << "nothing comes";
  EXPECT_EQ(
      raw("POST /v1/apps/demo/sessions/new HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{"), "")
      << "the body does not come";
  Reply late = http("GET", base_ + "/streams/none", "", {{"Prefer", "wait=1"}});
  EXPECT_EQ(late.status, 404) << "the reply may take longer";
  EXPECT_GE(late.ms, 900);
}

// The session is free again when the client of a waiting call has gone away.
TEST_F(SfuServerTest, AClientMayGoAwayWhileItWaits) {
  ServerSettings settings;
  settings.sfu.connect_wait_ms = 20000;
  start(settings);
  std::string session = new_session();
  TracksRequest request;
  request.description = SessionDescription{SdpType::offer, fixture("chromium-publish.sdp")};
  request.auto_discover = true;
  std::string path = app("/sessions/" + session + "/tracks/new"), body = json::write(request);
  EXPECT_EQ(http("POST", path, body).status, 200);
  auto cancel = gref<GCancellable>::adopt(g_cancellable_new());
  std::thread waiting([&] { http("POST", path, body, {}, cancel.get()); });
  // It waits when another call finds the session busy.
  std::string renegotiate = app("/sessions/" + session + "/renegotiate");
  auto busy = [&] {
    return http("PUT", renegotiate, "{}").body.find("in progress") != std::string::npos;
  };
  int64_t deadline = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
  while (!busy() && g_get_monotonic_time() < deadline) g_usleep(30000);
  EXPECT_TRUE(busy());
  g_cancellable_cancel(cancel.get());
  waiting.join();
  deadline = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
  while (busy() && g_get_monotonic_time() < deadline) g_usleep(30000);
  EXPECT_FALSE(busy());
}

TEST_F(SfuServerTest, EndsWithCallsWaiting) {
  ServerSettings settings;
  settings.sfu.connect_wait_ms = 60000;
  start(settings);
  std::string session = new_session();
  TracksRequest request;
  request.description = SessionDescription{SdpType::offer, fixture("chromium-publish.sdp")};
  request.auto_discover = true;
  std::string path = app("/sessions/" + session + "/tracks/new"), body = json::write(request);
  EXPECT_EQ(http("POST", path, body).status, 200);
  http("POST", base_ + "/debug/faults", R"({"operation":"session","delayMs":60000})");
  std::string get = app("/sessions/" + session), stream = base_ + "/streams/x";
  std::thread one([&] { EXPECT_EQ(http("POST", path, body).status, 0); });
  std::thread two([&] { EXPECT_EQ(http("GET", get).status, 0); });
  std::thread three([&] { EXPECT_EQ(http("GET", stream, "", {{"Prefer", "wait=60"}}).status, 0); });
  std::string renegotiate = app("/sessions/" + session + "/renegotiate");
  int64_t deadline = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
  while (http("PUT", renegotiate, "{}").body.find("in progress") == std::string::npos &&
         g_get_monotonic_time() < deadline)
    g_usleep(30000);
  worker_.call([this] { server_.reset(); });
  one.join();
  two.join();
  three.join();
}

// --- faults ----------------------------------------------------------------------------------

TEST_F(SfuServerTest, CommitsFaults) {
  start();
  auto order = [&](const std::string& fault) {
    EXPECT_EQ(http("POST", base_ + "/debug/faults", fault).status, 200);
  };
  order(
      R"({"operation":"sessions/new","count":2,"status":503,"errorCode":"backend_error","retryAfter":7})");
  EXPECT_EQ(http("GET", app("/sessions/nobody")).status, 404) << "another operation";
  for (int i = 0; i < 2; ++i) {
    Reply reply = http("POST", app("/sessions/new"));
    EXPECT_EQ(reply.status, 503);
    EXPECT_EQ(json::read_api_error(reply.body).code, "backend_error");
    EXPECT_EQ(reply.headers["retry-after"], "7");
  }
  EXPECT_EQ(http("POST", app("/sessions/new")).status, 201);

  order(R"({"operation":"sessions/new","delayMs":400})");
  Reply late = http("POST", app("/sessions/new"));
  EXPECT_EQ(late.status, 201);
  EXPECT_GE(late.ms, 350);

  order(R"({"operation":"sessions/new","garbage":true})");
  Reply garbage = http("POST", app("/sessions/new"));
  EXPECT_EQ(garbage.status, 201);
  EXPECT_FALSE(json::read_new_session_reply(garbage.body));

  auto sessions = [&] {
    std::string stats = http("GET", base_ + "/debug/stats").body;
    unsigned found = 0;
    for (std::size_t at = 0; (at = stats.find("\"connected\"", at)) != std::string::npos; ++at)
      ++found;
    return found;
  };
  unsigned before = sessions();
  order(R"({"operation":"sessions/new","drop":true})");
  EXPECT_EQ(http("POST", app("/sessions/new")).status, 0);
  EXPECT_EQ(sessions(), before + 1) << "the lost reply was to a call that was acted upon";

  order(R"({"status":500,"count":-1})");
  EXPECT_EQ(http("POST", app("/sessions/new")).status, 500);
  EXPECT_EQ(http("GET", base_ + "/streams/x").status, 500);
  EXPECT_EQ(http("DELETE", base_ + "/debug/faults").status, 200);
  EXPECT_EQ(http("POST", app("/sessions/new")).status, 201);

  EXPECT_EQ(http("POST", base_ + "/debug/faults", "[]").status, 400);
  EXPECT_EQ(http("POST", base_ + "/debug/faults", R"({"operation":7,"count":{}})").status, 400);
}

TEST_F(SfuServerTest, ForgetsAllSessionsLikeARestart) {
  start();
  std::string session = new_session();
  EXPECT_EQ(http("POST", base_ + "/debug/restart", "{}").status, 200);
  EXPECT_EQ(http("GET", app("/sessions/" + session)).status, 404);
  EXPECT_EQ(http("POST", app("/sessions/new")).status, 201);
}

// --- TURN ------------------------------------------------------------------------------------

TEST_F(SfuServerTest, GivesTurnCredentialsThatCoturnTakes) {
  ServerSettings settings;
  settings.turn_url = "turn:127.0.0.1:3478?transport=udp,turn:127.0.0.1:3478?transport=tcp";
  settings.turn_secret = "north";
  start(settings);
  std::string url = api_ + "/turn/keys/key/credentials/generate-ice-servers";
  Reply reply = http("POST", url, R"({"ttl":600,"customIdentifier":"cam"})");
  EXPECT_EQ(reply.status, 201);
  auto servers = json::read_ice_servers(reply.body);
  ASSERT_TRUE(servers);
  ASSERT_EQ(servers->size(), 2u);
  EXPECT_EQ((*servers)[0].urls[0].rfind("stun:", 0), 0u);
  EXPECT_EQ((*servers)[1].urls.size(), 2u);
  const IceServer& turn = (*servers)[1];
  int64_t expiry = g_ascii_strtoll(turn.username.c_str(), nullptr, 10);
  EXPECT_NEAR(double(expiry), double(g_get_real_time() / G_USEC_PER_SEC + 600), 5);
  EXPECT_EQ(turn.username.substr(turn.username.find(':')), ":cam");
  g_autofree char* hex = g_compute_hmac_for_data(
      G_CHECKSUM_SHA1, reinterpret_cast<const guchar*>("north"), 5,
      reinterpret_cast<const guchar*>(turn.username.data()), turn.username.size());
  gsize size = 0;
  g_autofree guchar* digest = g_base64_decode(turn.credential.c_str(), &size);
  std::string seen;
  for (gsize i = 0; i < size; ++i) {
    g_autofree char* two = g_strdup_printf("%02x", digest[i]);
    seen += two;
  }
  EXPECT_EQ(seen, hex);
  EXPECT_EQ(
      http("POST", api_ + "/turn/keys/key/credentials/" + turn.username + "/revoke", "{}").status,
      204);
  EXPECT_EQ(http("POST", url, "{}").status, 400);
  EXPECT_EQ(http("POST", url, R"({"ttl":172801})").status, 400);
  EXPECT_EQ(http("GET", url).status, 405);
}

// --- stream documents ------------------------------------------------------------------------

constexpr char kDocument[] =
    R"({"sessionId":"e017a2629c754fedc1f7d8587e06d126","tracks":[{"name":"v","kind":"video"}]})";
constexpr char kOther[] = R"({"sessionId":"0017a2629c754fedc1f7d8587e06d126","tracks":[]})";

TEST_F(SfuServerTest, KeepsStreamDocuments) {
  start();
  std::string url = base_ + "/streams/cam";
  EXPECT_EQ(http("GET", url).status, 404);
  Reply put = http("PUT", url, kDocument);
  EXPECT_EQ(put.status, 201);
  EXPECT_FALSE(put.headers["etag"].empty());
  Reply got = http("GET", url);
  EXPECT_EQ(got.status, 200);
  EXPECT_EQ(got.headers["etag"], put.headers["etag"]);
  EXPECT_EQ(json::read_stream_document(got.body)->tracks[0].name, "v");
  Reply same = http("GET", url, "", {{"If-None-Match", got.headers["etag"]}});
  EXPECT_EQ(same.status, 304);
  EXPECT_TRUE(same.body.empty());
  EXPECT_EQ(http("PUT", url, kOther).status, 200);
  EXPECT_EQ(http("GET", url, "", {{"If-None-Match", got.headers["etag"]}}).status, 200);
  EXPECT_EQ(http("DELETE", url).status, 204);
  EXPECT_EQ(http("DELETE", url).status, 404);
  EXPECT_EQ(http("GET", url).status, 404);
  EXPECT_EQ(http("PUT", base_ + "/streams/no%20name", kDocument).status, 400);
  EXPECT_EQ(http("PUT", base_ + "/streams/" + std::string(200, 'n'), kDocument).status, 400);
  EXPECT_EQ(http("PUT", url, "{}").status, 400);
  EXPECT_EQ(http("PUT", url, std::string(70000, ' ')).status, 413);
  EXPECT_EQ(http("POST", url, kDocument).status, 405);
}

TEST_F(SfuServerTest, TellsOfAChangeOfAStreamAtOnce) {
  start();
  std::string url = base_ + "/streams/cam";
  Reply first, second, third;
  // Waits for the document to appear,
  std::thread appear([&] { first = http("GET", url, "", {{"Prefer", "wait=20"}}); });
  EXPECT_EQ(http("PUT", url, kDocument).status, 201);
  appear.join();
  EXPECT_EQ(first.status, 200);
  // to change,
  std::string etag = first.headers["etag"];
  std::thread change([&] {
    second = http("GET", url, "", {{"Prefer", "wait=20"}, {"If-None-Match", etag}});
  });
  EXPECT_EQ(http("PUT", url, kOther).status, 200);
  change.join();
  EXPECT_EQ(second.status, 200);
  EXPECT_NE(second.headers["etag"], etag);
  // and to go.
  etag = second.headers["etag"];
  std::thread go([&] {
    third = http("GET", url, "", {{"Prefer", "wait=20"}, {"If-None-Match", etag}});
  });
  EXPECT_EQ(http("DELETE", url).status, 204);
  go.join();
  EXPECT_EQ(third.status, 404);
}

TEST_F(SfuServerTest, WaitsForAStreamOnlySoLong) {
  start();
  std::string url = base_ + "/streams/cam";
  Reply put = http("PUT", url, kDocument);
  Reply late = http("GET", url, "", {{"Prefer", "wait=1"}, {"If-None-Match", put.headers["etag"]}});
  EXPECT_EQ(late.status, 304);
  EXPECT_GE(late.ms, 900);
  EXPECT_EQ(late.headers["etag"], put.headers["etag"]);
  EXPECT_EQ(http("GET", base_ + "/streams/none", "", {{"Prefer", "wait=1"}}).status, 404);
}

TEST_F(SfuServerTest, StreamsMayNeedAToken) {
  ServerSettings settings;
  settings.stream_token = "ticket";
  start(settings);
  std::string url = base_ + "/streams/cam";
  EXPECT_EQ(http("PUT", url, kDocument).status, 401);
  EXPECT_EQ(http("PUT", url, kDocument, {{"Authorization", "Bearer ticket"}}).status, 201);
  EXPECT_EQ(http("GET", url).status, 401);
}

TEST_F(SfuServerTest, SaysWhyItCannotListen) {
  start();
  ServerSettings settings;
  settings.port = server_->port();
  worker_.call([&] {
    auto second = SfuServer::start(worker_.context(), settings);
    ASSERT_FALSE(second);
    EXPECT_NE(second.error().message.find("Cannot listen"), std::string::npos);
    settings.port = 0;
    settings.address = "nowhere";
    EXPECT_FALSE(SfuServer::start(worker_.context(), settings));
  });
}

}  // namespace
}  // namespace cfr::sfu
