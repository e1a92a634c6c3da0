// The elements without an SFU: what they say of themselves, and what they make of bad settings and
// of an API that misbehaves.
#include <glib/gstdio.h>
#include <gst/gst.h>
#include <gtest/gtest.h>
#include <libsoup/soup.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "loop/harness.h"

namespace cfr::test {
namespace {

// An API that answers as the test says, on a thread of its own.
class FakeApi {
 public:
  struct Answer {
    int status = 200;
    std::string body;
    std::map<std::string, std::string> headers;
    bool never = false;  // accepts and does not answer
  };
  using Handler = std::function<Answer(const std::string& method, const std::string& path,
                                       const std::string& body)>;

  explicit FakeApi(Handler handler, GTlsCertificate* certificate = nullptr)
      : handler_(std::move(handler)), scheme_(certificate ? "https" : "http") {
    std::mutex mutex;
    std::condition_variable ready;
    bool up = false;
    thread_ = std::thread([&] {
      context_ = g_main_context_new();
      g_main_context_push_thread_default(context_);
      SoupServer* server =
          soup_server_new("server-header", "fake", "tls-certificate", certificate, nullptr);
      soup_server_add_handler(
          server, nullptr,
          [](SoupServer* server, SoupServerMessage* message, const char* path, GHashTable*,
             gpointer data) { static_cast<FakeApi*>(data)->handle(message, path); },
          this, nullptr);
      soup_server_listen_local(
          server, 0,
          SoupServerListenOptions(SOUP_SERVER_LISTEN_IPV4_ONLY |
                                  (certificate ? SOUP_SERVER_LISTEN_HTTPS : 0)),
          nullptr);
      GSList* uris = soup_server_get_uris(server);
      port_ = unsigned(g_uri_get_port(static_cast<GUri*>(uris->data)));
      g_slist_free_full(uris, reinterpret_cast<GDestroyNotify>(g_uri_unref));
      loop_ = g_main_loop_new(context_, FALSE);
      {
        std::lock_guard lock(mutex);
        up = true;
        ready.notify_one();
      }
      g_main_loop_run(loop_);
      soup_server_disconnect(server);
      g_object_unref(server);
      g_main_context_pop_thread_default(context_);
    });
    std::unique_lock lock(mutex);
    ready.wait(lock, [&] { return up; });
  }
  ~FakeApi() {
    g_main_loop_quit(loop_);
    thread_.join();
    g_main_loop_unref(loop_);
    g_main_context_unref(context_);
  }
  std::string base_url() const { return scheme_ + "://127.0.0.1:" + std::to_string(port_); }
  std::string url() const { return base_url() + "/v1"; }
  unsigned requests() const { return requests_; }
  // What the last request for a path with this end brought as Authorization; "" = none yet.
  std::string authorization(const std::string& end) const {
    std::lock_guard lock(mutex_);
    for (auto& [path, value] : authorizations_)
      if (g_str_has_suffix(path.c_str(), end.c_str())) return value;
    return "";
  }

 private:
  void handle(SoupServerMessage* message, const char* path) {
    ++requests_;
    const char* authorization = soup_message_headers_get_one(
        soup_server_message_get_request_headers(message), "Authorization");
    {
      std::lock_guard lock(mutex_);
      authorizations_[path] = authorization ? authorization : "none";
    }
    SoupMessageBody* request = soup_server_message_get_request_body(message);
    g_autoptr(GBytes) bytes = soup_message_body_flatten(request);
    gsize size = 0;
    auto* data = static_cast<const char*>(g_bytes_get_data(bytes, &size));
    Answer answer = handler_(soup_server_message_get_method(message), path,
                             data ? std::string(data, size) : "");
    if (answer.never) {
      soup_server_message_pause(message);
      return;
    }
    soup_server_message_set_status(message, guint(answer.status), nullptr);
    for (auto& [name, value] : answer.headers)
      soup_message_headers_replace(soup_server_message_get_response_headers(message), name.c_str(),
                                   value.c_str());
    soup_server_message_set_response(message, "application/json", SOUP_MEMORY_COPY,
                                     answer.body.data(), answer.body.size());
  }

  Handler handler_;
  const std::string scheme_;
  mutable std::mutex mutex_;
  std::map<std::string, std::string> authorizations_;  // by path
  std::thread thread_;
  GMainContext* context_ = nullptr;
  GMainLoop* loop_ = nullptr;
  unsigned port_ = 0;
  std::atomic<unsigned> requests_{0};
};

constexpr char kLiveTone[] = "audiotestsrc is-live=true ! ";

void expect_error(Pipeline& pipeline, GQuark domain, int code, const char* words) {
  ASSERT_TRUE(pipeline.until_error(10000)) << "no error in time";
  EXPECT_EQ(pipeline.errors[0].domain, domain) << pipeline.errors[0].text;
  EXPECT_EQ(pipeline.errors[0].code, code) << pipeline.errors[0].text;
  EXPECT_NE(pipeline.errors[0].text.find(words), std::string::npos) << pipeline.errors[0].text;
  EXPECT_LT(pipeline.stop(), scaled(1000));
}

class Elements : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"CFREALTIME_APP_ID", "CFREALTIME_APP_SECRET", "CFREALTIME_API_URL"})
      g_unsetenv(name);
  }
};

TEST_F(Elements, are_made_and_unmade) {
  for (const char* name : {"cfrealtimesink", "cfrealtimesrc"}) {
    GstElement* element = gst_element_factory_make(name, nullptr);
    ASSERT_TRUE(element) << name;
    EXPECT_EQ(GST_OBJECT_REFCOUNT_VALUE(element), 1u);
    gst_object_unref(element);
  }
}

TEST_F(Elements, keep_what_is_set_and_hide_secrets) {
  for (const char* name : {"cfrealtimesink", "cfrealtimesrc"}) {
    GstElement* element = gst_element_factory_make(name, nullptr);
    g_object_set(element, "app-id", "an-app", "app-secret", "hush", "api-url",
                 "http://127.0.0.1:9/v1", "stun-server", nullptr, "max-retries", 3, "retry-timeout",
                 20u, nullptr);
    g_autofree char* app = nullptr;
    g_autofree char* url = nullptr;
    int retries = 0;
    g_object_get(element, "app-id", &app, "api-url", &url, "max-retries", &retries, nullptr);
    EXPECT_STREQ(app, "an-app");
    EXPECT_STREQ(url, "http://127.0.0.1:9/v1");
    EXPECT_EQ(retries, 3);
    for (const char* secret : {"app-secret", "turn-key-token", "stream-token", "turn-servers"}) {
      GParamSpec* spec = g_object_class_find_property(G_OBJECT_GET_CLASS(element), secret);
      ASSERT_TRUE(spec) << secret;
      EXPECT_FALSE(spec->flags & G_PARAM_READABLE) << secret;
    }
    gst_object_unref(element);
  }
}

TEST_F(Elements, give_pads_by_name_and_as_children) {
  GstElement* sink = gst_element_factory_make("cfrealtimesink", nullptr);
  GstPad* video = gst_element_request_pad_simple(sink, "video_7");
  GstPad* audio = gst_element_request_pad_simple(sink, "audio_%u");
  GstPad* next = gst_element_request_pad_simple(sink, "video_%u");
  ASSERT_TRUE(video && audio && next);
  EXPECT_STREQ(GST_PAD_NAME(video), "video_7");
  EXPECT_STREQ(GST_PAD_NAME(audio), "audio_0");
  EXPECT_STREQ(GST_PAD_NAME(next), "video_8");
  gst_child_proxy_set(GST_CHILD_PROXY(sink), "video_7::track-name", "camera", nullptr);
  g_autofree char* name = nullptr;
  g_object_get(video, "track-name", &name, nullptr);
  EXPECT_STREQ(name, "camera");
  g_autofree char* given = nullptr;
  g_object_get(audio, "track-name", &given, nullptr);
  EXPECT_STREQ(given, "audio_0");
  for (GstPad* pad : {video, audio, next}) {
    gst_element_release_request_pad(sink, pad);
    gst_object_unref(pad);
  }
  EXPECT_EQ(sink->numsinkpads, 0);
  gst_object_unref(sink);
}

TEST_F(Elements, a_source_is_live) {
  FakeApi api([](auto&, auto&, auto&) { return FakeApi::Answer{.never = true}; });
  Pipeline pipeline("cfrealtimesrc name=r app-id=a session-id=x api-url=" + api.url());
  EXPECT_EQ(gst_element_set_state(pipeline.get(), GST_STATE_PAUSED), GST_STATE_CHANGE_NO_PREROLL);
  EXPECT_LT(pipeline.stop(), scaled(1000));
}

TEST_F(Elements, missing_app_id) {
  Pipeline pipeline(std::string(kLiveTone) + "cfrealtimesink");
  EXPECT_EQ(gst_element_set_state(pipeline.get(), GST_STATE_PLAYING), GST_STATE_CHANGE_FAILURE);
  expect_error(pipeline, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS, "CFREALTIME_APP_ID");
}

TEST_F(Elements, missing_secret_for_the_service) {
  Pipeline pipeline(std::string(kLiveTone) + "cfrealtimesink app-id=a");
  EXPECT_EQ(gst_element_set_state(pipeline.get(), GST_STATE_PLAYING), GST_STATE_CHANGE_FAILURE);
  expect_error(pipeline, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS, "CFREALTIME_APP_SECRET");
}

TEST_F(Elements, bad_api_url) {
  Pipeline pipeline(std::string(kLiveTone) + "cfrealtimesink app-id=a api-url=gopher://x");
  pipeline.play();
  expect_error(pipeline, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS, "http");
}

TEST_F(Elements, an_unknown_app_is_not_waited_for) {
  FakeApi api([](auto&, auto&, auto&) {
    return FakeApi::Answer{.status = 404,
                           .body = R"({"errorCode":"not_found","errorDescription":"no"})"};
  });
  Pipeline pipeline("cfrealtimesrc app-id=a session-id=x api-url=" + api.url());
  pipeline.play();
  expect_error(pipeline, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND, "app-id");
}

TEST_F(Elements, nothing_to_play) {
  Pipeline pipeline("cfrealtimesrc app-id=a api-url=http://127.0.0.1:9/v1");
  pipeline.play();
  expect_error(pipeline, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS, "session-id");
}

TEST_F(Elements, relay_without_a_turn_server) {
  Pipeline pipeline(std::string(kLiveTone) +
                    "cfrealtimesink app-id=a api-url=http://127.0.0.1:9/v1 "
                    "ice-transport-policy=relay");
  pipeline.play();
  expect_error(pipeline, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS, "TURN");
}

TEST_F(Elements, urls_that_cannot_work) {
  const std::string api = " api-url=http://127.0.0.1:9/v1 ";
  const std::pair<std::string, const char*> cases[] = {
      {" api-url=http://127.0.0.1:9/v1?a=b", "query"},
      {api + "stream-url=ftp://127.0.0.1/cam", "https://"},
      {api + "turn-servers=turn://", "turn-servers"},
      {api + "turn-servers=turn://127.0.0.1", "turn-servers"},
      {api + "turn-servers=turn://user@127.0.0.1", "turn-servers"},
      {api + "turn-servers=turn://user:password@127.0.0.1,stun://127.0.0.1", "turn-servers"},
  };
  for (const auto& [options, text] : cases) {
    SCOPED_TRACE(options);
    Pipeline pipeline(std::string(kLiveTone) + "cfrealtimesink app-id=a" + options);
    pipeline.play();
    expect_error(pipeline, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_SETTINGS, text);
  }
}

TEST_F(Elements, unreachable_api) {
  // Nobody listens on this port.
  for (std::string launch : {std::string(kLiveTone) + "cfrealtimesink max-retries=1 ",
                             std::string("cfrealtimesrc session-id=x max-retries=1 ")}) {
    Pipeline pipeline(launch + "app-id=a api-url=http://127.0.0.1:9/v1");
    pipeline.play();
    bool source = launch[0] == 'c';
    expect_error(pipeline, GST_RESOURCE_ERROR,
                 source ? GST_RESOURCE_ERROR_OPEN_READ : GST_RESOURCE_ERROR_OPEN_WRITE,
                 "127.0.0.1");
  }
}

TEST_F(Elements, unreachable_api_is_retried_and_said_as_a_warning) {
  Pipeline pipeline(std::string(kLiveTone) +
                    "cfrealtimesink name=s app-id=a api-url=http://127.0.0.1:9/v1");
  pipeline.play();
  EXPECT_TRUE(pipeline.until(
      [&] { return pipeline.warnings.size() >= 1 && pipeline.connection("s") == "reconnecting"; }));
  EXPECT_TRUE(pipeline.errors.empty());
  EXPECT_LT(pipeline.stop(), scaled(1000));
}

TEST_F(Elements, tls_ca_file_says_whom_to_trust) {
  constexpr char kCertificate[] = CFR_SOURCE_ROOT "/tests/fixtures/loopback-cert.pem";
  g_autoptr(GError) error = nullptr;
  g_autoptr(GTlsCertificate) certificate = g_tls_certificate_new_from_files(
      kCertificate, CFR_SOURCE_ROOT "/tests/fixtures/loopback-key.pem", &error);
  ASSERT_TRUE(certificate) << error->message;
  FakeApi api(
      [](auto&, auto&, auto&) {
        return FakeApi::Answer{.status = 401,
                               .body = R"({"errorCode":"unauthorized","errorDescription":"no"})"};
      },
      certificate);
  for (const std::string element :
       {"cfrealtimesrc name=e session-id=x", "audiotestsrc is-live=true ! cfrealtimesink name=e"}) {
    SCOPED_TRACE(element);
    const std::string launch = element + " app-id=a app-secret=hush api-url=" + api.url();
    Pipeline wary(launch);
    wary.play();
    EXPECT_TRUE(wary.until(
        [&] { return !wary.warnings.empty() && wary.connection("e") == "reconnecting"; }));
    ASSERT_FALSE(wary.warnings.empty());
    EXPECT_NE(wary.warnings[0].text.find("certificate"), std::string::npos)
        << wary.warnings[0].text;
    EXPECT_EQ(api.requests(), 0u) << "the secret went to a stranger";
    EXPECT_LT(wary.stop(), scaled(1000));
  }
  Pipeline trusting("cfrealtimesrc session-id=x app-id=a app-secret=hush api-url=" + api.url() +
                    " tls-ca-file=" + kCertificate);
  trusting.play();
  expect_error(trusting, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_AUTHORIZED, "");
  EXPECT_EQ(api.requests(), 1u);
}

// All three of them reach their servers from the property, a file or the environment, in this
// order.
TEST_F(Elements, secrets_come_from_property_file_or_environment) {
  struct Secret {
    const char* property;
    const char* variable;
    const char* path;  // the end of the path it opens
  };
  const Secret secrets[] = {
      {"app-secret", "CFREALTIME_APP_SECRET", "/sessions/new"},
      {"turn-key-token", "CFREALTIME_TURN_KEY_TOKEN", "/generate-ice-servers"},
      {"stream-token", "CFREALTIME_STREAM_TOKEN", "/streams/cam"},
  };
  FakeApi api([](auto&, const std::string& path, auto&) {
    if (path == "/streams/cam")
      return FakeApi::Answer{.body = R"({"sessionId":"0123456789abcdef0123456789abcdef",)"
                                     R"("tracks":[{"name":"audio_0","kind":"audio"}]})"};
    return FakeApi::Answer{.never = true};
  });
  g_autofree char* folder = g_dir_make_tmp("cfrealtime-XXXXXX", nullptr);
  ASSERT_TRUE(folder);
  enum Way { kEnvironment, kFile, kProperty };
  for (Way way : {kEnvironment, kFile, kProperty}) {
    SCOPED_TRACE(way);
    Pipeline pipeline("cfrealtimesrc name=r app-id=a turn-key-id=k api-url=" + api.url() +
                      " stream-url=" + api.base_url() + "/streams/cam");
    auto source = pipeline.element("r");
    std::vector<std::string> files;
    for (const Secret& secret : secrets) {
      g_setenv(secret.variable, "of-the-environment", TRUE);
      if (way >= kFile) {
        files.push_back(std::string(folder) + "/" + secret.property);
        g_file_set_contents(files.back().c_str(), "of-the-file\n", -1, nullptr);
        std::string property = std::string(secret.property) + "-file";
        g_object_set(source.get(), property.c_str(), files.back().c_str(), nullptr);
      }
      if (way == kProperty) g_object_set(source.get(), secret.property, "of-the-property", nullptr);
    }
    const char* expected[] = {"Bearer of-the-environment", "Bearer of-the-file",
                              "Bearer of-the-property"};
    pipeline.play();
    for (const Secret& secret : secrets)
      EXPECT_TRUE(pipeline.until([&] { return api.authorization(secret.path) == expected[way]; }))
          << secret.property << " is " << api.authorization(secret.path);
    EXPECT_TRUE(pipeline.errors.empty()) << pipeline.errors[0].text;
    EXPECT_LT(pipeline.stop(), scaled(1000));
    for (const Secret& secret : secrets) g_unsetenv(secret.variable);
    for (const std::string& file : files) g_remove(file.c_str());
  }
  g_rmdir(folder);
}

TEST_F(Elements, a_sink_has_the_latency_of_what_comes) {
  FakeApi api([](auto&, auto&, auto&) { return FakeApi::Answer{.never = true}; });
  for (bool live : {true, false}) {
    SCOPED_TRACE(live);
    Pipeline pipeline(
        std::string("audiotestsrc samplesperbuffer=960 is-live=") + (live ? "true" : "false") +
        " ! audio/x-raw,rate=48000 ! cfrealtimesink name=s app-id=a api-url=" + api.url());
    auto sink = pipeline.element("s");
    g_autoptr(GstQuery) query = gst_query_new_latency();
    EXPECT_TRUE(gst_element_query(sink.get(), query));
    pipeline.play();
    gboolean said_live = FALSE;
    GstClockTime min = 0;
    EXPECT_TRUE(pipeline.until([&] {
      if (!gst_element_query(sink.get(), query)) return false;
      gst_query_parse_latency(query, &said_live, &min, nullptr);
      return said_live == gboolean(live) && min == (live ? 20 * GST_MSECOND : 0);
    })) << said_live
        << ", " << min << " ns";
    EXPECT_LT(pipeline.stop(), scaled(1000));
  }
}

struct BadReply {
  const char* name;
  int status;
  const char* body;
  GQuark (*domain)();
  int code;
};

class BadSession : public testing::TestWithParam<BadReply> {
 protected:
  void SetUp() override {
    for (const char* name : {"CFREALTIME_APP_ID", "CFREALTIME_APP_SECRET", "CFREALTIME_API_URL"})
      g_unsetenv(name);
  }
};

TEST_P(BadSession, ends_in_a_clear_error) {
  FakeApi api([&](auto&, auto&, auto&) {
    return FakeApi::Answer{.status = GetParam().status, .body = GetParam().body};
  });
  Pipeline pipeline(std::string(kLiveTone) +
                    "cfrealtimesink app-id=a app-secret=hush api-url=" + api.url());
  pipeline.play();
  expect_error(pipeline, GetParam().domain(), GetParam().code, "");
  EXPECT_EQ(pipeline.errors[0].debug.find("hush"), std::string::npos);
  EXPECT_GT(pipeline.errors[0].text.size(), 20u) << "a sentence that helps";
}

INSTANTIATE_TEST_SUITE_P(
    Replies, BadSession,
    testing::Values(
        BadReply{"wrong_secret", 401, R"({"errorCode":"unauthorized","errorDescription":"no"})",
                 gst_resource_error_quark, GST_RESOURCE_ERROR_NOT_AUTHORIZED},
        BadReply{"unknown_app", 404, R"({"errors":[{"message":"App not found"}]})",
                 gst_resource_error_quark, GST_RESOURCE_ERROR_NOT_FOUND},
        BadReply{"garbage", 201, "<html>hello</html>", gst_stream_error_quark,
                 GST_STREAM_ERROR_FORMAT},
        BadReply{"cut_json", 201, R"({"sessionId":"e017a2629c7)", gst_stream_error_quark,
                 GST_STREAM_ERROR_FORMAT},
        BadReply{"no_session", 201, "{}", gst_stream_error_quark, GST_STREAM_ERROR_FORMAT},
        BadReply{"wrong_type", 201, R"({"sessionId":17})", gst_stream_error_quark,
                 GST_STREAM_ERROR_FORMAT},
        BadReply{"empty", 201, "", gst_stream_error_quark, GST_STREAM_ERROR_FORMAT},
        BadReply{"nested", 201, "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
                 gst_stream_error_quark, GST_STREAM_ERROR_FORMAT}),
    [](const auto& info) { return std::string(info.param.name); });

std::string escaped_for_json(const std::string& sdp) {
  std::string escaped;
  for (char c : sdp) {
    if (c == '\r')
      escaped += "\\r";
    else if (c == '\n')
      escaped += "\\n";
    else if (c == '"')
      escaped += "\\\"";
    else
      escaped += c;
  }
  return escaped;
}

// A reply to tracks/new whose answer is `sdp`.
std::string answer_with(const std::string& sdp) {
  return R"({"requiresImmediateRenegotiation":false,"tracks":[{"mid":"0","trackName":"audio_0"}],)"
         R"("sessionDescription":{"type":"answer","sdp":")" +
         escaped_for_json(sdp) + "\"}}";
}

class HostileAnswer : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(HostileAnswer, ends_in_an_error_and_a_clean_stop) {
  FakeApi api([&](auto&, const std::string& path, auto&) {
    if (path.find("/sessions/new") != std::string::npos)
      return FakeApi::Answer{.status = 201, .body = R"({"sessionId":"0123456789abcdef"})"};
    if (path.find("/tracks/new") != std::string::npos)
      return FakeApi::Answer{.body = answer_with(GetParam().second)};
    return FakeApi::Answer{.body = "{}"};
  });
  Pipeline pipeline(std::string(kLiveTone) +
                    "cfrealtimesink app-id=a max-retries=0 api-url=" + api.url());
  pipeline.play();
  EXPECT_TRUE(pipeline.until_error(10000));
  EXPECT_LT(pipeline.stop(), scaled(1000));
}

INSTANTIATE_TEST_SUITE_P(
    Texts, HostileAnswer,
    testing::Values(
        std::pair{"empty", ""}, std::pair{"noise", "hello"},
        std::pair{"no_media", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"},
        std::pair{"cut", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RT"},
        std::pair{"no_credentials",
                  "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF "
                  "111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=recvonly\r\na=rtpmap:111 "
                  "opus/48000/2\r\n"},
        std::pair{"too_many_sections",
                  "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\n"
                  "a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 "
                  "00:00\r\na=setup:passive\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
                  "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\nm=video 9 UDP/TLS/RTP/SAVPF "
                  "96\r\na=mid:2\r\n"},
        std::pair{
            "offer_numbers",
            "v=99999999999999999999\r\no=- -1 -1 IN IP9 x\r\ns=-\r\nt=9 -9\r\nm=audio 99999999 "
            "UDP/TLS/RTP/SAVPF 4294967296 -1 111\r\na=rtpmap:111 opus/0/0\r\n"}),
    [](const auto& info) { return std::string(info.param.first); });

TEST_F(Elements, a_codec_that_cannot_be_received_is_told) {
  std::string offer =
      "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n"
      "a=fingerprint:sha-256 "
      "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:"
      "88:99:AA:BB:CC:DD:EE:FF\r\na=group:BUNDLE 0\r\n"
      "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=setup:actpass\r\na=mid:0\r\n"
      "a=ice-ufrag:aUfrag\r\na=ice-pwd:aPasswordThatIsLongEnough\r\na=rtcp-mux\r\n"
      "a=rtpmap:96 H999/90000\r\na=sendonly\r\n";
  FakeApi api([&](auto&, const std::string& path, auto&) {
    if (path.find("/sessions/new") != std::string::npos)
      return FakeApi::Answer{.status = 201, .body = R"({"sessionId":"0123456789abcdef"})"};
    if (path.find("/tracks/new") != std::string::npos)
      return FakeApi::Answer{
          .body =
              R"({"requiresImmediateRenegotiation":true,"tracks":[{"mid":"0","trackName":"cam",)"
              R"("sessionId":"fedcba9876543210"}],"sessionDescription":{"type":"offer","sdp":")" +
              escaped_for_json(offer) + "\"}}"};
    return FakeApi::Answer{.body = "{}"};
  });
  Pipeline pipeline("cfrealtimesrc app-id=a tracks=fedcba9876543210/cam api-url=" + api.url() +
                    " ! fakesink");
  pipeline.play();
  ASSERT_TRUE(pipeline.until_error(10000));
  EXPECT_NE(pipeline.errors[0].text.find("cam"), std::string::npos) << pipeline.errors[0].text;
  EXPECT_LT(pipeline.stop(), scaled(1000));
}

TEST_F(Elements, caps_that_cannot_be_sent_are_refused_with_the_reason) {
  const struct {
    const char *caps, *pad, *words;
  } rows[] = {
      {"image/jpeg", "video_0", "image/jpeg"},
      {"audio/x-raw,format=S16LE,rate=48000,channels=1,layout=interleaved", "video_0", "audio_%u"},
      {"video/x-vp8", "audio_0", "video_%u"},
  };
  for (const auto& row : rows) {
    FakeApi api([](auto&, auto&, auto&) { return FakeApi::Answer{.never = true}; });
    // It asks nobody what can be taken.
    Pipeline pipeline(std::string("appsrc name=a caps=\"") + row.caps + "\" ! s." + row.pad +
                      " cfrealtimesink name=s app-id=a api-url=" + api.url());
    pipeline.play();
    g_autoptr(GstBuffer) buffer = gst_buffer_new_allocate(nullptr, 1000, nullptr);
    GstFlowReturn flow;
    g_signal_emit_by_name(pipeline.element("a").get(), "push-buffer", buffer, &flow);
    expect_error(pipeline, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, row.words);
  }
}

TEST_F(Elements, stop_at_once_while_the_api_is_silent) {
  FakeApi api([](auto&, auto&, auto&) { return FakeApi::Answer{.never = true}; });
  for (int i = 0; i < 20; ++i) {
    Pipeline pipeline(std::string(kLiveTone) +
                      "cfrealtimesink name=s app-id=a api-url=" + api.url());
    pipeline.play();
    pipeline.until([&] { return api.requests() > unsigned(i); }, 5000);
    EXPECT_LT(pipeline.stop(), scaled(1000));
  }
}

TEST_F(Elements, a_hundred_starts_without_a_server_leave_nothing) {
  auto cycle = [](const std::string& launch) {
    Pipeline pipeline(launch);
    gst_element_set_state(pipeline.get(), GST_STATE_PAUSED);
    EXPECT_LT(pipeline.stop(), scaled(1000));
  };
  std::string sink =
      std::string(kLiveTone) + "cfrealtimesink app-id=a api-url=http://127.0.0.1:9/v1";
  std::string source = "cfrealtimesrc app-id=a session-id=x api-url=http://127.0.0.1:9/v1";
  for (int i = 0; i < 5; ++i) cycle(i % 2 ? sink : source);
  unsigned fds = count_fds(), threads = count_threads();
  for (int i = 0; i < 100; ++i) cycle(i % 2 ? sink : source);
  EXPECT_TRUE(wait_until([&] { return count_fds() <= fds + 4; })) << count_fds();
  EXPECT_TRUE(wait_until([&] { return count_threads() <= threads + 3; })) << count_threads();
}

TEST_F(Elements, explain_themselves) {
  for (const char* name : {"cfrealtimesink", "cfrealtimesrc"}) {
    GstElement* element = gst_element_factory_make(name, nullptr);
    guint count = 0;
    GParamSpec** specs = g_object_class_list_properties(G_OBJECT_GET_CLASS(element), &count);
    for (guint i = 0; i < count; ++i)
      EXPECT_GT(strlen(g_param_spec_get_blurb(specs[i])), 8u) << specs[i]->name;
    g_free(specs);
    gst_object_unref(element);
  }
}

}  // namespace
}  // namespace cfr::test
