// ApiClient on a fake transport: a list of expected requests, each with its reply.
#include "api/client.h"

#include <gtest/gtest.h>

#include <deque>
#include <optional>

#include "wire/json.h"

namespace cfr {
namespace {

// Plays a script; a request that is not in it fails the test.
class Script {
 public:
  struct Step {
    std::string method, url, body;
    Result<HttpReply> reply;
  };
  ~Script() { EXPECT_TRUE(steps_.empty()) << steps_.size() << " requests did not come"; }

  void expect(std::string method, std::string url, std::string body, Result<HttpReply> reply) {
    steps_.push_back({std::move(method), std::move(url), std::move(body), std::move(reply)});
  }

  HttpSend send() {
    return [this](HttpRequest request, Callback<HttpReply> done) -> std::unique_ptr<HttpCall> {
      auto call = std::make_unique<Call>();
      if (steps_.empty()) {
        ADD_FAILURE() << "surplus request " << request.method << " " << request.url;
        return call;
      }
      Step step = std::move(steps_.front());
      steps_.pop_front();
      EXPECT_EQ(request.method, step.method);
      EXPECT_EQ(request.url, step.url);
      EXPECT_EQ(request.body, step.body);
      last = request;
      pending_.push_back([alive = std::weak_ptr<bool>(call->alive), done = std::move(done),
                          reply = std::move(step.reply)] {
        if (alive.lock()) done(reply);
      });
      return call;
    };
  }

  // Delivers what was asked for.
  void run() {
    while (!pending_.empty()) run_one();
  }
  void run_one() {
    auto deliver = std::move(pending_.front());
    pending_.pop_front();
    deliver();
  }

  HttpRequest last;

 private:
  struct Call : HttpCall {
    std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  };
  std::deque<Step> steps_;
  std::deque<std::function<void()>> pending_;
};

HttpReply http(int status, std::string body,
               std::vector<std::pair<std::string, std::string>> headers = {}) {
  return {status, std::move(body), std::move(headers)};
}

const std::string kUrl = "http://127.0.0.1:8080/v1/apps/app";

class ApiClientTest : public testing::Test {
 protected:
  ApiClient::Settings settings() {
    return {"http://127.0.0.1:8080/v1/", "app", "the-secret", 15000};
  }
  // The outcome of new_session with this reply.
  Result<NewSessionReply> create(Result<HttpReply> reply) {
    script.expect("POST", kUrl + "/sessions/new", "", std::move(reply));
    std::optional<Result<NewSessionReply>> outcome;
    client.new_session({}, [&](Result<NewSessionReply> r) { outcome.emplace(std::move(r)); });
    EXPECT_FALSE(outcome) << "the callback came inside the call";
    script.run();
    if (!outcome) return Error{};
    return std::move(*outcome);
  }
  Result<TracksReply> pull(Result<HttpReply> reply) {
    TracksRequest request;
    TrackObject track;
    track.location = Location::remote;
    track.session_id = "publisher";
    track.track_name = "video_0";
    request.tracks.push_back(track);
    script.expect("POST", kUrl + "/sessions/s1/tracks/new", json::write(request), std::move(reply));
    std::optional<Result<TracksReply>> outcome;
    client.new_tracks("s1", request, [&](Result<TracksReply> r) { outcome.emplace(std::move(r)); });
    script.run();
    if (!outcome) return Error{};
    return std::move(*outcome);
  }

  Script script;
  ApiClient client{settings(), script.send()};
};

TEST_F(ApiClientTest, CreatesASessionWithoutABody) {
  auto reply = create(http(201, "{\"sessionId\":\"abc\"}"));
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->session_id, "abc");
  EXPECT_EQ(script.last.bearer_token, "the-secret");
  EXPECT_EQ(script.last.timeout_ms, 15000u);
  EXPECT_EQ(script.last.body, "");
}

TEST_F(ApiClientTest, AllVerbsHaveTheirMethodAndPath) {
  int done = 0;
  auto count = [&](auto result) {
    EXPECT_TRUE(result) << result.error().message;
    ++done;
  };
  script.expect("PUT", kUrl + "/sessions/s1/tracks/update", "{\"tracks\":[]}", http(200, "{}"));
  client.update_tracks("s1", {}, count);
  script.expect("PUT", kUrl + "/sessions/s1/renegotiate",
                "{\"sessionDescription\":{\"type\":\"answer\",\"sdp\":\"v=0\"}}", http(200, "{}"));
  client.renegotiate("s1", {{SdpType::answer, "v=0"}}, count);
  script.expect("PUT", kUrl + "/sessions/s1/tracks/close",
                "{\"tracks\":[{\"mid\":\"0\"}],\"force\":true}",
                http(200, "{\"tracks\":[{\"mid\":\"0\"}]}"));
  client.close_tracks("s1", {{"0"}, true, {}}, count);
  script.expect("GET", kUrl + "/sessions/s1", "", http(200, "{\"tracks\":[]}"));
  client.get_session("s1", count);
  script.expect("POST", "http://127.0.0.1:8080/v1/turn/keys/key/credentials/generate-ice-servers",
                "{\"ttl\":86400}", http(201, "{\"iceServers\":[]}"));
  client.generate_ice_servers("key", "turn-token", {86400, ""}, count);
  EXPECT_EQ(script.last.bearer_token, "turn-token");
  script.run();
  EXPECT_EQ(done, 5);
}

TEST_F(ApiClientTest, IdsAreEncodedInPaths) {
  ApiClient odd({"https://host/v1", "a/b c", "", 1000}, script.send());
  script.expect("GET", "https://host/v1/apps/a%2Fb%20c/sessions/..%2F..%2Fx%3Fy", "",
                http(200, "{}"));
  odd.get_session("../../x?y", [](Result<SessionState> state) { EXPECT_TRUE(state); });
  script.expect("GET", "https://host/v1/apps/a%2Fb%20c/sessions/%252E", "", http(200, "{}"));
  odd.get_session("..", [](Result<SessionState> state) { EXPECT_TRUE(state); });
  script.run();
}

TEST_F(ApiClientTest, AnotherTokenIsUsedFromThenOn) {
  ASSERT_TRUE(create(http(201, "{\"sessionId\":\"abc\"}")));
  client.set_token("newer");
  ASSERT_TRUE(create(http(201, "{\"sessionId\":\"abc\"}")));
  EXPECT_EQ(script.last.bearer_token, "newer");
}

TEST_F(ApiClientTest, WhatWasRefusedGoesAgainWithAnotherToken) {
  Script script;
  ApiClient client(settings(), script.send());
  int asked = 0, answered = 0;
  std::function<void(bool)> renewed;
  client.set_renewal([&](std::function<void(bool)> then) {
    ++asked;
    renewed = std::move(then);
  });
  auto count = [&](Result<SessionState> state) {
    EXPECT_TRUE(state) << state.error().message;
    ++answered;
  };
  // Two are under way with the old token, and the second is refused when the new one is there.
  script.expect("GET", kUrl + "/sessions/a", "", http(401, "{}"));
  script.expect("GET", kUrl + "/sessions/b", "", http(401, "{}"));
  client.get_session("a", count);
  client.get_session("b", count);
  script.run_one();
  ASSERT_EQ(asked, 1);
  EXPECT_EQ(answered, 0);
  client.set_token("another");
  script.expect("GET", kUrl + "/sessions/a", "", http(200, "{\"tracks\":[]}"));
  renewed(true);
  EXPECT_EQ(script.last.bearer_token, "another");
  script.expect("GET", kUrl + "/sessions/b", "", http(200, "{\"tracks\":[]}"));
  script.run();
  EXPECT_EQ(asked, 1) << "nobody is asked for what is there";
  EXPECT_EQ(answered, 2);
}

TEST_F(ApiClientTest, ARefusalIsFinalWhereThereIsNoOtherToken) {
  Script script;
  ApiClient client(settings(), script.send());
  int asked = 0;
  client.set_renewal([&](std::function<void(bool)> then) { then(++asked < 10); });
  std::vector<ErrorKind> outcomes;
  auto note = [&](Result<SessionState> state) { outcomes.push_back(state.error().kind); };
  // Nor are new ones tried for ever.
  for (int i = 0; i < 3; ++i) script.expect("GET", kUrl + "/sessions/a", "", http(401, "{}"));
  client.get_session("a", note);
  script.run();
  EXPECT_EQ(asked, 2);
  asked = 10;
  script.expect("GET", kUrl + "/sessions/b", "", http(403, "{}"));
  client.get_session("b", note);
  script.run();
  EXPECT_EQ(outcomes, std::vector(2, ErrorKind::unauthorized));
  // The token of a TURN key is another matter.
  script.expect("POST", "http://127.0.0.1:8080/v1/turn/keys/k/credentials/generate-ice-servers",
                "{\"ttl\":60}", http(401, "{}"));
  asked = 0;
  client.generate_ice_servers("k", "t", {60, ""}, [](Result<std::vector<IceServer>>) {});
  script.run();
  EXPECT_EQ(asked, 0);
  // Nothing comes of one that was cancelled meanwhile.
  std::function<void(bool)> late;
  client.set_renewal([&](std::function<void(bool)> then) { late = std::move(then); });
  script.expect("GET", kUrl + "/sessions/c", "", http(401, "{}"));
  client.get_session("c", [](Result<SessionState>) { FAIL(); });
  script.run();
  client.cancel_all();
  late(true);
}

TEST_F(ApiClientTest, ItemErrorsStayInTheReply) {
  auto reply = pull(http(200,
                         "{\"requiresImmediateRenegotiation\":false,\"tracks\":[{\"mid\":\"\","
                         "\"trackName\":\"video_0\",\"errorCode\":\"empty_track_error\"}]}"));
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->tracks[0].error.code, "empty_track_error");
}

TEST_F(ApiClientTest, AnErrorInTheBodyOfASuccessIsAnError) {
  const struct {
    const char* code;
    ErrorKind kind;
  } table[] = {
      {"session_error", ErrorKind::gone},
      {"internal_error", ErrorKind::server},
      {"transport_unavailable_error", ErrorKind::not_yet},
      {"invalid_session_description", ErrorKind::rejected},
      {"unheard_of", ErrorKind::rejected},
      {"Not Even A Code", ErrorKind::rejected},
  };
  for (const auto& row : table) {
    auto reply = pull(http(200, std::string("{\"errorCode\":\"") + row.code +
                                    "\",\"errorDescription\":\"why\",\"tracks\":[]}"));
    ASSERT_FALSE(reply) << row.code;
    EXPECT_EQ(reply.error().kind, row.kind) << row.code;
    EXPECT_EQ(reply.error().http_status, 200);
    EXPECT_EQ(reply.error().detail, "why");
  }
  // Also where the success would have had to carry more.
  auto session = create(http(201, "{\"errorCode\":\"internal_error\"}"));
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().kind, ErrorKind::server);
  session = create(http(200, "{\"errors\":[{\"message\":\"no such route\"}]}"));
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().kind, ErrorKind::rejected);
  EXPECT_EQ(session.error().detail, "no such route");
}

TEST_F(ApiClientTest, StatusesAndCodesHaveKinds) {
  const struct {
    int status;
    const char* body;
    ErrorKind kind;
  } table[] = {
      {400, "{\"errorCode\":\"decoding_error\"}", ErrorKind::rejected},
      {401, "{\"errorCode\":\"unauthorized\"}", ErrorKind::unauthorized},
      {401, "", ErrorKind::unauthorized},
      {403, "<html>", ErrorKind::unauthorized},
      {404, "{\"errors\":[{\"message\":\"x\"}]}", ErrorKind::gone},
      {405, "", ErrorKind::rejected},
      {406, "{\"errorCode\":\"invalid_params\"}", ErrorKind::rejected},
      {406, "{\"errorCode\":\"invalid_session_description\"}", ErrorKind::rejected},
      {408, "", ErrorKind::timeout},
      {410, "{\"errorCode\":\"session_error\"}", ErrorKind::gone},
      {413, "{\"errorCode\":\"payload_too_large\"}", ErrorKind::rejected},
      {425, "{\"errorCode\":\"session_error\"}", ErrorKind::busy},
      {429, "", ErrorKind::busy},
      {429, "{\"errorCode\":\"internal_error\"}", ErrorKind::busy},
      {500, "{\"errorCode\":\"internal_error\"}", ErrorKind::server},
      {500, "{\"errorCode\":\"invalid_session_description\"}", ErrorKind::rejected},
      {503, "{\"errorCode\":\"transport_unavailable_error\"}", ErrorKind::not_yet},
      {503, "{\"errorCode\":\"some_new_error\"}", ErrorKind::server},
      {504, "", ErrorKind::server},
      {302, "", ErrorKind::rejected},
  };
  for (const auto& row : table) {
    auto reply = pull(http(row.status, row.body));
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().kind, row.kind) << row.status << " " << row.body;
    EXPECT_EQ(reply.error().http_status, row.status);
    EXPECT_NE(reply.error().message.find(std::to_string(row.status)), std::string::npos);
  }
}

TEST_F(ApiClientTest, MessagesSayWhatToDo) {
  auto refused = create(http(401, "{\"errorCode\":\"unauthorized\"}"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "The app secret was refused (HTTP 401). Check app-id and app-secret.");
  EXPECT_EQ(refused.error().code, "unauthorized");
  auto unknown = create(http(404, "{\"errors\":[{\"message\":\"x\"}]}"));
  EXPECT_EQ(unknown.error().message,
            "The application is not known to the service (HTTP 404). Check app-id.");
  auto gone = pull(http(410, "{\"errorCode\":\"session_error\",\"errorDescription\":\"a\\nb\"}"));
  EXPECT_EQ(gone.error().message,
            "Adding tracks to the session failed (HTTP 410, session_error): it does not exist "
            "(any more).");
  EXPECT_EQ(gone.error().detail, "a b");

  script.expect("POST", "http://127.0.0.1:8080/v1/turn/keys/k/credentials/generate-ice-servers",
                "{\"ttl\":60}", http(401, ""));
  std::string message;
  client.generate_ice_servers("k", "turn-token", {60, ""},
                              [&](auto r) { message = r.error().message; });
  script.run();
  EXPECT_EQ(message,
            "The token of the TURN key was refused (HTTP 401). Check turn-key-id and "
            "turn-key-token.");
}

TEST_F(ApiClientTest, UnintelligibleRepliesNameTheMember) {
  auto reply = pull(http(200, "{\"tracks\":[{\"mid\":7}]}"));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().kind, ErrorKind::protocol);
  EXPECT_EQ(reply.error().message,
            "Adding tracks to the session failed: the reply is not understood (tracks[0].mid must "
            "be a string).");
  for (const char* body : {"", "<html>", "{\"tracks\":[", "null"}) {
    reply = pull(http(200, body));
    ASSERT_FALSE(reply) << body;
    EXPECT_EQ(reply.error().kind, ErrorKind::protocol) << body;
  }
}

TEST_F(ApiClientTest, ErrorsOfTheTransportArePassedOn) {
  Error lost;
  lost.kind = ErrorKind::timeout;
  lost.message = "no reply";
  auto reply = create(lost);
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().kind, ErrorKind::timeout);
  EXPECT_EQ(reply.error().message, "no reply");
}

TEST_F(ApiClientTest, RetryAfterIsSecondsOrADate) {
  auto wait = [&](std::vector<std::pair<std::string, std::string>> headers) {
    return pull(http(429, "", std::move(headers))).error().retry_after_ms;
  };
  EXPECT_EQ(wait({}), 0u);
  EXPECT_EQ(wait({{"retry-after", "3"}}), 3000u);
  EXPECT_EQ(wait({{"retry-after", "0"}}), 0u);
  EXPECT_EQ(wait({{"retry-after", "soon"}}), 0u);
  EXPECT_EQ(wait({{"retry-after", "-5"}}), 0u);
  EXPECT_EQ(wait({{"retry-after", "99999999999999999999"}}), 3600000u);
  EXPECT_EQ(wait({{"date", "Sun, 06 Nov 1994 08:49:30 GMT"},
                  {"retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"}}),
            7000u);
  EXPECT_EQ(wait({{"retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"}}), 0u) << "long past";
  EXPECT_EQ(wait({{"retry-after", "Sun, 06 Foo 1994 08:49:37 GMT"}}), 0u);
}

TEST_F(ApiClientTest, NoCallbackAfterCancelAll) {
  script.expect("GET", kUrl + "/sessions/s1", "", http(200, "{}"));
  client.get_session("s1", [](Result<SessionState>) { FAIL(); });
  client.cancel_all();
  script.run();
  script.expect("GET", kUrl + "/sessions/s1", "", http(200, "{}"));
  bool answered = false;
  client.get_session("s1", [&](Result<SessionState>) { answered = true; });
  script.run();
  EXPECT_TRUE(answered) << "it can be used again";
}

TEST_F(ApiClientTest, TheClientMayEndInsideACallback) {
  auto own = std::make_unique<ApiClient>(settings(), script.send());
  script.expect("GET", kUrl + "/sessions/s1", "", http(200, "{}"));
  own->get_session("s1", [&](Result<SessionState>) { own.reset(); });
  script.expect("GET", kUrl + "/sessions/s2", "", http(200, "{}"));
  own->get_session("s2", [](Result<SessionState>) { FAIL(); });
  script.run();
  EXPECT_EQ(own, nullptr);
}

TEST(ApiUrl, IsCheckedAndTrimmed) {
  for (const char* good :
       {"https://rtc.live.cloudflare.com/v1", "http://127.0.0.1:8080", "http://[::1]:8080/v1"}) {
    auto url = check_api_url(good);
    ASSERT_TRUE(url) << url.error().message;
    EXPECT_EQ(*url, good);
  }
  EXPECT_EQ(*check_api_url("https://host/v1///"), "https://host/v1");
  for (const char* bad : {"", "host/v1", "ftp://host", "https://", "https:///v1", "https://h/#x",
                          "http://h:99999/", "https://h h/"}) {
    auto url = check_api_url(bad);
    ASSERT_FALSE(url) << bad;
    EXPECT_EQ(url.error().kind, ErrorKind::config);
  }
  auto secret = check_api_url("https://user:pass@host/");
  ASSERT_FALSE(secret);
  EXPECT_EQ(secret.error().message.find("pass@"), std::string::npos);
}

}  // namespace
}  // namespace cfr
