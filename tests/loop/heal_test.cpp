// What goes wrong on the way, and that media comes back: the application's pipelines play on, no
// error is posted, pads stay.
#include <gtest/gtest.h>

#include "loop/content.h"
#include "loop/harness.h"
#include "loop/stream.h"

namespace cfr::test {
namespace {

void fault(Sfu& sfu, const std::string& json) {
  ASSERT_EQ(http("POST", sfu.base_url() + "/debug/faults", json).status, 200);
}

TEST(Heal, a_stream_document_joins_publisher_and_player) {
  Sfu sfu;
  Stream stream(sfu);
  ASSERT_TRUE(stream.start());
  stream.expect_unharmed();
  std::string document = http("GET", stream.url).body;
  EXPECT_NE(document.find("video_0"), std::string::npos) << document;
  // A clean stop deletes it, and the player ends.
  EXPECT_LT(stream.publisher.stop(), scaled(1000));
  EXPECT_EQ(http("GET", stream.url).status, 404);
  EXPECT_TRUE(stream.player.until_eos(5000));
}

TEST(Heal, the_sfu_forgets_all_sessions) {
  Sfu sfu;
  Stream stream(sfu);
  ASSERT_TRUE(stream.start());
  std::string before = stream.publisher.string_property("s", "session-id");
  ASSERT_EQ(http("POST", sfu.base_url() + "/debug/restart").status, 200);
  EXPECT_TRUE(stream.publisher.until([&] {
    std::string now = stream.publisher.string_property("s", "session-id");
    return !now.empty() && now != before;
  }, 20000));
  EXPECT_TRUE(stream.flows(60, 20000));
  stream.expect_unharmed();
}

TEST(Heal, the_sfu_crashes_and_comes_back) {
  Sfu sfu;
  Stream stream(sfu);
  ASSERT_TRUE(stream.start());
  sfu.kill();
  EXPECT_TRUE(stream.publisher.until(
      [&] { return stream.publisher.connection("s") == "suspect"; }, 20000));
  sfu.restart();
  EXPECT_TRUE(stream.flows(60, 20000));
  stream.expect_unharmed();
}

TEST(Heal, the_publisher_transport_dies_silently) {
  Sfu sfu;
  Stream stream(sfu);
  ASSERT_TRUE(stream.start());
  std::string session = stream.publisher.string_property("s", "session-id");
  ASSERT_EQ(http("POST", sfu.base_url() + "/debug/kill/" + session).status, 200);
  EXPECT_TRUE(stream.publisher.until(
      [&] { return stream.publisher.connection("s") == "suspect"; }, 10000));
  EXPECT_TRUE(stream.publisher.until([&] {
    return stream.publisher.connection("s") == "connected" &&
           stream.publisher.string_property("s", "session-id") != session;
  }, 20000));
  EXPECT_TRUE(stream.flows(60, 20000));
  stream.expect_unharmed();
}

TEST(Heal, the_player_transport_dies_silently) {
  Sfu sfu;
  Stream stream(sfu);
  ASSERT_TRUE(stream.start());
  std::string stats = sfu.stats();
  // Every session but the publisher's.
  std::string publisher = stream.publisher.string_property("s", "session-id");
  for (std::size_t at = 0; (at = stats.find("\"id\":\"", at)) != std::string::npos; at += 6) {
    std::string id = stats.substr(at + 6, 32);
    if (id != publisher) http("POST", sfu.base_url() + "/debug/kill/" + id);
  }
  EXPECT_TRUE(stream.player.until(
      [&] { return stream.player.connection("r") == "suspect"; }, 10000));
  EXPECT_TRUE(stream.player.until(
      [&] { return stream.player.connection("r") == "connected"; }, 20000));
  EXPECT_TRUE(stream.flows(60, 20000));
  stream.expect_unharmed();
}

TEST(Heal, the_api_is_not_there_yet) {
  unsigned port;
  {
    Sfu first;
    port = first.port();
  }
  // Nobody listens there now.
  std::string base = "http://127.0.0.1:" + std::to_string(port);
  Pipeline publisher(std::string(kPicture) + "app-id=demo api-url=" + base + "/v1");
  burn_counter(publisher, "burn");
  publisher.play();
  EXPECT_TRUE(publisher.until([&] { return !publisher.warnings.empty(); }));
  EXPECT_EQ(publisher.connection("s"), "reconnecting");
  Sfu sfu({"--port", std::to_string(port)});
  EXPECT_FALSE(publisher.live_session("s", 1, 10000).empty());
  EXPECT_TRUE(publisher.errors.empty());
}

struct ApiFault {
  const char* name;
  const char* json;
};

class HealApi : public testing::TestWithParam<ApiFault> {};

TEST_P(HealApi, recovers) {
  Sfu sfu;
  fault(sfu, GetParam().json);
  Stream stream(sfu);
  EXPECT_TRUE(stream.start());
  stream.expect_unharmed();
}

INSTANTIATE_TEST_SUITE_P(
    Faults, HealApi,
    testing::Values(
        ApiFault{"new_session_503", R"({"operation":"sessions/new","status":503,"count":2})"},
        ApiFault{"new_session_500",
                 R"({"operation":"sessions/new","status":500,"errorCode":"internal_error"})"},
        ApiFault{"new_session_429", R"({"operation":"sessions/new","status":429,"retryAfter":1})"},
        ApiFault{"new_session_lost", R"({"operation":"sessions/new","drop":true})"},
        ApiFault{"tracks_410",
                 R"({"operation":"tracks/new","status":410,"errorCode":"session_error"})"},
        ApiFault{"tracks_425",
                 R"({"operation":"tracks/new","status":425,"errorCode":"session_error"})"},
        ApiFault{"tracks_429", R"({"operation":"tracks/new","status":429,"retryAfter":1})"},
        ApiFault{"tracks_503", R"({"operation":"tracks/new","status":503})"},
        ApiFault{"tracks_lost", R"({"operation":"tracks/new","drop":true})"},
        ApiFault{"tracks_late", R"({"operation":"tracks/new","delayMs":3000})"},
        ApiFault{"answer_lost", R"({"operation":"renegotiate","drop":true})"},
        ApiFault{"answer_410",
                 R"({"operation":"renegotiate","status":410,"errorCode":"session_error"})"},
        ApiFault{"answer_500", R"({"operation":"renegotiate","status":500})"},
        ApiFault{"question_410", R"({"operation":"session","status":410,"count":3})"},
        ApiFault{"stream_503", R"({"operation":"streams","status":503,"count":3})"},
        ApiFault{"stream_lost", R"({"operation":"streams","drop":true,"count":2})"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Heal, waiting_for_a_publisher_can_be_bounded) {
  Sfu sfu;
  Pipeline player("cfrealtimesrc name=r wait-timeout=1 session-id=0123456789abcdef ! fakesink");
  player.play();
  ASSERT_TRUE(player.until_error(5000));
  EXPECT_EQ(player.errors[0].code, GST_RESOURCE_ERROR_NOT_FOUND) << player.errors[0].text;
  // And it does not strike while something plays.
  Pipeline publisher(kPicture);
  publisher.play();
  std::string session = publisher.live_session();
  Pipeline other("cfrealtimesrc name=r wait-timeout=1 session-id=" + session + kShow);
  Buffers buffers(other, "out");
  other.play();
  EXPECT_TRUE(other.until([&] { return buffers.count() > 90; }));
  EXPECT_TRUE(other.errors.empty()) << other.errors[0].text;
}

TEST(Heal, a_fresh_token_after_a_refusal) {
  Sfu sfu({}, "right");
  g_setenv("CFREALTIME_APP_SECRET", "", TRUE);
  Pipeline publisher(std::string(kPicture) + "app-secret=stale");
  burn_counter(publisher, "burn");
  auto sink = publisher.element("s");
  g_signal_connect(sink.get(), "request-token",
                   G_CALLBACK(+[](GstElement*, gpointer) { return g_strdup("right"); }), nullptr);
  publisher.play();
  EXPECT_FALSE(publisher.live_session().empty());
  g_unsetenv("CFREALTIME_APP_SECRET");
}

TEST(Heal, a_hundred_connected_runs_leave_nothing) {
  Sfu sfu;
  auto cycle = [] {
    Pipeline publisher("audiotestsrc is-live=true ! cfrealtimesink name=s");
    publisher.play();
    std::string session = publisher.live_session();
    Pipeline player("cfrealtimesrc session-id=" + session +
                    " ! audio/x-raw ! fakesink name=out sync=false");
    Buffers buffers(player, "out");
    player.play();
    EXPECT_TRUE(player.until([&] { return buffers.count() > 0; }));
    EXPECT_LT(player.stop(), scaled(1000));
    EXPECT_LT(publisher.stop(), scaled(1000));
  };
  for (int i = 0; i < 10; ++i) cycle();
  unsigned fds = count_fds(), threads = count_threads(), memory = resident_kib();
  for (int i = 0; i < 100; ++i) cycle();
  EXPECT_LE(count_fds(), fds + 4);
  EXPECT_TRUE(wait_until([&] { return count_threads() <= threads + 3; })) << count_threads();
  EXPECT_LT(resident_kib(), memory + 40 * 1024) << "from " << memory << " KiB";
}

}  // namespace
}  // namespace cfr::test
