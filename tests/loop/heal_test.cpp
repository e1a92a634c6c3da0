// What goes wrong on the way, and that media comes back: the application's pipelines play on, no
// error is posted, pads stay.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

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
  EXPECT_TRUE(wait_until([&] { return http("GET", stream.url).status == 404; }));
  EXPECT_TRUE(stream.player.until_eos());
}

TEST(Heal, the_sfu_forgets_all_sessions) {
  Sfu sfu;
  Stream stream(sfu);
  ASSERT_TRUE(stream.start());
  std::string before = stream.publisher.string_property("s", "session-id");
  ASSERT_EQ(http("POST", sfu.base_url() + "/debug/restart").status, 200);
  gint64 cause = g_get_monotonic_time();
  EXPECT_TRUE(stream.publisher.until(
      [&] {
        std::string now = stream.publisher.string_property("s", "session-id");
        return !now.empty() && now != before;
      },
      20000));
  stream.expect_back("the SFU has forgotten all sessions", cause);
}

TEST(Heal, the_sfu_crashes_and_comes_back) {
  Sfu sfu;
  Stream stream(sfu);
  ASSERT_TRUE(stream.start());
  sfu.kill();
  EXPECT_TRUE(
      stream.publisher.until([&] { return stream.publisher.connection("s") == "suspect"; }, 20000));
  sfu.restart();
  gint64 cause = g_get_monotonic_time();
  stream.expect_back("the SFU is back after a crash", cause);
}

TEST(Heal, the_publisher_transport_dies_silently) {
  Sfu sfu;
  Stream stream(sfu);
  ASSERT_TRUE(stream.start());
  std::string session = stream.publisher.string_property("s", "session-id");
  ASSERT_EQ(http("POST", sfu.base_url() + "/debug/kill/" + session).status, 200);
  gint64 cause = g_get_monotonic_time();
  EXPECT_TRUE(
      stream.publisher.until([&] { return stream.publisher.connection("s") == "suspect"; }, 10000));
  EXPECT_TRUE(stream.publisher.until(
      [&] {
        return stream.publisher.connection("s") == "connected" &&
               stream.publisher.string_property("s", "session-id") != session;
      },
      20000));
  stream.expect_back("the transport of the publisher has died", cause);
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
  gint64 cause = g_get_monotonic_time();
  EXPECT_TRUE(
      stream.player.until([&] { return stream.player.connection("r") == "suspect"; }, 10000));
  EXPECT_TRUE(
      stream.player.until([&] { return stream.player.connection("r") == "connected"; }, 20000));
  stream.expect_back("the transport of the player has died", cause);
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
  gint64 begin = g_get_monotonic_time();
  EXPECT_TRUE(stream.start(60000));
  measured(std::string("30 frames at the start, with ") + GetParam().name,
           unsigned((g_get_monotonic_time() - begin) / 1000));
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
        ApiFault{"tracks_10_s_late", R"({"operation":"tracks/new","delayMs":10000})"},
        ApiFault{"new_session_503_in_a_row",
                 R"({"operation":"sessions/new","status":503,"count":6})"},
        ApiFault{"stream_503", R"({"operation":"streams","status":503,"count":3})"},
        ApiFault{"stream_lost", R"({"operation":"streams","drop":true,"count":2})"}),
    [](const auto& info) { return std::string(info.param.name); });

// In mid-run: the session has to be rebuilt while the API misbehaves.
class HealMidRun : public testing::TestWithParam<ApiFault> {};

TEST_P(HealMidRun, recovers) {
  Sfu sfu;
  Stream stream(sfu);
  ASSERT_TRUE(stream.start());
  fault(sfu, GetParam().json);
  std::string before = stream.publisher.string_property("s", "session-id");
  ASSERT_EQ(http("POST", sfu.base_url() + "/debug/restart").status, 200);
  gint64 cause = g_get_monotonic_time();
  EXPECT_TRUE(stream.publisher.until(
      [&] {
        std::string now = stream.publisher.string_property("s", "session-id");
        return !now.empty() && now != before;
      },
      60000));
  stream.expect_back(std::string("all sessions gone, and ") + GetParam().name, cause);
}

INSTANTIATE_TEST_SUITE_P(
    Faults, HealMidRun,
    testing::Values(
        ApiFault{"garbage", R"({"operation":"sessions/new","garbage":true,"count":2})"},
        ApiFault{"tracks_garbage", R"({"operation":"tracks/new","garbage":true,"count":2})"},
        ApiFault{"server_error_in_a_row", R"({"operation":"sessions/new","status":500,"count":4})"},
        ApiFault{"too_many_requests",
                 R"({"operation":"sessions/new","status":429,"retryAfter":2,"count":2})"},
        ApiFault{"gone_at_each_call", R"({"operation":"tracks/new","status":410,"count":3})"},
        ApiFault{"not_found_in_a_row", R"({"operation":"sessions/new","status":404,"count":6})"},
        ApiFault{"document_refused", R"({"operation":"streams","status":400,"count":4})"}),
    [](const auto& info) { return std::string(info.param.name); });

// A pipeline in a process of its own.
class Application {
 public:
  explicit Application(const std::string& launch) {
    std::string self = "/proc/self/exe", option = "--launch", text = launch;
    char* argv[] = {self.data(), option.data(), text.data(), nullptr};
    g_autoptr(GError) error = nullptr;
    if (!g_spawn_async(nullptr, argv, nullptr, G_SPAWN_DO_NOT_REAP_CHILD, nullptr, nullptr, &pid_,
                       &error))
      ADD_FAILURE() << error->message;
  }
  ~Application() { crash(); }
  void crash() {
    if (!pid_) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  GPid pid_ = 0;
};

TEST(Heal, ten_players_follow_a_publisher_to_its_new_session) {
  Sfu sfu;
  constexpr char kTone[] =
      "audiotestsrc is-live=true wave=ticks ! cfrealtimesink name=s stream-url=";
  std::string url = sfu.base_url() + "/streams/cam";
  std::atomic<unsigned> removed{0};
  std::vector<std::unique_ptr<Pipeline>> players;
  std::vector<std::unique_ptr<Buffers>> buffers;
  for (int i = 0; i < 10; ++i) {
    players.push_back(std::make_unique<Pipeline>("cfrealtimesrc name=r stream-url=" + url +
                                                 " ! audio/x-raw ! fakesink name=out sync=false"));
    buffers.push_back(std::make_unique<Buffers>(*players.back(), "out"));
    g_signal_connect_swapped(
        players.back()->element("r").get(), "pad-removed",
        G_CALLBACK(+[](std::atomic<unsigned>* removed, GstPad*) { ++*removed; }), &removed);
    players.back()->play();
  }
  auto all_play = [&] {
    std::vector<unsigned> from;
    for (auto& each : buffers) from.push_back(each->count());
    return players[0]->until(
        [&] {
          for (std::size_t i = 0; i < buffers.size(); ++i)
            if (buffers[i]->count() < from[i] + 50) return false;
          return true;
        },
        30000);
  };
  // It crashes, and its successor finds the document of its predecessor.
  Application publisher(kTone + url);
  ASSERT_TRUE(all_play());
  publisher.crash();
  Pipeline successor(kTone + url);
  successor.play();
  gint64 back = g_get_monotonic_time();
  EXPECT_TRUE(successor.until([&] { return successor.tracks_live > 0; }));
  EXPECT_TRUE(all_play());
  measured("another publisher, with 50 more buffers for each of ten players",
           unsigned((g_get_monotonic_time() - back) / 1000));
  EXPECT_EQ(removed, 0u);
  for (auto& player : players) {
    player->until([] { return true; }, 0);
    EXPECT_TRUE(player->errors.empty()) << player->errors[0].text;
    EXPECT_FALSE(player->eos);
  }
}

// Its successor announces one track after the other.
TEST(Heal, picture_and_tone_go_on_with_a_new_publisher) {
  Sfu sfu;
  std::string url = sfu.base_url() + "/streams/cam";
  std::string launch =
      "videotestsrc is-live=true ! video/x-raw,width=64,height=64,framerate=30/1 ! cfrealtimesink "
      "name=s stream-url=" +
      url + " audiotestsrc is-live=true ! s.";
  Pipeline player("cfrealtimesrc name=r stream-url=" + url +
                  " r. ! video/x-raw ! fakesink name=eye sync=false async=false "
                  "r. ! audio/x-raw ! fakesink name=ear sync=false async=false");
  Buffers eye(player, "eye"), ear(player, "ear");
  auto flows = [&] {
    unsigned seen = eye.count(), heard = ear.count();
    return player.until([&] { return eye.count() > seen + 30 && ear.count() > heard + 50; }, 30000);
  };
  player.play();
  Application publisher(launch);
  ASSERT_TRUE(flows());
  publisher.crash();
  Pipeline successor(launch);
  successor.play();
  EXPECT_TRUE(successor.until([&] { return successor.tracks_live == 2; }, 20000));
  EXPECT_TRUE(flows());
  EXPECT_TRUE(flows());
  EXPECT_EQ(eye.eos() + ear.eos(), 0u);
  EXPECT_TRUE(player.errors.empty()) << player.errors[0].text;
}

// What comes in changes its form, so that another encoder and another SSRC are needed.
TEST(Heal, a_track_in_another_form_is_the_same_to_its_viewers) {
  Sfu sfu;
  std::string url = sfu.base_url() + "/streams/cam";
  Pipeline publisher(
      "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! "
      "identity name=burn ! capssetter name=form caps=video/x-raw ! cfrealtimesink name=s "
      "stream-url=" +
      url + " audiotestsrc is-live=true ! s.");
  burn_counter(publisher, "burn");
  Pipeline player("cfrealtimesrc name=r stream-url=" + url + " r." + kShow +
                  " async=false r. ! audio/x-raw ! fakesink name=ear sync=false async=false");
  Frames frames(player, "out");
  Buffers ear(player, "ear");
  player.play();
  publisher.play();
  ASSERT_TRUE(player.until([&] { return frames.count() > 30 && ear.count() > 0; }, 20000));
  g_autoptr(GstCaps) interlaced =
      gst_caps_from_string("video/x-raw, interlace-mode=(string)interleaved");
  unsigned live = publisher.tracks_live;
  g_object_set(publisher.element("form").get(), "caps", interlaced, nullptr);
  gint64 cause = g_get_monotonic_time();
  EXPECT_TRUE(publisher.until([&] { return publisher.tracks_live > live; }, 20000));
  unsigned seen = frames.count(), heard = ear.count();
  EXPECT_TRUE(player.until([&] { return frames.count() > seen; }, 20000));
  measured("the track has another form", unsigned((g_get_monotonic_time() - cause) / 1000));
  EXPECT_TRUE(
      player.until([&] { return frames.count() > seen + 60 && ear.count() > heard + 50; }, 20000));
  EXPECT_EQ(frames.eos() + ear.eos(), 0u);
  EXPECT_TRUE(player.errors.empty()) << player.errors[0].text;
  EXPECT_TRUE(publisher.errors.empty()) << publisher.errors[0].text;
}

// The SFU gives up a track whose publisher sends nothing, and says so to nobody.
TEST(Heal, a_track_that_was_silent_for_long_is_published_again) {
  Sfu sfu({"--track-timeout", "3000"});
  std::string url = sfu.base_url() + "/streams/cam";
  Pipeline publisher(
      "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! "
      "identity name=burn ! valve name=valve ! cfrealtimesink name=s stream-url=" +
      url);
  burn_counter(publisher, "burn");
  Pipeline player("cfrealtimesrc name=r stream-url=" + url + kShow);
  Frames frames(player, "out");
  player.play();
  publisher.play();
  ASSERT_TRUE(player.until([&] { return frames.count() >= 30; }, 20000));
  std::string session = publisher.string_property("s", "session-id");
  auto valve = publisher.element("valve");
  unsigned gaps = frames.gaps();
  g_object_set(valve.get(), "drop", TRUE, nullptr);
  EXPECT_TRUE(player.until([&] { return frames.gaps() > gaps + 36; }, 60000)) << "for 18 s";
  EXPECT_TRUE(publisher.until([&] {
    return http("GET", sfu.api_url() + "/apps/demo/sessions/" + session).body.find("inactive") !=
           std::string::npos;
  }));
  g_object_set(valve.get(), "drop", FALSE, nullptr);
  gint64 cause = g_get_monotonic_time();
  unsigned seen = frames.count();
  EXPECT_TRUE(player.until([&] { return frames.count() > seen; }, 20000));
  measured("the SFU had given the track up", unsigned((g_get_monotonic_time() - cause) / 1000));
  EXPECT_TRUE(player.until([&] { return frames.count() > seen + 60; }, 20000));
  EXPECT_EQ(frames.eos(), 0u);
  EXPECT_TRUE(player.errors.empty()) << player.errors[0].text;
  EXPECT_TRUE(publisher.errors.empty()) << publisher.errors[0].text;
}

TEST(Heal, a_player_goes_and_comes_back) {
  Sfu sfu;
  Stream stream(sfu);
  ASSERT_TRUE(stream.start());
  std::string session = stream.publisher.string_property("s", "session-id");
  EXPECT_LT(stream.player.stop(), scaled(1000));
  Pipeline other("cfrealtimesrc name=r stream-url=" + stream.url + kShow);
  Frames frames(other, "out");
  other.play();
  EXPECT_TRUE(other.until([&] { return frames.count() >= 30; }));
  other.stop();
  EXPECT_EQ(stream.publisher.string_property("s", "session-id"), session);
  EXPECT_TRUE(stream.publisher.errors.empty() && stream.publisher.warnings.empty());
}

// The SFU knows the track, but nothing has ever been sent on it.
TEST(Heal, a_track_that_does_not_start_holds_up_no_other) {
  Sfu sfu({"--media-wait", "1000"});
  Pipeline publisher(
      std::string(kPicture) +
      "appsrc name=quiet is-live=true format=time "
      "caps=audio/x-raw,format=S16LE,rate=48000,channels=1,layout=interleaved ! s.audio_0");
  burn_counter(publisher, "burn");
  publisher.play();
  std::string session = publisher.live_session();
  Pipeline player("cfrealtimesrc name=r tracks=" + session + "/video_0," + session +
                  "/audio_0 r. ! video/x-raw ! videoconvert ! video/x-raw,format=I420 ! "
                  "fakesink name=out sync=false async=false r. ! audio/x-raw ! fakesink name=ear "
                  "sync=false async=false");
  Frames frames(player, "out");
  Buffers buffers(player, "ear");
  player.play();
  EXPECT_TRUE(player.until([&] { return frames.count() >= 60; }, 20000))
      << frames.count() << " frames, " << frames.unreadable() << " unreadable";
  EXPECT_EQ(buffers.count(), 0u);
  EXPECT_TRUE(player.until([&] { return !player.waiting.empty(); }));
  for (const std::string& track : player.waiting) EXPECT_EQ(track, "audio_0");
  auto source = publisher.element("quiet");
  GstBuffer* silence = gst_buffer_new_allocate(nullptr, 2 * 480, nullptr);
  gst_buffer_memset(silence, 0, 0, 2 * 480);
  EXPECT_TRUE(player.until(
      [&] {
        GstClockTime now = gst_element_get_current_running_time(publisher.get());
        GstBuffer* copy = gst_buffer_copy(silence);
        GST_BUFFER_PTS(copy) = now;
        GST_BUFFER_DURATION(copy) = 10 * GST_MSECOND;
        GstFlowReturn flow;
        g_signal_emit_by_name(source.get(), "push-buffer", copy, &flow);
        gst_buffer_unref(copy);
        return buffers.count() > 0;
      },
      20000));
  gst_buffer_unref(silence);
  EXPECT_TRUE(player.errors.empty()) << player.errors[0].text;
}

TEST(Heal, waiting_for_a_publisher_can_be_bounded) {
  Sfu sfu;
  Pipeline player("cfrealtimesrc name=r wait-timeout=1 session-id=0123456789abcdef ! fakesink");
  player.play();
  ASSERT_TRUE(player.until_error(5000));
  EXPECT_EQ(player.errors[0].code, GST_RESOURCE_ERROR_NOT_FOUND) << player.errors[0].text;
  unsigned asked = sfu.count("0123456789abcdef");
  // And it does not strike while something plays.
  Pipeline publisher(kPicture);
  publisher.play();
  std::string session = publisher.live_session();
  Pipeline other("cfrealtimesrc name=r wait-timeout=" + std::to_string(scaled(5)) +
                 " session-id=" + session + kShow);
  Buffers buffers(other, "out");
  other.play();
  EXPECT_TRUE(other.until([&] { return buffers.count() > scaled(5 * 30); }, 20000));
  EXPECT_TRUE(other.errors.empty()) << other.errors[0].text;
  // The one that has given up has asked no more, though it is not stopped yet.
  EXPECT_EQ(sfu.count("0123456789abcdef"), asked);
  player.until([] { return true; }, 0);
  EXPECT_EQ(player.errors.size(), 1u);
  EXPECT_EQ(player.connection("r"), "failed");
}

// What bounds the attempts to connect does not bound the wait for a publisher, and the other way
// round.
TEST(Heal, who_waits_for_a_publisher_does_not_retry) {
  Sfu sfu;
  std::string url = sfu.base_url() + "/streams/cam";
  Pipeline patient("cfrealtimesrc name=r retry-timeout=1 stream-url=" + url + kShow);
  Frames frames(patient, "out");
  patient.play();
  Pipeline lost("cfrealtimesrc name=r wait-timeout=3 stream-url=http://127.0.0.1:9/cam ! fakesink");
  lost.play();
  EXPECT_TRUE(lost.until([&] { return lost.connection("r") == "reconnecting"; }));
  ASSERT_TRUE(lost.until_error(10000));
  EXPECT_EQ(lost.errors[0].code, GST_RESOURCE_ERROR_NOT_FOUND) << lost.errors[0].text;
  Pipeline publisher(std::string(kPicture) + "stream-url=" + url);
  burn_counter(publisher, "burn");
  publisher.play();
  EXPECT_TRUE(patient.until([&] { return frames.count() > 0; }, 20000));
  EXPECT_TRUE(patient.errors.empty()) << patient.errors[0].text;
}

// The application learns of each session, and the source goes where it is told.
TEST(Heal, another_session_is_said_and_can_be_set_while_playing) {
  Sfu sfu;
  Pipeline one(kPicture), two(kPicture);
  burn_counter(one, "burn");
  burn_counter(two, "burn", 20000);
  std::vector<std::string> created;
  g_signal_connect(one.element("s").get(), "session-created",
                   G_CALLBACK(+[](GstElement*, const char* id, std::vector<std::string>* created) {
                     created->push_back(id);
                   }),
                   &created);
  one.play();
  two.play();
  std::string first = one.live_session(), second = two.live_session();
  Pipeline player("cfrealtimesrc name=r session-id=" + first + kShow);
  Frames frames(player, "out");
  player.play();
  ASSERT_TRUE(player.until([&] { return frames.count() >= 30; }, 20000));
  EXPECT_LT(frames.last(), 20000u);
  g_object_set(player.element("r").get(), "session-id", second.c_str(), nullptr);
  EXPECT_TRUE(player.until([&] { return frames.last() >= 20000; }, 20000)) << frames.last();
  g_object_set(player.element("r").get(), "tracks", (first + "/video_0").c_str(), nullptr);
  EXPECT_TRUE(player.until([&] { return frames.last() < 20000; }, 20000)) << frames.last();
  EXPECT_TRUE(player.errors.empty()) << player.errors[0].text;
  EXPECT_EQ(frames.eos(), 0u);
  // Another session of the publisher is said in both ways.
  ASSERT_EQ(http("POST", sfu.base_url() + "/debug/restart").status, 200);
  EXPECT_TRUE(one.until([&] { return one.session_ids.size() == 2; }, 20000));
  EXPECT_EQ(one.session_ids.front(), first);
  EXPECT_EQ(one.session_ids.back(), one.string_property("s", "session-id"));
  one.stop();
  EXPECT_EQ(created, one.session_ids);
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

// Nor does the end wait for a token that nobody needs any more.
TEST(Heal, a_refusal_at_the_end_asks_for_no_token) {
  Sfu sfu;
  Pipeline publisher(kPicture);
  std::atomic<int> asked{0};
  g_signal_connect(publisher.element("s").get(), "request-token",
                   G_CALLBACK(+[](GstElement*, std::atomic<int>* asked) -> char* {
                     ++*asked;
                     return nullptr;
                   }),
                   &asked);
  publisher.play();
  EXPECT_FALSE(publisher.live_session().empty());
  fault(sfu, R"({"operation":"tracks/close","status":401,"errorCode":"unauthorized","count":-1})");
  EXPECT_LT(publisher.stop(), scaled(1000));
  EXPECT_EQ(sfu.count("tracks/close"), 1u);
  EXPECT_EQ(asked, 0);
}

// In mid-run: the session has to be rebuilt, and by then the secret is another one.
TEST(Heal, a_secret_file_is_read_again_after_a_refusal) {
  Sfu sfu({}, "first");
  g_unsetenv("CFREALTIME_APP_SECRET");
  g_autofree char* file = g_build_filename(g_get_tmp_dir(), "cfrealtime-secret-XXXXXX", nullptr);
  close(g_mkstemp(file));
  std::ofstream(file) << "first\n";
  Stream stream(sfu, std::string("app-secret-file=") + file);
  ASSERT_TRUE(stream.start());
  sfu.kill();
  std::ofstream(file) << "second\n";
  gint64 cause = g_get_monotonic_time();
  sfu.restart("second");
  stream.expect_back("the SFU is back with another secret", cause);
  EXPECT_GE(sfu.count("\"status\":401"), 2u) << "both have tried the old one";
  unlink(file);
  g_unsetenv("CFREALTIME_APP_SECRET");
}

TEST(Heal, a_refusal_that_nothing_can_be_done_about_is_final) {
  Sfu sfu;
  Stream stream(sfu);
  ASSERT_TRUE(stream.start());
  fault(sfu, R"({"operation":"sessions/new","status":401,"errorCode":"unauthorized","count":-1})");
  http("POST", sfu.base_url() + "/debug/restart");
  EXPECT_TRUE(stream.publisher.until_error(20000));
  ASSERT_EQ(stream.publisher.errors.size(), 1u);
  EXPECT_EQ(stream.publisher.errors[0].code, GST_RESOURCE_ERROR_NOT_AUTHORIZED)
      << stream.publisher.errors[0].text;
  EXPECT_EQ(stream.publisher.connection("s"), "failed");
}

}  // namespace
}  // namespace cfr::test
